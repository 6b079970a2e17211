"""The sample of task data that projections are fitted on."""

from __future__ import annotations

import torch

from nas.tokens import EncodedSplit

# Half as many lose one to two points where groups are many; they would take two thirds of the time.
CALIBRATION_TOKENS = 24_576


def calibration_sample(split: EncodedSplit, *, seed: int, num_tokens: int = CALIBRATION_TOKENS) -> EncodedSplit:
    """Draw sentences without replacement until they have ``num_tokens`` tokens, or all of them.

    A sentence is drawn in proportion to its length: short ones teach little of
    what a network does to long ones, and the other way round does no harm.
    """
    generator = torch.Generator().manual_seed(seed)
    # The exponential race: who arrives first is drawn in proportion to its rate, whoever arrived before.
    arrivals = torch.empty(len(split)).exponential_(generator=generator) / split.lengths
    order = torch.argsort(arrivals)
    num_rows = int((torch.cumsum(split.lengths[order], dim=0) <= num_tokens).sum())
    return split.select(order[: max(1, num_rows)])
