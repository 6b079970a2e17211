"""What a paper says and what is found here, side by side."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from device_lab.measurement import Interval
from nas.flops import traced_macs
from search_spaces.architecture import Architecture
from search_spaces.bert import Bert

NUM_LABELS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a source says in its text. Figures that could not be read there are not here."""

    speedup: float
    device: str
    dense_s: float
    parameters_millions: float
    source: str


# The abstract gives times; the parameters are those of the paper's entry on Papers with Code.
SQUEEZEBERT_CLAIM = Claim(
    speedup=4.3, device="Pixel 3", dense_s=1.7, parameters_millions=51.1, source="arXiv 2006.11316, abstract"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A network that was built: its parameters counted, its operations traced by fvcore at ``sequence_length``."""

    parameters: int
    macs: int
    sequence_length: int


def built_size(arch: Architecture, *, sequence_length: int) -> Size:
    """Build a network at full size and count what is in it; nothing is read from a formula.

    Raises:
        UncountedOperatorError: If fvcore does not count one of its operators.
    """
    with torch.device("meta"):
        network = Bert(arch, num_labels=NUM_LABELS, dropout=0.0)
    return Size(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        macs=traced_macs(arch, sequence_length=sequence_length, num_labels=NUM_LABELS),
        sequence_length=sequence_length,
    )


def speedup(ratio: Interval) -> Interval:
    """Return how many times faster a candidate is than its reference, from the ratio of their times."""
    return Interval(estimate=1 / ratio.estimate, low=1 / ratio.high, high=1 / ratio.low, level=ratio.level)
