from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from torch import Tensor, nn

from device_lab.errors import WrongOutputError
from nas.errors import MissingExtraError
from nas.export import random_network
from nas.export_litert import export_litert
from tests.phone_commands import DENSE, RULE

pytestmark = pytest.mark.torch


def stand_in(monkeypatch: pytest.MonkeyPatch, *, error: float) -> None:
    """Put a converter in place that runs torch and is off by ``error``."""

    class Converted:
        def __init__(self, network: nn.Module) -> None:
            self._network = network

        def __call__(self, ids: Tensor) -> Tensor:
            logits: Tensor = self._network(ids) + error
            return logits.detach()

        def export(self, path: str) -> None:
            sys.stdout.write("progress\n")
            Path(path).write_text("converted")

    module = ModuleType("litert_torch")
    module.convert = lambda network, _inputs: Converted(network)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "litert_torch", module)


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
    export_litert(network, path, sequence_length=8)
    assert path.read_text() == "converted"
    assert capsys.readouterr() == ("", "progress\n")


def test_without_the_converter_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litert_torch", None)

    with pytest.raises(MissingExtraError, match=r"exporting for LiteRT needs .*pocketbert\[litert\]"):
        export_litert(random_network(DENSE, num_labels=2), tmp_path / "m.tflite", sequence_length=8)


@pytest.mark.slow
def test_litert_answers_as_torch_does(tmp_path: Path) -> None:
    pytest.importorskip("litert_torch", reason="run `pip install 'pocketbert[litert]'`")

    export_litert(random_network(RULE, num_labels=2), tmp_path / "m.tflite", sequence_length=8)

    assert (tmp_path / "m.tflite").read_bytes()[4:8] == b"TFL3"
