"""Sentences side by side without padding, and the encoder's arithmetic on them.

A projection looks at every hidden state of a few hundred sentences, so padding
would cost and would have to be kept out of every mean. Sentences of equal
length stand together; a hidden state is a row.

Shape legend: t tokens of all sentences, e examples, h channels of a hidden
state, a channels of all heads, g groups, r and c rows and columns of one group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from nas.products import affine, slices
from nas.tokens import EncodedSplit
from search_spaces.bert import Bert


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Sentences of one length, in the rows from ``start`` to ``start + num_sentences * length``."""

    start: int
    num_sentences: int
    length: int

    @property
    def rows(self) -> slice:
        """The bucket's rows."""
        return slice(self.start, self.start + self.num_sentences * self.length)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedSplits:
    """Summed embeddings before their layer norm, (t, h), of several splits one after the other.

    ``first_tokens`` (e,) are the rows of the sentences' first tokens,
    ``examples`` (e,) the sentences' positions in their split, both in packed
    order. ``token_ends`` and ``example_ends`` say where each split ends in them.
    """

    embeddings: Tensor
    buckets: tuple[Bucket, ...]
    first_tokens: Tensor
    examples: Tensor
    token_ends: tuple[int, ...]
    example_ends: tuple[int, ...]


@torch.no_grad()
def pack_splits(network: Bert, splits: Sequence[EncodedSplit], *, device: str) -> PackedSplits:
    """Embed the sentences of ``splits`` with ``network``, from short to long within each split."""
    network.to(device).eval()
    buckets: list[Bucket] = []
    embeddings: list[Tensor] = []
    first_tokens: list[Tensor] = []
    examples: list[Tensor] = []
    token_ends: list[int] = []
    example_ends: list[int] = []
    start = 0
    for split in splits:
        for length in torch.unique(split.lengths).tolist():
            rows = torch.nonzero(split.lengths == length)[:, 0]
            batch = split.batch(rows).to(device)
            embeddings.append(network.embeddings.summed(batch.input_ids, batch.token_type_ids).flatten(0, 1))
            buckets.append(Bucket(start=start, num_sentences=len(rows), length=length))
            first_tokens.append(start + torch.arange(len(rows)) * length)
            examples.append(rows)
            start += len(rows) * length
        token_ends.append(start)
        example_ends.append(sum(map(len, examples)))
    return PackedSplits(
        embeddings=torch.cat(embeddings),
        buckets=tuple(buckets),
        first_tokens=torch.cat(first_tokens).to(device),
        examples=torch.cat(examples),
        token_ends=tuple(token_ends),
        example_ends=tuple(example_ends),
    )


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    num_heads: int,
    buckets: Sequence[Bucket],
    out: Tensor | None = None,
) -> Tensor:
    """Return the heads' contexts side by side, (t, a), from queries, keys and values (t, a).

    They are written to ``out``, if that is given, which may be the queries' own memory.
    """
    contexts = torch.empty_like(value) if out is None else out
    for bucket in buckets:
        shape = (bucket.num_sentences, bucket.length, num_heads, -1)
        q, k, v = (states[bucket.rows].view(shape).transpose(1, 2) for states in (query, key, value))
        contexts[bucket.rows].view(shape).copy_(scaled_dot_product_attention(q, k, v).transpose(1, 2))
    return contexts


def grouped_linear(
    states: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    activation: Callable[[Tensor], Tensor] | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Map ``states`` (t, g * c) to (t, g * r) by ``weight`` (g, r, c) and ``bias`` (g * r,), then ``activation``.

    The result is written to ``out``, if that is given, and returned.
    """
    groups, rows, columns = weight.shape
    mapped = states.new_empty(len(states), groups * rows) if out is None else out
    for part in slices(len(states)):
        for group in range(groups):
            inside, outside = slice(group * columns, (group + 1) * columns), slice(group * rows, (group + 1) * rows)
            own = affine(states[part, inside], weight[group], bias[outside])
            mapped[part, outside] = own if activation is None else activation(own)
    return mapped
