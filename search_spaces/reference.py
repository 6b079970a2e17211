"""Reference networks: the published ones, and SqueezeBERT's rule for any teacher.

SqueezeBERT (Iandola et al., arXiv 2006.11316) takes BERT-base (Devlin et al.,
arXiv 1810.04805) and gives every position-wise layer 4 groups, except the one
after attention, which stays dense.
"""

from __future__ import annotations

from dataclasses import replace

from search_spaces.architecture import GROUP_POSITIONS, Architecture, Block
from search_spaces.errors import InvalidArchitectureError, UnknownSpaceError

SQUEEZEBERT_GROUPS = {name: 1 if name == "post_attention_groups" else 4 for name in GROUP_POSITIONS}


def dense_encoder(
    *, hidden_size: int, num_hidden_layers: int, num_attention_heads: int, intermediate_size: int
) -> Architecture:
    """Build the architecture of a plain BERT of this shape: one group everywhere.

    Raises:
        InvalidArchitectureError: If the heads do not divide the hidden size.
    """
    if num_attention_heads < 1 or hidden_size % num_attention_heads:
        raise InvalidArchitectureError(
            f"num_attention_heads={num_attention_heads} must be a positive divisor of hidden_size={hidden_size}"
        )
    block = Block(num_attention_heads=num_attention_heads, intermediate_size=intermediate_size)
    return Architecture(
        hidden_size=hidden_size,
        attention_head_size=hidden_size // num_attention_heads,
        blocks=(block,) * num_hidden_layers,
    )


def squeezebert_rule(teacher: Architecture) -> Architecture:
    """Apply SqueezeBERT's group counts to every block of ``teacher``.

    Raises:
        InvalidArchitectureError: If 4 groups do not divide a width of ``teacher``.
    """
    return replace(teacher, blocks=tuple(replace(block, **SQUEEZEBERT_GROUPS) for block in teacher.blocks))


BERT_BASE = dense_encoder(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072)
SQUEEZEBERT = squeezebert_rule(BERT_BASE)

REFERENCES = {"bert-base": BERT_BASE, "squeezebert": SQUEEZEBERT}


def reference(name: str) -> Architecture:
    """Return the published network called ``name``.

    Raises:
        UnknownSpaceError: If no reference network has that name.
    """
    try:
        return REFERENCES[name]
    except KeyError:
        raise UnknownSpaceError(kind="reference network", name=name, known=REFERENCES) from None
