"""Which of the teacher's layers and channels stand where in a candidate, from the teacher's statistics.

Inside a candidate, channels that belong together share a group as far as
possible. A network with two groups in every layer is another matter: it is two
networks side by side that meet in the pooler alone, and one with the better
half of all channels does more than two with one half of everything each.

Shape legend: h hidden_size, a all heads' channels, f intermediate_size of the
candidate; g groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from nas.errors import SettingsError
from nas.selection import (
    Reader,
    assign_to_groups,
    assign_to_places,
    block_channels,
    contribution_order,
    explained_energy,
    output_energy,
)
from nas.teacher import Teacher
from nas.teacher_pass import READS, TeacherStatistics, TeacherWeights
from search_spaces.architecture import ATTENTION_POSITIONS, GROUP_POSITIONS, Architecture, Block

# What the weights of a teacher mean to a candidate only if both have the same.
EQUAL_FIELDS = ("attention_head_size", "vocab_size", "max_position_embeddings", "type_vocab_size", "layer_norm_eps")


def kept_layers(num_teacher_layers: int, num_layers: int) -> list[int]:
    """Return which teacher layers a shallower candidate keeps: evenly spaced, the last one always among them."""
    return [(i + 1) * num_teacher_layers // num_layers - 1 for i in range(num_layers)]


def require_fits(teacher: Architecture, arch: Architecture) -> None:
    """Refuse a candidate that is wider or deeper than its teacher, or reads other tokens.

    Raises:
        SettingsError: If the candidate does not fit into the teacher, or the teacher is not dense.
    """
    if any(getattr(block, name) != 1 for block in teacher.blocks for name in GROUP_POSITIONS):
        raise SettingsError(f"teacher {teacher.arch_id} has groups; a candidate is projected from a dense network only")
    narrowest = {
        name: min(getattr(block, name) for block in teacher.blocks)
        for name in ("num_attention_heads", "intermediate_size")
    }
    limits = {
        "hidden_size": (arch.hidden_size, teacher.hidden_size),
        "num_hidden_layers": (arch.num_hidden_layers, teacher.num_hidden_layers),
    } | {name: (max(getattr(block, name) for block in arch.blocks), limit) for name, limit in narrowest.items()}
    for name, (value, limit) in limits.items():
        if value > limit:
            raise SettingsError(f"{name}={value} of {arch.arch_id} must be at most the teacher's {limit}")
    for name in EQUAL_FIELDS:
        if getattr(arch, name) != getattr(teacher, name):
            raise SettingsError(
                f"{name}={getattr(arch, name)} of {arch.arch_id} must equal the teacher's {getattr(teacher, name)}"
            )


def falls_in_halves(arch: Architecture) -> bool:
    """Tell whether a network is two dense ones side by side: two groups everywhere, and whole heads in each half."""
    return all(
        block.num_attention_heads % 2 == 0 and all(getattr(block, position) == 2 for position in GROUP_POSITIONS)
        for block in arch.blocks
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerChannels:
    """The teacher's channels that a candidate layer has, in its order: residual (h,), heads (a,) and FFN (f,)."""

    hidden: Tensor
    heads: Tensor
    ffn: Tensor


