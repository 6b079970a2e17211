from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_lab.errors import DeviceBusyError
from device_lab.host_lock import host_lock
from device_lab.interrupts import deferred_interrupts
from device_lab.lease_state import LeaseState

HELD = {
    "now": "1000",
    "boot": "boot-1",
    "number": "4",
    "expires": "1001",
    "host": "desk",
    "host_id": "me",
    "process_id": "77",
    "since": "2026-01-05T10:00:00+00:00",
    "boot_id": "boot-1",
}


def state(**changes: str) -> LeaseState:
    return LeaseState.from_text("".join(f"{key}={value}\n" for key, value in {**HELD, **changes}.items() if value))


def is_free(state: LeaseState, *, host_id: str = "me", alive: int = 77) -> bool:
    return state.is_free(host_id=host_id, is_alive=lambda process_id: process_id == alive)


def test_a_lease_that_runs_is_not_free() -> None:
    assert not is_free(state())
    assert state().is_complete


@pytest.mark.parametrize(
    "change",
    [{"number": "0", "expires": "?"}, {"released": "yes"}, {"boot": "boot-2"}, {"now": "1001"}, {"expires": "1000"}],
)
def test_a_lease_that_ended_is_free(change: dict[str, str]) -> None:
    assert is_free(state(**change))


def test_a_lease_of_a_process_that_is_gone_is_free_to_the_same_machine_only() -> None:
    assert is_free(state(), alive=78)
    assert not is_free(state(), alive=78, host_id="another")


def test_a_boot_id_that_cannot_be_read_is_no_reboot() -> None:
    assert not is_free(state(boot="?"))
    assert not is_free(state(now="?"))


def test_a_lease_whose_holder_is_not_written_down_is_incomplete_and_in_the_end_free() -> None:
    being_made = state(host="", host_id="", process_id="", since="", boot_id="")

    assert not being_made.is_complete
    assert is_free(being_made)


def test_a_lock_is_held_by_one_and_names_its_holder(tmp_path: Path) -> None:
    with host_lock("../A/1", folder=tmp_path / "locks"):
        with (
            pytest.raises(DeviceBusyError, match=rf"^../A/1: held by process {os.getpid()} on this machine since 20"),
            host_lock("../A/1", folder=tmp_path / "locks"),
        ):
            pytest.fail("two hold one lock")
        with host_lock("B", folder=tmp_path / "locks"):
            pass

    with host_lock("../A/1", folder=tmp_path / "locks"):
        assert [path.parent for path in tmp_path.rglob("*.lock")] == [tmp_path / "locks"] * 2


def test_a_lock_file_that_holds_garbage_still_names_the_device(tmp_path: Path) -> None:
    with host_lock("A", folder=tmp_path):
        next(tmp_path.glob("*.lock")).write_text("{")
        with pytest.raises(DeviceBusyError, match=r"^A: held by process \? "), host_lock("A", folder=tmp_path):
            pytest.fail("two hold one lock")


@pytest.fixture
def usual_interrupts() -> Iterator[None]:
    """Interrupts as Python has them, also where the tests run as a job in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("usual_interrupts")
def test_an_interrupt_waits_until_the_work_is_done() -> None:
    done: list[int] = []

    def work() -> None:
        with deferred_interrupts():
            for step in range(3):
                os.kill(os.getpid(), signal.SIGINT)
                done.append(step)

    with pytest.raises(KeyboardInterrupt):
        work()

    assert done == [0, 1, 2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("usual_interrupts")
def test_interrupts_are_left_alone_outside_the_main_thread() -> None:
    seen = []

    def work() -> None:
        with deferred_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert seen == [signal.default_int_handler]
