"""The sessions of one search on its device: how precisely, and within what budget."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from device_lab.measurement import Precision
from device_lab.protocol import Progress
from device_lab.statistics import PRECISIONS
from nas.elsewhere import Elsewhere
from nas.observer import Observer
from nas.shared_run import POLL_S, SharedRun, is_deadly
from nas.timing import Timing, TimingOutcome, TimingPlan
from nas.wants import Want
from search_spaces.architecture import Architecture

# Less is not worth a session.
MIN_SESSION_S = 15.0


class TimedSessions:
    """Times architectures by a plan, and counts the time it takes.

    Devices of the run that others have are asked of them, and waited for; what
    others want of those that are here is measured in the meantime.
    """

    def __init__(
        self, timing: Timing, *, plan: TimingPlan, observer: Observer, shared: SharedRun, elsewhere: Elsewhere
    ) -> None:
        self._timing = timing
        self._elsewhere = elsewhere
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

    def begin(self) -> None:
        """Let others on the run know which devices are here."""
        self._elsewhere.begin()

    @property
    def has_requests(self) -> bool:
        """Whether others want something of the devices that are here."""
        return bool(self._elsewhere.wanted())

    def serve(self) -> bool:
        """Measure what others want of the devices that are here; tell whether there was anything.

        Of what several wait for at once, the coarser comes first. What is wanted as precisely as a
        front needs is left unmeasured once the total budget is used up.
        """
        wanted = self._elsewhere.wanted()
        if not wanted:
            return False
        name = max((want.precision for want in wanted), key=lambda each: PRECISIONS[each].goal)
        wants = [want for want in wanted if want.precision == name]
        is_coarse = PRECISIONS[name].goal >= self._plan.search_precision.goal
        if is_coarse or self.has_time_left:
            self._serve(wants, PRECISIONS[name], self._plan.batch_budget_s if is_coarse else self._left_s)
        # Not where that was cut short: who is attached to the device next goes on with it.
        self._elsewhere.answer(wants)
        return True

    def serve_to_the_end(self) -> None:
        """Want nothing any more, and stay as long as others may want something of the devices that are here."""
        self._elsewhere.end()
        while self._elsewhere.is_wanted:
            if not self.serve():
                self._wait(())

    def _serve(self, wants: Sequence[Want], precision: Precision, budget_s: float | None) -> None:
        archs = self._elsewhere.architectures(wants)
        held = {arch_id: self._shared.begin(f"serve/{arch_id}") for arch_id in archs}
        try:
            # Which of a batch a process died of nobody knows, so each of them is measured by itself then.
            suspects = [arch_id for arch_id, claim in held.items() if claim is not None and claim.num_deaths]
            others = [arch for arch_id, arch in archs.items() if arch_id not in suspects]
            batches = [others, *([archs[arch_id]] for arch_id in suspects if not is_deadly(held[arch_id]))]
            for batch in filter(None, batches):
                self._measure_here(batch, precision, budget_s)
        finally:
            for claim in held.values():
                # Of what nobody survives, the deaths stay counted.
                self._shared.end(claim, is_done=not is_deadly(claim))

    def _measure(
        self, archs: Sequence[Architecture], precision: Precision, budget_s: float | None
    ) -> dict[str, TimingOutcome]:
        wants = self._elsewhere.ask(archs, precision)
        try:
            here = self._measure_here(archs, precision, budget_s)
            while left := self._elsewhere.unanswered(wants):
                if not self.serve():
                    self._wait(left)
            return self._elsewhere.everywhere(here, archs, precision)
        finally:
            self._elsewhere.withdraw(wants)

    def _wait(self, wants: Sequence[Want]) -> None:
        self._raise_if_stopped()
        self._observer.waiting(unserved=self._elsewhere.unserved(wants))
        time.sleep(POLL_S)

    def _measure_here(
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