class ChannelPlanner:
    """Chooses channels once for every setting they depend on; all candidates share the choices.

    Every method takes the candidate ``arch`` as a whole, for its width and for
    whether it falls into two halves.
    """

    def __init__(self, teacher: Teacher, statistics: TeacherStatistics) -> None:
        self._weights = TeacherWeights(teacher, device="cpu")
        self._statistics = statistics
        self._known: dict[Hashable, Tensor] = {}

    def plan(self, layer: int, block: Block, arch: Architecture) -> LayerChannels:
        """Return the channels of a candidate's block that stands for the teacher's ``layer``."""
        if falls_in_halves(arch):
            size = arch.attention_head_size
            best_heads = self._order(layer, "post_attention", block_size=size)[: block.num_attention_heads]
            best_ffn = self._order(layer, "output")[: block.intermediate_size]
            return LayerChannels(hidden=self.hidden(arch), heads=block_channels(best_heads, size), ffn=best_ffn)
        groups = tuple(getattr(block, position) for position in ATTENTION_POSITIONS)
        heads = self._once(
            ("heads", layer, block.num_attention_heads, groups, arch.hidden_size if max(groups) > 1 else None),
            lambda: self._choose_heads(layer, block, self.hidden(arch)),
        )
        ffn_groups = (block.intermediate_groups, block.output_groups)
        ffn = self._once(
            ("ffn", layer, block.intermediate_size, ffn_groups, arch.hidden_size if max(ffn_groups) > 1 else None),
            lambda: self._choose_ffn(layer, block, self.hidden(arch)),
        )
        return LayerChannels(hidden=self.hidden(arch), heads=heads, ffn=ffn)

    def hidden(self, arch: Architecture) -> Tensor:
        """Return the residual channels of a candidate, the same in all its layers, (h,)."""
        size = arch.hidden_size
        if falls_in_halves(arch):
            return self._hidden_order()[:size]
        if size == self._weights.arch.hidden_size:
            return torch.arange(size)
        return self._once(("hidden", size), lambda: torch.sort(self._hidden_order()[:size]).values)

    def _hidden_order(self) -> Tensor:
        def choose() -> Tensor:
            readers = []
            for layer in range(self._weights.arch.num_hidden_layers):
                projections = [self._weights.weight(layer, position) for position in ("query", "key", "value")]
                readers.append(self._reader(layer, "attention_input", torch.cat(projections)))
                readers.append(self._reader(layer, "ffn_input", self._weights.weight(layer, "intermediate")))
            return contribution_order(readers)

        return self._once("hidden order", choose)

    def _choose_heads(self, layer: int, block: Block, hidden: Tensor) -> Tensor:
        size, count = self._weights.arch.attention_head_size, block.num_attention_heads
        kept = self._kept(layer, "post_attention", count, block_size=size)
        channels = block_channels(kept, size)
        benefits = torch.zeros(count, count, dtype=torch.float64)
        for position in ("query", "key", "value"):
            groups = getattr(block, f"{position[0]}_groups")
            if groups > 1:
                reader = self._reader(layer, "attention_input", self._weights.weight(layer, position)[channels], hidden)
                benefits += _per_head(_share(reader, groups), size)
        groups = block.post_attention_groups
        if groups > 1:
            energy = self._weights.weight(layer, "post_attention")[hidden][:, channels].double().square()
            written = energy.view(groups, -1, len(channels)).sum(dim=1).T  # (a, g)
            benefits += _per_head(written / written.sum(dim=1, keepdim=True).clamp_min(1e-30), size)
        if not benefits.any():
            return channels
        return block_channels(kept[assign_to_places(benefits)], size)

    def _choose_ffn(self, layer: int, block: Block, hidden: Tensor) -> Tensor:
        outer = self._weights.weight(layer, "output")
        kept = self._kept(layer, "output", block.intermediate_size, block_size=1)
        # Both layers' groups are unions of these.
        num_groups = math.lcm(block.intermediate_groups, block.output_groups)
        if num_groups == 1:
            return kept
        energy = outer[hidden][:, kept].double().square() * self._variance(layer, "widened")[kept]  # (h, f)
        benefits = torch.zeros(len(kept), num_groups, dtype=torch.float64)
        if block.intermediate_groups > 1:
            reader = self._reader(layer, "ffn_input", self._weights.weight(layer, "intermediate")[kept], hidden)
            read = _share(reader, block.intermediate_groups) * energy.sum(dim=0)[:, None]
            benefits += read.repeat_interleave(num_groups // block.intermediate_groups, dim=1)
        if block.output_groups > 1:
            written = energy.view(block.output_groups, -1, len(kept)).sum(dim=1).T  # (f, g)
            benefits += written.repeat_interleave(num_groups // block.output_groups, dim=1)
        return kept[assign_to_groups(benefits)]

    def _kept(self, layer: int, reader: str, count: int, *, block_size: int) -> Tensor:
        """Return the ``count`` blocks of channels that the layer ``reader`` can do best with, in ascending order."""
        if count * block_size == self._weights.weight(layer, reader).shape[1]:
            return torch.arange(count)
        return torch.sort(self._order(layer, reader, block_size=block_size)[:count]).values

    def _order(self, layer: int, reader: str, *, block_size: int = 1) -> Tensor:
        """Return all blocks of channels that the layer ``reader`` reads, those first that it can do best with."""
        # The order is made in full once: every width takes its beginning.
        return self._once(
            ("order", layer, reader),
            lambda: contribution_order(
                [self._reader(layer, READS[reader], self._weights.weight(layer, reader))], block_size=block_size
            ),
        )

    def _reader(self, layer: int, name: str, weight: Tensor, channels: Tensor | None = None) -> Reader:
        covariance = self._statistics[layer, name].covariance.cpu()
        if channels is not None:
            covariance, weight = covariance[channels][:, channels], weight[:, channels]
        return Reader(covariance=covariance, weight=weight)

    def _variance(self, layer: int, name: str) -> Tensor:
        return self._statistics[layer, name].covariance.diagonal().cpu()

    def _once(self, key: Hashable, choose: Callable[[], Tensor]) -> Tensor:
        if key not in self._known:
            self._known[key] = choose()
        return self._known[key]


def _share(reader: Reader, groups: int) -> Tensor:
    """Return the share of each output's energy that every group explains by itself, (r, g)."""
    return explained_energy(reader, groups) / output_energy(reader)[:, None].clamp_min(1e-30)


def _per_head(shares: Tensor, head_size: int) -> Tensor:
    """Return the mean share (heads, places) of each head at each place, from shares (a, g) of its channels.

    The place of a head decides which groups its channels fall into; with more
    groups than heads, or a number that does not divide them, there are several.
    """
    num_channels, groups = shares.shape
    group_of = torch.arange(num_channels) * groups // num_channels
    by_head = shares.view(-1, head_size, groups).mean(dim=1)  # (heads, g)
    return by_head[:, group_of].view(len(by_head), -1, head_size).mean(dim=2)
