"""Warm up, then time: the loop every Python runner of this machine shares.

Imports the standard library only; a runner's start-up is part of the price of every block.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

_FAST_WEIGHT = 0.1
_SLOW_WEIGHT = 0.005
_AGREEMENT = 0.04
_NUM_AGREEING_RUNS = 40
_MIN_RUNS = 30


class WarmUp:
    """Decides, run by run, when the times have settled.

    They have when a fast and a slow moving average agree within 4 % for more
    than 40 runs, 30 at least. The first run builds what later ones reuse and
    counts for neither average. The slow average starts as a plain mean, so
    that it forgets an unusual beginning in tens of runs instead of hundreds.

    Args:
        max_duration_s: Ends the warm-up whatever the averages say.
    """

    def __init__(self, *, max_duration_s: float) -> None:
        self.num_runs = 0
        self._left_ns = max_duration_s * 1e9
        self._fast_ns = 0.0
        self._slow_ns = 0.0
        self._num_agreeing = 0

    def is_done_after(self, duration_ns: int) -> bool:
        """Take the time of one more run and tell whether to stop warming up."""
        self.num_runs += 1
        self._left_ns -= duration_ns
        if self.num_runs > 1:
            num_counted = self.num_runs - 1
            self._fast_ns += max(_FAST_WEIGHT, 1 / num_counted) * (duration_ns - self._fast_ns)
            self._slow_ns += max(_SLOW_WEIGHT, 1 / num_counted) * (duration_ns - self._slow_ns)
            agrees = abs(self._fast_ns - self._slow_ns) <= _AGREEMENT * self._slow_ns
            self._num_agreeing = self._num_agreeing + 1 if agrees else 0
        has_settled = self.num_runs >= _MIN_RUNS and self._num_agreeing > _NUM_AGREEING_RUNS
        return has_settled or self._left_ns <= 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What was timed in one process; the fields of `device_lab.runner.contract.RunnerOutput` of these names."""

    num_warmup_runs: int
    samples_ns: tuple[int, ...]
    wall_ns: int
    cpu_ns: int


def time_inferences(
    infer: Callable[[], object],
    *,
    min_runs: int,
    min_timed_s: float,
    max_warmup_s: float,
    wall_clock_ns: Callable[[], int] = time.perf_counter_ns,
    cpu_clock_ns: Callable[[], int] = time.process_time_ns,
) -> Timing:
    """Warm up, then call ``infer`` at least ``min_runs`` times and for ``min_timed_s`` seconds, timing each call.

    ``wall_ns`` and ``cpu_ns`` cover the timed part, the bookkeeping between two calls included.
    """
    warm_up = WarmUp(max_duration_s=max_warmup_s)
    is_warm = False
    while not is_warm:
        started_ns = wall_clock_ns()
        infer()
        is_warm = warm_up.is_done_after(wall_clock_ns() - started_ns)

    samples_ns: list[int] = []
    min_timed_ns = min_timed_s * 1e9
    cpu_start_ns, wall_start_ns = cpu_clock_ns(), wall_clock_ns()
    ended_ns = wall_start_ns
    while len(samples_ns) < min_runs or ended_ns - wall_start_ns < min_timed_ns:
        started_ns = wall_clock_ns()
        infer()
        ended_ns = wall_clock_ns()
        samples_ns.append(ended_ns - started_ns)
    return Timing(
        num_warmup_runs=warm_up.num_runs,
        samples_ns=tuple(samples_ns),
        wall_ns=wall_clock_ns() - wall_start_ns,
        cpu_ns=cpu_clock_ns() - cpu_start_ns,
    )
