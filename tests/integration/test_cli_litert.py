"""``--runtime litert`` with LiteRT's ``benchmark_model``: on phones and here, labelled as what it can and cannot show.

A script that prints its lines stands in for the program, a file of text for the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_lab.files import sha256_of
from device_lab.measurement import ModelFile
from device_lab.virtual_phone.launch import VirtualPhone, start_virtual_phone
from device_lab.virtual_phone.options import PhoneOptions
from search_spaces.bert import Bert
from tests.command_line import CommandLine
from tests.phone_commands import DENSE, Nas, only_model, stored_measurements

pytestmark = [pytest.mark.slow, pytest.mark.torch]

# Prints what Google's program prints, partly to standard error; the model holds its own time in microseconds.
BENCHMARK_MODEL = """#!/bin/sh
for word in "$@"; do
  case $word in --graph=*) model=${word#--graph=} ;; --num_threads=*) threads=${word#*=} ;; esac
done
[ "$(cat $model)" = bad ] && { echo "Failed to load" >&2; exit 1; }
echo "INFO: #threads used for CPU inference: [$threads]"
echo "INFO: count=30 first=4000 curr=2100 min=2000 max=4000 avg=2200.5 std=93" >&2
echo "INFO: count=51 first=2010 curr=2011 min=1990 max=2400 avg=$(cat $model) std=45" >&2
echo "INFO: Inference timings in us: Init: 1500, First inference: 4000, Warmup (avg): 2200, \
Inference (avg): $(cat $model)" >&2
"""


@pytest.fixture(scope="module")
def phone() -> Iterator[VirtualPhone]:
    with start_virtual_phone(PhoneOptions(serial="OUTSIDE")) as started:
        yield started


@pytest.fixture
def nas(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nas:
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{variable}_HOME", str(tmp_path / variable.lower()))
    (tmp_path / "benchmark_model").write_text(BENCHMARK_MODEL)
    export_as(monkeypatch, dense="3000", rule="1500")
    return Nas(CommandLine(capsys, tmp_path / "runs"), tmp_path)


def export_as(monkeypatch: pytest.MonkeyPatch, *, dense: str, rule: str, checked_here_by: str = "litert 2.3.0") -> None:
    def export(network: Bert, path: Path, *, sequence_length: int) -> ModelFile:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dense if network.arch.blocks == DENSE.blocks else rule)
        return ModelFile(
            path=path,
            sha256=sha256_of(path),
            sequence_length=sequence_length,
            batch_size=1,
            token_limit=100,
            expected_output=(0.0, 0.0),
            checked_here_by=checked_here_by,
        )

    monkeypatch.setattr("nas.timed_models.export_litert", export)


def arguments(nas: Nas, *devices: str) -> tuple[str, ...]:
    return (*devices, "--runtime", "litert", "--runner", str(nas.folder / "benchmark_model"), "--threads", "2")


@pytest.mark.parametrize("where", ["phone", "host"])
def test_it_qualifies_and_measures_and_says_what_it_cannot_show(nas: Nas, phone: VirtualPhone, where: str) -> None:
    devices = ("--device", phone.address) if where == "phone" else ()

    qualified = nas("qualify", *arguments(nas, *devices), "--json")
    assert qualified.code == 0, qualified
    (document,) = nas.measure(*arguments(nas, *devices)).values()

    model = only_model(document)
    assert model["ratio"] == {"estimate": 2.0, "low": 2.0, "high": 2.0, "level": 0.95}
    assert model["backend"] == ("virtual-phone" if where == "phone" else "host")
    assert (model["settings"]["runtime"], model["settings"]["num_threads"]) == ("litert", 2)
    assert model["settings"]["runtime_version"].startswith("program-")
    assert model["outputs"] == "outputs checked on the host"
    assert model["latency_ms"] is None, "averages have no percentiles"
    unseen, unsampled = model["flags"][:2]
    assert "the runner prints no answer" in unseen
    assert "average of its inferences, no samples" in unsampled
    (blocks,) = stored_measurements(nas, document["device"]["device_id"])
    assert {block.candidate.samples_ns for block in blocks} == {(3_000_000,)}
    assert all(block.reference_after.output_checked_here for block in blocks)


def test_the_table_says_where_answers_were_checked(nas: Nas) -> None:
    told = nas("measure", *arguments(nas))

    assert told.code == 0, told
    assert "2 thread(s), outputs checked on the host" in told.stdout
    assert "note: each process printed the average" in told.stderr


def test_a_file_nobody_checked_is_never_a_latency(
    nas: Nas, phone: VirtualPhone, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_as(monkeypatch, dense="3000", rule="1500", checked_here_by="")

    finished = nas("measure", *arguments(nas, "--device", phone.address), "--unqualified", "--json")

    assert finished.code == 1
    (document,) = json.loads(finished.stdout)
    assert "nobody has held this file against torch" in only_model(document)["error"]
    assert stored_measurements(nas, "OUTSIDE") == []


def test_a_program_that_fails_is_one_line(nas: Nas, phone: VirtualPhone, monkeypatch: pytest.MonkeyPatch) -> None:
    export_as(monkeypatch, dense="3000", rule="bad")

    finished = nas("measure", *arguments(nas, "--device", phone.address), "--unqualified")

    assert finished.code == 1
    assert "the runner exited with 1: Failed to load" in finished.stderr


def test_the_wrong_runtime_and_a_missing_program_are_one_line(nas: Nas, phone: VirtualPhone) -> None:
    program = str(nas.folder / "benchmark_model")

    error = nas("measure", "--runner", program).error
    assert error.endswith("is LiteRT's benchmark_model, not for onnxruntime; add --runtime litert")
    without = nas("measure", "--device", phone.address, "--runtime", "litert", "--unqualified")
    assert without.code == 1
    assert "runtime litert has no runner of ours for phones; give LiteRT's benchmark_model" in without.stderr
