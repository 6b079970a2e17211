"""What a network is: plain numbers, no tensors.

An `Architecture` is the currency of the whole project. It is built by a search
space, priced by `nas.cost`, turned into a module by `search_spaces.bert`, and
written next to every measurement. Two architectures that compare equal build
networks with the same shapes, so ``arch_id`` is safe to use as a cache key.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, fields
from functools import lru_cache
from operator import attrgetter
from typing import Any, NoReturn, Self

from search_spaces.errors import InvalidArchitectureError, UnsupportedSchemaError

SCHEMA_VERSION = 1

# BERT's own; RoBERTa has 5. An architecture says nothing of it where it has this one.
LAYER_NORM_EPS_EXPONENT = 12

# Group-count field -> the widths it splits. The four attention positions sit
# between the residual stream and the heads, the other two around the FFN.
ATTENTION_POSITIONS = ("q_groups", "k_groups", "v_groups", "post_attention_groups")
FFN_POSITIONS = ("intermediate_groups", "output_groups")
GROUP_POSITIONS = ATTENTION_POSITIONS + FFN_POSITIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One encoder block: its heads, the width of its FFN and the groups of its six convolutions."""

    num_attention_heads: int
    intermediate_size: int
    q_groups: int = 1
    k_groups: int = 1
    v_groups: int = 1
    post_attention_groups: int = 1
    intermediate_groups: int = 1
    output_groups: int = 1


class _Hashed:
    """Room for the hash of an architecture, which is asked for again and again: no field, so never compared."""

    __slots__ = ("_hash",)
    _hash: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture(_Hashed):
    """A BERT encoder whose position-wise dense layers are 1x1 grouped convolutions.

    Field names follow the BERT and SqueezeBERT configs on the Hugging Face Hub,
    so a config can be compared with a checkpoint by eye. A block with fewer
    heads is narrower inside: queries, keys and values have
    ``num_attention_heads * attention_head_size`` channels (`all_head_size`).
    ``layer_norm_eps_exponent`` n means a layer norm's epsilon of 1e-n.

    Raises:
        InvalidArchitectureError: If a number is not a positive integer, or a
            width is not divisible by a group count that has to split it.
    """

    hidden_size: int
    attention_head_size: int
    blocks: tuple[Block, ...]
    vocab_size: int = 30_522
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps_exponent: int = LAYER_NORM_EPS_EXPONENT

    def __post_init__(self) -> None:
        if not self.blocks:
            raise InvalidArchitectureError("blocks: at least one encoder block is required, got 0")
        for name in _NAMES:
            if name != "blocks":
                _require_positive(getattr(self, name), name)
        for i, block in enumerate(self.blocks):
            self._check_block(block, f"blocks[{i}]")

    def _fits(self, block: Block) -> bool:
        """Tell whether a block is sound, of all its numbers at once; `_check_block` says what is wrong."""
        sizes = _sizes_of(block)
        if set(map(type, sizes)) != {int} or min(sizes) < 1:
            return False
        _, ffn, q, k, v, post_attention, intermediate, output = sizes
        attention, around_ffn = math.lcm(q, k, v, post_attention), math.lcm(intermediate, output)
        return not (
            self.hidden_size % math.lcm(attention, around_ffn)
            or self.all_head_size(block) % attention
            or ffn % around_ffn
        )

    def _check_block(self, block: Block, label: str) -> None:
        if self._fits(block):
            return
        for name in _BLOCK_NAMES:
            _require_positive(getattr(block, name), name, label=f"{label}.")
        hidden = (self.hidden_size, "hidden_size")
        heads = (self.all_head_size(block), f"{label} num_attention_heads*attention_head_size")
        ffn = (block.intermediate_size, f"{label}.intermediate_size")
        for name in ATTENTION_POSITIONS:
            _require_divides(getattr(block, name), name, hidden, heads, label=label)
        for name in FFN_POSITIONS:
            _require_divides(getattr(block, name), name, hidden, ffn, label=label)

    def __hash__(self) -> int:
        """Return the hash of all fields, computed once."""
        try:
            return self._hash
        except AttributeError:
            object.__setattr__(self, "_hash", hash(tuple(getattr(self, name) for name in _NAMES)))
            return self._hash

    @property
    def num_hidden_layers(self) -> int:
        """Number of encoder blocks."""
        return len(self.blocks)

    @property
    def layer_norm_eps(self) -> float:
        """What every layer norm adds to the variance."""
        return float(f"1e-{self.layer_norm_eps_exponent}")

    def all_head_size(self, block: Block) -> int:
        """Channels of the queries, keys and values of ``block``, over all its heads."""
        return block.num_attention_heads * self.attention_head_size

    @property
    def arch_id(self) -> str:
        """First 12 hex digits of the SHA-256 of the canonical JSON form."""
        return _arch_id(self)

    def to_json(self) -> str:
        """Return the canonical form: sorted keys, no spaces, one line."""
        return _to_json(self)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Rebuild an architecture from `to_json` output.

        Raises:
            UnsupportedSchemaError: If ``schema_version`` is not `SCHEMA_VERSION`.
            InvalidArchitectureError: If the text is not JSON, a field is missing or
                unknown, a number is not an integer, or the numbers do not fit together.
        """
        try:
            document: dict[str, Any] = _DECODER.decode(text)
            version = document.pop("schema_version")
            if version != SCHEMA_VERSION:
                raise UnsupportedSchemaError(
                    f"architecture has schema_version {version!r}, this release reads {SCHEMA_VERSION}"
                )
            blocks = tuple(Block(**block) for block in document.pop("blocks"))
            return cls(blocks=blocks, **document)
        except KeyError as error:
            raise InvalidArchitectureError(f"not an architecture: field {error} is missing") from error
        except (json.JSONDecodeError, AttributeError, TypeError) as error:
            raise InvalidArchitectureError(f"not an architecture: {error}") from error


def canonical_id(text: str) -> str:
    """Return the ``arch_id`` of the architecture whose canonical JSON form is ``text``."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


