"""LiteRT files: checked against torch as they lie on the disk, by the same process that would time them."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn

from device_lab.errors import WrongOutputError
from device_lab.files import sha256_of
from device_lab.host import HostDevice
from device_lab.measurement import ModelFile
from device_lab.runner.contract import RunnerOutput, RunRequest, check_output
from device_lab.runtimes import find_runtime
from device_lab.runtimes.litert import Litert
from nas.errors import MissingExtraError
from nas.export import random_network
from nas.export_litert import export_litert
from tests.phone_commands import DENSE, RULE

pytestmark = pytest.mark.torch


def stand_in(monkeypatch: pytest.MonkeyPatch, *, error: float) -> None:
    """Put a converter in place whose file holds the logits, off by ``error``, and an engine that prints them."""

    class Converted:
        def __init__(self, network: nn.Module, inputs: tuple[object, ...]) -> None:
            self._logits = network(*inputs).flatten().tolist()

        def export(self, path: str) -> None:
            sys.stdout.write("progress\n")
            Path(path).write_text(repr(tuple(value + error for value in self._logits)))

    def run(model: ModelFile, request: RunRequest) -> list[str]:
        line = RunnerOutput(
            runtime="litert",
            runtime_version="2",
            num_threads=1,
            num_warmup_runs=1,
            samples_ns=(1,),
            wall_ns=1,
            cpu_ns=1,
            peak_rss_bytes=None,
            output=tuple(map(float, model.path.read_text().strip("()").split(","))),
        )
        return ["echo", line.to_json()]

    module = ModuleType("litert_torch")
    module.convert = Converted  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "litert_torch", module)
    monkeypatch.setattr(Litert, "version", "2")
    monkeypatch.setattr(Litert, "host_command", lambda self, model, request: run(model, request))


def test_a_file_whose_answer_is_not_torchs_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = random_network(DENSE, num_labels=2)
    path = tmp_path / "m.tflite"

    stand_in(monkeypatch, error=0.01)
    with pytest.raises(WrongOutputError, match=r"logit 0 is .*, torch gives"):
        export_litert(network, path, sequence_length=8)
    assert list(tmp_path.iterdir()) == []

    stand_in(monkeypatch, error=0.0)
    model = export_litert(network, path, sequence_length=8)
    assert (model.path, model.sha256, model.checked_here_by) == (path, sha256_of(path), "litert 2")
    assert capsys.readouterr() == ("", 2 * "progress\n")


def test_without_the_converter_or_the_engine_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    network = random_network(DENSE, num_labels=2)
    expected = r"exporting for runtime litert needs .*pocketbert\[litert\]"
    with monkeypatch.context() as context:
        context.setattr(importlib.metadata, "version", missing)
        with pytest.raises(MissingExtraError, match=expected):
            export_litert(network, tmp_path / "m.tflite", sequence_length=8)

    monkeypatch.setattr(Litert, "version", "2")
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    with pytest.raises(MissingExtraError, match=expected):
        export_litert(network, tmp_path / "m.tflite", sequence_length=8)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("num_threads", [1, 2])
def test_litert_answers_as_torch_does_and_its_threads_are_counted(tmp_path: Path, num_threads: int) -> None:
    pytest.importorskip("litert_torch", reason="run `pip install 'pocketbert[litert]'`")

    model = export_litert(random_network(RULE, num_labels=2), tmp_path / "m.tflite", sequence_length=8)
    request = RunRequest(num_threads=num_threads, min_runs=20, min_timed_s=0.01, max_warmup_s=0.05)
    output = HostDevice(find_runtime("litert")).run(model, request)

    assert model.path.read_bytes()[4:8] == b"TFL3"
    check_output(output.output, expected=model.expected_output)
    assert output.num_threads == num_threads
    assert len(output.samples_ns) >= 20
    assert (output.runtime, output.runtime_version) == ("litert", find_runtime("litert").version)
