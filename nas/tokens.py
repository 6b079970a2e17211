"""From text to batches of token ids.

WordPiece with the standard uncased vocabulary, through the ``tokenizers``
package. A task is tokenized once; batches are rows of its tensors, cut to the
longest sequence among them.

Shape legend: n examples, b batch, s tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import Self

import torch
from tokenizers import BertWordPieceTokenizer
from torch import Tensor

from nas.errors import SettingsError, TaskError
from nas.tasks import Example, Task, TaskKind

VOCAB_SIZE = 30_522
# Two sentences need three special tokens, and at least one piece each to be worth reading.
MIN_SEQUENCE_LENGTH = 5
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

    def to(self, device: str) -> Self:
        """Copy the tensors to ``device``."""
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in self.__slots__}
        return type(self)(**moved)


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
    sequence_length: int
    train: EncodedSplit
    dev: EncodedSplit


def tokenize_task(task: Task, *, sequence_length: int) -> TokenizedTask:
    """Tokenize both splits of a task.

    Args:
        task: The task.
        sequence_length: Most tokens an example may have, special tokens
            included; the longer sentence of a pair is cut first.

    Raises:
        SettingsError: If ``sequence_length`` is too short for a pair.
        TaskError: If the vocabulary that ships with the package is damaged.
    """
    if sequence_length < MIN_SEQUENCE_LENGTH:
        raise SettingsError(f"sequence_length={sequence_length} must be at least {MIN_SEQUENCE_LENGTH}")
    tokenizer = load_tokenizer()
    tokenizer.enable_truncation(max_length=sequence_length, strategy="longest_first")
    return TokenizedTask(
        task=task,
        content_sha256=task.content_sha256(),
        sequence_length=sequence_length,
        train=encode(task.train, tokenizer, kind=task.kind),
        dev=encode(task.dev, tokenizer, kind=task.kind),
    )


def load_tokenizer() -> BertWordPieceTokenizer:
    """Load WordPiece with the standard uncased vocabulary.

    Raises:
        TaskError: If the vocabulary does not have 30,522 entries.
    """
    with as_file(files("nas.data") / "vocab.txt") as path:
        tokenizer = BertWordPieceTokenizer(str(path), lowercase=True)
        if tokenizer.get_vocab_size() != VOCAB_SIZE:
            raise TaskError(
                f"{path}: {tokenizer.get_vocab_size()} word pieces, the standard vocabulary has {VOCAB_SIZE}; "
                "install the package again"
            )
    return tokenizer


def encode(examples: Sequence[Example], tokenizer: BertWordPieceTokenizer, *, kind: TaskKind) -> EncodedSplit:
    """Tokenize examples as ``[CLS] sentence [SEP]`` or ``[CLS] sentence [SEP] sentence2 [SEP]``."""
    texts = [
        example.sentence if example.sentence2 is None else (example.sentence, example.sentence2) for example in examples
    ]
    encodings = tokenizer.encode_batch(texts)
    lengths = torch.tensor([len(encoding.ids) for encoding in encodings])
    shape = (len(examples), int(lengths.max()))
    # [PAD] is word piece 0, and padding belongs to the first sentence. Narrow types: a split stays in memory.
    input_ids = torch.zeros(shape, dtype=torch.int32)
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
