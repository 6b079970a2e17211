"""What the search itself costs: everything but training and measuring, a trial, up to 500 trials.

The default search (sampler `evolution`, latencies `hybrid`) over the ``grouped``
space of a 6-layer encoder on a SQLite store. Scoring is a formula and the device
answers at once; what is spent in the two, the writing of the timed files and the
protocol included, is taken off. What is left is proposing, predicting, choosing
what to measure, telling and storing, and the stages after the last proposal.

    python -m benchmarks.loop_overhead
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna

from benchmarks.recordings import MINILM, SEQUENCE_LENGTH
from device_lab.measurement import Precision
from device_lab.protocol import Progress
from device_lab.statistics import PRECISIONS
from nas.records import Score
from nas.runs import SearchRequest, SearchSettings, open_study
from nas.search import Search
from nas.side_by_side import SideBySide
from nas.store import Store, sqlite_url
from nas.timed_models import TimedModels
from nas.timing import Timer, TimingOutcome, TimingPlan
from search_spaces.architecture import Architecture
from search_spaces.reference import squeezebert_rule
from search_spaces.space import make_space
from tests.fake_parts import FormulaEvaluator, Listener, SizeDevice

NUM_TRIALS = 500
MAX_OVERHEAD_S = 0.3
REQUEST = SearchRequest(space="grouped", sequence_length=SEQUENCE_LENGTH, fidelities=("projected",))


class Stopwatch:
    """Processor and wall time spent in what is not the loop."""

    def __init__(self) -> None:
        self.wall_s = 0.0
        self.cpu_s = 0.0

    def around(self, work: Callable[[], Any]) -> Any:
        """Do the work and add up what it took."""
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        try:
            return work()
        finally:
            self.wall_s += time.perf_counter() - wall_s
            self.cpu_s += time.process_time() - cpu_s


class ClockedEvaluator(FormulaEvaluator):
    """A formula whose time does not count."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        super().__init__()
        self._stopwatch = stopwatch

    def evaluate(self, arch: Architecture, *, on_step: Callable[[int, int], None] | None = None) -> Score:
        """Score an architecture."""
        score: Score = self._stopwatch.around(lambda: FormulaEvaluator.evaluate(self, arch, on_step=on_step))
        return score


class ClockedTiming(SideBySide):
    """The real protocol on a device that answers at once; its time does not count."""

    def __init__(self, timer: Timer, stopwatch: Stopwatch) -> None:
        super().__init__([timer])
        self._stopwatch = stopwatch

    def measure(
        self,
        archs: Sequence[Architecture],
        *,
        precision: Precision,
        budget_s: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> dict[str, TimingOutcome]:
        """Measure architectures."""
        outcomes: dict[str, TimingOutcome] = self._stopwatch.around(
            lambda: SideBySide.measure(self, archs, precision=precision, budget_s=budget_s, on_progress=on_progress)
        )
        return outcomes


class ClockedListener(Listener):
    """Keeps the time at which each trial ended."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        super().__init__()
        self._stopwatch = stopwatch
        self._start = time.perf_counter(), time.process_time()
        self.spent_s: list[tuple[float, float]] = []

    def note(self) -> None:
        """Keep what the loop has spent so far, on the wall and of the processor."""
        wall_s = time.perf_counter() - self._start[0] - self._stopwatch.wall_s
        cpu_s = time.process_time() - self._start[1] - self._stopwatch.cpu_s
        self.spent_s.append((wall_s, cpu_s))

    def finished(self, number: int, values: Any, *, is_predicted: bool) -> None:
        """Keep the time."""
        super().finished(number, values, is_predicted=is_predicted)
        self.note()


def main() -> None:
    parser = argparse.ArgumentParser(description="The cost of the loop itself.")
    parser.add_argument("--trials", type=int, default=NUM_TRIALS)
    num_trials = parser.parse_args().trials
    logging.disable(logging.INFO)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as name:
        stopwatch = Stopwatch()
        listener = ClockedListener(stopwatch)
        search = make_search(Path(name), stopwatch, listener)
        search.run(num_trials)
        listener.note()
    steps = (50, 100, 200, 300, 400, num_trials)
    print("trial    ms a trial before it (wall, processor), the last 50")
    for number in (step for step in steps if step <= len(listener.spent_s)):
        before = listener.spent_s[max(number - 51, 0)]
        wall_s, cpu_s = (
            (now - then) / min(number, 50) for now, then in zip(listener.spent_s[number - 1], before, strict=True)
        )
        print(f"{number:>5}    {1000 * wall_s:>6.0f}  {1000 * cpu_s:>6.0f}")
    wall_s, cpu_s = (each / num_trials for each in listener.spent_s[-1])
    print(f"all of it, the stages after the last proposal included: {1000 * cpu_s:.0f} ms of the processor a trial")
    verdict = "met" if wall_s <= MAX_OVERHEAD_S else "short"
    print(f"figure: loop_overhead {wall_s:.3f} s/trial target=<={MAX_OVERHEAD_S} {verdict}")


def make_search(folder: Path, stopwatch: Stopwatch, listener: Listener) -> Search:
    """Put the search together."""
    store = Store(sqlite_url(folder / "store.db"))
    device = SizeDevice()
    timer = Timer(
        store=store,
        device=device,
        num_threads=1,
        reference=squeezebert_rule(MINILM),
        models=TimedModels(folder / "models", runtime=device.runtime, sequence_length=SEQUENCE_LENGTH, num_labels=2),
        seed=0,
    )
    evaluator = ClockedEvaluator(stopwatch)
    settings = SearchSettings(
        request=REQUEST,
        task="formula",
        task_sha256="0",
        num_labels=2,
        teacher_id="0",
        teacher_architecture=MINILM.to_json(),
        score_settings_ids=(evaluator.settings_id,),
        device=device.info,
        settings=timer.settings,
    )
    return Search(
        store=store,
        study=open_study(store, "run", settings),
        space=make_space(REQUEST.space, MINILM),
        settings=settings,
        evaluators=[evaluator],
        timing=ClockedTiming(timer, stopwatch),
        observer=listener,
        timing_plan=TimingPlan(front_precision=PRECISIONS["coarse"]),
    )


if __name__ == "__main__":
    main()
