"""The sessions of one search on its device: how precisely, and within what budget."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from device_lab.measurement import Precision
from device_lab.protocol import Progress
from nas.observer import Observer
from nas.shared_run import SharedRun
from nas.timing import Timing, TimingOutcome, TimingPlan
from search_spaces.architecture import Architecture

# Less is not worth a session.
MIN_SESSION_S = 15.0


class TimedSessions:
    """Times architectures by a plan, and counts the time it takes."""

    def __init__(self, timing: Timing, *, plan: TimingPlan, observer: Observer, shared: SharedRun) -> None:
        self._timing = timing
        self._plan = plan
        self._observer = observer
        self._shared = shared
        self._used_s = 0.0
        self._is_stopped = False

    def stop(self) -> None:
        """End a session that another thread is in at its next round, by `InterruptedError` there."""
        self._is_stopped = True

    @property
    def has_time_left(self) -> bool:
        """Whether the total budget allows another session."""
        left_s = self._left_s
        return left_s is None or left_s >= MIN_SESSION_S

    def measure_batch(self, archs: Sequence[Architecture]) -> dict[str, TimingOutcome]:
        """Time a batch as precisely as a search needs, whatever is left of the total budget.

        Returns:
            ``arch_id`` to what came of it.
        """
        return self._measure(archs, self._plan.search_precision, self._plan.batch_budget_s)

    def refine(self, archs: Sequence[Architecture]) -> bool:
        """Time architectures as precisely as a front needs; return ``False`` if there is no time left for it."""
        if not self.has_time_left:
            return False
        self._observer.refining(len(archs), self._plan.front_precision)
        self._measure(archs, self._plan.front_precision, self._left_s)
        return True

    def _measure(
        self, archs: Sequence[Architecture], precision: Precision, budget_s: float | None
    ) -> dict[str, TimingOutcome]:
        with ExitStack() as stack:
            # Everybody takes them in the same order, so that nobody waits for whoever waits for them.
            for device_id in sorted(self._timing.device_ids):
                stack.enter_context(self._shared.using(device_id, on_wait=self._on_wait))
            start_s = time.monotonic()
            try:
                return self._timing.measure(
                    archs, precision=precision, budget_s=budget_s, on_progress=self._on_progress
                )
            finally:
                self._used_s += time.monotonic() - start_s

    def _on_wait(self) -> None:
        self._raise_if_stopped()
        self._observer.waiting()

    def _on_progress(self, progress: Progress) -> None:
        self._raise_if_stopped()
        self._observer.measured(progress)

    def _raise_if_stopped(self) -> None:
        if self._is_stopped:
            raise InterruptedError("the search was stopped")

    @property
    def _left_s(self) -> float | None:
        return None if self._plan.total_budget_s is None else self._plan.total_budget_s - self._used_s
