from __future__ import annotations

import hashlib
import os
import random
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from types import FrameType

import pytest

from device_lab.adb import LAB_FOLDER, AdbDevice
from device_lab.adb_connection import AdbConnection
from device_lab.errors import (
    CommandTimeoutError,
    DeviceFullError,
    DeviceLostError,
    DeviceUnauthorizedError,
    DeviceUnreachableError,
    RemoteCommandError,
    TransferError,
)
from device_lab.keys import AdbKey
from device_lab.virtual_phone import launch
from device_lab.virtual_phone.auth import Dialog
from device_lab.virtual_phone.fixtures import BACKEND_PROPERTY
from device_lab.virtual_phone.launch import VirtualPhone, VirtualPhoneError, start_virtual_phone
from device_lab.virtual_phone.namespace import allows_namespaces
from device_lab.virtual_phone.options import PhoneOptions
from tests.system_packages import require_program
from tests.virtual_phones import HOME, is_left_running, is_running, needs_namespaces, open_device

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


@pytest.fixture
def device(phone: VirtualPhone) -> Iterator[AdbDevice]:
    with open_device(phone, silence_s=20.0) as opened:
        yield opened


def test_a_command_gives_both_streams(device: AdbDevice) -> None:
    result = device.run(r"printf 'a\0b\r\n'; echo err >&2", timeout_s=10)

    assert result.stdout == b"a\0b\r\n"
    assert result.stderr == b"err"


def test_a_failed_command_is_an_error_with_its_last_words(device: AdbDevice) -> None:
    with pytest.raises(RemoteCommandError, match=r"^VIRTUAL7: `echo out; echo no >&2; exit 7` exited with 7: no$") as e:
        device.run("echo out; echo no >&2; exit 7", timeout_s=10)

    assert (e.value.exit_status, e.value.stdout, e.value.stderr) == (7, b"out\n", b"no")


def test_a_megabyte_of_output_is_exact(device: AdbDevice) -> None:
    result = device.run("seq 1 200000", timeout_s=20)

    assert result.stdout == "".join(f"{n}\n" for n in range(1, 200001)).encode()


def test_a_command_that_is_too_long_is_refused_before_it_is_sent(device: AdbDevice) -> None:
    with pytest.raises(RemoteCommandError, match="at most 100000 bytes; push a script instead"):
        device.run("true " + "x" * 100_000, timeout_s=10)


def test_a_command_past_its_limit_is_killed_and_the_device_stays_usable(phone: VirtualPhone, device: AdbDevice) -> None:
    with pytest.raises(CommandTimeoutError, match=r"`trap '' HUP; sleep 71001` was killed after its limit of 0.3 s"):
        device.run("trap '' HUP; sleep 71001", timeout_s=0.3)

    assert not is_left_running(phone, "sleep 71001")
    assert device.run("echo still here", timeout_s=10).text == "still here"


def test_a_command_another_thread_interrupts_is_killed(phone: VirtualPhone, device: AdbDevice) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(device.run, "trap '' HUP; sleep 71002", timeout_s=60)
        with open_device(phone, silence_s=10.0) as observer:
            while not is_running(observer, "sleep 71002"):
                time.sleep(0.05)
        device.interrupt()

        with pytest.raises(DeviceLostError, match="ended without an exit status"):
            running.result(timeout=30)
    assert not is_left_running(phone, "sleep 71002")


def test_a_keyboard_interrupt_leaves_nothing_running(phone: VirtualPhone, device: AdbDevice) -> None:
    def interrupt(signal_number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            device.run("trap '' HUP; sleep 71003", timeout_s=60)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert not is_left_running(phone, "sleep 71003")
    assert device.run("echo still here", timeout_s=10).text == "still here"


def test_what_was_set_apart_survives_its_command(phone: VirtualPhone, device: AdbDevice) -> None:
    device.run("setsid sleep 71004 </dev/null >/dev/null 2>&1 & sleep 0.3", timeout_s=10)

    assert is_running(device, "sleep 71004")
    device.run("pkill -f 'sleep 7100[4]'", timeout_s=10)


def test_threads_that_share_a_device_get_their_own_answers(device: AdbDevice) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: device.run(f"echo {n}", timeout_s=60).text, range(80)))

    assert answers == [str(n) for n in range(80)]


def test_properties_are_those_of_the_phone(device: AdbDevice) -> None:
    properties = device.properties()

    assert properties["ro.serialno"] == "VIRTUAL7"
    assert properties[BACKEND_PROPERTY] == "virtual-phone"


@pytest.mark.parametrize("size_bytes", [0, 1, 65_535, 65_536, 1_048_576, 3_000_001])
def test_a_file_survives_the_way_there_and_back(device: AdbDevice, tmp_path: Path, size_bytes: int) -> None:
    sent, received = tmp_path / "it's a file", tmp_path / "received"
    sent.write_bytes(random.Random(size_bytes).randbytes(size_bytes))
    remote = HOME / "some where" / "it's $HOME; a file"

    device.push(sent, remote, mode=0o751)
    device.pull(remote, received)

    assert received.read_bytes() == sent.read_bytes()
    assert device.run("stat -c %a '/data/local/tmp/some where/'*", timeout_s=10).text == "751"
    assert device.run("ls -A '/data/local/tmp/some where' | wc -l", timeout_s=10).text == "1"


