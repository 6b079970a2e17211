from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from device_lab.adb import AdbDevice
from device_lab.devices import AttachedPhone, find_phone
from device_lab.errors import DeviceBusyError, DeviceLabError, DeviceLostError, RemoteCommandError
from device_lab.held_phone import hold_phone
from device_lab.lease import lease
from device_lab.virtual_phone.faults import Fault, Kind, Stage
from device_lab.virtual_phone.launch import VirtualPhone, start_virtual_phone
from tests.virtual_phones import is_left_running, needs_namespaces, open_device

# Holds the phone at an address until it is killed, having said so.
HOLDER = """
import sys, time
from device_lab.adb import AdbDevice
from device_lab.devices import find_phone
from device_lab.held_phone import hold_phone
with hold_phone(find_phone(sys.argv[1], keys=()), duration_s=int(sys.argv[2])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def phone() -> Iterator[VirtualPhone]:
    with start_virtual_phone() as running:
        set_stay_on(running, "3")
        yield running


@pytest.fixture(autouse=True)
def own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def attached(phone: VirtualPhone) -> AttachedPhone:
    return find_phone(phone.address, keys=())


def set_stay_on(phone: VirtualPhone, value: str | None) -> None:
    path = phone.on_host("/state/settings/global.stay_on_while_plugged_in")
    if value is None:
        path.unlink()
    else:
        path.write_text(f"{value}\n")


def settings(phone: VirtualPhone) -> tuple[str | None, str]:
    """What stay-on and fixed performance are set to now."""
    path = phone.on_host("/state/settings/global.stay_on_while_plugged_in")
    stay_on = path.read_text().strip() if path.exists() else None
    return stay_on, phone.on_host("/state/fixed_performance_mode").read_text().strip()


@contextmanager
def holder(phone: VirtualPhone, *, cache: Path, duration_s: int = 60) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the phone. With a cache folder of its own it is as if on another machine's account."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-c", HOLDER, phone.address, str(duration_s)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def eventually(condition: Callable[[], bool], *, within_s: float = 20.0) -> bool:
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def take(device: AdbDevice, *, home: Path) -> None:
    with lease(device, device_id="VIRTUAL0", home=home, environment={}):
        pass


def hold_and_look(phone: VirtualPhone) -> tuple[str | None, str]:
    with hold_phone(attached(phone)):
        return settings(phone)


def test_a_held_phone_is_steadied_and_left_as_it_was_found(phone: VirtualPhone) -> None:
    with hold_phone(attached(phone)) as held:
        assert held.info.device_id == "VIRTUAL0"
        assert settings(phone) == ("7", "true")
        assert held.settings == (("fixed_performance", "on"), ("screen_kept_on", "yes"))
        conditions = held.conditions()
        assert (conditions["fixed_performance"], conditions["thermal_status"]) == ("on", "0")
        assert held.run("echo out", timeout_s=10).text == "out"

    assert settings(phone) == ("3", "false")
    assert not is_left_running(phone, "watch /data")


def test_a_setting_that_was_never_set_is_unset_again(phone: VirtualPhone) -> None:
    set_stay_on(phone, None)

    assert hold_and_look(phone) == ("7", "true")
    assert settings(phone) == (None, "false")


def test_a_setting_that_cannot_be_read_is_left_alone(phone: VirtualPhone) -> None:
    set_stay_on(phone, "$(reboot)")

    with hold_phone(attached(phone)) as held:
        assert dict(held.settings)["screen_kept_on"] == "no"

    assert settings(phone)[0] == "$(reboot)"


def test_a_phone_that_refuses_fixed_performance_is_held_without_it(phone: VirtualPhone) -> None:
    phone.on_host("/state/refuses_fixed_performance").touch()
    said: list[str] = []

    with hold_phone(attached(phone), announce=said.append) as held:
        assert dict(held.settings) == {"fixed_performance": "refused", "screen_kept_on": "yes"}

    assert settings(phone) == ("3", "false")
    assert said == []


def test_a_phone_before_android_11_is_not_asked_for_fixed_performance(phone: VirtualPhone) -> None:
    properties = phone.on_host("/state/properties")
    properties.write_text(properties.read_text().replace("version.sdk=33", "version.sdk=29"))

    with hold_phone(attached(phone)) as held:
        assert dict(held.settings)["fixed_performance"] == "unsupported"
        assert settings(phone) == ("7", "false")


def test_settings_that_cannot_be_restored_are_told_and_tried_again_by_the_next(phone: VirtualPhone) -> None:
    said: list[str] = []
    refusal = phone.on_host("/state/refuses_fixed_performance")

    with hold_phone(attached(phone), announce=said.append):
        refusal.touch()
    assert said == [
        "VIRTUAL0: could not restore its settings: Failed to set FIXED_PERFORMANCE mode; "
        "restart the phone, and check `Stay awake` in its developer options"
    ]
    assert settings(phone) == ("3", "true")

    refusal.unlink()
    hold_and_look(phone)
    assert settings(phone) == ("3", "false")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_every_way_out_releases_and_restores(phone: VirtualPhone, error: type[BaseException]) -> None:
    with pytest.raises(error), hold_phone(attached(phone)):
        raise error

    assert settings(phone) == ("3", "false")
    assert hold_and_look(phone) == ("7", "true")


@pytest.mark.slow
def test_ctrl_c_twice_still_releases_and_restores(phone: VirtualPhone, tmp_path: Path) -> None:
    with holder(phone, cache=tmp_path / "cache") as process:
        process.send_signal(signal.SIGINT)
        while process.poll() is None:
            time.sleep(0.005)
            process.send_signal(signal.SIGINT)

    assert settings(phone) == ("3", "false")
    assert phone.on_host("/data/local/tmp/pocketbert/leases/1/released").exists()


@pytest.mark.slow
def test_a_second_process_is_told_who_holds_the_phone(phone: VirtualPhone, tmp_path: Path) -> None:
    found = attached(phone)
    with holder(phone, cache=tmp_path / "cache") as process:
        expected = rf"^VIRTUAL0: held by process {process.pid} on this machine since 20"
        with pytest.raises(DeviceBusyError, match=expected), hold_phone(found):
            pytest.fail("two hold one phone")

    with holder(phone, cache=tmp_path / "other") as process:
        expected = rf"^VIRTUAL0: held by process {process.pid} on {os.uname().nodename} since 20"
        with pytest.raises(DeviceBusyError, match=expected), hold_phone(found):
            pytest.fail("two hold one phone")
        assert settings(phone) == ("7", "true")


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["cache", "other"])
def test_a_phone_whose_holder_was_killed_is_taken_and_restored(phone: VirtualPhone, tmp_path: Path, cache: str) -> None:
    with holder(phone, cache=tmp_path / cache) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert settings(phone) == ("7", "true")

    assert hold_and_look(phone) == ("7", "true")
    # Had it not been restored first, 7 would be what was found.
    assert settings(phone) == ("3", "false")
    assert not is_left_running(phone, "watch /data")


@pytest.mark.slow
def test_a_phone_whose_holder_was_killed_restores_itself(phone: VirtualPhone, tmp_path: Path) -> None:
    with holder(phone, cache=tmp_path / "cache", duration_s=2) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()

    assert eventually(lambda: settings(phone) == ("3", "false"))
    assert not is_left_running(phone, "watch /data")


@pytest.mark.slow
def test_a_lease_is_renewed_for_as_long_as_it_is_held(phone: VirtualPhone, tmp_path: Path) -> None:
    with hold_phone(attached(phone), duration_s=2):
        time.sleep(3.5)
        assert settings(phone) == ("7", "true")
        with open_device(phone) as other, pytest.raises(DeviceBusyError, match=rf"process {os.getpid()} "):
            take(other, home=tmp_path / "other")


def test_a_lease_outlasts_the_command_it_runs(phone: VirtualPhone) -> None:
    look = "cat /data/local/tmp/pocketbert/leases/1/expires /proc/uptime"
    with hold_phone(attached(phone), duration_s=60) as held:
        expires, uptime, *_ = held.run(look, timeout_s=300).text.split()

    assert float(expires) - float(uptime) > 300 + 60 - 2


@pytest.mark.slow
@needs_namespaces
def test_a_lease_from_before_a_reboot_is_stale(phone: VirtualPhone, tmp_path: Path) -> None:
    with holder(phone, cache=tmp_path / "other"):
        phone.reboot()

        assert hold_and_look(phone) == ("7", "true")
    assert settings(phone) == ("3", "false")


@needs_namespaces
def test_a_phone_that_rebooted_is_lost_to_its_holder_and_can_be_held_again(phone: VirtualPhone) -> None:
    found = attached(phone)
    with hold_phone(found) as held:
        phone.reboot()
        with pytest.raises(DeviceLabError):  # the connection went with it
            held.run("true", timeout_s=10)
        for _ in range(2):
            with pytest.raises(
                DeviceLostError, match=r"^VIRTUAL0: lost .* it rebooted, and the lease ended with that; "
            ):
                held.run("true", timeout_s=10)

    assert settings(phone) == ("3", "false")
    with hold_phone(found) as held:
        assert held.run("echo back", timeout_s=10).text == "back"


@pytest.mark.parametrize("kind", [Kind.CLOSE, Kind.RESET, Kind.CORRUPT])
def test_a_fault_in_a_command_leaves_no_lease_behind(phone: VirtualPhone, kind: Kind) -> None:
    def lose() -> None:
        with hold_phone(attached(phone)) as held:
            phone.inject(Fault(kind=kind, stage=Stage.SHELL, after_bytes=2000))
            held.adb.run("seq 10000", timeout_s=10)

    with pytest.raises(DeviceLostError):
        lose()

    assert settings(phone) == ("3", "false")
    assert hold_and_look(phone) == ("7", "true")


@pytest.mark.slow
def test_a_phone_that_vanished_is_released_as_far_as_can_be(tmp_path: Path) -> None:
    said: list[str] = []
    with start_virtual_phone() as phone:
        held = hold_phone(attached(phone), announce=said.append)
        held.__enter__()

    held.__exit__(None, None, None)

    assert len(said) == 1
    assert said[0].endswith("its lease runs out and its settings are restored within 120 s")


@pytest.mark.slow
@pytest.mark.parametrize("has_stale_lease", [False, True])
def test_of_many_that_ask_at_once_one_gets_the_phone(
    phone: VirtualPhone, tmp_path: Path, has_stale_lease: bool
) -> None:
    if has_stale_lease:
        with holder(phone, cache=tmp_path / "cache") as process:
            process.kill()
            process.wait()
    num_askers = 6
    start, end = threading.Barrier(num_askers, timeout=60), threading.Barrier(num_askers, timeout=60)

    def ask(number: int) -> bool:
        # A home of its own, so that no lock on this machine stands between them.
        with open_device(phone, silence_s=20.0) as device:
            device.run("true", timeout_s=10)
            start.wait()
            try:
                with lease(device, device_id="VIRTUAL0", home=tmp_path / str(number), environment={}):
                    end.wait()
                    return True
            except DeviceBusyError:
                end.wait()
                return False
            except DeviceLabError:
                end.abort()
                raise

    with ThreadPoolExecutor(max_workers=num_askers) as pool:
        outcomes = list(pool.map(ask, range(num_askers)))

    assert sum(outcomes) == 1
    assert hold_and_look(phone) == ("7", "true")


def test_a_phone_that_cannot_note_its_lease_is_not_taken_for_busy(phone: VirtualPhone) -> None:
    folder = phone.on_host("/data/local/tmp/pocketbert")
    folder.mkdir()
    (folder / "leases").touch()

    with pytest.raises(RemoteCommandError, match=r"exited with 1: mkdir: .*leases"), hold_phone(attached(phone)):
        pytest.fail("a lease that is nowhere written down")

    assert settings(phone) == ("3", "false")


def test_a_failed_command_is_not_the_end_of_the_lease(phone: VirtualPhone) -> None:
    with hold_phone(attached(phone)) as held:
        with pytest.raises(RemoteCommandError):
            held.run("exit 3", timeout_s=10)
        assert held.run("echo on", timeout_s=10).text == "on"


def test_a_wiped_folder_ends_the_lease(phone: VirtualPhone) -> None:
    with hold_phone(attached(phone)) as held:
        held.adb.run("rm -rf /data/local/tmp/pocketbert/leases", timeout_s=10)
        with pytest.raises(DeviceLostError, match=r"^VIRTUAL0: .*: its lease was removed from it; "):
            held.run("true", timeout_s=10)
