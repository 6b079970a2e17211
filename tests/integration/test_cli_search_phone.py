"""A search that times on a phone: refused without a certificate, labelled with its backend."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_lab.measurement import Backend
from device_lab.virtual_phone.launch import VirtualPhone, start_virtual_phone
from device_lab.virtual_phone.options import PhoneOptions
from nas.cli.search import Place, run_search
from nas.objectives import latency_ratio
from nas.records import Objective, Role
from nas.runs import load_run
from nas.store import Store, sqlite_url
from nas.teacher_plans import teacher_plan
from nas.timed_models import TimedModels
from search_spaces.reference import squeezebert_rule
from tests.command_line import CommandLine
from tests.runner_bundles import require_bundle
from tests.scripted_runners import write_runner

pytestmark = [pytest.mark.slow, pytest.mark.torch]


@pytest.fixture(scope="module")
def phone() -> Iterator[VirtualPhone]:
    with start_virtual_phone() as running:
        yield running


@pytest.fixture(autouse=True)
def own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{variable}_HOME", str(tmp_path / variable.lower()))
    assert request.config.cache is not None
    bundles = Path(request.config.cache.mkdir("bundles"))
    require_bundle("onnxruntime", abi="x86_64", cache_folder=bundles)
    monkeypatch.setattr("nas.cli.places.default_cache_folder", lambda: bundles)


def write_task(folder: Path) -> Path:
    folder.mkdir()
    for name, count in (("train", 32), ("dev", 8)):
        rows = [f"{'good' if i % 2 else 'bad'} film\t{i % 2}" for i in range(count)]
        (folder / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    return folder


def test_a_search_times_on_a_phone_only_with_a_certificate_or_when_told_to(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, phone: VirtualPhone
) -> None:
    task = write_task(tmp_path / "task")
    nas = CommandLine(capsys, tmp_path / "runs")
    asked = ("search", "first", "--task-dir", str(task), "--space", "staged", "--objectives", "latency,macs")
    place = ("--sequence-length", "8", "--device", phone.address, "--trials", "2")

    refused = nas.in_folder(*asked, *place).error
    # As the verb does, but with a bound on the time a busy machine may take to settle.
    run_search(
        "first",
        {
            "task_dir": str(task),
            "space": "staged",
            "objectives": (Objective.LATENCY, Objective.MACS),
            "sequence_length": 8,
            "device": phone.address,
        },
        num_trials=2,
        place=Place(
            runs_folder=tmp_path / "runs",
            storage=None,
            train_device="cpu",
            unqualified=True,
            batch_budget_s=20.0,
            total_budget_s=25.0,
        ),
    )

    assert "VIRTUAL0 has no certificate" in refused
    assert "run `nas qualify --device VIRTUAL0 --teacher small --sequence-length 8 --runs-folder" in refused
    store = Store(sqlite_url(tmp_path / "runs" / "first" / "store.db"))
    run = load_run(store, "first")
    store.close()
    assert run.device is not None
    assert run.device.backend is Backend.VIRTUAL_PHONE
    measured = [measurement.device.device_id for trial in run.trials for measurement in trial.measurements]
    assert set(measured) == {"VIRTUAL0"}


def test_a_search_on_two_phones_goes_by_the_slower_and_goes_on_with_the_same_two(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, phone: VirtualPhone
) -> None:
    nas = CommandLine(capsys, tmp_path / "runs")
    place = Place(
        runs_folder=tmp_path / "runs",
        storage=None,
        train_device="cpu",
        unqualified=True,
        runner=write_two_speeds(tmp_path, slower="VIRTUAL1"),
    )
    with start_virtual_phone(PhoneOptions(serial="VIRTUAL1")) as other:
        both = ",".join(sorted([phone.address, other.address]))
        asked = {
            "task_dir": str(write_task(tmp_path / "task")),
            "space": "staged",
            "objectives": (Objective.LATENCY, Objective.MACS),
            "sequence_length": 8,
        }

        run = run_search("two", {**asked, "device": both}, num_trials=2, place=place)
        refused = nas.in_folder("search", "two", "--device", phone.address).error
        mixed = nas.in_folder("search", "other", "--objectives", "latency", "--device", f"host,{phone.address}").error
        resumed = run_search("two", {}, num_trials=2, place=place)

    assert [device.device_id for device in run.devices] == ["VIRTUAL0", "VIRTUAL1"]
    (teacher,) = [trial for trial in run.trials if trial.role is Role.DENSE_TEACHER]
    timed_on = {each.device.device_id: each.measurements[-1].ratio for each in teacher.on_devices}
    assert {name: ratio.estimate for name, ratio in timed_on.items() if ratio is not None} == pytest.approx(
        {"VIRTUAL0": 2, "VIRTUAL1": 3}
    )
    assert latency_ratio(teacher) == pytest.approx(3)
    assert {measurement.device.device_id for measurement in teacher.measurements} == {"VIRTUAL1"}
    assert f'device is "{both}", asked for "{phone.address}"' in refused
    assert "this machine and `all` stand alone" in mixed
    assert [trial.measurements for trial in resumed.trials] == [trial.measurements for trial in run.trials]


def write_two_speeds(folder: Path, *, slower: str) -> Path:
    """A runner on which the dense teacher takes twice the rule's time, and three times on the phone ``slower``."""
    teacher = teacher_plan("small").arch
    models = TimedModels(folder / "expected", runtime="onnxruntime", sequence_length=8, num_labels=2, with_weights=True)
    rule, dense = models.export(squeezebert_rule(teacher)), models.export(teacher)
    there = write_runner(folder / "there", {1_000_000: rule, 3_000_000: dense}).read_text().partition("\n")[2]
    test = f'if [ "$(getprop ro.serialno)" = {slower} ]; then'
    return write_runner(folder / "runner", {1_000_000: rule, 2_000_000: dense}, before=f"{test}\n{there}exit 0\nfi")


def test_a_search_times_with_a_program_of_the_users_own_and_goes_on_with_the_same(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    task = write_task(tmp_path / "task")
    runner = tmp_path / "runner"
    runner.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m device_lab.runner.host_onnxruntime "$@"\n')
    asked = {"task_dir": str(task), "space": "staged", "objectives": (Objective.LATENCY, Objective.MACS)}

    found = run_search(
        "own",
        {**asked, "sequence_length": 8},
        num_trials=2,
        place=Place(
            runs_folder=tmp_path / "runs",
            storage=None,
            train_device="cpu",
            runner=runner,
            batch_budget_s=10.0,
            total_budget_s=12.0,
        ),
    )
    refused = CommandLine(capsys, tmp_path / "runs").in_folder("search", "own", "--trials", "3").error

    assert found.settings is not None
    assert found.settings.runtime_version.startswith("program-")
    measured = [measurement for trial in found.trials for measurement in trial.measurements]
    assert {measurement.settings for measurement in measured} == {found.settings}
    assert "run 'own' has other settings" in refused
    assert "runtime_version" in refused
