"""``nas gate`` on a virtual phone: it needs the certificate that `nas qualify` makes, and pauses a warm phone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_lab.measurement import ModelFile
from device_lab.virtual_phone.launch import VirtualPhone, start_virtual_phone
from device_lab.virtual_phone.options import PhoneOptions
from nas.model_files import read_onnx_model
from tests.command_line import CommandLine, Finished
from tests.scripted_runners import write_runner
from tests.tiny_onnx import write_tiny_model

pytestmark = pytest.mark.slow

SERIAL = "GATED"
HOT = "/data/local/tmp/hot"
COOL_NS, HOT_NS = 1_000_000, 1_200_000


@pytest.fixture(scope="module")
def phone() -> Iterator[VirtualPhone]:
    with start_virtual_phone(PhoneOptions(serial=SERIAL)) as started:
        yield started


@pytest.fixture(autouse=True)
def own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keys, locks and addresses of the test's own; a pause takes no time."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{variable}_HOME", str(tmp_path / variable.lower()))
    monkeypatch.setattr("device_lab.protocol.COOLDOWN_S", 0.001)


@pytest.fixture
def model(tmp_path: Path) -> ModelFile:
    write_tiny_model(tmp_path / "released.onnx", sequence_length=12)
    return read_onnx_model(tmp_path / "released.onnx", sequence_length=12)


@pytest.fixture
def runner(model: ModelFile, tmp_path: Path) -> Path:
    """Takes a fifth longer while the phone is hot."""
    path = write_runner(tmp_path / "runner", {COOL_NS: model}, before=f"[ -e {HOT} ] && set -- x hot")
    text = path.read_text()
    answer = text.partition(f"*/{model.path.name}) ")[2].partition("\n")[0].replace(str(COOL_NS), str(HOT_NS))
    path.write_text(text.replace('case "$2" in', f'case "$2" in\nhot) {answer}'))
    return path


class Gate:
    """The released file gated against itself on the phone."""

    def __init__(self, nas: CommandLine, phone: VirtualPhone, model: ModelFile, runner: Path) -> None:
        self.nas, self.phone, self.model = nas, phone, model
        self.chosen = ("--device", phone.address, "--runner", str(runner), "--precision", "coarse", "--json")

    def __call__(self, *arguments: str) -> Finished:
        path = str(self.model.path)
        return self.nas.in_folder("gate", path, "--against", path, *self.chosen, *arguments)

    def qualify(self, command: str) -> Finished:
        """Run the command of a refusal, with the phone by its address, for nothing else lists it here."""
        words = command.replace(SERIAL, self.phone.address).split()
        return self.nas(*words[1:], "--precision", "coarse", "--json")


@pytest.fixture
def gate(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, phone: VirtualPhone, model: ModelFile, runner: Path
) -> Gate:
    return Gate(CommandLine(capsys, tmp_path / "runs"), phone, model, runner)


def test_a_phone_without_a_certificate_is_not_measured_and_the_command_that_is_named_makes_one(gate: Gate) -> None:
    refused = gate()
    command = refused.stderr.partition("run `")[2].partition("`")[0]
    qualified = gate.qualify(command)
    passed = gate()

    assert refused.code == 3
    assert f"{SERIAL} has no certificate" in refused.stderr
    assert command.startswith(f"nas qualify --device {SERIAL} --against {gate.model.path} --sequence-length 12 ")
    (certificate,) = json.loads(qualified.stdout)
    assert (certificate["is_qualified"], certificate["cold_baseline_ms"]) == (True, 1.0)
    assert passed.code == 0
    (document,) = json.loads(passed.stdout)
    assert (document["verdict"], document["num_cooldowns"], document["flags"]) == ("within", 0, [])


def test_a_phone_that_stays_warmer_than_its_certificate_is_paused_and_given_up(gate: Gate, phone: VirtualPhone) -> None:
    command = gate().stderr.partition("run `")[2].partition("`")[0]
    assert gate.qualify(command).code == 0
    hot = phone.on_host(HOT)
    hot.touch()
    try:
        warm = gate()
    finally:
        hot.unlink()

    assert warm.code == 3
    assert json.loads(warm.stdout)[0]["error"] == (
        f"{SERIAL}: the reference stayed more than 5% slower than on the cold device; let it cool"
    )


def test_without_a_certificate_a_phone_is_timed_only_if_that_is_asked_for(gate: Gate) -> None:
    timed = gate("--unqualified")

    assert timed.code == 0
    (document,) = json.loads(timed.stdout)
    assert document["backend"] == "virtual-phone"
    assert document["outputs"].startswith("outputs checked in every run against ONNX Runtime ")
    assert document["outputs"].endswith(" without optimisations")
