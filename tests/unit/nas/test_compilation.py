from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from nas.artifacts import ArtifactFolder
from nas.compilation import compile_layers
from nas.errors import CompilationWarning
from nas.teacher import Teacher, prepare_teacher
from nas.teacher_plans import small_plan
from nas.tokens import tokenize_task
from search_spaces.bert import build
from tests.small_tasks import TINY, classification_task

pytestmark = pytest.mark.torch


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch's own
def test_a_compiled_training_takes_the_same_steps_with_the_same_units_dropped(tmp_path: Path) -> None:
    data = tokenize_task(classification_task(), sequence_length=16)
    plan = replace(small_plan(TINY, num_steps=12), dropout=0.2)

    def taught(folder: str, *, compiled: bool) -> Teacher:
        artifacts = ArtifactFolder(tmp_path / folder)
        return prepare_teacher(data, plan, artifacts=artifacts, seed=0, device="cpu", compiled=compiled)

    as_ever, compiled = taught("as-ever", compiled=False), taught("compiled", compiled=True)

    assert compiled.teacher_id == as_ever.teacher_id
    assert compiled.state.keys() == as_ever.state.keys()
    for name, tensor in as_ever.state.items():
        torch.testing.assert_close(compiled.state[name], tensor, atol=1e-4, rtol=1e-3)


def test_without_a_compiler_a_network_stays_as_it_is_and_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("No working C++ compiler found\nand much more")

    monkeypatch.setattr(torch, "compile", no_compiler)
    network = build(TINY, num_labels=2)

    with pytest.warns(
        CompilationWarning,
        match=r"^--compile does nothing: torch.compile finds no compiler \(No working C\+\+ .* found\)$",
    ):
        compile_layers(network, device="cpu")

    assert all(layer._compiled_call_impl is None for layer in network.layers)
