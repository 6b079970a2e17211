"""What follows the proposals of a search: doubts about the front settled, the best promoted, the front timed finely.

Every stage reads the run from the store, so a run that was stopped goes on with
whoever lacks a score or a measurement.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from nas.accuracy import Evaluator, find_or_evaluate
from nas.errors import NasError
from nas.objectives import all_losses, final_accuracy, latency_ratio
from nas.observer import Observer
from nas.promotion import survivors
from nas.records import LatencyMode, Role, Run, Trial, TrialState
from nas.runs import SearchSettings, load_run
from nas.shared_run import POLL_S, SharedRun, WorkRole, refuse_deadly
from nas.store import Store
from nas.timed_sessions import TimedSessions
from nas.undecided import GAIN_OF_RESOLUTION, undecided
from reports.front import Floats, non_dominated

# Architectures of one session share the references between them; the longer it is, the less these have in common.
SESSION_SIZE = 4


class FrontStages:
    """The last stages of one run."""

    def __init__(
        self,
        *,
        store: Store,
        name: str,
        settings: SearchSettings,
        evaluators: Sequence[Evaluator],
        sessions: TimedSessions | None,
        shared: SharedRun,
        observer: Observer,
        resolution: float,
    ) -> None:
        self._store = store
        self._name = name
        self._settings = settings
        self._evaluators = evaluators
        self._sessions = sessions
        self._shared = shared
        self._observer = observer
        self._resolution = resolution

    def run(self) -> None:
        """Go through all stages, as far as this process can; what others do of them is waited for.

        Raises:
            StoreError: If the store cannot be read or written.
            OSError: If a file cannot be written.
        """
        self._promote()
        self.settle()
        self._refine()

    def settle(self, *, max_architectures: int | None = None) -> bool:
        """Measure what might be on the front by its prediction, until nothing might that is not measured.

        Args:
            max_architectures: Measure so many, and leave it at that.

        Returns:
            Whether anything was measured.
        """
        if self._sessions is None or not self._is_hybrid:
            return False
        tried: set[str] = set()
        while self._sessions.has_time_left and (max_architectures is None or len(tried) < max_architectures):
            trials = self._on_top()
            is_measured = np.array([bool(trial.measurements) for trial in trials], dtype=np.bool_)
            order = undecided(
                self._losses(trials, at_best=True),
                is_measured=is_measured,
                tolerance=self._resolution * GAIN_OF_RESOLUTION,
            )
            archs = [trials[i].architecture for i in order if trials[i].architecture.arch_id not in tried]
            archs = archs[: min(SESSION_SIZE, max_architectures or SESSION_SIZE)]
            if not archs:
                break
            tried |= {arch.arch_id for arch in archs}
            self._observer.settling(len(archs))
            self._sessions.measure_batch(archs)
        return bool(tried)

    @property
    def _is_hybrid(self) -> bool:
        return self._settings.request.latency is LatencyMode.HYBRID

    def _promote(self) -> None:
        """Score at each next fidelity those who survive the one before, the references first and always.

        Who survives depends on scores and times in the store alone, so a run that
        was stopped, or has more candidates now, goes on with whoever lacks a score.
        """
        for lower, higher in pairwise(self._evaluators):
            tried: set[str] = set()
            while self._is_to_wait(missing := self._missing(self._promoted(lower), higher, but=tried)):
                is_served = self._sessions is not None and self._sessions.serve()
                if not self._score_all(missing, higher, tried=tried) and not is_served:
                    self._observer.waiting()
                    time.sleep(POLL_S)

    def _promoted(self, lower: Evaluator) -> list[Trial]:
        """Return the trials that go on from a fidelity, the references first."""
        rung = self._rung(lower)
        candidates = [trial for trial in rung if trial.role == Role.CANDIDATE and self._keeps_constraints(trial)]
        promoted = [trial for trial in rung if trial.role != Role.CANDIDATE]
        if candidates:
            kept = survivors(self._losses(candidates), share=self._settings.request.promoted_share)
            promoted += [candidates[i] for i in kept]
        return promoted

    def _is_to_wait(self, missing: Sequence[Trial]) -> bool:
        """Tell whether this process, or another one that lives, may still score at the fidelity at hand."""
        if self._shared.role is WorkRole.MEASURE:
            return bool(missing) and self._shared.has_company(of_roles=(WorkRole.TRAIN, WorkRole.BOTH))
        # Who goes on may still change by what is measured.
        return bool(missing) or not self._shared.is_settled()

    def _missing(self, trials: Sequence[Trial], evaluator: Evaluator, *, but: set[str]) -> list[Trial]:
        """Return the trials that have no score yet; a process that cannot score leaves out what was tried in vain."""
        known = self._store.find_scores(evaluator.settings_id)
        if self._shared.role is WorkRole.MEASURE:
            but = {work.rpartition("/")[2] for work in self._shared.tried() if work.startswith(f"{evaluator.name}/")}
        return [trial for trial in trials if trial.architecture.arch_id not in known.keys() | but]

    def _score_all(self, trials: Sequence[Trial], evaluator: Evaluator, *, tried: set[str]) -> bool:
        """Score what no other process does; tell whether there was anything."""
        if self._shared.role is WorkRole.MEASURE:
            return False
        num_before = len(tried)
        if trials and not tried:
            self._observer.promoting(len(trials), evaluator.name)
        for trial in trials:
            arch = trial.architecture
            held = self._shared.begin(f"{evaluator.name}/{arch.arch_id}")
            if held is None:
                continue
            tried.add(arch.arch_id)
            is_done = False
            try:
                refuse_deadly(held)
                score = find_or_evaluate(evaluator, arch, store=self._store, on_step=self._on_step(trial.number))
                is_done = True
            except NasError as error:
                # Its score at the lower fidelity stays; the next search on the run tries again.
                self._observer.failed(trial.number, str(error))
            else:
                self._observer.promoted(trial.number, score)
            finally:
                self._shared.end(held, is_done=is_done)
        return len(tried) > num_before

    def _on_step(self, number: int) -> Callable[[int, int], None]:
        return lambda step, num_steps: self._observer.trained(number, step, num_steps)

    def _refine(self) -> None:
        """Measure the front's members precisely. That may move the front, so again until all its members are."""
        if self._sessions is None:
            return
        refined: set[str] = set()
        while True:
            # What doubts left unmeasured would add next to nothing; a run that only predicts has no doubts.
            trials = [
                trial
                for trial in self._on_top()
                if self._keeps_constraints(trial) and (trial.measurements or not self._is_hybrid)
            ]
            if not trials:
                return
            on_front = non_dominated(self._losses(trials))
            wanted = {
                trial.architecture.arch_id: trial.architecture
                for trial, on in zip(trials, on_front, strict=True)
                if on or trial.role != Role.CANDIDATE
            }
            missing = [arch for arch_id, arch in wanted.items() if arch_id not in refined]
            if not missing:
                return
            for start in range(0, len(missing), SESSION_SIZE):
                if not self._sessions.refine(missing[start : start + SESSION_SIZE]):
                    return
            refined |= {arch.arch_id for arch in missing}

    def _on_top(self) -> list[Trial]:
        """Return the trials, one for each architecture, that the run's front is chosen from."""
        run = load_run(self._store, self._name)
        return [trial for trial in run.trials if self._is_usable(trial) and self._has_score_of(run, trial)]

    def _has_score_of(self, run: Run, trial: Trial) -> bool:
        return not self._evaluators or (trial.score is not None and trial.score.evaluator == run.evaluator)

    def _rung(self, evaluator: Evaluator) -> list[Trial]:
        """Return the trials, one for each architecture, that have a score of ``evaluator``, with that score."""
        scores = self._store.find_scores(evaluator.settings_id)
        return [
            replace(trial, score=scores[trial.architecture.arch_id])
            for trial in load_run(self._store, self._name).trials
            if self._is_usable(trial) and trial.architecture.arch_id in scores
        ]

    def _is_usable(self, trial: Trial) -> bool:
        """Tell whether a trial is complete, the first of its architecture, and has a latency where the run has them."""
        # A measurement that another run on the store has taken up again has no blocks to show meanwhile.
        has_latency = self._sessions is None or latency_ratio(trial) is not None
        return trial.state == TrialState.COMPLETE and trial.same_as is None and has_latency

    def _keeps_constraints(self, trial: Trial) -> bool:
        missed = self._settings.request.constraints.first_missed(
            trial.cost, latency_ratio=latency_ratio(trial), accuracy=final_accuracy(self._settings, trial.score)
        )
        return missed is None

    def _losses(self, trials: Sequence[Trial], *, at_best: bool = False) -> Floats:
        """Return losses, (n, d); ``at_best`` with the favourable end of what is predicted."""
        return all_losses(
            self._settings,
            ((trial.architecture, trial.score, latency_ratio(trial, at_best=at_best)) for trial in trials),
        )