def test_a_push_replaces_a_file_and_sweeps_what_was_left_there_long_ago(
    phone: VirtualPhone, device: AdbDevice, tmp_path: Path
) -> None:
    (tmp_path / "f").write_text("new")
    device.run("cd /data/local/tmp; mkdir -p p; echo old >p/f; echo part >p/f.part-0123; echo other >p/g", timeout_s=10)

    device.push(tmp_path / "f", HOME / "p" / "f")

    listed = "cd /data/local/tmp/p; cat f; ls | tr '\\n' ' '"
    assert device.run(listed, timeout_s=10).text == "newf f.part-0123 g "
    phone.jump_clock(offset_s=3700)
    try:
        device.push(tmp_path / "f", HOME / "p" / "f")
    finally:
        phone.jump_clock(offset_s=0)
    assert device.run(listed, timeout_s=10).text == "newf g "


def test_a_push_sweeps_what_its_own_lost_connection_left(
    device: AdbDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_text("whole")
    push = AdbConnection.push
    parts: list[PurePosixPath] = []

    def push_and_lose(connection: AdbConnection, local: Path, remote: PurePosixPath) -> None:
        push(connection, local, remote)
        parts.append(remote)
        if len(parts) == 1:
            raise DeviceLostError(serial="VIRTUAL7", command="push f")

    monkeypatch.setattr(AdbConnection, "push", push_and_lose)
    device.push(tmp_path / "f", HOME / "lost" / "f")

    assert len(set(parts)) == 2
    assert device.run("cd /data/local/tmp/lost; cat f; ls", timeout_s=10).text == "wholef"


def test_two_that_push_one_file_at_once_both_get_it_there(
    phone: VirtualPhone, device: AdbDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_text("whole")
    push = AdbConnection.push
    parts: list[PurePosixPath] = []

    def push_with_another(connection: AdbConnection, local: Path, remote: PurePosixPath) -> None:
        push(connection, local, remote)
        parts.append(remote)
        if len(parts) == 1:  # all of the other push falls between arrival and check of this one
            with open_device(phone, silence_s=20.0) as other:
                other.push(tmp_path / "f", HOME / "twice" / "f")

    monkeypatch.setattr(AdbConnection, "push", push_with_another)
    device.push(tmp_path / "f", HOME / "twice" / "f")

    assert len(set(parts)) == 2
    assert device.run("cd /data/local/tmp/twice; cat f; ls", timeout_s=10).text == "wholef"


def test_a_push_onto_a_folder_is_refused(device: AdbDevice, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")

    with pytest.raises(TransferError, match="/data/local/tmp: is a directory"):
        device.push(tmp_path / "f", HOME)


@needs_namespaces
def test_a_push_to_where_nobody_may_write_is_refused(device: AdbDevice, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")

    with pytest.raises(TransferError, match=r"/system/lab/f: .*Read-only file system"):
        device.push(tmp_path / "f", HOME.parents[2] / "system" / "lab" / "f")


def test_a_missing_file_is_an_error_of_its_own(device: AdbDevice, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"/data/local/tmp/nothing: .*No such file"):
        device.pull(HOME / "nothing", tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        device.push(tmp_path / "nothing", HOME / "nothing")

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_pushed_once_is_never_pushed_again(phone: VirtualPhone, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()

    with open_device(phone) as first:
        remote = first.push_cached(tmp_path / "model")
        inode = first.run(f"stat -c %i {remote}", timeout_s=10).text
        assert first.push_cached(tmp_path / "model") == remote
    with open_device(phone) as second:
        assert second.push_cached(tmp_path / "model") == remote
        assert second.run(f"stat -c %i {remote}", timeout_s=10).text == inode

    assert remote == LAB_FOLDER / "cache" / digest


def test_a_cached_file_that_was_spoilt_is_pushed_again(phone: VirtualPhone, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"other weights")
    with open_device(phone) as first:
        remote = first.push_cached(tmp_path / "model")
        first.run(f"echo spoilt >{remote}", timeout_s=10)

    with open_device(phone) as second:
        second.push_cached(tmp_path / "model")
        assert second.run(f"cat {remote}", timeout_s=10).text == "other weights"


def test_a_pushed_program_runs_at_its_real_path(device: AdbDevice, tmp_path: Path) -> None:
    (tmp_path / "hello").write_text("#!/system/bin/sh\necho $0; getprop ro.serialno\n")
    remote = device.push_cached(tmp_path / "hello")

    assert device.run(str(remote), timeout_s=10).text.splitlines()[-1] == "VIRTUAL7"


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
