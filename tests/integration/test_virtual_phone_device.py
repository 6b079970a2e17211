from __future__ import annotations

import hashlib
import random
import signal
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
    DeviceLostError,
    RemoteCommandError,
    TransferError,
)
from device_lab.virtual_phone.fixtures import BACKEND_PROPERTY
from device_lab.virtual_phone.launch import VirtualPhone, start_virtual_phone
from device_lab.virtual_phone.options import PhoneOptions
from tests.virtual_phones import HOME, is_left_running, is_running, needs_namespaces, open_device


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
