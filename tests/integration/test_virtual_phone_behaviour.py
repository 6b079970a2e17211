"""The virtual phone itself: who gets in, reboots, heat, arm64, what it says and leaves behind."""

from __future__ import annotations

import os
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_lab.errors import (
    DeviceFullError,
    DeviceLostError,
    DeviceUnauthorizedError,
    DeviceUnreachableError,
    RemoteCommandError,
)
from device_lab.keys import AdbKey
from device_lab.virtual_phone import launch
from device_lab.virtual_phone.auth import Dialog
from device_lab.virtual_phone.fixtures import BACKEND_PROPERTY
from device_lab.virtual_phone.launch import VirtualPhone, VirtualPhoneError, start_virtual_phone
from device_lab.virtual_phone.namespace import allows_namespaces
from device_lab.virtual_phone.options import PhoneOptions
from tests.system_packages import require_program
from tests.virtual_phones import HOME, is_left_running, needs_namespaces, open_device

# A program for arm64 Linux that does nothing but leave with status 42: movz x0, #42; movz x8, #93 (exit); svc #0.
ARM64_CODE = struct.pack("<III", 0xD2800540, 0xD2800BA8, 0xD4000001)
ARM64_PROGRAM = (
    b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    + struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, 132, 132, 0x1000)
    + ARM64_CODE
)


@pytest.fixture(scope="module")
def phone() -> Iterator[VirtualPhone]:
    with start_virtual_phone(PhoneOptions(serial="VIRTUAL7")) as running:
        yield running


def test_a_phone_that_asks_for_a_key_and_gets_none_says_so() -> None:
    with (
        start_virtual_phone(PhoneOptions(dialog=Dialog.ACCEPT)) as phone,
        pytest.raises(DeviceUnauthorizedError, match="none was given; unlock the phone, accept the dialog"),
    ):
        open_device(phone).connect()


def test_an_unanswered_dialog_is_announced_and_named() -> None:
    announced: list[str] = []
    with start_virtual_phone(PhoneOptions(dialog=Dialog.NEVER)) as phone:
        device = open_device(phone, keys=(AdbKey.generate(),), announce=announced.append)

        with pytest.raises(DeviceUnauthorizedError, match="nobody accepted this computer's key"):
            device.connect()

    assert announced == ["VIRTUAL0: unlock the phone and accept the dialog `Allow USB debugging?` on its screen"]


def test_a_key_that_was_accepted_once_needs_no_dialog_again() -> None:
    announced: list[str] = []
    stranger, key = AdbKey.generate(), AdbKey.generate()
    with start_virtual_phone(PhoneOptions(dialog=Dialog.ACCEPT, accept_after_s=0.2)) as phone:
        for keys in ((key,), (stranger, key)):
            with open_device(phone, keys=keys, announce=announced.append, dialog_timeout_s=20.0) as device:
                assert device.run("echo in", timeout_s=10).text == "in"

    assert len(announced) == 1


def test_a_phone_that_knows_one_key_lets_nobody_else_in() -> None:
    key = AdbKey.generate()
    known = (key.GetPublicKey().decode(),)
    with start_virtual_phone(PhoneOptions(dialog=Dialog.NEVER, known_keys=known)) as phone:
        with open_device(phone, keys=(key,)) as device:
            assert device.run("echo in", timeout_s=10).text == "in"
        with pytest.raises(DeviceUnauthorizedError):
            open_device(phone, keys=(AdbKey.generate(),), announce=lambda message: None).connect()


def test_a_port_that_is_taken_is_an_error(phone: VirtualPhone, capfd: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(VirtualPhoneError, match=f"did not start on port {phone.port}; the reason stands above"),
        start_virtual_phone(PhoneOptions(port=phone.port)),
    ):
        pass
    assert "address already in use" in capfd.readouterr().err


def test_a_reboot_kills_everything_and_gives_a_new_boot_id(tmp_path: Path) -> None:
    with start_virtual_phone() as phone, open_device(phone, silence_s=10.0) as device:
        question = "cat /proc/sys/kernel/random/boot_id"
        before = device.run(question, timeout_s=10).text
        device.run("setsid sleep 71005 </dev/null >/dev/null 2>&1 & sleep 0.3", timeout_s=10)

        phone.reboot()

        with pytest.raises(DeviceLostError):
            device.run("true", timeout_s=10)
        after = device.run(question, timeout_s=10).text
        assert not is_left_running(phone, "sleep 71005") or not allows_namespaces()
        assert len(after) == 36
        assert after != before or not allows_namespaces()


