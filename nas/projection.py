"""Candidates from a teacher in closed form, layer after layer: no gradient, one linear solve a layer.

Every linear layer of a candidate is fitted by least squares on the inputs that
the candidate itself produces with the layers before it, towards the teacher's
outputs. So each layer makes up for the errors of those before it, and what is
added to the residual stream is fitted to where the teacher's stream is, not to
what the teacher added. Fewer layers, channels or heads need nothing else: a
target is a state of the teacher, whatever the candidate has to reach it with.

Shape legend: t calibration tokens, e examples, h hidden_size, c num_labels.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm

from nas.channels import ChannelPlanner, LayerChannels, falls_in_halves, kept_layers, require_fits
from nas.fitting import Linear, fit_blocks, fit_groups, fit_layer_norm
from nas.moments import fit_moments
from nas.packed import attend
from nas.pieces import GROUPS_FIELD, channels_of, embedding_state, head_state, layer_norm_state
from nas.products import slices
from nas.teacher import Teacher
from nas.teacher_pass import TeacherTrace, TeacherWeights
from search_spaces.architecture import Architecture, Block

# Hidden states kept of what candidates have in common in their first layers.
PREFIX_BYTES = 2**30


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Prefix:
    """A candidate's first layers: the hidden states they end in (t, h), and their weights."""

    hidden: Tensor
    state: Mapping[str, Tensor]

    @property
    def num_bytes(self) -> int:
        return self.hidden.nbytes + sum(tensor.nbytes for tensor in self.state.values())


