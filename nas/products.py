"""Matrix products in float32, a few thousand rows at a time, as fast as the processor has them.

torch multiplies matrices on a CPU through MKL, which leaves half of an AMD
processor idle; oneDNN, which torch has for its convolutions, does not. What a
slice of rows makes is still in the cache when it is read again, and memory that
is asked for in slices is not fetched from the system anew each time.

Shape legend: t rows, n inputs and r outputs.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import linear

# So few that their sums lose nothing in float32.
ROWS_AT_ONCE = 4096
_ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


@torch.no_grad()
def affine(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Map ``states`` (t, n) to (t, r) by ``weight`` (r, n) and ``bias`` (r,), without a gradient."""
    if _ONEDNN is None or states.device.type != "cpu" or states.dtype != torch.float32:
        return linear(states, weight, bias)
    mapped: Tensor = _ONEDNN(states, weight, bias, "none", [], "")
    return mapped


def slices(num_rows: int) -> Iterator[slice]:
    """Cut rows into slices of at most `ROWS_AT_ONCE`."""
    return (slice(start, min(start + ROWS_AT_ONCE, num_rows)) for start in range(0, num_rows, ROWS_AT_ONCE))
