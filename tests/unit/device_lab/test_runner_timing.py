from __future__ import annotations

from collections.abc import Iterator

from device_lab.runner.timing import WarmUp, time_inferences

MS = 1_000_000


class _Machine:
    """Inferences of chosen durations and the two clocks that see them."""

    def __init__(self, durations_ns: Iterator[int], *, busy_cores: int = 1) -> None:
        self._durations_ns = durations_ns
        self._busy_cores = busy_cores
        self.now_ns = 5

    def infer(self) -> None:
        self.now_ns += next(self._durations_ns)

    def wall_ns(self) -> int:
        return self.now_ns

    def cpu_ns(self) -> int:
        return self.now_ns * self._busy_cores


def _runs_until_warm(durations_ns: Iterator[int], *, max_duration_s: float = 8.0) -> int:
    warm_up = WarmUp(max_duration_s=max_duration_s)
    while not warm_up.is_done_after(next(durations_ns)):
        pass
    return warm_up.num_runs


def _after(beginning: list[int], steady: int) -> Iterator[int]:
    yield from beginning
    while True:
        yield steady


def test_steady_times_are_warm_after_more_than_forty_agreeing_runs() -> None:
    # The first run counts for no average, then 41 agree.
    assert _runs_until_warm(_after([], MS)) == 42


def test_a_long_first_run_does_not_lengthen_the_warm_up() -> None:
    assert _runs_until_warm(_after([500 * MS], MS)) == 42


def test_times_that_are_still_falling_are_not_warm() -> None:
    falling = [round(2 * MS * 0.98**i) + MS for i in range(400)]

    num_runs = _runs_until_warm(_after(falling, MS))

    assert 150 < num_runs < 1000
    assert falling[min(num_runs, 399)] < 1.15 * MS


def test_a_slow_beginning_is_forgotten_in_tens_of_runs() -> None:
    # Ten runs of twice the time: as the start of a plain 0.005 average they would cost more than 600.
    assert _runs_until_warm(_after([2 * MS] * 11, MS)) < 400


def test_the_limit_ends_a_warm_up_that_never_settles() -> None:
    # 100 ms runs for 0.3 s: three, though thirty are wanted.
    assert _runs_until_warm(_after([], 100 * MS), max_duration_s=0.3) == 3


def test_a_single_run_longer_than_the_limit_is_warm_up_enough() -> None:
    assert _runs_until_warm(_after([], 10_000 * MS), max_duration_s=8.0) == 1


def test_samples_are_the_times_after_the_warm_up_in_the_order_run() -> None:
    # 42 warm-up runs of 1 ms, then 1, 2, 3, 1, 1 ... ms.
    machine = _Machine(_after([MS] * 42 + [MS, 2 * MS, 3 * MS], MS), busy_cores=2)

    timing = time_inferences(
        machine.infer,
        min_runs=5,
        min_timed_s=0.0,
        max_warmup_s=8.0,
        wall_clock_ns=machine.wall_ns,
        cpu_clock_ns=machine.cpu_ns,
    )

    assert timing.num_warmup_runs == 42
    assert timing.samples_ns == (MS, 2 * MS, 3 * MS, MS, MS)
    assert (timing.wall_ns, timing.cpu_ns) == (8 * MS, 16 * MS)


def test_short_inferences_are_timed_until_the_time_is_up() -> None:
    machine = _Machine(_after([], MS))

    timing = time_inferences(
        machine.infer,
        min_runs=20,
        min_timed_s=0.1,
        max_warmup_s=8.0,
        wall_clock_ns=machine.wall_ns,
        cpu_clock_ns=machine.cpu_ns,
    )

    assert len(timing.samples_ns) == 100


def test_long_inferences_are_timed_the_asked_number_of_times() -> None:
    machine = _Machine(_after([], 100 * MS))

    timing = time_inferences(
        machine.infer,
        min_runs=20,
        min_timed_s=1.0,
        max_warmup_s=0.3,
        wall_clock_ns=machine.wall_ns,
        cpu_clock_ns=machine.cpu_ns,
    )

    assert len(timing.samples_ns) == 20
