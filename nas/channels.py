"""Which of the teacher's layers and channels stand where in a candidate, from the teacher's statistics.

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerChannels:
    """The teacher's channels that a candidate layer has, in its order: residual (h,), heads (a,) and FFN (f,)."""

    hidden: Tensor
    heads: Tensor
    ffn: Tensor


class ChannelPlanner:
    """Chooses channels once for every setting they depend on; all candidates share the choices."""

    def __init__(self, teacher: Teacher, statistics: TeacherStatistics) -> None:
        self._weights = TeacherWeights(teacher, device="cpu")
        self._statistics = statistics
        self._known: dict[Hashable, Tensor] = {}

    def plan(self, layer: int, block: Block, hidden_size: int) -> LayerChannels:
        """Return the channels of a candidate's block that stands for the teacher's ``layer``."""
        groups = tuple(getattr(block, position) for position in ATTENTION_POSITIONS)
        heads = self._once(
            ("heads", layer, block.num_attention_heads, groups, hidden_size if max(groups) > 1 else None),
            lambda: self._choose_heads(layer, block, hidden_size),
        )
        ffn_groups = (block.intermediate_groups, block.output_groups)
        ffn = self._once(
            ("ffn", layer, block.intermediate_size, ffn_groups, hidden_size if max(ffn_groups) > 1 else None),
            lambda: self._choose_ffn(layer, block, hidden_size),
        )
        return LayerChannels(hidden=self.hidden(hidden_size), heads=heads, ffn=ffn)

    def hidden(self, hidden_size: int) -> Tensor:
        """Return the residual channels of a candidate, the same in all its layers, (h,)."""
        if hidden_size == self._weights.arch.hidden_size:
            return torch.arange(hidden_size)
        return self._once(("hidden", hidden_size), lambda: torch.sort(self._hidden_order()[:hidden_size]).values)

    def _hidden_order(self) -> Tensor:
        def choose() -> Tensor:
            readers = []
            for layer in range(self._weights.arch.num_hidden_layers):
                projections = [self._weights.weight(layer, position) for position in ("query", "key", "value")]
                readers.append(self._reader(layer, "attention_input", torch.cat(projections)))
                readers.append(self._reader(layer, "ffn_input", self._weights.weight(layer, "intermediate")))
            return contribution_order(readers)

        return self._once("hidden order", choose)

    def _choose_heads(self, layer: int, block: Block, hidden_size: int) -> Tensor:
        size, count = self._weights.arch.attention_head_size, block.num_attention_heads
        kept = self._kept(layer, "post_attention", count, block_size=size)
        channels = block_channels(kept, size)
        hidden = self.hidden(hidden_size)
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

    def _choose_ffn(self, layer: int, block: Block, hidden_size: int) -> Tensor:
        outer = self._weights.weight(layer, "output")
        kept = self._kept(layer, "output", block.intermediate_size, block_size=1)
        # Both layers' groups are unions of these.
        num_groups = math.lcm(block.intermediate_groups, block.output_groups)
        if num_groups == 1:
            return kept
        hidden = self.hidden(hidden_size)
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
        weight = self._weights.weight(layer, reader)
        if count * block_size == weight.shape[1]:
            return torch.arange(count)
        # The order is made in full once: every width takes its beginning.
        order = self._once(
            ("order", layer, reader),
            lambda: contribution_order([self._reader(layer, READS[reader], weight)], block_size=block_size),
        )
        return torch.sort(order[:count]).values

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
