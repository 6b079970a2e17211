"""Networks whose weights anybody can make up again, so that a model is timed without sending them.

A latency does not depend on the values of weights. The numbers are those of
`device_lab.runner.weights`, laid end to end over the parameters; torch computes
with the same ones what the model must answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from device_lab.runner.weights import generated_weights, generated_weights_name
from search_spaces.architecture import Architecture
from search_spaces.bert import Bert, build

_BYTES_PER_NUMBER = 4
# As they are when training begins: made up ones would scale every activation down to nothing.
_KEPT = "layer_norm"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightLayout:
    """Where each generated parameter begins, in bytes, and how many there are in all."""

    offsets_bytes: Mapping[str, int]
    num_bytes: int

    @property
    def file_name(self) -> str:
        """The name by which a model file asks a runner to generate them."""
        return generated_weights_name(self.num_bytes)


def generated_network(arch: Architecture, *, num_labels: int) -> tuple[Bert, WeightLayout]:
    """Build a network with generated weights, and say where in the generated numbers each of them lies."""
    # Nothing is drawn: initialising a BERT-base takes longer than all the rest.
    with torch.device("meta"):
        network = build(arch, num_labels=num_labels).eval()
    parameters = {name: value for name, value in network.named_parameters() if _KEPT not in name}
    num_bytes = _BYTES_PER_NUMBER * sum(parameter.numel() for parameter in parameters.values())
    numbers = torch.from_numpy(generated_weights(num_bytes))
    offsets_bytes: dict[str, int] = {}
    state: dict[str, Tensor] = {}
    position = 0
    for name, parameter in parameters.items():
        offsets_bytes[name] = _BYTES_PER_NUMBER * position
        state[name] = numbers[position : position + parameter.numel()].view(parameter.shape)
        position += parameter.numel()
    for name, kept in network.state_dict().items():
        if name not in state:
            state[name] = (torch.zeros if name.endswith("bias") else torch.ones)(kept.shape)
    network.load_state_dict(state, assign=True)
    return network, WeightLayout(offsets_bytes=offsets_bytes, num_bytes=num_bytes)
