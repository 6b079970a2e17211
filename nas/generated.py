"""Networks whose weights anybody can make up again, so that a model is timed without sending them.

A latency does not depend on the values of weights. The numbers are those of
`device_lab.runner.weights`, laid end to end over the parameters; torch computes
with the same ones what the model must answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from device_lab.runner.contract import MAX_TOKEN_LIMIT
from device_lab.runner.weights import generated_weights_name, numbers_at
from search_spaces.architecture import Architecture
from search_spaces.bert import Bert, build

BYTES_PER_NUMBER = 4
# As they are when training begins: made up ones would scale every activation down to nothing.
_KEPT = "layer_norm"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightLayout:
    """Where each generated parameter begins, in bytes, its shape, and how many bytes there are in all."""

    offsets_bytes: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]
    num_bytes: int

    @property
    def file_name(self) -> str:
        """The name by which a model file asks a runner to generate them."""
        return generated_weights_name(self.num_bytes)


def generated_network(arch: Architecture, *, num_labels: int) -> tuple[Bert, WeightLayout]:
    """Build a network with generated weights, and say where in the generated numbers each of them lies.

    The network has the words that runners ask for, and no others; the layout
    has the architecture's whole vocabulary. Weights may share memory.
    """
    layout = _lay_out(_network_without_weights(arch, num_labels=num_labels))
    network = _network_without_weights(
        replace(arch, vocab_size=min(arch.vocab_size, MAX_TOKEN_LIMIT)), num_labels=num_labels
    )
    state: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        if name in layout.offsets_bytes:
            numbers = numbers_at(layout.offsets_bytes[name] // BYTES_PER_NUMBER, value.numel())
            state[name] = torch.from_numpy(numbers).view(value.shape)
        else:
            state[name] = (torch.zeros if name.endswith("bias") else torch.ones)(value.shape)
    network.load_state_dict(state, assign=True)
    return network, layout


def _network_without_weights(arch: Architecture, *, num_labels: int) -> Bert:
    # Nothing is drawn: initialising a BERT-base takes longer than all the rest.
    with torch.device("meta"):
        return build(arch, num_labels=num_labels).eval()


def _lay_out(network: Bert) -> WeightLayout:
    shapes = {name: tuple(value.shape) for name, value in network.named_parameters() if _KEPT not in name}
    offsets_bytes: dict[str, int] = {}
    position_bytes = 0
    for name, shape in shapes.items():
        offsets_bytes[name] = position_bytes
        position_bytes += BYTES_PER_NUMBER * prod(shape)
    return WeightLayout(offsets_bytes=offsets_bytes, shapes=shapes, num_bytes=position_bytes)
