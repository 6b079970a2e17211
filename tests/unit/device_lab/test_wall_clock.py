"""What happens to a measurement when somebody, or a time server, sets this machine's clock: nothing."""

from __future__ import annotations

import datetime as calendar
import inspect
import socket
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from device_lab.adb_transport import CompleteTcpTransport, DeadlineTransport
from device_lab.device import Clock, SystemClock
from device_lab.host import host_conditions
from device_lab.measurement import Block, Measurement, Reason
from device_lab.runner.contract import RunnerOutput
from device_lab.runner.timing import time_inferences
from nas.cli.lanes import StopSignal
from tests.meddled_device import FAST, MeddledDevice, measure_quickly, measured, simulated_device

DAY_S = 86_400


class WallClock:
    """This machine's clock, which can be set."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def set_by(self, jump_s: float) -> None:
        self.now_s += jump_s


@pytest.fixture
def wall_clock(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    """A clock that stands still unless it is set, under everything that tells the time of day."""
    clock = WallClock(1_700_000_000.0)

    class SetDatetime(calendar.datetime):
        @classmethod
        def now(cls, tz: calendar.tzinfo | None = None) -> SetDatetime:
            return cls.fromtimestamp(clock.now_s, tz)

    monkeypatch.setattr("time.time", lambda: clock.now_s)
    monkeypatch.setattr("time.time_ns", lambda: int(clock.now_s * 1e9))
    for module in ("host", "protocol"):
        monkeypatch.setattr(f"device_lab.{module}.datetime", SetDatetime)
    return clock


def _measure(clock: Clock, set_clock: Callable[[], None]) -> Measurement:
    """Measure on the simulated device, its conditions read at real moments; the clock is set in each run."""
    simulated = simulated_device()

    def meddle(name: str, count: int, output: RunnerOutput) -> RunnerOutput:
        set_clock()
        return output

    device = MeddledDevice(simulated, meddle, read=host_conditions)
    (outcome,) = measure_quickly(FAST, device=device, clock=clock, budget_s=DAY_S / 2)
    return measured(outcome)


def _nameless(blocks: tuple[Block, ...]) -> list[Block]:
    """Leave out the names of processes, which are drawn anew each time."""
    return [
        replace(
            block,
            reference_before=replace(block.reference_before, run_id=""),
            candidate=replace(block.candidate, run_id=""),
            reference_after=replace(block.reference_after, run_id=""),
        )
        for block in blocks
    ]


@pytest.mark.parametrize("clock", [SystemClock(), StopSignal()], ids=["system clock", "stop signal"])
@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S], ids=["forward", "back"])
def test_setting_the_clock_between_runs_changes_no_time_no_order_and_no_verdict(
    wall_clock: WallClock, clock: Clock, jump_s: float
) -> None:
    left_alone = _measure(clock, lambda: None)
    started_s = wall_clock.now_s

    measurement = _measure(clock, lambda: wall_clock.set_by(jump_s))

    moments = [measurement.conditions_before.taken_at, measurement.conditions_after.taken_at]
    days = calendar.datetime.fromisoformat(moments[1]) - calendar.datetime.fromisoformat(moments[0])
    # The clock really was set, and the conditions say when they were read by it.
    assert abs(wall_clock.now_s - started_s) >= 6 * DAY_S
    assert days == calendar.timedelta(seconds=round(wall_clock.now_s - started_s))
    assert (left_alone.reason, measurement.reason) == (Reason.GOAL_MET, Reason.GOAL_MET)
    assert _nameless(measurement.blocks) == _nameless(left_alone.blocks)


def test_the_clocks_that_time_an_inference_cannot_be_set() -> None:
    parameters = inspect.signature(time_inferences).parameters
    names = [parameters[name].default.__name__.removesuffix("_ns") for name in ("wall_clock_ns", "cpu_clock_ns")]

    clocks = [time.get_clock_info(name) for name in names]

    assert [(clock.monotonic, clock.adjustable) for clock in clocks] == [(True, False)] * 2


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S], ids=["forward", "back"])
def test_setting_the_clock_moves_no_time_limit_of_a_phones_connection(wall_clock: WallClock, jump_s: float) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport = DeadlineTransport(CompleteTcpTransport("127.0.0.1", server.getsockname()[1]))
        transport.connect(5.0)
        peer, _ = server.accept()
        with peer:
            transport.limit(600.0)
            wall_clock.set_by(jump_s)
            transport.bulk_write(b"question", None)
            peer.sendall(peer.recv(8, socket.MSG_WAITALL))
            wall_clock.set_by(jump_s)
            assert transport.bulk_read(8, None) == b"question"
        transport.close()
