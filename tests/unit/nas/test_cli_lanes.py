from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from device_lab.errors import DeviceLabError
from nas.cli.lanes import StopSignal, run_lanes


def failing(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


@pytest.mark.parametrize("others", [{}, {"second": lambda: 2}])
def test_an_error_of_one_device_is_its_outcome_and_stops_no_other(others: dict[str, Callable[[], int]]) -> None:
    error = DeviceLabError("lost")

    outcomes = run_lanes({"first": failing(error), **others}, stop=StopSignal())

    assert outcomes == {"first": error, **{name: work() for name, work in others.items()}}
    assert list(outcomes) == ["first", *others]


def test_devices_are_worked_on_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=10)

    outcomes = run_lanes({"first": meeting.wait, "second": meeting.wait}, stop=StopSignal())

    assert sorted(outcomes.values(), key=str) == [0, 1]


def test_a_bug_is_not_taken_for_an_outcome() -> None:
    with pytest.raises(ZeroDivisionError):
        run_lanes({"first": failing(ZeroDivisionError()), "second": lambda: 2}, stop=StopSignal())


def test_a_wait_ends_when_everything_is_to_stop() -> None:
    stop = StopSignal()
    timer = threading.Timer(0.05, stop.request)
    timer.start()

    with pytest.raises(KeyboardInterrupt):
        stop.sleep(60)
    timer.join()


def test_every_watched_device_is_stopped_also_one_that_comes_late() -> None:
    stopped = []

    class Phone:
        def stop(self) -> None:
            stopped.append(self)

    stop, early, late = StopSignal(), Phone(), Phone()
    stop.watch(early)
    stop.request()
    with pytest.raises(KeyboardInterrupt):
        stop.watch(late)

    assert stopped == [early]
