from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

from device_lab.errors import RuntimeMissingError, UnknownRuntimeError
from device_lab.measurement import ModelFile
from device_lab.runner.contract import RunnerArguments, RunRequest
from device_lab.runtimes import find_runtime, runtime_names
from device_lab.runtimes.onnxruntime import OnnxRuntime


def test_an_unknown_runtime_is_named_with_the_known_ones() -> None:
    with pytest.raises(UnknownRuntimeError, match=r"unknown runtime 'ncnn' \(known: .*onnxruntime"):
        find_runtime("ncnn")


def test_every_known_runtime_is_found_by_its_own_name() -> None:
    assert [find_runtime(name).name for name in runtime_names()] == list(runtime_names())
    assert "onnxruntime" in runtime_names()


def test_the_version_is_that_of_the_installed_package() -> None:
    assert OnnxRuntime().version == importlib.metadata.version("onnxruntime")


def test_a_runtime_that_is_not_installed_names_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)

    with pytest.raises(
        RuntimeMissingError, match=r"runtime onnxruntime is not installed; run `pip install onnxruntime`"
    ):
        _ = OnnxRuntime().version


def test_the_command_carries_every_number_to_its_own_argument() -> None:
    model = ModelFile(
        path=Path("/models/m.onnx"),
        sha256="0" * 64,
        sequence_length=64,
        batch_size=2,
        token_limit=900,
        expected_output=(),
    )
    request = RunRequest(num_threads=3, min_runs=20, min_timed_s=1.5, max_warmup_s=8.0)

    command = OnnxRuntime().host_command(model, request)

    assert command[0] == sys.executable
    assert RunnerArguments.from_argv(command[4:]) == RunnerArguments(
        model="/models/m.onnx",
        num_threads=3,
        sequence_length=64,
        batch_size=2,
        token_limit=900,
        min_runs=20,
        min_timed_s=1.5,
        max_warmup_s=8.0,
    )
