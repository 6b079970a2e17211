"""Laws of the designs a search begins with."""

from __future__ import annotations

from hypothesis import given

from nas.cost import model_cost
from search_spaces.architecture import GROUP_POSITIONS
from search_spaces.space import Space
from tests.strategies import spaces


@given(spaces())
def test_dense_designs_are_smaller_dense_networks_of_the_space(space: Space) -> None:
    teacher = model_cost(space.teacher, sequence_length=16, num_labels=2)

    designs = space.dense_designs

    assert len(set(designs)) == len(designs) >= 1
    for design in designs:
        assert space.build(space.answers_for(design)) == design
        assert all(getattr(block, position) == 1 for block in design.blocks for position in GROUP_POSITIONS)
        assert model_cost(design, sequence_length=16, num_labels=2).macs < teacher.macs
