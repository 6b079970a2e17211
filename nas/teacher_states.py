"""What a teacher computes inside, for candidates that learn from it one after the other.

All candidates of a run visit the same batches, and their teacher computes the
same for each: about 40 % of the time of a distillation. So what it computed is
remembered in a file without a name, which the system removes with the process,
however that ends.

Shape legend: b batch, s tokens, h hidden_size, a all heads' channels,
c num_labels.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn

from nas.tokens import Batch
from nas.training import forward
from search_spaces.bert import Bert

RELATED = ("query", "key", "value")
# 700 batches of 32 short sentences with a teacher of 12 layers and 384 channels.
MAX_REMEMBERED_BYTES = 8 * 2**30

LOGITS = "logits"

States = dict[int | str, Tensor]
"""Results (b, h, s) by layer, the last layer's queries, keys and values (b, a, s) by name, a teacher's logits."""


@contextmanager
def observed(network: Bert, layers: Sequence[int]) -> Iterator[States]:
    """Keep the results of ``layers``, and of the last layer's projections, while the block runs the network."""
    seen: States = {}

    def keep(key: int | str) -> Any:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            seen[key] = output

        return hook

    handles = [network.layers[layer].register_forward_hook(keep(layer)) for layer in layers]
    handles += [getattr(network.layers[-1], name).register_forward_hook(keep(name)) for name in RELATED]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


class TeacherStates:
    """Runs a teacher on batches, and on each batch only once where there is room to remember it.

    Args:
        teacher: The network; it is moved to ``device``.
        device: Where it computes.
        folder: Where the file lies that remembers, or None: reading is slower than a GPU computes.
    """

    def __init__(self, teacher: Bert, *, device: str, folder: Path | None = None) -> None:
        self._teacher = teacher.to(device).eval()
        self._memory = None if folder is None else _Memory(folder)

    def __call__(self, batch: Batch, layers: Sequence[int]) -> States:
        """Return the teacher's logits (b, c) in float32, and its states of at least ``layers``, without gradients."""
        if self._memory is None:
            return self._run(batch, layers)
        key = _digest(batch)
        states = self._memory.find(key, [LOGITS, *RELATED, *layers])
        if states is None:
            states = self._run(batch, range(len(self._teacher.layers)))
            self._memory.add(key, states)
        return states

    def _run(self, batch: Batch, layers: Sequence[int]) -> States:
        with torch.no_grad(), observed(self._teacher, layers) as seen:
            logits = forward(self._teacher, batch).float()
        return {LOGITS: logits, **seen}


class _Memory:
    """Sets of float32 tensors in a file without a name: at most so many bytes, and half of what the disk has."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._places: dict[str, dict[int | str, tuple[int, torch.Size]]] = {}
        self._num_bytes = 0

    def find(self, key: str, names: Sequence[int | str]) -> States | None:
        """Return the tensors of a set that have these names, or None if it is not remembered."""
        places = self._places.get(key)
        if places is None or self._file is None:
            return None
        found: States = {}
        for name in names:
            offset, shape = places[name]
            self._file.seek(offset)
            values = np.fromfile(self._file, dtype=np.float32, count=math.prod(shape))
            found[name] = torch.from_numpy(values).view(shape)
        return found

    def add(self, key: str, tensors: States) -> None:
        """Remember a set, if there is room."""
        places: dict[int | str, tuple[int, torch.Size]] = {}
        end = self._num_bytes
        for name, tensor in tensors.items():
            places[name] = (end, tensor.shape)
            end += 4 * math.prod(tensor.shape)
        try:
            if not self._has_room(end):
                return
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115 - lives as long as this object
                weakref.finalize(self, self._file.close)
            for name, tensor in tensors.items():
                self._file.seek(places[name][0])
                # Without a buffer: nothing is left that a disk which is full would refuse again at the next reading.
                if self._file.write(tensor.contiguous().numpy().data) < 4 * tensor.numel():
                    return
        except OSError:
            # The disk is full or read-only: what was written before stays good, and this set is computed again.
            return
        self._places[key] = places
        self._num_bytes = end

    def _has_room(self, end: int) -> bool:
        return end <= min(MAX_REMEMBERED_BYTES, self._num_bytes + shutil.disk_usage(self._folder).free // 2)


def _digest(batch: Batch) -> str:
    """Tell batches apart by all that a network reads of them."""
    digest = hashlib.sha256(str(tuple(batch.input_ids.shape)).encode())
    for tensor in (batch.input_ids, batch.attention_mask, batch.token_type_ids):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
