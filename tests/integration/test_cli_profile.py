"""``nas profile``: on this machine, on a phone, and where the device is gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from device_lab.measurement import Backend, DeviceInfo
from device_lab.virtual_phone.launch import start_virtual_phone
from nas.cli.search import Place, run_search
from nas.records import LatencyMode, Objective
from tests.command_line import CommandLine
from tests.runner_bundles import require_bundle

pytestmark = [pytest.mark.slow, pytest.mark.torch]


@pytest.fixture(autouse=True)
def own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{variable}_HOME", str(tmp_path / variable.lower()))


@pytest.fixture
def nas(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> CommandLine:
    return CommandLine(capsys, tmp_path / "runs")


def search(folder: Path, *, objectives: tuple[Objective, ...], **more: str) -> None:
    """A run of the two references, timed for seconds, whatever a busy machine makes of it."""
    task = folder / "task"
    task.mkdir()
    for name, count in (("train", 32), ("dev", 8)):
        rows = [f"{'good' if i % 2 else 'bad'} film\t{i % 2}" for i in range(count)]
        (task / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    run_search(
        "first",
        {
            "task_dir": str(task),
            "space": "staged",
            "objectives": objectives,
            "latency": LatencyMode.MEASURED,
            "sequence_length": 8,
            **more,
        },
        num_trials=2,
        place=Place(
            runs_folder=folder / "runs",
            storage=None,
            train_device="cpu",
            unqualified=True,
            batch_budget_s=15.0,
            total_budget_s=20.0,
        ),
    )


def test_a_run_is_profiled_on_this_machine_and_its_report_shows_it(
    nas: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(tmp_path, objectives=(Objective.LATENCY, Objective.MACS))

    one = nas.in_folder("profile", "first", "--trial", "0")
    documents = json.loads(nas.in_folder("profile", "first", "--trial", "1", "--json").stdout)
    report = json.loads(nas.in_folder("report", "first", "--json").stdout)

    assert one.code == 0
    assert "no latency" in one.stdout
    assert {"Conv", "query", "attention", "share"} <= set(one.stdout.split())
    assert [document["trial"] for document in documents] == [1]
    for document in documents:
        for parts in (document["kinds"], document["positions"]):
            assert sum(part["share"] for part in parts) == pytest.approx(1)
    profiled = json.loads((Path(report["folder"]) / "report.json").read_text())["trials"]
    assert [trial["profile"] is not None for trial in profiled[:2]] == [True, True]

    elsewhere = DeviceInfo(
        device_id="host-elsewhere", backend=Backend.HOST, model="?", soc="?", os_version="?", abi="?", num_cores=1
    )
    monkeypatch.setattr("device_lab.host.host_info", lambda: elsewhere)
    error = nas.in_folder("profile", "first", "--trial", "0").error
    assert "run 'first' was timed on host-" in error
    assert error.endswith("this is host-elsewhere; profile it there")


def test_a_run_is_profiled_on_its_phone_and_says_so_when_the_phone_is_gone(
    nas: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    assert request.config.cache is not None
    bundles = Path(request.config.cache.mkdir("bundles"))
    require_bundle("onnxruntime", abi="x86_64", cache_folder=bundles)
    monkeypatch.setattr("nas.cli.places.default_cache_folder", lambda: bundles)
    with start_virtual_phone() as phone:
        search(tmp_path, objectives=(Objective.LATENCY, Objective.MACS), device=phone.address)
        (document,) = json.loads(nas.in_folder("profile", "first", "--trial", "1", "--json").stdout)

    assert document["profile"]["device"]["backend"] == "virtual-phone"
    assert document["profile"]["settings"]["runtime"] == "onnxruntime"
    assert {"query", "FFN in", "attention"} <= {part["name"] for part in document["positions"]}
    assert phone.address in nas.in_folder("profile", "first", "--trial", "0").error


def test_a_run_that_times_nothing_has_no_device_to_profile_on(nas: CommandLine, tmp_path: Path) -> None:
    search(tmp_path, objectives=(Objective.MACS, Objective.PARAMETERS))

    assert nas.in_folder("profile", "first").error == (
        "run 'first' times nothing, so it has no device to profile on; search for latency, too"
    )
