"""Every fault at every stage: the right error, nothing half-written, nothing left running."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from device_lab.errors import (
    CommandTimeoutError,
    DeviceFullError,
    DeviceLabError,
    DeviceLostError,
    DeviceUnreachableError,
    TransferError,
)
from device_lab.virtual_phone.faults import Fault, Kind, Stage
from device_lab.virtual_phone.launch import VirtualPhone, start_virtual_phone
from tests.virtual_phones import HOME, is_left_running, open_device

ALWAYS = 9
SIZE_BYTES = 3_000_000
CONTENT = bytes(range(250)) * (SIZE_BYTES // 250)
REMOTE = HOME / "stage" / "file"

CONNECT: dict[Kind, str] = {
    Kind.CLOSE: "the device closed the connection; check the cable|broken pipe; check",
    Kind.RESET: "connection reset by peer; check the cable|broken pipe; check",
    Kind.STALL: "no answer in time; check the cable",
    Kind.CORRUPT: r"a packet arrived damaged|the device closed the connection",
}
SHELL: dict[Kind, tuple[type[DeviceLabError], str]] = {
    Kind.CLOSE: (DeviceLostError, "the device closed the connection"),
    Kind.RESET: (DeviceLostError, "connection reset by peer"),
    # The phone kills the command in time but cannot say so; the host finds that out over another connection.
    Kind.STALL: (CommandTimeoutError, "was killed after its limit of 1 s"),
    Kind.CORRUPT: (DeviceLostError, "a packet arrived damaged"),
    Kind.REFUSE: (DeviceLostError, "no answer in time"),
}
TRANSFER: dict[Kind, tuple[type[DeviceLabError], str]] = {
    Kind.CLOSE: (DeviceLostError, "the device closed the connection|broken pipe|reset by peer"),
    Kind.RESET: (DeviceLostError, "connection reset by peer|broken pipe"),
    Kind.STALL: (DeviceLostError, "no answer in time"),
    Kind.CORRUPT: (DeviceLostError, "a packet arrived damaged|the device closed the connection|reset by peer|broken"),
    Kind.REFUSE: (DeviceLostError, "no answer in time"),
}
COMMAND = "trap '' HUP; sleep 0.3; echo started; sleep 72001"
# The header with the process id passes, what the command prints later does not.
AFTER_HEADER_BYTES = 70


@pytest.fixture(scope="module")
def running() -> Iterator[VirtualPhone]:
    with start_virtual_phone() as started:
        yield started


@pytest.fixture
def phone(running: VirtualPhone) -> Iterator[VirtualPhone]:
    yield running
    running.clear_faults()
    with open_device(running, silence_s=10.0) as device:
        device.run("rm -rf /data/local/tmp/*", timeout_s=10)


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device_lab.adb._BACKOFF_S", (0.01, 0.02))
    monkeypatch.setattr("device_lab.adb._GRACE_S", 0.3)


@pytest.fixture
def local(tmp_path: Path) -> Path:
    path = tmp_path / "local"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("kind", CONNECT)
@pytest.mark.parametrize("after_bytes", [0, 30])
def test_a_fault_while_connecting_is_unreachable(phone: VirtualPhone, kind: Kind, after_bytes: int) -> None:
    phone.inject(Fault(kind=kind, stage=Stage.CONNECT, after_bytes=after_bytes))
    device = open_device(phone, silence_s=0.3)

    with pytest.raises(DeviceUnreachableError, match=CONNECT[kind]):
        device.connect()
    device.connect()
    device.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHELL)
def test_a_fault_in_a_command_leaves_nothing_running(phone: VirtualPhone, kind: Kind) -> None:
    expected, message = SHELL[kind]
    with open_device(phone) as device:
        phone.inject(Fault(kind=kind, stage=Stage.SHELL, after_bytes=AFTER_HEADER_BYTES))

        with pytest.raises(expected, match=message):
            device.run(COMMAND, timeout_s=1.0)
        phone.clear_faults()

        assert not is_left_running(phone, "sleep 72001")
        assert device.run("echo still here", timeout_s=10).text == "still here"


@pytest.mark.slow
@pytest.mark.parametrize("kind", TRANSFER)
def test_a_push_survives_one_fault(phone: VirtualPhone, local: Path, kind: Kind) -> None:
    phone.inject(Fault(kind=kind, stage=Stage.PUSH, after_bytes=SIZE_BYTES // 2))
    with open_device(phone, silence_s=0.4) as device:
        device.push(local, REMOTE)

        assert device.run(f"cat {REMOTE}", timeout_s=20).stdout == CONTENT
        assert device.run(f"ls {REMOTE.parent}", timeout_s=10).text == "file"


@pytest.mark.slow
@pytest.mark.parametrize("kind", TRANSFER)
def test_a_push_that_always_fails_leaves_the_old_file(phone: VirtualPhone, local: Path, kind: Kind) -> None:
    expected, message = TRANSFER[kind]
    with open_device(phone, silence_s=0.3) as device:
        device.run(f"mkdir {REMOTE.parent}; echo old >{REMOTE}", timeout_s=10)
        phone.inject(Fault(kind=kind, stage=Stage.PUSH, after_bytes=SIZE_BYTES // 2, times=ALWAYS))

        with pytest.raises(expected, match=message):
            device.push(local, REMOTE)

        assert device.run(f"cat {REMOTE}", timeout_s=10).text == "old"


@pytest.mark.slow
@pytest.mark.parametrize("kind", TRANSFER)
def test_a_pull_survives_one_fault(phone: VirtualPhone, local: Path, tmp_path: Path, kind: Kind) -> None:
    with open_device(phone, silence_s=0.4) as device:
        device.push(local, REMOTE)
        phone.inject(Fault(kind=kind, stage=Stage.PULL, after_bytes=SIZE_BYTES // 2))

        device.pull(REMOTE, tmp_path / "pulled")

    assert (tmp_path / "pulled").read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["local", "pulled"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", TRANSFER)
def test_a_pull_that_always_fails_leaves_the_old_file(
    phone: VirtualPhone, local: Path, tmp_path: Path, kind: Kind
) -> None:
    expected, message = TRANSFER[kind]
    (tmp_path / "pulled").write_text("old")
    with open_device(phone, silence_s=0.3) as device:
        device.push(local, REMOTE)
        phone.inject(Fault(kind=kind, stage=Stage.PULL, after_bytes=SIZE_BYTES // 2, times=ALWAYS))

        with pytest.raises(expected, match=message):
            device.pull(REMOTE, tmp_path / "pulled")

    assert (tmp_path / "pulled").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["local", "pulled"]


@pytest.mark.parametrize("after_bytes", [0, SIZE_BYTES // 2])
def test_a_disk_that_fills_during_a_push_is_named(phone: VirtualPhone, local: Path, after_bytes: int) -> None:
    phone.inject(Fault(kind=Kind.FULL, stage=Stage.PUSH, after_bytes=after_bytes, times=ALWAYS))
    with open_device(phone, silence_s=5.0) as device:
        with pytest.raises(DeviceFullError, match="needs 3000000 bytes and the device ran out of space; delete files"):
            device.push(local, REMOTE)

        assert device.run(f"ls -A {REMOTE.parent}", timeout_s=10).text == ""


def test_a_file_that_changes_while_it_is_pushed_never_arrives(
    phone: VirtualPhone, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device_lab.adb._digest", lambda path: "0" * 64)
    with open_device(phone) as device:
        with pytest.raises(TransferError, match="arrived with another digest"):
            device.push(local, REMOTE)

        assert device.run(f"ls -A {REMOTE.parent}", timeout_s=10).text == ""


def test_a_command_that_may_be_repeated_is(phone: VirtualPhone) -> None:
    with open_device(phone) as device:
        phone.inject(Fault(kind=Kind.CLOSE, stage=Stage.SHELL, after_bytes=AFTER_HEADER_BYTES, times=1))

        assert device.run("echo twice >>/data/local/tmp/log; echo done", timeout_s=10, retry=True).text == "done"


def test_a_measurement_is_never_repeated_silently(phone: VirtualPhone) -> None:
    with open_device(phone) as device:
        phone.inject(Fault(kind=Kind.CLOSE, stage=Stage.SHELL, after_bytes=AFTER_HEADER_BYTES, times=1))

        with pytest.raises(DeviceLostError):
            device.run("echo once >>/data/local/tmp/log; sleep 0.3; echo done", timeout_s=10)
        assert device.run("cat /data/local/tmp/log", timeout_s=10).text == "once"


def test_what_runs_on_a_phone_that_went_away_is_killed_when_it_is_back(phone: VirtualPhone) -> None:
    with open_device(phone, silence_s=0.3) as device:
        # Every attempt to come back stalls until the faults are cleared.
        phone.inject(Fault(kind=Kind.CLOSE, stage=Stage.SHELL, after_bytes=AFTER_HEADER_BYTES))
        phone.inject(Fault(kind=Kind.STALL, stage=Stage.CONNECT, times=ALWAYS))
        with pytest.raises(DeviceLostError):
            device.run(COMMAND, timeout_s=60)
        phone.clear_faults()

        device.connect()

        assert not is_left_running(phone, "sleep 72001")
