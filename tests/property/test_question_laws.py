"""What a sampler reads off parameters' names is what a space does with the answers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nas.questions import Ints, Questions
from search_spaces.architecture import Architecture
from search_spaces.space import Space
from tests.strategies import spaces


def questions_of(space: Space) -> Questions:
    return Questions({name: len(options) for name, options in space.parameters.items()})


@st.composite
def spaces_with_rows(draw: st.DrawFn) -> tuple[Space, Ints]:
    space = draw(spaces())
    rows = np.random.default_rng(draw(st.integers(0, 99))).integers(
        questions_of(space).num_options, size=(8, len(space.parameters))
    )
    return space, rows


def build(space: Space, row: Ints) -> Architecture:
    names = questions_of(space).names
    return space.build({name: space.parameters[name][place] for name, place in zip(names, row.tolist(), strict=True)})


@given(spaces_with_rows())
def test_canonical_answers_build_the_same_architecture(case: tuple[Space, Ints]) -> None:
    space, rows = case

    canonical = questions_of(space).canonical(rows)

    assert [build(space, row) for row in canonical] == [build(space, row) for row in rows]
    assert (questions_of(space).canonical(canonical) == canonical).all()


@given(spaces_with_rows())
def test_answers_of_layers_that_are_left_out_do_not_count(case: tuple[Space, Ints]) -> None:
    space, rows = case
    if space.name != "grouped":
        return
    questions = questions_of(space)
    depths = rows[:, questions.names.index("num_hidden_layers")] + space.depths[0]
    others = rows.copy()
    for column, name in enumerate(questions.names):
        layer = int(name.partition(".")[0].removeprefix("layer")) if name.startswith("layer") else -1
        others[:, column] = np.where(layer >= depths, 0, rows[:, column])

    assert (questions.canonical(others) == questions.canonical(rows)).all()
    assert np.allclose(questions.features(others).averages, questions.features(rows).averages)
    assert np.allclose(questions.features(others).own, questions.features(rows).own)


@given(spaces_with_rows())
def test_equal_layers_differ_from_their_average_in_nothing(case: tuple[Space, Ints]) -> None:
    space, rows = case
    questions = questions_of(space)
    alike = rows.copy()
    for question in np.unique(questions.question):
        columns = np.flatnonzero(questions.question == question)
        alike[:, columns] = rows[:, columns[:1]]

    features = questions.features(alike)

    assert np.allclose(features.own, 0)
    assert ((features.averages >= 0) & (features.averages <= 1)).all()
