"""A run over two tasks of different heads from the command line: searched, resumed, exported, refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from nas.saved_model import load
from tests.checkpoint_folders import write_checkpoint
from tests.command_line import CommandLine
from tests.small_tasks import TINY, write_split

pytestmark = [pytest.mark.torch, pytest.mark.slow]

LABELS = {"film": ("bad", "good"), "SST-2": ("0", "1"), "question": ("place", "thing", "who")}
SEARCH = ("--space", "staged", "--objectives", "accuracy,macs", "--sequence-length", "8")
SHORT = ("--fidelities", "distilled", "--steps", "2", "--teacher-steps", "3", "--trials", "2")


@pytest.fixture(scope="module")
def tasks_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each task, with two or three labels."""
    parent = tmp_path_factory.mktemp("tasks")
    for task, labels in LABELS.items():
        (parent / task).mkdir()
        for split, count in (("train", 36), ("dev", 6 * len(labels))):
            rows = [f"{labels[i % len(labels)]} {task} {i % 5}\t{labels[i % len(labels)]}" for i in range(count)]
            write_split(parent / task / f"{split}.tsv", "sentence\tlabel", *rows)
    return parent


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by the module, so that the teachers are trained once."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def nas(capsys: pytest.CaptureFixture[str], runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    # Where its exporter is installed, a program would take every export half a minute more.
    monkeypatch.setitem(sys.modules, "executorch.exir", None)
    return CommandLine(capsys, runs_folder)


def search(nas: CommandLine, run: str, tasks_folder: Path, tasks: str) -> None:
    finished = nas.in_folder("search", run, "--tasks", tasks, "--task-dir", str(tasks_folder), *SEARCH, *SHORT)
    assert finished.code == 0, finished


def test_a_run_over_two_tasks_is_scored_by_their_mean_resumed_and_exported_task_by_task(
    nas: CommandLine, tasks_folder: Path, tmp_path: Path
) -> None:
    search(nas, "both", tasks_folder, "SST-2,question")
    resumed = nas.in_folder("search", "both", "--tasks", "sst2,question", "--trials", "2")
    trials = json.loads(nas.in_folder("show", "both", "--json").stdout)
    to = tmp_path / "models"
    exported = json.loads(nas.in_folder("export", "both", "1", "--to", str(to), "--json").stdout)

    models = {name: load(to / name) for name in ("sst2", "question")}

    assert "resuming: 2 architectures are known" in resumed.stderr
    assert [trial["metric"] for trial in trials] == ["mean accuracy"] * 2
    assert list(exported["metrics"]) == ["sst2.accuracy", "question.accuracy"]
    assert sum(exported["metrics"].values()) / 2 == pytest.approx(trials[1]["score"]["estimate"])
    assert {name: model.label_names for name, model in models.items()} == {
        "sst2": LABELS["SST-2"],
        "question": LABELS["question"],
    }
    for name, model in models.items():
        assert (model.task, model.network.arch.arch_id) == (name, trials[1]["arch_id"])
        assert dict(model.dev_metrics)["accuracy"] == exported["metrics"][f"{name}.accuracy"]
    assert sorted(exported["sha256"])[:2] == ["question/config.json", "question/model.onnx"]
    assert len(exported["sha256"]) == 8


def test_one_task_of_several_folders_is_a_run_like_any_other(
    nas: CommandLine, tasks_folder: Path, runs_folder: Path
) -> None:
    search(nas, "one", tasks_folder, "film")

    again = nas.in_folder("search", "one", "--task-dir", str(tasks_folder / "film"), "--task", "film", "--trials", "2")
    (trial, _) = json.loads(nas.in_folder("show", "one", "--json").stdout)

    assert again.code == 0, again
    assert trial["metric"] == "accuracy"


def test_a_run_keeps_its_tasks(nas: CommandLine, tasks_folder: Path) -> None:
    search(nas, "both", tasks_folder, "sst2,question")

    other = nas.in_folder("search", "both", "--tasks", "question,sst2").error
    single = nas.in_folder("search", "both", "--task", "sst2").error

    assert 'tasks is ["sst2", "question"], asked for ["question", "sst2"]' in other
    assert 'task is "sst2,question", asked for "sst2"' in single


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tasks", "film,question", "--task", "film"), "--task film and --tasks film,question choose twice"),
        (("--tasks", "film,film"), "tasks 'film,film' must be names with a comma between two, each once"),
        (("--tasks", "film,"), "must be names with a comma between two"),
        (("--tasks", "film,colour"), "has no folder for task 'colour' (folders: SST-2, film, question)"),
        (("--tasks", "film,question", "--task-dir", "{tasks}/none"), "none: no such folder; several tasks are read"),
        (("--tasks", "film,question", "--task-dir", "{tasks}/film"), "has no folder for task 'film' (folders: none)"),
    ],
)
def test_tasks_that_contradict_or_are_missing_are_one_line(
    nas: CommandLine, tasks_folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    words = [word.format(tasks=tasks_folder) for word in arguments]

    assert message in nas.in_folder("search", "bad", "--task-dir", str(tasks_folder), *SEARCH, *words).error


def test_a_teacher_that_is_fine_tuned_for_one_task_is_refused(
    nas: CommandLine, tasks_folder: Path, tmp_path: Path
) -> None:
    teacher = write_checkpoint(tmp_path / "encoder", TINY)
    arguments = ("--teacher", str(teacher), "--teacher-steps", "0", "--task-dir", str(tasks_folder))

    error = nas.in_folder("search", "bad", "--tasks", "film,question", *SEARCH, *arguments).error

    assert "is fine-tuned for one task already, and there are 2 tasks; give --teacher-steps" in error


def test_tasks_without_a_folder_are_those_known_by_name(nas: CommandLine) -> None:
    assert "unknown task 'trec' (known: " in nas.in_folder("search", "bad", "--tasks", "embedded-subj,trec").error


def test_tasks_on_the_command_line_come_before_a_task_in_the_file_of_defaults(
    nas: CommandLine, tasks_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nas.toml").write_text(f'[search]\ntask = "film"\ntask-dir = "{tasks_folder}"\n')

    assert "has no folder for task 'colour'" in nas.in_folder("search", "file", "--tasks", "film,colour").error


def test_a_score_without_weights_has_nothing_to_export(nas: CommandLine, tasks_folder: Path, tmp_path: Path) -> None:
    arguments = ("--fidelities", "projected", "--teacher-steps", "3", "--trials", "2")
    finished = nas.in_folder(
        "search", "quick", "--tasks", "film,question", "--task-dir", str(tasks_folder), *SEARCH, *arguments
    )
    assert finished.code == 0, finished

    error = nas.in_folder("export", "quick", "1", "--to", str(tmp_path / "models")).error

    assert "was scored by 'projected', which keeps no weights; choose one that was trained" in error
    assert list(tmp_path.iterdir()) == []
