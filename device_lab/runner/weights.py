"""Weights a runner makes up on the device, so that a model is timed without sending its weights.

A latency does not depend on the values of the weights. A model that is only to
be timed keeps its float32 initialisers in one external file, whose name says
how long it is, and the runner fills that file in memory. The numbers are fixed,
so what the model must answer can still be computed here and checked.
"""

from __future__ import annotations

import numpy as np


def generated_weights_name(num_bytes: int) -> str:
    """Return the name an ONNX file gives its external data to have it generated: ``num_bytes`` of float32."""
    return f"generated-{num_bytes}.weights"


def generated_weights(num_bytes: int) -> np.ndarray:
    """Return what a runner generates: float32 numbers in [-0.05, 0.05), a hash of their position.

    Agrees bit by bit with ``generated_weights.cpp``.
    """
    bits = np.arange(num_bytes // 4, dtype=np.uint32) * np.uint32(0x9E3779B1)
    bits = (bits ^ (bits >> np.uint32(15))) * np.uint32(0x85EBCA77)
    bits ^= bits >> np.uint32(13)
    centred = (bits >> np.uint32(8)).astype(np.int32) - np.int32(1 << 23)
    return centred.astype(np.float32) * (np.float32(0.05) / np.float32(1 << 23))
