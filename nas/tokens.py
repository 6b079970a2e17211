"""From text to batches of token ids.

A task is tokenized once; batches are rows of its tensors, cut to the longest
sequence among them.

Shape legend: n examples, b batch, s tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from nas.errors import SettingsError
from nas.tasks import Example, Task, TaskKind
from nas.text_tokenizers import TextTokenizer, standard_tokenizer

# Rows are sorted by length within this many batches only, so that an epoch stays well mixed.
BATCHES_PER_BUCKET = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Some examples, padded to the longest of them.

    ``rows`` (b,) are their positions in the split; ``input_ids``,
    ``attention_mask`` and ``token_type_ids`` are (b, s), int64; ``labels`` (b,)
    are int64 classes or float32 numbers.
    """

    rows: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor
    labels: Tensor

    def part(self, first: int, stop: int) -> Self:
        """Return the examples from ``first`` up to ``stop``, with the padding they have."""
        return type(self)(**{name: getattr(self, name)[first:stop] for name in self.__slots__})

    def to(self, device: str) -> Self:
        """Copy the tensors to ``device``; to CUDA through pinned memory, while the device goes on computing."""
        tensors = {name: getattr(self, name) for name in self.__slots__}
        if device.startswith("cuda"):
            tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
        return type(self)(**{name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedSplit:
    """All examples of a split as padded tensors: ids and types (n, s), lengths and labels (n,)."""

    input_ids: Tensor
    token_type_ids: Tensor
    lengths: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def select(self, rows: Tensor) -> Self:
        """Return a split with the examples at ``rows`` (b,) only."""
        return type(self)(**{name: getattr(self, name)[rows] for name in self.__slots__})

    def batch(self, rows: Tensor) -> Batch:
        """Return the examples at ``rows`` (b,), padded to the longest of them."""
        lengths = self.lengths[rows]
        longest = int(lengths.max())
        return Batch(
            rows=rows,
            input_ids=self.input_ids[rows, :longest].long(),
            attention_mask=(torch.arange(longest) < lengths[:, None]).long(),
            token_type_ids=self.token_type_ids[rows, :longest].long(),
            labels=self.labels[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenizedTask:
    """A task with both splits as tensors. ``content_sha256`` is the task's own, computed once."""

    task: Task
    content_sha256: str
    tokenizer: TextTokenizer
    sequence_length: int
    train: EncodedSplit
    dev: EncodedSplit


def tokenize_task(task: Task, *, sequence_length: int, tokenizer: TextTokenizer | None = None) -> TokenizedTask:
    """Tokenize both splits of a task.

    Args:
        task: The task.
        sequence_length: Most tokens an example may have, special tokens
            included; the longer sentence of a pair is cut first.
        tokenizer: The teacher's, or None for the standard uncased one.

    Raises:
        SettingsError: If ``sequence_length`` is too short for a pair.
        TokenizerError: If the vocabulary that ships with the package is damaged.
    """
    tokenizer = tokenizer or standard_tokenizer()
    return TokenizedTask(
        task=task,
        content_sha256=task.content_sha256(),
        tokenizer=tokenizer,
        sequence_length=sequence_length,
        train=encode(task.train, tokenizer, kind=task.kind, sequence_length=sequence_length),
        dev=encode(task.dev, tokenizer, kind=task.kind, sequence_length=sequence_length),
    )


def encode(
    examples: Sequence[Example], tokenizer: TextTokenizer, *, kind: TaskKind, sequence_length: int
) -> EncodedSplit:
    """Tokenize examples, with the special tokens around a sentence or between two.

    Raises:
        SettingsError: If ``sequence_length`` is too short for a pair.
    """
    if sequence_length < tokenizer.min_sequence_length:
        raise SettingsError(f"sequence_length={sequence_length} must be at least {tokenizer.min_sequence_length}")
    texts = [
        example.sentence if example.sentence2 is None else (example.sentence, example.sentence2) for example in examples
    ]
    encodings = tokenizer.encode(texts, sequence_length=sequence_length)
    lengths = torch.tensor([len(encoding.ids) for encoding in encodings])
    shape = (len(examples), int(lengths.max()))
    # Padding belongs to the first sentence. Narrow types: a split stays in memory.
    input_ids = torch.full(shape, tokenizer.padding_id, dtype=torch.int32)
    token_type_ids = torch.zeros(shape, dtype=torch.int8)
    for row, encoding in enumerate(encodings):
        input_ids[row, : len(encoding.ids)] = torch.tensor(encoding.ids, dtype=torch.int32)
        token_type_ids[row, : len(encoding.ids)] = torch.tensor(encoding.type_ids, dtype=torch.int8)
    label_type = torch.int64 if kind is TaskKind.CLASSIFICATION else torch.float32
    labels = torch.tensor([example.label for example in examples], dtype=label_type)
    return EncodedSplit(input_ids=input_ids, token_type_ids=token_type_ids, lengths=lengths, labels=labels)


def training_batches(
    lengths: Tensor, *, batch_size: int, seed: int, first_step: int, num_steps: int
) -> Iterator[Tensor]:
    """Draw the batch of every training step, sequences of similar length together.

    Every pass over the data is shuffled anew. The order depends on nothing but
    the arguments, so a run can start in the middle, and what a run will visit
    is known before it begins.

    Args:
        lengths: Tokens of every example, (n,).
        batch_size: Rows per batch; the last batch of a pass may have fewer.
        seed: Seed of the run.
        first_step: Step to start from; 0 at the beginning.
        num_steps: Step to stop before.

    Yields:
        Positions of the rows of one batch, (b,).
    """
    steps_per_epoch = math.ceil(len(lengths) / batch_size)
    step = first_step
    while step < num_steps:
        epoch, position = divmod(step, steps_per_epoch)
        batches = _shuffled(lengths, batch_size=batch_size, seed=seed, epoch=epoch)
        for batch in batches[position : position + num_steps - step]:
            yield batch
            step += 1


def ordered_batches(lengths: Tensor, *, batch_size: int) -> list[Tensor]:
    """Split all rows (n,) into batches from short to long, to predict with as little padding as possible."""
    return _cut(_by_length(torch.arange(len(lengths)), lengths), batch_size)


def _shuffled(lengths: Tensor, *, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    shuffled = torch.randperm(len(lengths), generator=generator)
    buckets = _cut(shuffled, batch_size * BATCHES_PER_BUCKET)
    batches = [batch for bucket in buckets for batch in _cut(_by_length(bucket, lengths), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def _by_length(rows: Tensor, lengths: Tensor) -> Tensor:
    return rows[torch.argsort(lengths[rows], stable=True)]


def _cut(rows: Tensor, size: int) -> list[Tensor]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
