"""Weights a runner makes up on the device, so that a model is timed without sending its weights.

A latency does not depend on the values of the weights. A model that is only to
be timed keeps its float32 initialisers in one external file, whose name says
how long it is, and the runner fills that file in memory. The numbers are fixed,
so what the model must answer can still be computed here and checked. They
repeat after `PERIOD`, each time in memory of their own: who computes with them
here needs one period, not all of a large model.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np

_NAME = re.compile(rb"generated-([0-9]{1,12})\.weights")
_MAX_NAME_BYTES = 40
_PIECE_BYTES = 1 << 20
_NUMBERS_AT_ONCE = 1 << 15
_FACTOR = np.uint32(0x9E3779B1)
# As many numbers as the largest layer of a BERT-large has weights.
PERIOD = 1 << 22


def generated_weights_name(num_bytes: int) -> str:
    """Return the name an ONNX file gives its external data to have it generated: ``num_bytes`` of float32."""
    return f"generated-{num_bytes}.weights"


def find_generated_weights(model: Path) -> int | None:
    """Return how many bytes of weights a model file asks for, or ``None`` if it carries its own."""
    window = b""
    with model.open("rb") as file:
        # In pieces: a model of 340 MB must not count towards the peak memory.
        while piece := file.read(_PIECE_BYTES):
            window = window[-_MAX_NAME_BYTES:] + piece
            if found := _NAME.search(window):
                return int(found.group(1))
    return None


def generated_weights(num_bytes: int) -> np.ndarray:
    """Return what a runner generates: float32 numbers in [-0.05, 0.05), a hash of their position in the period.

    Agrees bit by bit with ``generated_weights.cpp``.
    """
    num_numbers = num_bytes // 4
    numbers = np.empty(num_numbers, dtype=np.float32)
    first = numbers[:PERIOD]
    _fill(first)
    for start in range(PERIOD, num_numbers, PERIOD):
        numbers[start : start + PERIOD] = first[: num_numbers - start]
    return numbers


def numbers_at(position: int, count: int) -> np.ndarray:
    """Return ``count`` generated numbers from ``position`` on, to be read only: up to a period of them share memory."""
    start = position % PERIOD
    numbers = _two_periods()[start : start + count]
    if len(numbers) < count:
        numbers = np.resize(np.roll(_two_periods()[:PERIOD], -start), count)
    return numbers


@functools.cache
def _two_periods() -> np.ndarray:
    return generated_weights(4 * 2 * PERIOD)


def _fill(numbers: np.ndarray) -> None:
    scale = np.float32(0.05) / np.float32(1 << 23)
    # In pieces that stay in the cache, and in place: eight times faster for the weights of a BERT-base.
    hashed = np.arange(_NUMBERS_AT_ONCE, dtype=np.uint32) * _FACTOR
    buffers = np.empty((2, _NUMBERS_AT_ONCE), dtype=np.uint32)
    for start in range(0, len(numbers), _NUMBERS_AT_ONCE):
        piece = numbers[start : start + _NUMBERS_AT_ONCE]
        bits, shifted = buffers[:, : len(piece)]
        np.add(hashed[: len(piece)], np.uint32(start * int(_FACTOR) & 0xFFFFFFFF), out=bits)
        np.right_shift(bits, 15, out=shifted)
        bits ^= shifted
        bits *= np.uint32(0x85EBCA77)
        np.right_shift(bits, 13, out=shifted)
        bits ^= shifted
        bits >>= np.uint32(8)
        centred = bits.view(np.int32)
        centred -= np.int32(1 << 23)
        piece[:] = centred
        piece *= scale
