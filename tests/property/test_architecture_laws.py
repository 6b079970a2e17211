"""Laws that hold for every architecture and every space, not just the ones we thought of."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nas.cost import encoder_macs, model_cost
from search_spaces.architecture import GROUP_POSITIONS, Architecture
from search_spaces.errors import InvalidArchitectureError
from search_spaces.reference import squeezebert_rule
from search_spaces.space import Space
from tests.strategies import architectures, drawn_from, spaces

DENSE = dict.fromkeys(GROUP_POSITIONS, 1)


@given(architectures())
def test_json_round_trip_keeps_equality_and_id(arch: Architecture) -> None:
    copy = Architecture.from_json(arch.to_json())

    assert copy == arch
    assert copy.arch_id == arch.arch_id


@given(architectures())
def test_json_is_canonical(arch: Architecture) -> None:
    document = json.loads(arch.to_json())

    assert arch.to_json() == json.dumps(document, sort_keys=True, separators=(",", ":"))
    assert document["blocks"] == [asdict(block) for block in arch.blocks]


@given(architectures(), architectures())
def test_ids_are_equal_exactly_when_architectures_are(one: Architecture, other: Architecture) -> None:
    assert (one.arch_id == other.arch_id) == (one == other)


@given(architectures(), st.data())
def test_a_changed_number_changes_the_id_or_is_refused(arch: Architecture, data: st.DataObject) -> None:
    block = data.draw(st.integers(0, arch.num_hidden_layers - 1))
    field = data.draw(st.sampled_from([field.name for field in fields(arch.blocks[0])]))
    document: dict[str, Any] = json.loads(arch.to_json())
    document["blocks"][block][field] += data.draw(st.integers(-3, 3).filter(bool))

    outcome = _read_or_refuse(document)

    assert outcome != arch.arch_id
    if outcome.startswith("refused: "):
        assert f"blocks[{block}]" in outcome


def _read_or_refuse(document: dict[str, Any]) -> str:
    try:
        return Architecture.from_json(json.dumps(document)).arch_id
    except InvalidArchitectureError as error:
        return f"refused: {error}"


@given(architectures())
def test_more_groups_never_cost_more(arch: Architecture) -> None:
    dense = replace(arch, blocks=tuple(replace(block, **DENSE) for block in arch.blocks))
    grouped, full = (model_cost(each, sequence_length=16, num_labels=2) for each in (arch, dense))

    assert grouped.macs <= full.macs
    assert grouped.parameters <= full.parameters


@given(architectures(), st.integers(1, 32), st.integers(1, 7))
def test_macs_scale_with_batch(arch: Architecture, sequence_length: int, batch_size: int) -> None:
    one = encoder_macs(arch, sequence_length=sequence_length)

    assert encoder_macs(arch, sequence_length=sequence_length, batch_size=batch_size) == batch_size * one


@given(st.data(), spaces())
def test_answers_for_an_architecture_build_it_again(data: st.DataObject, space: Space) -> None:
    arch = data.draw(drawn_from(space))

    assert space.build(space.answers_for(arch)) == arch


@given(spaces())
def test_every_space_holds_its_references(space: Space) -> None:
    rule = squeezebert_rule(space.teacher)

    assert space.build(space.answers_for(rule)) == rule
    assert space.build(space.answers_for(space.teacher)) == space.teacher


@given(spaces())
def test_options_are_ascending_and_free_of_repetition(space: Space) -> None:
    for name, options in space.parameters.items():
        assert list(options) == sorted(set(options)), name


@given(st.data(), spaces())
def test_an_architecture_outside_the_space_is_refused(data: st.DataObject, space: Space) -> None:
    arch = data.draw(drawn_from(space))
    assume(arch.hidden_size * 3 not in space.hidden_sizes)

    with pytest.raises(InvalidArchitectureError, match="hidden_size"):
        space.answers_for(replace(arch, hidden_size=arch.hidden_size * 3))
