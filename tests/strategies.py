"""Hypothesis strategies for the values of the whole project."""

from __future__ import annotations

from hypothesis import strategies as st

from search_spaces.architecture import Architecture, Block
from search_spaces.reference import dense_encoder
from search_spaces.space import SPACES, Space, make_space


@st.composite
def architectures(draw: st.DrawFn, *, max_layers: int = 4) -> Architecture:
    """Small encoders of any shape, with a different choice for every field of every block."""
    head_size = draw(st.sampled_from((4, 8, 12)))
    hidden_size = draw(st.sampled_from((24, 48, 72)))
    return Architecture(
        hidden_size=hidden_size,
        attention_head_size=head_size,
        blocks=tuple(draw(st.lists(blocks(hidden_size, head_size), min_size=1, max_size=max_layers))),
        vocab_size=draw(st.integers(1, 200)),
        max_position_embeddings=draw(st.integers(16, 32)),
        type_vocab_size=draw(st.integers(1, 3)),
        layer_norm_eps_exponent=draw(st.sampled_from((1, 5, 12))),
    )


@st.composite
def blocks(draw: st.DrawFn, hidden_size: int, head_size: int) -> Block:
    """Blocks that fit a hidden size and a head size."""
    heads = draw(st.integers(1, 4))
    intermediate_size = draw(st.sampled_from((24, 36, 96)))
    attention_groups = _divisors(hidden_size, heads * head_size)
    ffn_groups = _divisors(hidden_size, intermediate_size)
    return Block(
        num_attention_heads=heads,
        intermediate_size=intermediate_size,
        q_groups=draw(attention_groups),
        k_groups=draw(attention_groups),
        v_groups=draw(attention_groups),
        post_attention_groups=draw(attention_groups),
        intermediate_groups=draw(ffn_groups),
        output_groups=draw(ffn_groups),
    )


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Every space, around small teachers."""
    heads = draw(st.sampled_from((2, 4)))
    teacher = dense_encoder(
        hidden_size=heads * draw(st.sampled_from((16, 32))),
        num_hidden_layers=draw(st.integers(1, 7)),
        num_attention_heads=heads,
        intermediate_size=draw(st.sampled_from((64, 96, 256))),
    )
    return make_space(draw(st.sampled_from(SPACES)), teacher)


@st.composite
def drawn_from(draw: st.DrawFn, space: Space) -> Architecture:
    """Architectures of a space."""
    return space.sample(lambda name, options: draw(st.sampled_from(options), label=name))


def _divisors(*widths: int) -> st.SearchStrategy[int]:
    return st.sampled_from([n for n in range(1, min(widths) + 1) if all(width % n == 0 for width in widths)])
