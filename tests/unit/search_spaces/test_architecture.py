from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from search_spaces.architecture import Architecture, Block
from search_spaces.errors import InvalidArchitectureError, UnsupportedSchemaError
from search_spaces.reference import BERT_BASE, SQUEEZEBERT, dense_encoder, reference

# Every width has a divisor the others lack: hidden 2*3*5, attention 3*2*7... so that a swapped check shows.
HIDDEN, HEAD_SIZE, HEADS, FFN = 30, 7, 6, 66


def make(**fields: int) -> Architecture:
    block = Block(**({"num_attention_heads": HEADS, "intermediate_size": FFN} | fields))
    return Architecture(hidden_size=HIDDEN, attention_head_size=HEAD_SIZE, blocks=(make_plain(), block))


def make_plain() -> Block:
    return Block(num_attention_heads=1, intermediate_size=1)


@pytest.mark.parametrize("field", ["q_groups", "k_groups", "v_groups", "post_attention_groups"])
@pytest.mark.parametrize(
    ("groups", "law"),
    [
        (5, "blocks[1] num_attention_heads*attention_head_size=42"),
        (7, "hidden_size=30"),
        (4, "hidden_size=30"),
    ],
)
def test_an_attention_group_count_must_divide_both_its_widths(field: str, groups: int, law: str) -> None:
    message = rf"^blocks\[1\]\.{field}={groups} must be a positive divisor of {re.escape(law)}$"

    with pytest.raises(InvalidArchitectureError, match=message):
        make(**{field: groups})


@pytest.mark.parametrize("field", ["intermediate_groups", "output_groups"])
@pytest.mark.parametrize(
    ("groups", "law"), [(5, "blocks[1].intermediate_size=66"), (11, "hidden_size=30"), (9, "hidden_size=30")]
)
def test_an_ffn_group_count_must_divide_both_its_widths(field: str, groups: int, law: str) -> None:
    message = rf"^blocks\[1\]\.{field}={groups} must be a positive divisor of {re.escape(law)}$"

    with pytest.raises(InvalidArchitectureError, match=message):
        make(**{field: groups})


@pytest.mark.parametrize("value", [0, -1, True, "4"])
def test_a_number_that_is_no_positive_integer_is_named(value: object) -> None:
    with pytest.raises(InvalidArchitectureError, match=r"blocks\[1\]\.v_groups=.* must be an integer of at least 1"):
        make(v_groups=value)  # type: ignore[arg-type]  # the point of the test


def test_no_blocks_are_refused() -> None:
    with pytest.raises(InvalidArchitectureError, match="blocks: at least one encoder block"):
        Architecture(hidden_size=4, attention_head_size=2, blocks=())


def test_heads_that_do_not_divide_a_dense_encoder_are_named() -> None:
    with pytest.raises(
        InvalidArchitectureError, match=r"num_attention_heads=5 must be a .* divisor of hidden_size=768"
    ):
        dense_encoder(hidden_size=768, num_hidden_layers=1, num_attention_heads=5, intermediate_size=3072)


def document(**changes: object) -> str:
    return json.dumps(json.loads(BERT_BASE.to_json()) | changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not an architecture: Expecting"),
        ("[]", "not an architecture"),
        (document(schema_version=None).replace('"schema_version": null, ', ""), "field 'schema_version' is missing"),
        (document(hidden=3), "unexpected keyword argument 'hidden'"),
        (document(hidden_size=768.0), "every number in an architecture is an integer, got 768.0"),
        (document(blocks=[{"num_attention_heads": 1}]), "intermediate_size"),
        (document(blocks=7), "not an architecture"),
        (document(hidden_size=None), "hidden_size=None must be an integer"),
    ],
)
def test_a_document_that_is_no_architecture_says_why(text: str, message: str) -> None:
    with pytest.raises(InvalidArchitectureError, match=message):
        Architecture.from_json(text)


def test_another_schema_is_refused_with_both_versions() -> None:
    with pytest.raises(UnsupportedSchemaError, match="schema_version 2, this release reads 1"):
        Architecture.from_json(document(schema_version=2))


def test_published_identities_do_not_move() -> None:
    # Stores and file names are keyed by these: a change breaks every store there is.
    assert reference("bert-base") is BERT_BASE
    assert SQUEEZEBERT.arch_id == "65c7a2acafc7"
    assert {block.post_attention_groups for block in SQUEEZEBERT.blocks} == {1}


def test_another_epsilon_is_another_architecture_and_the_usual_one_leaves_no_trace() -> None:
    roberta = replace(BERT_BASE, layer_norm_eps_exponent=5)

    assert (BERT_BASE.layer_norm_eps, roberta.layer_norm_eps) == (1e-12, 1e-5)
    assert "layer_norm_eps" not in BERT_BASE.to_json()
    assert roberta.arch_id != BERT_BASE.arch_id
    assert Architecture.from_json(roberta.to_json()) == roberta
