"""Which dev examples a network answered rightly, as a short text: a bit for each example.

Kept with a score, so that networks can be compared on the same examples:
what two of them get right together is no difference between them.
"""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


def pack_outcomes(is_right: Bools) -> str:
    """Return right and wrong answers (examples,) as text, a character for six of them."""
    return base64.b64encode(np.packbits(is_right).tobytes()).decode()


def unpack_outcomes(text: str, *, num_examples: int) -> Bools:
    """Return what `pack_outcomes` took, (num_examples,).

    Raises:
        ValueError: If the text is of another number of examples.
    """
    packed = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    if len(packed) != -(-num_examples // 8):
        raise ValueError(f"outcomes hold {8 * len(packed)} bits, {num_examples} examples need another number")
    return np.unpackbits(packed, count=num_examples).astype(np.bool_)
