"""Laws of candidates cut out of a teacher, for every space."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.inherit import inherit
from search_spaces.bert import build
from search_spaces.space import Space
from tests.strategies import drawn_from, spaces


@pytest.mark.torch
@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(spaces(), st.data())
def test_every_architecture_of_a_space_inherits_exactly_its_own_weights(space: Space, data: st.DataObject) -> None:
    # A vocabulary of the usual size would only make this slow.
    space = replace(space, teacher=replace(space.teacher, vocab_size=40, max_position_embeddings=8))
    arch = data.draw(drawn_from(space))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher = build(space.teacher, num_labels=2)
        candidate = build(arch, num_labels=2)

    state = inherit(teacher.state_dict(), space.teacher, arch)

    candidate.load_state_dict(state)
    teacher_values = {value for tensor in teacher.state_dict().values() for value in tensor.flatten().tolist()}
    assert all(set(tensor.flatten().tolist()) <= teacher_values for tensor in state.values())
