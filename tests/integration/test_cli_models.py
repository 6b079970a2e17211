"""From a checkpoint to a found model that predicts: a tiny RoBERTa, a tiny task, real files."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from nas.saved_model import load
from tests.checkpoint_folders import write_byte_pairs
from tests.command_line import CommandLine

pytestmark = [pytest.mark.torch, pytest.mark.slow]

SEARCH = ("--space", "staged", "--objectives", "accuracy,macs", "--steps", "2", "--sequence-length", "16")
TEXTS = (("a lovely film", "the best story"), ("a dull mess", "the worst plot"))
LABELS = ("entailment", "not_entailment")


@pytest.fixture(scope="module")
def task_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs in the layout of GLUE's download, with a test file."""
    folder = tmp_path_factory.mktemp("glue") / "RTE"
    folder.mkdir()
    for split, count in (("train", 40), ("dev", 12), ("test", 6)):
        lines = ["index\tsentence1\tsentence2" + ("" if split == "test" else "\tlabel")]
        for i in range(count):
            first, second = TEXTS[i % 2]
            lines.append(f"{i}\t{first} {i}\t{second}" + ("" if split == "test" else f"\t{LABELS[i % 2]}"))
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as transformers writes it, with a head for two named labels."""
    transformers: Any = pytest.importorskip("transformers", reason="the test dependency transformers is not installed")
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-roberta"
    config = transformers.RobertaConfig(
        vocab_size=write_byte_pairs(folder),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=34,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        id2label={0: "NOT_ENTAILMENT", 1: "ENTAILMENT"},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        transformers.RobertaForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by the module, so that the run is searched once."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def nas(capsys: pytest.CaptureFixture[str], runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    # Where its exporter is installed, a program would take every export half a minute more.
    monkeypatch.setitem(sys.modules, "executorch.exir", None)
    return CommandLine(capsys, runs_folder)


def search(nas: CommandLine, run: str, task_folder: Path, *teacher: str) -> None:
    finished = nas.in_folder("search", run, "--task-dir", str(task_folder), *SEARCH, "--trials", "3", *teacher)
    assert finished.code == 0, finished


def test_a_roberta_is_searched_exported_loaded_and_predicts(
    nas: CommandLine, task_folder: Path, roberta: Path, tmp_path: Path
) -> None:
    search(nas, "whole", task_folder, "--teacher", str(roberta), "--teacher-steps", "0")
    trials = json.loads(nas.in_folder("show", "whole", "--json").stdout)
    folder = tmp_path / "model"

    exported = json.loads(nas.in_folder("export", "whole", "2", "--to", str(folder), "--json").stdout)
    predicted = nas("predict", str(folder), "--task-dir", str(task_folder), "--to", str(tmp_path / "submission"))

    model = load(folder)
    assert sorted(exported["sha256"]) == ["config.json", "model.onnx", "model.safetensors", "tokenizer.json"]
    assert list(exported["left_out"]) == ["model.pte"]
    assert exported["metrics"][trials[2]["metric"]] == trials[2]["score"]["estimate"]
    assert (model.task, model.label_names, model.network.arch.arch_id) == ("rte", LABELS, trials[2]["arch_id"])
    assert (model.network.arch.layer_norm_eps, model.tokenizer.padding_id) == (1e-5, 1)
    assert predicted.code == 0, predicted
    lines = (tmp_path / "submission" / "RTE.tsv").read_text().splitlines()
    pairs = [(f"{TEXTS[i % 2][0]} {i}", TEXTS[i % 2][1]) for i in range(6)]
    assert lines == ["index\tprediction", *(f"{i}\t{label}" for i, label in enumerate(model.predict(pairs)))]


def test_the_steps_of_a_teacher_belong_to_the_run(nas: CommandLine, task_folder: Path, roberta: Path) -> None:
    search(nas, "steps", task_folder, "--teacher", str(roberta), "--teacher-steps", "1")

    search(nas, "steps", task_folder, "--teacher", str(roberta))
    search(nas, "steps", task_folder, "--teacher-steps", "1")
    error = nas.in_folder("search", "steps", "--teacher-steps", "2").error

    assert f'teacher is "{roberta}@1", asked for "{roberta}@2"' in error


def test_a_head_for_other_labels_is_one_line(nas: CommandLine, roberta: Path) -> None:
    error = nas.in_folder("search", "subj", *SEARCH, "--teacher", str(roberta), "--teacher-steps", "0").error

    assert "tells NOT_ENTAILMENT, ENTAILMENT apart, the task objective, subjective; fine-tune it" in error


def test_a_tokenizer_that_is_not_the_checkpoints_is_one_line(nas: CommandLine, roberta: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(roberta, tmp_path / "swapped")
    vocabulary = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(vocabulary | {"more": len(vocabulary)}))

    error = nas.in_folder("search", "swapped", *SEARCH, "--teacher", str(folder)).error

    assert f"has {len(vocabulary) + 1} tokens, the word embedding {len(vocabulary)} rows" in error


def test_what_is_there_is_not_overwritten_and_nothing_is_left_half_written(
    nas: CommandLine, task_folder: Path, roberta: Path, tmp_path: Path
) -> None:
    search(nas, "whole", task_folder, "--teacher", str(roberta), "--teacher-steps", "0")
    own = shutil.copytree(task_folder, tmp_path / "tasks" / "RTE")
    search(nas, "changed", own, "--teacher", str(roberta), "--teacher-steps", "0")
    (own / "dev.tsv").write_text((own / "dev.tsv").read_text() + "99\tx\ty\tentailment\n")
    (tmp_path / "taken").mkdir()
    target = str(tmp_path / "new")

    assert "taken: is there already" in nas.in_folder("export", "whole", "0", "--to", str(tmp_path / "taken")).error
    assert "has no trial 7 (trials: 0, 1, 2" in nas.in_folder("export", "whole", "7", "--to", target).error
    assert "its data changed" in nas.in_folder("export", "changed", "0", "--to", target).error
    assert "no run 'other'" in nas.in_folder("export", "other", "0", "--to", target).error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken", "tasks"]


def test_damaged_weights_are_named_and_not_exported(
    nas: CommandLine, task_folder: Path, roberta: Path, runs_folder: Path, tmp_path: Path
) -> None:
    search(nas, "whole", task_folder, "--teacher", str(roberta), "--teacher-steps", "0")
    weights = {path: path.read_bytes() for path in (runs_folder / "artifacts" / "weights").iterdir()}
    for path, content in weights.items():
        path.write_bytes(content[:-1] + b"\x00\x01")

    error = nas.in_folder("export", "whole", "2", "--to", str(tmp_path / "new")).error

    for path, content in weights.items():
        path.write_bytes(content)
    assert "not that of its name; moved to quarantine/weights/" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("{here}", "--test", "{here}/rows.tsv", "--to", "{here}/out.tsv"),
            "config.json: no such file; a model folder",
        ),
        (("{here}", "--to", "{here}/out.tsv"), "give --task-dir or --test"),
        (("{here}", "--test", "a", "--task-dir", "b", "--to", "c"), "give --task-dir or --test"),
    ],
)
def test_a_prediction_that_cannot_be_made_is_one_line(
    nas: CommandLine, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert message in nas("predict", *(word.format(here=tmp_path) for word in arguments)).error
    assert list(tmp_path.iterdir()) == []
