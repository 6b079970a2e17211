"""What a projection needs to know of a teacher: its hidden states on task data, and their moments.

Shape legend: t tokens, e examples, h hidden_size, a all heads' channels, f
intermediate_size, n a layer's inputs, r its outputs, c num_labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm

from nas.artifacts import STATISTICS, ArtifactFolder
from nas.errors import ArtifactError, TrainingError
from nas.moments import Moments, moments_of
from nas.packed import PackedSplits, attend, grouped_linear, pack_splits
from nas.teacher import Teacher
from nas.tokens import EncodedSplit
from search_spaces.architecture import Architecture

# Tokens in memory at once while moments are collected.
TOKENS_PER_CHUNK = 16_384
# The four hidden states of a layer that a linear layer reads.
INPUTS = ("attention_input", "contexts", "ffn_input", "widened")
# Linear layer -> which of them it reads.
READS = {
    "query": "attention_input",
    "key": "attention_input",
    "value": "attention_input",
    "post_attention": "contexts",
    "intermediate": "ffn_input",
    "output": "widened",
}
POSITIONS = tuple(READS)


class TeacherWeights:
    """A dense teacher's weights by layer and position, as matrices on one device."""

    def __init__(self, teacher: Teacher, *, device: str) -> None:
        self.arch = teacher.arch
        self.state = {name: tensor.to(device) for name, tensor in teacher.state.items()}

    def weight(self, layer: int, position: str) -> Tensor:
        """Return the matrix (r, n) of a linear layer."""
        return self.state[f"layers.{layer}.{position}.weight"].flatten(1)

    def bias(self, layer: int, position: str) -> Tensor:
        """Return the bias (r,) of a linear layer."""
        return self.state[f"layers.{layer}.{position}.bias"]

    def layer_norm(self, name: str, channels: Tensor) -> tuple[Tensor, Tensor]:
        """Return scale and shift of some channels of the layer norm called ``name``."""
        return self.state[f"{name}.weight"][channels], self.state[f"{name}.bias"][channels]

    def normalize(self, states: Tensor, name: str) -> Tensor:
        """Apply the layer norm called ``name`` to ``states`` (t, h)."""
        scale, shift = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return layer_norm(states, (states.shape[1],), scale, shift, self.arch.layer_norm_eps)

    def linear(self, states: Tensor, layer: int, position: str) -> Tensor:
        """Apply a linear layer to ``states`` (t, n), giving (t, r)."""
        return grouped_linear(states, self.weight(layer, position)[None], self.bias(layer, position))

    def head(self, first: Tensor) -> Tensor:
        """Return logits (e, c) from the encoder's output at the first tokens (e, h)."""
        pooled = torch.tanh(first @ self.state["pooler.weight"].T + self.state["pooler.bias"])
        return pooled @ self.state["classifier.weight"].T + self.state["classifier.bias"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerStates:
    """The states of one teacher layer on packed tokens; the sums are those before the two layer norms, (t, h)."""

    attention_input: Tensor
    contexts: Tensor
    attention_sum: Tensor
    ffn_input: Tensor
    widened: Tensor
    ffn_sum: Tensor
    result: Tensor


@torch.no_grad()
def walk_teacher(weights: TeacherWeights, packed: PackedSplits) -> Iterator[LayerStates]:
    """Run the teacher on packed sentences, layer by layer."""
    hidden = weights.normalize(packed.embeddings, "embeddings.layer_norm")
    for layer, block in enumerate(weights.arch.blocks):
        query, key, value = (weights.linear(hidden, layer, position) for position in ("query", "key", "value"))
        contexts = attend(query, key, value, num_heads=block.num_attention_heads, buckets=packed.buckets)
        attention_sum = hidden + weights.linear(contexts, layer, "post_attention")
        ffn_input = weights.normalize(attention_sum, f"layers.{layer}.post_attention_layer_norm")
        widened = gelu(weights.linear(ffn_input, layer, "intermediate"))
        ffn_sum = ffn_input + weights.linear(widened, layer, "output")
        result = weights.normalize(ffn_sum, f"layers.{layer}.output_layer_norm")
        yield LayerStates(
            attention_input=hidden,
            contexts=contexts,
            attention_sum=attention_sum,
            ffn_input=ffn_input,
            widened=widened,
            ffn_sum=ffn_sum,
            result=result,
        )
        hidden = result


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TeacherTrace:
    """The teacher on packed sentences: per layer its sums on the calibration tokens (t, h), and all logits (e, c).

    The first split of ``packed`` is the calibration sample.
    """

    packed: PackedSplits
    attention_sums: tuple[Tensor, ...]
    ffn_sums: tuple[Tensor, ...]
    logits: Tensor

    @property
    def num_calibration_tokens(self) -> int:
        """Tokens of the calibration sample."""
        return self.packed.token_ends[0]


def trace_teacher(weights: TeacherWeights, packed: PackedSplits) -> TeacherTrace:
    """Run the teacher once and keep what a candidate is fitted to."""
    calibration = slice(0, packed.token_ends[0])
    attention_sums, ffn_sums = [], []
    last = packed.embeddings
    for states in walk_teacher(weights, packed):
        # Copies: a slice would keep the rows of the other splits alive.
        attention_sums.append(states.attention_sum[calibration].clone())
        ffn_sums.append(states.ffn_sum[calibration].clone())
        last = states.result
    return TeacherTrace(
        packed=packed,
        attention_sums=tuple(attention_sums),
        ffn_sums=tuple(ffn_sums),
        logits=weights.head(last[packed.first_tokens]),
    )


TeacherStatistics = Mapping[tuple[int, str], Moments]
"""Moments of every state that a linear layer reads, by layer and name of `INPUTS`."""


def collect_statistics(teacher: Teacher, split: EncodedSplit, *, device: str) -> TeacherStatistics:
    """Collect the moments of a teacher's hidden states on ``split``, in chunks whose moments are merged.

    Raises:
        TrainingError: If a state is not finite.
    """
    weights, network = TeacherWeights(teacher, device=device), teacher.network()
    total: dict[tuple[int, str], Moments] = {}
    for rows in _chunks(split.lengths):
        packed = pack_splits(network, [split.select(rows)], device=device)
        for layer, states in enumerate(walk_teacher(weights, packed)):
            for name in INPUTS:
                moments = moments_of(getattr(states, name))
                if not bool(torch.isfinite(moments.scatter).all()):
                    raise TrainingError(
                        f"teacher {teacher.teacher_id}: states of layer {layer} are not finite; train it again"
                    )
                known = total.get((layer, name))
                total[layer, name] = moments if known is None else known.merge(moments)
    return total


def load_or_collect(
    artifacts: ArtifactFolder, statistics_id: str, teacher: Teacher, split: EncodedSplit, *, device: str
) -> TeacherStatistics:
    """Return the statistics kept under ``statistics_id``, collecting and keeping them first if there are none.

    Raises:
        ArtifactError: If those that are kept are not of this release.
        TrainingError: If a state of the teacher is not finite.
        OSError: If they cannot be read or written.
    """
    kept = artifacts.find(STATISTICS, statistics_id)
    if kept is None:
        # In float32 on disk: the sums were exact, and the ridge is far above what rounding them once does.
        collected = {
            f"{layer}.{name}.{part}": tensor.float().cpu()
            for (layer, name), moments in collect_statistics(teacher, split, device=device).items()
            for part, tensor in (("mean", moments.mean), ("scatter", moments.scatter))
        }
        description = f"{teacher.teacher_id} {int(split.lengths.sum())}"
        kept = artifacts.keep(STATISTICS, statistics_id, collected, description=description)
    tensors, description = kept
    try:
        return _moments_from(tensors, int(description.split()[1]), teacher.arch, device=device)
    except (KeyError, IndexError, ValueError) as error:
        raise ArtifactError(
            f"{statistics_id}.safetensors: not the statistics of a teacher of this release; delete the file"
        ) from error


def _moments_from(
    tensors: Mapping[str, Tensor], num_tokens: int, arch: Architecture, *, device: str
) -> TeacherStatistics:
    return {
        (layer, name): Moments(
            num_tokens,
            tensors[f"{layer}.{name}.mean"].double().to(device),
            tensors[f"{layer}.{name}.scatter"].double().to(device),
        )
        for layer in range(arch.num_hidden_layers)
        for name in INPUTS
    }


def _chunks(lengths: Tensor) -> Iterator[Tensor]:
    """Split rows (e,) into chunks of at most `TOKENS_PER_CHUNK` tokens each, a longer sentence alone."""
    start, tokens = 0, 0
    for row, length in enumerate(lengths.tolist()):
        if row > start and tokens + length > TOKENS_PER_CHUNK:
            yield torch.arange(start, row)
            start, tokens = row, 0
        tokens += length
    yield torch.arange(start, len(lengths))
