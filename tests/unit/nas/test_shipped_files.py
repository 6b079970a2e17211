"""What is shipped is what was scored: every file answers the dev examples as torch does, or nothing counts."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from device_lab.files import sha256_of
from device_lab.measurement import ModelFile
from nas.errors import AgreementError
from nas.export import export_onnx
from nas.exported_answers import check_answers, onnx_logits
from nas.saved_model import SavedModel, load, save
from nas.shipped_files import NUM_STEPPED_FILES, write_files
from nas.tokens import TokenizedTask, tokenize_task
from nas.training import predict
from search_spaces.bert import Bert
from tests.saved_models import praise_model
from tests.small_tasks import classification_task

pytestmark = pytest.mark.torch
NAMES = ["config.json", "model.onnx", "model.safetensors", "tokenizer.json"]


@pytest.fixture
def model(tmp_path: Path) -> SavedModel:
    """A network that says of itself what it truly scores."""
    model = praise_model(tmp_path)
    data = tokens(model)
    chosen = predict(model.network, data.dev, device="cpu").argmax(dim=1)
    return replace(model, dev_metrics=(("accuracy", float((chosen == data.dev.labels).double().mean())),))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "shipped"
    folder.mkdir()
    return folder


@pytest.fixture
def without_executorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "executorch.exir", None)


def tokens(model: SavedModel) -> TokenizedTask:
    return tokenize_task(classification_task(), sequence_length=model.sequence_length, tokenizer=model.tokenizer)


def stand_in(monkeypatch: pytest.MonkeyPatch, network: Bert) -> None:
    """Let a network in this process stand in for an ExecuTorch program that is written and loaded."""

    def write(_network: Bert, path: Path, *, sequence_length: int) -> ModelFile:
        path.write_bytes(b"a program")
        return ModelFile(
            path=path,
            sha256=sha256_of(path),
            sequence_length=sequence_length,
            batch_size=1,
            token_limit=2,
            expected_output=(0.0, 0.0),
        )

    def answer(inputs: tuple[Tensor, ...]) -> Tensor:
        assert [tuple(tensor.shape) for tensor in inputs] == [(1, 12)] * 3
        with torch.no_grad():
            logits: Tensor = network(*inputs)
        return logits

    monkeypatch.setattr("nas.shipped_files.export_executorch", write)
    monkeypatch.setattr("nas.exported_answers.load_program", lambda _path: answer)


@pytest.mark.usefixtures("without_executorch")
def test_what_lacks_an_exporter_is_left_out_with_the_way_to_it(model: SavedModel, folder: Path) -> None:
    left_out = write_files(model, tokens(model), folder)

    assert list(left_out) == ["model.pte"]
    assert "run `pip install 'pocketbert[executorch]'`" in left_out["model.pte"]
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    assert load(folder).dev_metrics == model.dev_metrics


def test_all_files_are_written_and_each_example_is_a_step(
    model: SavedModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, model.network)
    data = tokens(model)
    steps: list[tuple[int, int]] = []

    left_out = write_files(model, data, folder, on_step=lambda done, total: steps.append((done, total)))

    assert left_out == {}
    assert sorted(path.name for path in folder.iterdir()) == sorted([*NAMES, "model.pte"])
    assert steps == [(row, 10) for row in range(1, 11)] * NUM_STEPPED_FILES


def test_a_program_that_answers_otherwise_is_refused(
    model: SavedModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, load_changed(model, folder.parent))

    with pytest.raises(AgreementError, match=r"model\.pte: logits of the dev examples differ .* up to 1\.0e-02"):
        write_files(model, tokens(model), folder)


def load_changed(model: SavedModel, folder: Path) -> Bert:
    changed = praise_model(folder).network
    changed.load_state_dict(model.network.state_dict())
    with torch.no_grad():
        changed.classifier.bias.add_(0.01)
    return changed


def test_a_saved_tokenizer_that_reads_the_texts_otherwise_is_refused(
    model: SavedModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(saved: SavedModel, to: Path) -> None:
        save(replace(saved, sequence_length=6), to)

    monkeypatch.setattr("nas.shipped_files.save", damage)

    with pytest.raises(AgreementError, match=r"model\.safetensors: logits of the dev examples differ"):
        write_files(model, tokens(model), folder)


@pytest.mark.usefixtures("without_executorch")
def test_a_score_that_is_not_found_again_is_refused(model: SavedModel, folder: Path) -> None:
    (accuracy,) = dict(model.dev_metrics).values()

    with pytest.raises(
        AgreementError, match=rf"accuracy of the dev examples is {accuracy:.6f}, the run has 0\.123000;"
    ):
        write_files(replace(model, dev_metrics=(("accuracy", 0.123),)), tokens(model), folder)


def test_an_onnx_file_with_other_weights_is_refused(model: SavedModel, tmp_path: Path) -> None:
    data = tokens(model)
    onnx = export_onnx(load_changed(model, tmp_path), tmp_path / "model.onnx", sequence_length=12)
    wanted = predict(model.network, data.dev, device="cpu")

    with pytest.raises(AgreementError, match=r"model\.onnx: logits of the dev examples differ .* up to 1\.0e-02"):
        check_answers("model.onnx", onnx_logits(onnx.path, data.dev), wanted=wanted, data=data, metrics=())


@pytest.mark.slow
def test_a_real_program_answers_as_torch_does(model: SavedModel, folder: Path) -> None:
    pytest.importorskip(
        "executorch.exir", reason="the extra `executorch` is not installed; run `pip install -e '.[executorch]'`"
    )

    left_out = write_files(model, tokens(model), folder)

    assert left_out == {}
    assert (folder / "model.pte").stat().st_size > 10_000
