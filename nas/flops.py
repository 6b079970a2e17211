"""Operation counts by fvcore, of the built network or put together from cached operators.

fvcore skips operators it does not know without an error, fused attention among
them. Here every uncounted operator outside a short list of cheap element-wise
ones is refused, so a count that comes back is complete.
"""

from __future__ import annotations

import logging
from functools import cache

import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn

from nas.errors import NasError
from search_spaces.architecture import Architecture
from search_spaces.bert import Bert, Layer

# Element-wise and look-up operators, which fvcore leaves at zero and papers leave out.
UNCOUNTED_OPERATORS = frozenset(
    f"aten::{name}" for name in ("add", "mul", "div", "rsub", "softmax", "gelu", "tanh", "embedding", "arange")
)


class UncountedOperatorError(NasError):
    """A traced network holds an operator that fvcore does not count."""


def traced_macs(arch: Architecture, *, sequence_length: int, num_labels: int) -> int:
    """Trace the whole network with fvcore and count its operations, batch size 1.

    fvcore calls them flops; they are multiply-accumulates of convolutions, linear
    layers and matrix products, plus five operations per element of a layer norm.

    Raises:
        UncountedOperatorError: If an operator outside `UNCOUNTED_OPERATORS` has no count.
    """
    with torch.device("meta"):
        network = Bert(arch, num_labels=num_labels, dropout=0.0).eval()
    # A count needs shapes only, but torch cannot trace convolutions on the meta device:
    # memory without values is the cheapest thing that traces.
    network = network.to_empty(device="cpu")
    tokens = torch.zeros((1, sequence_length), dtype=torch.int64)
    return count_macs(network, tokens, tokens, tokens)


def operator_macs(arch: Architecture, *, sequence_length: int, num_labels: int) -> int:
    """Sum fvcore's counts of the network's operators, each shape traced once per process.

    Equals `traced_macs` at a small part of its time, because networks of one
    space share most of their operators.

    Raises:
        UncountedOperatorError: As for `traced_macs`.
    """
    h, s = arch.hidden_size, sequence_length
    total = _layer_norm(h, s) * (1 + 2 * arch.num_hidden_layers) + _linear(h, h) + _linear(h, num_labels)
    for block in arch.blocks:
        a, f = arch.all_head_size(block), block.intermediate_size
        total += (
            _convolution(h, a, block.q_groups, s)
            + _convolution(h, a, block.k_groups, s)
            + _convolution(h, a, block.v_groups, s)
            + _attention(block.num_attention_heads, arch.attention_head_size, s)
            + _convolution(a, h, block.post_attention_groups, s)
            + _convolution(h, f, block.intermediate_groups, s)
            + _convolution(f, h, block.output_groups, s)
        )
    return total


def count_macs(module: nn.Module, *inputs: Tensor) -> int:
    """Count the operations of one call of ``module`` with fvcore.

    Raises:
        UncountedOperatorError: If an operator outside `UNCOUNTED_OPERATORS` has no count.
    """
    # fvcore logs what it skips; the check below turns it into an error instead.
    logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)
    analysis = FlopCountAnalysis(module, inputs)
    analysis.uncalled_modules_warnings(False).tracer_warnings("none")
    with torch.no_grad():
        total = int(analysis.total())
    unknown = sorted(set(analysis.unsupported_ops()) - UNCOUNTED_OPERATORS)
    if unknown:
        raise UncountedOperatorError(f"fvcore does not count {', '.join(unknown)}; write it with operators it counts")
    return total


@cache
def _convolution(in_channels: int, out_channels: int, groups: int, sequence_length: int) -> int:
    convolution = nn.Conv1d(in_channels, out_channels, kernel_size=1, groups=groups)
    return count_macs(convolution, torch.zeros((1, in_channels, sequence_length)))


@cache
def _linear(in_features: int, out_features: int) -> int:
    return count_macs(nn.Linear(in_features, out_features), torch.zeros((1, in_features)))


@cache
def _layer_norm(channels: int, sequence_length: int) -> int:
    return count_macs(nn.LayerNorm(channels), torch.zeros((1, sequence_length, channels)))


class _Attention(nn.Module):
    """The two matrix products of `Layer.attention`, without its convolutions."""

    def __init__(self, num_attention_heads: int) -> None:
        super().__init__()
        self.num_attention_heads = num_attention_heads
        self.query = self.key = self.value = nn.Identity()
        self.dropout = nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        return Layer.attention(self, hidden, torch.zeros(1))  # type: ignore[arg-type]  # has what attention() uses


@cache
def _attention(num_attention_heads: int, attention_head_size: int, sequence_length: int) -> int:
    hidden = torch.zeros((1, num_attention_heads * attention_head_size, sequence_length))
    return count_macs(_Attention(num_attention_heads), hidden)
