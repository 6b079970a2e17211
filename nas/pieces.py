"""Candidates put together from pieces that do not depend on the rest of the candidate.

Shape legend: h hidden_size, n inputs and r outputs of a layer, g groups.
"""

from __future__ import annotations

from torch import Tensor

from nas.channels import ChannelPlanner, LayerChannels, kept_layers, require_fits
from nas.fitting import Linear, diagonal_blocks, fit_groups
from nas.teacher import Teacher
from nas.teacher_pass import POSITIONS, READS, TeacherStatistics, TeacherWeights
from search_spaces.architecture import GROUP_POSITIONS, Architecture, Block

# Linear layer -> the field with its groups.
GROUPS_FIELD = dict(zip(POSITIONS, GROUP_POSITIONS, strict=True))


class CutProjector:
    """Keeps the teacher's own weights inside the groups: what projections are compared with."""

    def __init__(self, teacher: Teacher, planner: ChannelPlanner) -> None:
        self._weights = TeacherWeights(teacher, device="cpu")
        self._planner = planner

    def project(self, arch: Architecture) -> dict[str, Tensor]:
        """Return the state of the network of ``arch``.

        Raises:
            SettingsError: If the architecture does not fit into the teacher.
        """
        weights = self._weights
        require_fits(weights.arch, arch)
        hidden = self._planner.hidden(arch)
        state = embedding_state(weights, hidden) | head_state(weights, hidden)
        state |= layer_norm_state("embeddings.layer_norm", *weights.layer_norm("embeddings.layer_norm", hidden))
        sources = kept_layers(weights.arch.num_hidden_layers, arch.num_hidden_layers)
        for layer, (source, block) in enumerate(zip(sources, arch.blocks, strict=True)):
            channels = self._planner.plan(source, block, arch)
            for position in POSITIONS:
                state |= self._piece(source, position, block, channels).state(f"layers.{layer}.{position}")
            for name in ("post_attention_layer_norm", "output_layer_norm"):
                scale, shift = weights.layer_norm(f"layers.{source}.{name}", hidden)
                state |= layer_norm_state(f"layers.{layer}.{name}", scale, shift)
        return {name: tensor.clone() for name, tensor in state.items()}

    def _piece(self, layer: int, position: str, block: Block, channels: LayerChannels) -> Linear:
        groups = getattr(block, GROUPS_FIELD[position])
        rows, columns = channels_of(position, channels)
        dense = self._weights.weight(layer, position)[rows][:, columns]
        return Linear(weight=diagonal_blocks(dense, groups), bias=self._weights.bias(layer, position)[rows])


class TeacherInputProjector(CutProjector):
    """Fits every layer by itself, on the teacher's inputs; a piece is solved once for all candidates that have it."""

    def __init__(self, teacher: Teacher, planner: ChannelPlanner, statistics: TeacherStatistics) -> None:
        super().__init__(teacher, planner)
        self._statistics = statistics
        self._pieces: dict[tuple[int, str, int, bytes, bytes], Linear] = {}

    def _piece(self, layer: int, position: str, block: Block, channels: LayerChannels) -> Linear:
        groups = getattr(block, GROUPS_FIELD[position])
        rows, columns = channels_of(position, channels)
        key = (layer, position, groups, rows.numpy().tobytes(), columns.numpy().tobytes())
        if key not in self._pieces:
            self._pieces[key] = self._fit(layer, position, groups, rows, columns)
        return self._pieces[key]

    def _fit(self, layer: int, position: str, groups: int, rows: Tensor, columns: Tensor) -> Linear:
        moments = self._statistics[layer, READS[position]]
        dense = self._weights.weight(layer, position)[rows]
        exact = dense.double()
        return fit_groups(
            scatter=moments.scatter[columns][:, columns],
            cross=exact @ moments.scatter[:, columns],
            prior=dense[:, columns],
            groups=groups,
            input_mean=moments.mean[columns],
            target_mean=exact @ moments.mean + self._weights.bias(layer, position)[rows],
            what=f"layer {layer} {position}",
        )


def channels_of(position: str, channels: LayerChannels) -> tuple[Tensor, Tensor]:
    """Return the teacher's output and input channels (r,) and (n,) of a linear layer of a candidate."""
    match position:
        case "post_attention":
            return channels.hidden, channels.heads
        case "intermediate":
            return channels.ffn, channels.hidden
        case "output":
            return channels.hidden, channels.ffn
        case _:
            return channels.heads, channels.hidden


def embedding_state(weights: TeacherWeights, hidden: Tensor) -> dict[str, Tensor]:
    """Return the chosen channels (h,) of the teacher's embedding tables."""
    names = [f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type")]
    return {name: weights.state[name][:, hidden] for name in names}


def head_state(weights: TeacherWeights, hidden: Tensor) -> dict[str, Tensor]:
    """Return the chosen channels (h,) of the teacher's pooler and classifier."""
    return {
        "pooler.weight": weights.state["pooler.weight"][hidden][:, hidden],
        "pooler.bias": weights.state["pooler.bias"][hidden],
        "classifier.weight": weights.state["classifier.weight"][:, hidden],
        "classifier.bias": weights.state["classifier.bias"],
    }


def layer_norm_state(name: str, scale: Tensor, shift: Tensor) -> dict[str, Tensor]:
    """Return scale and shift (h,) as the state of the layer norm called ``name``."""
    return {f"{name}.weight": scale, f"{name}.bias": shift}