_NAMES = tuple(field.name for field in fields(Architecture))
_BLOCK_NAMES = tuple(field.name for field in fields(Block))
_sizes_of = attrgetter(*_BLOCK_NAMES)
# Canonical forms are written by the ten thousand; filling in numbers takes a third of what `json.dumps` takes.
_IN_ORDER = tuple(sorted(_BLOCK_NAMES))
_sizes_in_order = attrgetter(*_IN_ORDER)
_BLOCK_FORM = "{" + ",".join(f'"{name}":%d' for name in _IN_ORDER) + "}"


# Identity is asked for again and again, of some thousand networks.
@lru_cache(maxsize=16_384)
def _arch_id(arch: Architecture) -> str:
    return canonical_id(arch.to_json())


@lru_cache(maxsize=16_384)
def _to_json(arch: Architecture) -> str:
    fields_of = {name: str(getattr(arch, name)) for name in _NAMES}
    fields_of["blocks"] = "[" + ",".join(_BLOCK_FORM % _sizes_in_order(block) for block in arch.blocks) + "]"
    fields_of["schema_version"] = str(SCHEMA_VERSION)
    if arch.layer_norm_eps_exponent == LAYER_NORM_EPS_EXPONENT:
        # Architectures had no such field once, and keep their ids.
        del fields_of["layer_norm_eps_exponent"]
    return "{" + ",".join(f'"{name}":{fields_of[name]}' for name in sorted(fields_of)) + "}"


def _reject_float(literal: str) -> NoReturn:
    raise InvalidArchitectureError(f"every number in an architecture is an integer, got {literal}")


_DECODER = json.JSONDecoder(parse_float=_reject_float)


def _require_positive(value: object, name: str, *, label: str = "") -> None:
    # bool is an int in Python, and JSON has true: neither is a width.
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidArchitectureError(f"{label}{name}={value!r} must be an integer of at least 1")


def _require_divides(groups: int, name: str, *widths: tuple[int, str], label: str) -> None:
    for width, width_name in widths:
        if width % groups:
            raise InvalidArchitectureError(
                f"{label}.{name}={groups} must be a positive divisor of {width_name}={width}"
            )
