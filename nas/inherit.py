"""A candidate's first weights, cut out of a dense teacher's.

Layers are dropped evenly, heads and FFN channels by their norms, hidden
channels by the size of their word embeddings; of every layer that a candidate
splits into groups the diagonal blocks remain.

Shape legend: v vocab_size, h hidden_size, a all heads' channels, f intermediate_size, g groups.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nas.errors import SettingsError
from search_spaces.architecture import GROUP_POSITIONS, Architecture, Block

State = Mapping[str, Tensor]

# Our layer's name -> the field with its groups.
GROUPED_LAYERS = {name: f"{name}_groups" for name in ("post_attention", "intermediate", "output")} | {
    "query": "q_groups",
    "key": "k_groups",
    "value": "v_groups",
}


def inherit(state: State, teacher: Architecture, arch: Architecture) -> dict[str, Tensor]:
    """Cut the state of a candidate's network out of a dense teacher's.

    Args:
        state: The teacher's weights.
        teacher: Its architecture; one group everywhere.
        arch: The candidate; nowhere wider or deeper than the teacher.

    Returns:
        New tensors for every weight of the candidate's network.

    Raises:
        SettingsError: If the candidate does not fit into the teacher.
    """
    _require_fits(teacher, arch)
    hidden = _largest(state["embeddings.word_embeddings.weight"].square().sum(dim=0), arch.hidden_size)  # (h,)
    cut = {f"embeddings.{name}_embeddings.weight": (slice(None), hidden) for name in ("word", "position", "token_type")}
    new = {name: state[name][index] for name, index in cut.items()}
    new |= _take(state, "embeddings.layer_norm", hidden)
    sources = kept_layers(teacher.num_hidden_layers, arch.num_hidden_layers)
    for i, (source, block) in enumerate(zip(sources, arch.blocks, strict=True)):
        prefix = f"layers.{source}."
        layer = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        cut_layer = _inherit_layer(layer, teacher, block, hidden)
        new |= {f"layers.{i}.{name}": tensor for name, tensor in cut_layer.items()}
    new["pooler.weight"] = state["pooler.weight"][hidden][:, hidden]
    new["pooler.bias"] = state["pooler.bias"][hidden]
    new["classifier.weight"] = state["classifier.weight"][:, hidden]
    new["classifier.bias"] = state["classifier.bias"]
    return {name: tensor.clone() for name, tensor in new.items()}


def kept_layers(num_teacher_layers: int, num_layers: int) -> list[int]:
    """Return which teacher layers a shallower candidate keeps: evenly spaced, the last one always among them."""
    return [(i + 1) * num_teacher_layers // num_layers - 1 for i in range(num_layers)]


def diagonal_blocks(weight: Tensor, groups: int) -> Tensor:
    """Return the weight (c_out, c_in / g, 1) of a grouped convolution from that of a dense one (c_out, c_in, 1)."""
    c_out, c_in, _ = weight.shape
    rows, columns = c_out // groups, c_in // groups
    blocks = [weight[k * rows : (k + 1) * rows, k * columns : (k + 1) * columns] for k in range(groups)]
    return torch.cat(blocks)


def _inherit_layer(layer: State, teacher: Architecture, block: Block, hidden: Tensor) -> dict[str, Tensor]:
    heads = _head_channels(layer, teacher.attention_head_size, block.num_attention_heads)  # (a,)
    ffn_norms = _row_norms(layer["intermediate.weight"]) * _column_norms(layer["output.weight"])
    ffn = _largest(ffn_norms, block.intermediate_size)  # (f,)
    channels = {
        "query": (heads, hidden),
        "key": (heads, hidden),
        "value": (heads, hidden),
        "post_attention": (hidden, heads),
        "intermediate": (ffn, hidden),
        "output": (hidden, ffn),
    }
    new = _take(layer, "post_attention_layer_norm", hidden) | _take(layer, "output_layer_norm", hidden)
    for name, (rows, columns) in channels.items():
        dense = layer[f"{name}.weight"][rows][:, columns]
        new[f"{name}.weight"] = diagonal_blocks(dense, getattr(block, GROUPED_LAYERS[name]))
        new[f"{name}.bias"] = layer[f"{name}.bias"][rows]
    return new


def _head_channels(layer: State, head_size: int, num_heads: int) -> Tensor:
    """Return the channels (a,) of the heads whose values reach the residual stream most strongly."""
    channel_norms = _row_norms(layer["value.weight"]) * _column_norms(layer["post_attention.weight"])
    heads = _largest(channel_norms.view(-1, head_size).sum(dim=1), num_heads)
    return (heads[:, None] * head_size + torch.arange(head_size)).flatten()


def _largest(importance: Tensor, count: int) -> Tensor:
    """Return the positions of the ``count`` largest values, in ascending order."""
    return torch.sort(torch.argsort(importance, descending=True, stable=True)[:count]).values


def _row_norms(weight: Tensor) -> Tensor:
    return weight.square().sum(dim=(1, 2)).sqrt()


def _column_norms(weight: Tensor) -> Tensor:
    return weight.square().sum(dim=(0, 2)).sqrt()


def _take(state: State, module: str, channels: Tensor) -> dict[str, Tensor]:
    return {f"{module}.{kind}": state[f"{module}.{kind}"][channels] for kind in ("weight", "bias")}


def _require_fits(teacher: Architecture, arch: Architecture) -> None:
    if any(getattr(block, name) != 1 for block in teacher.blocks for name in GROUP_POSITIONS):
        raise SettingsError(f"teacher {teacher.arch_id} has groups; a candidate inherits from a dense network only")
    widest = teacher.blocks[0]
    limits = {
        "hidden_size": (arch.hidden_size, teacher.hidden_size),
        "num_hidden_layers": (arch.num_hidden_layers, teacher.num_hidden_layers),
        "num_attention_heads": (max(b.num_attention_heads for b in arch.blocks), widest.num_attention_heads),
        "intermediate_size": (max(b.intermediate_size for b in arch.blocks), widest.intermediate_size),
    }
    for name, (value, limit) in limits.items():
        if value > limit:
            raise SettingsError(f"{name}={value} of {arch.arch_id} must be at most the teacher's {limit}")
    for name in ("attention_head_size", "vocab_size", "max_position_embeddings", "type_vocab_size"):
        if getattr(arch, name) != getattr(teacher, name):
            raise SettingsError(
                f"{name}={getattr(arch, name)} of {arch.arch_id} must equal the teacher's {getattr(teacher, name)}"
            )
