"""What a phone keeps of bundles and models, and where it runs them; with runners that are shell scripts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from device_lab.adb import LAB_FOLDER
from device_lab.devices import find_phone
from device_lab.errors import DeviceFullError, RunnerTimeoutError
from device_lab.held_phone import HeldPhone, hold_phone
from device_lab.measurement import Backend, ModelFile
from device_lab.phone import BUNDLES_FOLDER, PhoneDevice
from device_lab.runner.bundle import Bundle, wrap_program
from device_lab.runner.contract import RunRequest, check_output
from device_lab.virtual_phone.launch import VirtualPhone, start_virtual_phone
from tests.runner_bundles import emulate_arm64, require_bundle, tiny_program
from tests.scripted_runners import write_runner
from tests.system_packages import require_program
from tests.tiny_onnx import write_tiny_model
from tests.virtual_phones import is_left_running, needs_namespaces

pytestmark = pytest.mark.slow

ONCE = RunRequest(num_threads=1, min_runs=3, min_timed_s=0.0, max_warmup_s=0.0, timeout_s=120.0)


@pytest.fixture(scope="module")
def phone() -> Iterator[VirtualPhone]:
    with start_virtual_phone() as running:
        yield running


@pytest.fixture
def held(phone: VirtualPhone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HeldPhone]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with hold_phone(find_phone(phone.address, keys=())) as held:
        yield held
        held.adb.run(f"rm -rf {LAB_FOLDER}/bundles {LAB_FOLDER}/models", timeout_s=10)


@pytest.fixture
def models(tmp_path: Path) -> list[ModelFile]:
    return [write_tiny_model(tmp_path / f"{size}.onnx", hidden_size=size) for size in (8, 16, 24)]


def scripted(folder: Path, models: list[ModelFile], *, before: str = "") -> Bundle:
    runner = write_runner(folder / "runner", {1000 * (i + 1): model for i, model in enumerate(models)}, before=before)
    return wrap_program(runner, runtime="onnxruntime", abi="x86_64", cache_folder=folder / "bundles")


def test_a_runner_is_unpacked_once_and_its_archive_does_not_stay(
    held: HeldPhone, models: list[ModelFile], tmp_path: Path
) -> None:
    bundle = scripted(tmp_path, models)

    for _ in range(2):
        output = PhoneDevice(held, bundle, num_threads=1).run(models[0], ONCE)
        check_output(output.output, expected=models[0].expected_output)
        assert output.samples_ns[:3] == (1000,) * 3

    assert held.adb.run(f"ls {BUNDLES_FOLDER}", timeout_s=10).text == bundle.sha256
    assert bundle.sha256 not in held.adb.run(f"ls {LAB_FOLDER}/cache", timeout_s=10).text


def test_old_bundles_make_room(
    held: HeldPhone, models: list[ModelFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device_lab.phone.MAX_BUNDLES", 1)
    first = scripted(tmp_path, models)
    second = scripted(tmp_path, models, before="true")

    for bundle in (first, second):
        PhoneDevice(held, bundle, num_threads=1).prepare()

    assert held.adb.run(f"ls {BUNDLES_FOLDER}", timeout_s=10).text == second.sha256


def test_the_model_used_longest_ago_makes_room_and_comes_back_when_it_is_needed(
    held: HeldPhone, models: list[ModelFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device_lab.phone.MAX_MODELS", 2)
    device = PhoneDevice(held, scripted(tmp_path, models), num_threads=1)
    reference, first, second = models

    def cached() -> set[str]:
        names = held.adb.run(f"ls {LAB_FOLDER}/cache", timeout_s=10).text.split()
        return {name for name in names if name in {model.sha256 for model in models}}

    for model in (reference, first, reference, second):
        device.run(model, ONCE)
    after_three = cached()
    output = device.run(first, ONCE)

    assert after_three == {reference.sha256, second.sha256}
    assert output.samples_ns[0] == 2000
    assert len(cached()) == 2


@needs_namespaces
def test_a_phone_runs_models_on_its_fastest_cores_and_says_so(
    held: HeldPhone, models: list[ModelFile], tmp_path: Path
) -> None:
    require_program("taskset", package="util-linux")
    held.info = replace(held.info, backend=Backend.DEVICE)
    where = "grep ^Cpus_allowed: /proc/self/status >/data/local/tmp/where"
    device = PhoneDevice(held, scripted(tmp_path, models, before=where), num_threads=1)

    device.run(models[0], ONCE)

    last_half = sum(1 << core for core in range(held.info.num_cores // 2, held.info.num_cores))
    assert int(device.conditions()["core_mask"], 16) == last_half
    allowed = held.adb.run("cat /data/local/tmp/where", timeout_s=10).text.split()[1]
    assert int(allowed.replace(",", ""), 16) == last_half


def test_a_runner_that_does_not_end_is_stopped_on_the_phone(
    phone: VirtualPhone, held: HeldPhone, models: list[ModelFile], tmp_path: Path
) -> None:
    device = PhoneDevice(held, scripted(tmp_path, models, before="sleep 72003"), num_threads=1)

    with pytest.raises(RunnerTimeoutError, match=r"8\.onnx: the runner was still at work after 1 s and was stopped"):
        device.run(models[0], replace(ONCE, timeout_s=1.0))

    assert not is_left_running(phone, "sleep 72003")


def test_stop_ends_the_run_of_another_thread(
    phone: VirtualPhone, held: HeldPhone, models: list[ModelFile], tmp_path: Path
) -> None:
    device = PhoneDevice(held, scripted(tmp_path, models, before="sleep 72004"), num_threads=1)
    device.prepare()
    stopper = threading.Timer(1.0, device.stop)
    stopper.start()

    with pytest.raises(KeyboardInterrupt):
        device.run(models[0], ONCE)
    stopper.join()
    with pytest.raises(KeyboardInterrupt):
        device.run(models[0], ONCE)

    assert not is_left_running(phone, "sleep 72004")


@needs_namespaces
def test_a_bundle_that_does_not_fit_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from device_lab.virtual_phone.options import PhoneOptions

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    runner = tmp_path / "runner"
    runner.write_bytes(b"#!/bin/sh\n" + b"#" * 600_000)
    bundle = wrap_program(runner, runtime="onnxruntime", abi="x86_64", cache_folder=tmp_path / "bundles")
    # The archive fits, archive and content together do not.
    with (
        start_virtual_phone(PhoneOptions(data_bytes=1_100_000)) as small,
        hold_phone(find_phone(small.address, keys=())) as held,
    ):
        with pytest.raises(DeviceFullError, match="delete files on the device"):
            PhoneDevice(held, bundle, num_threads=1).prepare()

        assert held.adb.run(f"ls {BUNDLES_FOLDER}", timeout_s=10).text == ""
        assert bundle.sha256 not in held.adb.run(f"ls {LAB_FOLDER}/cache", timeout_s=10).text


@needs_namespaces
@pytest.mark.parametrize("runtime", ["onnxruntime", "executorch"])
def test_an_arm64_bundle_answers_as_torch_does_on_an_emulated_phone(
    runtime: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from device_lab.virtual_phone.options import PhoneOptions

    emulate_arm64(tmp_path / "root")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert request.config.cache is not None
    folder = Path(request.config.cache.mkdir("bundles"))
    bundle = require_bundle(runtime, abi="arm64-v8a", cache_folder=folder)
    model = write_tiny_model(tmp_path / "tiny.onnx") if runtime == "onnxruntime" else tiny_program()
    with (
        start_virtual_phone(PhoneOptions(abi="arm64-v8a")) as emulated,
        hold_phone(find_phone(emulated.address, keys=())) as held,
    ):
        device = PhoneDevice(held, bundle, num_threads=1)
        output = device.run(model, ONCE)

    check_output(output.output, expected=model.expected_output)
    assert device.info.backend is Backend.QEMU
    assert (output.runtime, output.runtime_version) == (device.runtime, device.runtime_version)