class SequentialProjector:
    """Fits layer after layer on the inputs that the candidate itself produces, towards the teacher's outputs."""

    def __init__(self, teacher: Teacher, planner: ChannelPlanner, trace: TeacherTrace) -> None:
        self._weights = TeacherWeights(teacher, device=str(trace.logits.device))
        self._planner = planner
        self._trace = trace
        self._prefixes: OrderedDict[tuple[object, ...], _Prefix] = OrderedDict()
        # States are written over those of earlier layers: to fetch new memory takes as long as to compute them.
        self._rooms: dict[str, Tensor] = {}
        self._layer_in_room: int | None = None
        packed = trace.packed
        num_examples, num_tokens = packed.example_ends[0], trace.num_calibration_tokens
        others = packed.first_tokens[num_examples:]
        # Of the last layer's results the calibration tokens are fitted to, and of other sentences the first is read.
        self._last_rows = torch.cat([torch.arange(num_tokens, device=others.device), others])
        self._pooled_rows = torch.cat(
            [packed.first_tokens[:num_examples], num_tokens + torch.arange(len(others), device=others.device)]
        )

    def project(self, arch: Architecture) -> dict[str, Tensor]:
        """Return the state of the network of ``arch``.

        Raises:
            SettingsError: If the architecture does not fit into the teacher.
        """
        return self.project_and_run(arch)[0]

    @torch.no_grad()
    def project_and_run(self, arch: Architecture) -> tuple[dict[str, Tensor], Tensor]:
        """Return a candidate's state, and its logits (e, c) for all examples of the trace in packed order.

        Raises:
            SettingsError: If the architecture does not fit into the teacher.
        """
        weights = self._weights
        require_fits(weights.arch, arch)
        channels = self._planner.hidden(arch)
        sources = kept_layers(weights.arch.num_hidden_layers, arch.num_hidden_layers)
        key: tuple[object, ...] = (arch.hidden_size, falls_in_halves(arch))
        prefix = self._remember(key, lambda: self._embed(channels))
        states = [prefix.state]
        for source, block in zip(sources, arch.blocks, strict=True):
            key = (*key, source, block)
            hidden = prefix.hidden
            prefix = self._remember(key, lambda: self._layer(hidden, source, block, arch))  # noqa: B023
            states.append(prefix.state)
        state = {**embedding_state(weights, channels), **states[0], **head_state(weights, channels)}
        for layer, of_layer in enumerate(states[1:]):
            state |= {f"layers.{layer}.{name}": tensor for name, tensor in of_layer.items()}
        pooled = torch.tanh(prefix.hidden[self._pooled_rows] @ state["pooler.weight"].T + state["pooler.bias"])
        classifier = self._fit_classifier(pooled, state["classifier.weight"])
        state |= {"classifier.weight": classifier.weight[0], "classifier.bias": classifier.bias}
        logits = classifier(pooled)
        return {name: tensor.cpu().clone() for name, tensor in state.items()}, logits.cpu()

    def _remember(self, key: tuple[object, ...], make: Callable[[], _Prefix]) -> _Prefix:
        """Return the prefix of this key, making it if need be; the longest unused go when memory is short."""
        if key not in self._prefixes:
            self._prefixes[key] = make()
        self._prefixes.move_to_end(key)
        while len(self._prefixes) > 1 and sum(prefix.num_bytes for prefix in self._prefixes.values()) > PREFIX_BYTES:
            self._prefixes.popitem(last=False)
        return self._prefixes[key]

    def _embed(self, channels: Tensor) -> _Prefix:
        states = self._trace.packed.embeddings
        targets = self._columns(self._teacher_hidden(0), channels)
        hidden, norm = self._normalize(states[:, channels], targets, "embeddings.layer_norm", channels)
        return _Prefix(hidden=hidden, state=layer_norm_state("embeddings.layer_norm", *norm))

    def _layer(self, hidden: Tensor, source: int, block: Block, arch: Architecture) -> _Prefix:
        """Fit the candidate's layer that stands for the teacher's ``source``, whose inputs are ``hidden`` (t, h)."""
        channels = self._planner.plan(source, block, arch)
        weights, kept = self._weights, channels.hidden
        teacher_hidden = self._teacher_hidden(source)
        layers = self._fit_readers(source, ("query", "key", "value"), block, channels, hidden, teacher_hidden)
        room = self._room("wide", len(layers) * len(hidden), len(channels.heads)).view(len(layers), len(hidden), -1)
        query, key, value = (layer(hidden, out=out) for layer, out in zip(layers.values(), room, strict=True))
        contexts = attend(
            query,
            key,
            value,
            num_heads=block.num_attention_heads,
            buckets=self._trace.packed.buckets,
            out=query,
        )
        if source == weights.arch.num_hidden_layers - 1 and len(self._last_rows) < len(hidden):
            contexts, hidden = contexts[self._last_rows], hidden[self._last_rows]
        attention_sum = self._trace.attention_sums[source]
        layers["post_attention"] = self._fit_writer(
            source, "post_attention", block, channels, contexts, attention_sum, beside=hidden
        )
        teacher_ffn = self._teacher_states(attention_sum, f"layers.{source}.post_attention_layer_norm", "teacher ffn")
        ffn_input, first_norm = self._normalize(
            layers["post_attention"](contexts, out=self._room("ffn", *hidden.shape)).add_(hidden),
            self._columns(teacher_ffn, kept),
            f"layers.{source}.post_attention_layer_norm",
            kept,
        )
        layers |= self._fit_readers(source, ("intermediate",), block, channels, ffn_input, teacher_ffn)
        widened = self._room("wide", len(ffn_input), block.intermediate_size)
        layers["intermediate"](ffn_input, activation=gelu, out=widened)
        ffn_sum = self._trace.ffn_sums[source]
        layers["output"] = self._fit_writer(source, "output", block, channels, widened, ffn_sum, beside=ffn_input)
        teacher_result = self._teacher_states(ffn_sum, f"layers.{source}.output_layer_norm", "teacher hidden")
        self._layer_in_room = source + 1
        result, second_norm = self._normalize(
            layers["output"](widened).add_(ffn_input),
            self._columns(teacher_result, kept),
            f"layers.{source}.output_layer_norm",
            kept,
        )
        state = {name: tensor for position, layer in layers.items() for name, tensor in layer.state(position).items()}
        state |= layer_norm_state("post_attention_layer_norm", *first_norm)
        state |= layer_norm_state("output_layer_norm", *second_norm)
        return _Prefix(hidden=result, state=state)

    @property
    def _calibration(self) -> slice:
        return slice(0, self._trace.num_calibration_tokens)

    def _room(self, name: str, num_rows: int, num_columns: int) -> Tensor:
        """Return memory (num_rows, num_columns) that the next call with this name returns again."""
        known = self._rooms.get(name)
        if known is None or num_rows * num_columns > len(known):
            known = self._rooms[name] = torch.empty(num_rows * num_columns, device=self._trace.logits.device)
        return known[: num_rows * num_columns].view(num_rows, num_columns)

    def _teacher_hidden(self, source: int) -> Tensor:
        """Return what the teacher's layer ``source`` reads on the calibration tokens, (t, h)."""
        if self._layer_in_room == source:
            return self._room("teacher hidden", *self._trace.ffn_sums[source].shape)
        if source == 0:
            sums, name = self._trace.packed.embeddings[self._calibration], "embeddings.layer_norm"
        else:
            sums, name = self._trace.ffn_sums[source - 1], f"layers.{source - 1}.output_layer_norm"
        self._layer_in_room = source
        return self._teacher_states(sums, name, "teacher hidden")

    def _teacher_states(self, sums: Tensor, name: str, room: str) -> Tensor:
        """Return the teacher's ``sums`` (t, h) after the layer norm called ``name``."""
        states = self._room(room, *sums.shape)
        for part in slices(len(sums)):
            states[part] = self._weights.normalize(sums[part], name)
        return states

    def _columns(self, states: Tensor, channels: Tensor) -> Tensor:
        """Return the ``channels`` of ``states`` (t, h), as they are if those are all in their order.

        They stay until the next call.
        """
        if len(channels) == states.shape[1] and bool((channels.diff() > 0).all()):
            return states
        room = self._room("columns", len(states), len(channels))
        return torch.index_select(states, 1, channels.to(states.device), out=room)

    def _fit_readers(
        self,
        source: int,
        positions: Sequence[str],
        block: Block,
        channels: LayerChannels,
        inputs: Tensor,
        teacher_inputs: Tensor,
    ) -> dict[str, Linear]:
        """Fit layers that read the residual stream. Their targets are linear in what the teacher reads there."""
        calibration = inputs[self._calibration]
        mean, teacher_mean = calibration.mean(dim=0), teacher_inputs.mean(dim=0)
        groups = {position: getattr(block, GROUPS_FIELD[position]) for position in positions}
        scatter, cross = fit_moments(  # (h, h), (teacher's h, h)
            calibration, mean, teacher_inputs, teacher_mean, groups=math.gcd(*groups.values())
        )
        fits = {}
        for position in positions:
            rows, columns = channels_of(position, channels)
            dense = self._weights.weight(source, position)[rows]
            exact = dense.double()
            fits[position] = fit_groups(
                scatter=scatter,
                cross=exact @ cross,
                prior=dense[:, columns],
                groups=groups[position],
                input_mean=mean,
                target_mean=exact @ teacher_mean.double() + self._weights.bias(source, position)[rows],
                what=f"layer {source} {position}",
            )
        return fits

    def _fit_writer(
        self,
        source: int,
        position: str,
        block: Block,
        channels: LayerChannels,
        inputs: Tensor,
        teacher_sums: Tensor,
        *,
        beside: Tensor,
    ) -> Linear:
        """Fit a layer that writes to the residual stream: what it adds to ``beside`` is to give the teacher's sums."""
        groups = getattr(block, GROUPS_FIELD[position])
        rows, columns = channels_of(position, channels)
        calibration, beside = inputs[self._calibration], beside[self._calibration]
        targets = self._columns(teacher_sums, rows)
        mean, target_mean = calibration.mean(dim=0), targets.mean(dim=0) - beside.mean(dim=0)
        # Only the groups' own blocks are formed: of a wide layer the rest would be most of the work.
        blocks = [
            fit_moments(own, own_mean, wanted, wanted_mean, beside=own_beside)
            for own, own_mean, wanted, wanted_mean, own_beside in zip(
                calibration.chunk(groups, dim=1),
                mean.chunk(groups),
                targets.chunk(groups, dim=1),
                target_mean.chunk(groups),
                beside.chunk(groups, dim=1),
                strict=True,
            )
        ]
        prior = self._weights.weight(source, position)[rows][:, columns]
        return fit_blocks(
            blocks, prior=prior, input_mean=mean, target_mean=target_mean, what=f"layer {source} {position}"
        )

    def _fit_classifier(self, pooled: Tensor, prior: Tensor) -> Linear:
        """Fit the classifier to the teacher's logits from ``pooled`` (e, h), with a ridge for so few examples."""
        num_examples = self._trace.packed.example_ends[0]
        inputs, targets = pooled[:num_examples], self._trace.logits[:num_examples]
        mean, target_mean = inputs.mean(dim=0), targets.mean(dim=0)
        moments = fit_moments(inputs, mean, targets, target_mean)
        return fit_blocks(
            [moments],
            prior=prior,
            input_mean=mean,
            target_mean=target_mean,
            what="classifier",
            ridge=inputs.shape[1] / num_examples,
        )

    def _normalize(
        self, states: Tensor, targets: Tensor, name: str, channels: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Normalise ``states`` (t, h) in place with a scale and shift fitted to ``targets``, and return these too."""
        eps = self._weights.arch.layer_norm_eps
        prior, _ = self._weights.layer_norm(name, channels)
        scale, shift = fit_layer_norm(states[self._calibration], targets, prior_scale=prior, eps=eps)
        for part in slices(len(states)):
            states[part] = layer_norm(states[part], (len(channels),), scale, shift, eps)
        return states, (scale, shift)