def test_a_phone_that_is_away_for_a_while_is_waited_for_by_work_that_may_be_repeated(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with start_virtual_phone() as phone, open_device(phone, silence_s=10.0) as device:
        rebooting = threading.Thread(target=lambda: phone.reboot(down_s=0.3))
        rebooting.start()
        time.sleep(0.1)
        device.push(tmp_path / "f", HOME / "f")
        rebooting.join()

        assert device.run("cat /data/local/tmp/f", timeout_s=10).text == "x"


def test_nothing_listening_is_unreachable() -> None:
    with start_virtual_phone() as phone:
        device = open_device(phone)

    with pytest.raises(DeviceUnreachableError, match="nothing listens there; check the cable or the address"):
        device.connect()


@needs_namespaces
def test_a_full_phone_is_noticed_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(6_000_000))
    (tmp_path / "small").write_bytes(bytes(1_000_000))
    with start_virtual_phone(PhoneOptions(data_bytes=4_194_304)) as phone, open_device(phone) as device:
        with pytest.raises(DeviceFullError, match="needs 6000000 bytes and the device has 4194304 free; delete") as e:
            device.push(tmp_path / "big", HOME / "big")
        device.push(tmp_path / "small", HOME / "small")

        assert e.value.free_bytes == 4_194_304
        assert device.run("ls /data/local/tmp", timeout_s=10).text == "small"


def test_heat_and_clock_follow_orders() -> None:
    with start_virtual_phone() as phone, open_device(phone, silence_s=10.0) as device:
        phone.heat(status=3, celsius=47.5)
        hot = device.run("dumpsys thermalservice", timeout_s=10).text
        phone.ramp_heat(status=2, start_celsius=30.0, end_celsius=45.0, duration_s=0.3)
        time.sleep(1.0)
        ramped = device.run("dumpsys thermalservice", timeout_s=10).text
        before = int(device.run("date +%s", timeout_s=10).text)
        phone.jump_clock(offset_s=-86_400)
        after = int(device.run("date +%s", timeout_s=10).text)

    assert "Thermal Status: 3\n" in hot
    assert "mValue=47.5, mType=3, mName=skin, mStatus=3" in hot
    assert "Thermal Status: 2\n" in ramped
    assert "mValue=45.0, mType=3, mName=skin, mStatus=2" in ramped
    assert -86_400 <= after - before < -86_000


def test_an_unknown_order_is_refused(phone: VirtualPhone) -> None:
    with pytest.raises(VirtualPhoneError, match="cannot explode: unknown order 'explode'"):
        phone._order("explode")


@needs_namespaces
def test_arm64_programs_run_through_qemu_and_are_labelled_so(tmp_path: Path) -> None:
    require_program("qemu-aarch64-static", package="qemu-user-static")
    (tmp_path / "program").write_bytes(ARM64_PROGRAM)
    with (
        start_virtual_phone(PhoneOptions(abi="arm64-v8a")) as phone,
        open_device(phone, silence_s=10.0) as device,
    ):
        remote = device.push_cached(tmp_path / "program")

        with pytest.raises(RemoteCommandError, match="exited with 42"):
            device.run(str(remote), timeout_s=20)
        assert device.properties()[BACKEND_PROPERTY] == "qemu"
        assert "CPU part\t: 0xd0b" in device.run("cat /proc/cpuinfo", timeout_s=10).text


def test_an_unknown_abi_is_refused() -> None:
    with (
        pytest.raises(VirtualPhoneError, match="abi 'mips' is not one of x86_64, arm64-v8a"),
        start_virtual_phone(PhoneOptions(abi="mips")),
    ):
        pass


def test_without_namespaces_paths_in_commands_lead_into_the_sandbox(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(launch, "allows_namespaces", lambda: False)
    (tmp_path / "f").write_text("content")
    with start_virtual_phone() as phone, open_device(phone, silence_s=10.0) as device:
        device.push(tmp_path / "f", HOME / "f")
        device.pull(HOME / "f", tmp_path / "g")

        assert (tmp_path / "g").read_text() == "content"
        assert phone.on_host("/data/local/tmp/f").read_text() == "content"
        assert device.run("cat /sys/class/thermal/thermal_zone0/type", timeout_s=10).text == "skin"
        assert device.run("getprop ro.serialno", timeout_s=10).text == "VIRTUAL0"
        assert not Path("/data/local/tmp/f").exists()


def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    with _command(tmp_path) as process:
        assert process.stdout is not None
        host, _, port = process.stdout.readline().strip().partition(":")
        assert host == "127.0.0.1"
        assert _listening_hosts(int(port)) == {"0100007F"}

        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0

    assert _listening_hosts(int(port)) == set()
    assert list(tmp_path.iterdir()) == []


def test_the_daemon_ends_with_a_command_that_was_killed(tmp_path: Path) -> None:
    with _command(tmp_path) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().strip().rpartition(":")[2])
        process.kill()

    for _ in range(100):
        if not _listening_hosts(port):
            break
        time.sleep(0.05)
    assert _listening_hosts(port) == set()


def test_the_sandbox_is_private(phone: VirtualPhone) -> None:
    assert stat.S_IMODE(phone.on_host("/").stat().st_mode) == 0o700


def _command(folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(folder)}
    command = [sys.executable, "-m", "device_lab.virtual_phone", "--port", "0"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def _listening_hosts(port: int) -> set[str]:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and int(row[1].partition(":")[2], 16) == port}
