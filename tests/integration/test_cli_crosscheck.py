from __future__ import annotations

import json
from pathlib import Path

import pytest

from device_lab.virtual_phone.launch import start_virtual_phone
from device_lab.virtual_phone.options import PhoneOptions
from search_spaces.bert import Bert
from tests.command_line import CommandLine
from tests.phone_commands import DENSE, RULE

pytestmark = [pytest.mark.slow, pytest.mark.torch]

# Prints what Google's program prints, partly to standard error as it does; the model holds its own time.
BENCHMARK_MODEL = """#!/bin/sh
case "$*" in *--num_threads=2*) ;; *) echo "wrong arguments: $*"; exit 1 ;; esac
model=${1#--graph=}
[ "$(cat $model)" = bad ] && { echo "Failed to load"; exit 1; }
echo "count=30 first=4000 curr=2100 min=2000 max=4000 avg=2200.5 std=93"
echo "count=51 first=2010 curr=2011 min=1990 max=2400 avg=2050.25 std=45"
echo "INFO: Inference timings in us: Init: 1500, First inference: 4000, Warmup (avg): 2200, \
Inference (avg): $(cat $model)" >&2
"""


@pytest.fixture
def command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{variable}_HOME", str(tmp_path / variable.lower()))
    (tmp_path / "dense.json").write_text(DENSE.to_json())
    (tmp_path / "rule.json").write_text(RULE.to_json())
    (tmp_path / "benchmark_model").write_text(BENCHMARK_MODEL)
    return CommandLine(capsys, tmp_path / "runs")


def arguments(folder: Path, address: str) -> tuple[str, ...]:
    chosen = ("--device", address, "--benchmark-model", str(folder / "benchmark_model"), "--threads", "2")
    return ("crosscheck", str(folder / "dense.json"), "--against", str(folder / "rule.json"), *chosen)


def test_its_averages_are_printed_as_what_they_are(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(network: Bert, path: Path, *, sequence_length: int) -> None:
        assert sequence_length == 128
        path.write_text("3000" if network.arch.blocks == DENSE.blocks else "1200")

    monkeypatch.setattr("nas.export_litert.export_litert", export)
    with start_virtual_phone(PhoneOptions(serial="OUTSIDE")) as phone:
        told = command_line(*arguments(tmp_path, phone.address))
        document = json.loads(command_line(*arguments(tmp_path, phone.address), "--json").stdout)

    assert told.code == 0, told
    assert "not a measurement" in told.stdout
    assert document["label"].startswith("outside cross-check: ")
    dense = document["models"][str(tmp_path / "dense.json")]
    assert dense == {
        "initialization_ms": 1.5,
        "first_inference_ms": 4.0,
        "warmup_average_ms": 2.2,
        "inference_average_ms": 3.0,
        "ratio": 2.5,
    }
    assert document["models"][str(tmp_path / "rule.json")]["ratio"] == 1.0


def test_a_program_that_fails_is_one_line(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.export_litert.export_litert", lambda network, path, **_: path.write_text("bad"))
    with start_virtual_phone(PhoneOptions(serial="OUTSIDE")) as phone:
        error = command_line(*arguments(tmp_path, phone.address)).error

    assert error.endswith("exited with 1: Failed to load")
