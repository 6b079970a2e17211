"""What the time of one inference is made of, read off an architecture: the columns of the latency model.

Each column is an amount of one kind of work, so its coefficient is the price of
that work on a device and cannot be negative. Amounts, not times: which kinds
matter is left to the measurements.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search_spaces.architecture import FFN_POSITIONS, GROUP_POSITIONS, Architecture

Floats = NDArray[np.float64]

# A multiplication in more groups is dearer on every engine we know; each step up has a price of its own, on top of
# those below, so that prices never fall as groups grow.
GROUP_STEPS = (4, 8, 16)
# Column and what it costs, in multiply-accumulates of a dense layer, before anything was measured: orders of
# magnitude, from what the work is.
GUESSED_PRICES = {
    "inference": 1e6,
    "layer": 2e5,
    "hidden_elements": 60.0,
    "dense_macs": 1.0,
    "grouped_macs": 1.0,
    **{f"macs_from_{step}_groups": 0.1 for step in GROUP_STEPS},
    "convolution_inputs": 4.0,
    "convolution_outputs": 6.0,
    "group_calls": 3000.0,
    "weights": 4.0,
    "attention_macs": 1.5,
    "attention_scores": 30.0,
    "gelu_elements": 30.0,
}


def describe(archs: Sequence[Architecture], *, sequence_length: int) -> Floats:
    """Return amounts of work of one inference at batch size 1, (n, columns of `GUESSED_PRICES`), all >= 0."""
    rows = [_amounts(arch, sequence_length) for arch in archs]
    return np.array([[row[name] for name in GUESSED_PRICES] for row in rows]).reshape(len(rows), len(GUESSED_PRICES))


def _amounts(arch: Architecture, s: int) -> dict[str, float]:
    amounts = dict.fromkeys(GUESSED_PRICES, 0.0)
    h = arch.hidden_size
    amounts["inference"] = 1.0
    amounts["layer"] = float(arch.num_hidden_layers)
    amounts["hidden_elements"] = float(s * h * (2 * arch.num_hidden_layers + 1))
    amounts["dense_macs"] += h * h
    amounts["weights"] += h * h
    for block in arch.blocks:
        inner = arch.all_head_size(block)
        for position in GROUP_POSITIONS:
            width = block.intermediate_size if position in FFN_POSITIONS else inner
            is_narrowing = position in ("post_attention_groups", "output_groups")
            groups = getattr(block, position)
            weights = h * width / groups
            amounts["weights"] += weights
            if groups == 1:
                amounts["dense_macs"] += s * weights
            else:
                amounts["grouped_macs"] += s * weights
                amounts["group_calls"] += groups
                amounts["convolution_inputs"] += s * (width if is_narrowing else h)
                for step in GROUP_STEPS:
                    amounts[f"macs_from_{step}_groups"] += s * weights if groups >= step else 0.0
            amounts["convolution_outputs"] += s * (h if is_narrowing else width)
        amounts["attention_macs"] += 2 * s * s * inner
        amounts["attention_scores"] += s * s * block.num_attention_heads
        amounts["gelu_elements"] += s * block.intermediate_size
    return amounts
