"""The gate of an app team's CI: its exit codes, from files as users have them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from nas.errors import ModelFileError
from nas.model_files import read_onnx_model
from tests.command_line import CommandLine
from tests.tiny_onnx import TOKEN_LIMIT, write_tiny_model


@pytest.fixture
def nas(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> CommandLine:
    return CommandLine(capsys, tmp_path / "runs")


def test_a_file_is_read_with_its_shape_and_the_answer_it_has_to_give(tmp_path: Path) -> None:
    written = write_tiny_model(tmp_path / "tiny.onnx", sequence_length=16, batch_size=2)

    read = read_onnx_model(written.path, sequence_length=99)

    assert (read.sequence_length, read.batch_size, read.token_limit) == (16, 2, TOKEN_LIMIT)
    assert read.sha256 == written.sha256
    assert read.expected_output == pytest.approx(written.expected_output, abs=1e-5)
    assert read.answered_by == f"ONNX Runtime {onnxruntime.__version__} without optimisations"


def test_the_answer_to_give_comes_from_a_graph_that_nothing_optimised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny_model(tmp_path / "tiny.onnx").path
    levels = []
    session = onnxruntime.InferenceSession

    def watched(model: str, options: onnxruntime.SessionOptions, **others: Any) -> onnxruntime.InferenceSession:
        levels.append(options.graph_optimization_level)
        return session(model, options, **others)

    monkeypatch.setattr("nas.model_files.onnxruntime.InferenceSession", watched)
    read_onnx_model(path, sequence_length=16)

    assert levels == [onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL]


def test_a_shape_the_file_leaves_open_is_the_one_asked_for(tmp_path: Path) -> None:
    path = rewritten(tmp_path / "tiny.onnx", open_shape)

    assert read_onnx_model(path, sequence_length=24).sequence_length == 24


def rewritten(path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    """A tiny model with one thing changed."""
    write_tiny_model(path)
    model = onnx.load(str(path))
    change(model)
    onnx.save(model, str(path))
    return path


def open_shape(model: onnx.ModelProto) -> None:
    for each in model.graph.input:
        for dimension in each.type.tensor_type.shape.dim:
            dimension.ClearField("dim_value")
            dimension.dim_param = "open"
    for dimension in model.graph.output[0].type.tensor_type.shape.dim:
        dimension.ClearField("dim_value")


def rename_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "scores"
    model.graph.node[-1].output[0] = "scores"


def rename_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "tokens_in"
    model.graph.node[0].input[1] = "tokens_in"


def use_small_ids(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32


def put_weights_elsewhere(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.bin")


def use_an_unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[-1].op_type = "Wish"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_output, r"the outputs are scores; one of them has to be 'logits'"),
        (rename_input, r"input tokens_in; the inputs have to be input_ids, attention_mask, token_type_ids"),
        (use_small_ids, r"input input_ids is INT32 with 2 axes, INT64 with 2 is needed"),
        (put_weights_elsewhere, r"tokens lies in another file; save the model as one file"),
        (use_an_unknown_operator, r"ONNX Runtime cannot execute it: .*Wish"),
    ],
)
def test_what_cannot_be_timed_is_named(tmp_path: Path, change: Callable[[onnx.ModelProto], None], message: str) -> None:
    path = rewritten(tmp_path / "tiny.onnx", change)

    with pytest.raises(ModelFileError, match=message):
        read_onnx_model(path, sequence_length=16)


@pytest.mark.parametrize("content", [b"", b"hello world", b"\x80\x04pickle"])
def test_a_file_that_is_no_onnx_is_one_line_and_not_measured(nas: CommandLine, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)

    finished = nas.in_folder("gate", str(path), "--against", str(path))

    assert finished.code == 3
    assert finished.stderr.startswith(f"nas: error: {path} is not an ONNX file: ")
    assert finished.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gate", "missing.onnx", "--against", "squeezebert"), "missing.onnx"),
        (("gate", "squeezebert", "--against", "bert"), "unknown model 'bert'"),
        (("gate", "squeezebert", "--against", "bert-base", "--max-ratio", "0"), "--max-ratio 0 must be above 0"),
        (("gate", "squeezebert", "--against", "bert-base", "--precision", "exact"), "unknown precision 'exact'"),
    ],
)
def test_what_is_not_measured_exits_with_three(nas: CommandLine, arguments: tuple[str, ...], message: str) -> None:
    finished = nas.in_folder(*arguments)

    assert finished.code == 3
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.slow
def test_the_same_file_passes_and_a_far_larger_one_fails(nas: CommandLine, tmp_path: Path) -> None:
    small, large = tmp_path / "small.onnx", tmp_path / "large.onnx"
    write_tiny_model(small, hidden_size=64, num_layers=2)
    write_tiny_model(large, hidden_size=256, num_layers=40)
    coarse = ("--precision", "coarse", "--budget-minutes", "1")

    same = nas.in_folder("gate", str(small), "--against", str(small), "--json", *coarse)
    slower = nas.in_folder("gate", str(large), "--against", str(small), *coarse)

    assert same.code == 0
    (document,) = json.loads(same.stdout)
    assert document["verdict"] in ("within", "undecided")
    assert document["ratio"]["low"] <= 1.05
    assert slower.code == 1
    assert "large.onnx takes " in slower.stdout
    assert "outputs checked in every run against ONNX Runtime" in " ".join(slower.stdout.split())
    assert "TOO SLOW: the whole interval lies above 1.05." in slower.stdout


def test_two_shapes_are_not_held_against_each_other(nas: CommandLine, tmp_path: Path) -> None:
    short, long = tmp_path / "short.onnx", tmp_path / "long.onnx"
    write_tiny_model(short, sequence_length=16)
    write_tiny_model(long, sequence_length=32)

    finished = nas.in_folder("gate", str(short), "--against", str(long))

    assert finished.code == 3
    assert "short.onnx: sequence_length=16, the reference has 32" in finished.stderr
