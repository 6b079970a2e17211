"""The study loop: propose, score, time, tell; the front measured again; resume at any point.

Optuna keeps the trials; this loop decides what happens to one. Architectures
that a run has already seen are answered from the store, a candidate that fails
is a failed trial with its reason, and whatever a stopped process left half done
is proposed again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import TrialState as OptunaState

from device_lab.measurement import Measurement
from device_lab.statistics import kept_blocks, ratio_interval
from nas.accuracy import Evaluator, find_or_evaluate
from nas.cost import model_cost
from nas.documents import to_document
from nas.errors import NasError
from nas.observer import Observer
from nas.promotion import survivors
from nas.records import Objective, Role, Run, Score, Trial, TrialState
from nas.runs import INTERRUPTED, NOTE_KEY, SearchSettings, TrialNote, load_run, read_note, reference_architecture
from nas.samplers import make_sampler
from nas.store import Store
from nas.timing import Timing, TimingPlan
from reports.front import non_dominated
from search_spaces.architecture import Architecture
from search_spaces.errors import InvalidArchitectureError
from search_spaces.space import Space

# Candidates of one batch are trained one by one and timed together, so that
# they share the references between them.
BATCH_SIZE = 4
# A sampler that has seen most of a small space repeats itself; this many
# repetitions in a row mean there is next to nothing left to find.
MAX_REPEATS = 100
# An interval needs two.
MIN_BLOCKS = 2
# Less is not worth a session.
MIN_FRONT_BUDGET_S = 15.0


@dataclass(slots=True, kw_only=True)
class _Proposal:
    """A running trial and what is known of it so far."""

    trial: optuna.Trial
    arch: Architecture
    role: Role
    score: Score | None = None
    measurement: Measurement | None = None


class Search:
    """One run under way. The caller holds the run; see `nas.runs.hold_run`."""

    def __init__(
        self,
        *,
        store: Store,
        study: optuna.Study,
        space: Space,
        settings: SearchSettings,
        evaluators: Sequence[Evaluator],
        timing: Timing | None,
        observer: Observer,
        timing_plan: TimingPlan,
    ) -> None:
        self._store = store
        self._study = study
        self._space = space
        self._settings = settings
        self._evaluators = evaluators
        self._timing = timing
        self._observer = observer
        self._plan = timing_plan
        self._timing_s = 0.0
        self._roles = {
            reference_architecture(settings).arch_id: Role.SQUEEZEBERT_RULE,
            space.teacher.arch_id: Role.DENSE_TEACHER,
        }
        # Positions in ordered lists: a sampler that knows 4 groups lie between 2 and 8 needs fewer trials.
        self._distributions: dict[str, BaseDistribution] = {
            name: IntDistribution(0, len(options) - 1) for name, options in space.parameters.items()
        }
        # Architectures of this run that were proposed: arch_id to the number of its first trial.
        self._first_trials: dict[str, int] = {}

    def run(self, num_trials: int) -> None:
        """Go on until the run has ``num_trials`` distinct architectures, the references among them.

        The best of them are then promoted from fidelity to fidelity, and the
        members of the last one's front measured with the front's precision.

        Raises:
            StoreError: If the store cannot be read or written.
            OSError: If the disk is full or a file cannot be written.
            KeyboardInterrupt: Passed on after the store is consistent.
        """
        with self._store.errors():
            self._recover()
            self._observer.resumed(len(self._first_trials))
            try:
                while len(self._first_trials) < num_trials:
                    batch = self._propose(min(BATCH_SIZE, num_trials - len(self._first_trials)))
                    if not batch:
                        break
                    self._work_on(batch)
                self._promote()
                self._refine_front()
            except KeyboardInterrupt:
                self._give_up_running()
                raise

    def _recover(self) -> None:
        """Read what the run has; trials of a process that died are failed and proposed again."""
        self._give_up_running()
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state.is_finished() and NOTE_KEY in trial.user_attrs:
                note = read_note(trial)
                if note.failure != INTERRUPTED:
                    self._first_trials.setdefault(Architecture.from_json(note.architecture).arch_id, trial.number)

    def _give_up_running(self) -> None:
        storage = self._store.optuna_storage
        for trial in self._study.get_trials(deepcopy=False, states=(OptunaState.RUNNING,)):
            # Proposed again before it is given up: a process that dies in between proposes it twice, never less.
            if len(trial.params) == len(self._space.parameters):
                self._study.enqueue_trial(trial.params)
            if NOTE_KEY in trial.user_attrs:
                note = replace(read_note(trial), failure=INTERRUPTED)
                storage.set_trial_user_attr(trial._trial_id, NOTE_KEY, to_document(note))
            self._study.tell(trial.number, state=OptunaState.FAIL)

    def _propose(self, batch_size: int) -> list[_Proposal]:
        """Ask for up to ``batch_size`` architectures the run has not seen; fewer when the space is used up."""
        batch: list[_Proposal] = []
        num_repeats = 0
        while len(batch) < batch_size and num_repeats < MAX_REPEATS:
            trial, arch = self._ask()
            first = self._first_trials.get(arch.arch_id)
            role = self._roles.get(arch.arch_id, Role.CANDIDATE)
            _write_note(trial, TrialNote(architecture=arch.to_json(), role=role, same_as=first))
            if first is None:
                self._first_trials[arch.arch_id] = trial.number
                self._observer.proposed(trial.number, role)
                batch.append(_Proposal(trial=trial, arch=arch, role=role))
            else:
                num_repeats += 1
                self._tell_again(trial, first)
        return batch

    def _ask(self) -> tuple[optuna.Trial, Architecture]:
        trials = self._study.get_trials(deepcopy=False)
        # One at a time: what a stopped process had begun waits in the same queue, and comes first.
        if not any(trial.state == OptunaState.WAITING for trial in trials):
            self._enqueue_next_design()
        self._study.sampler = make_sampler(
            self._settings.request.sampler,
            seed=self._settings.request.seed,
            num_trials_before=sum(not _is_interrupted(trial) for trial in trials),
            distributions=self._distributions,
        )
        with self._store.optuna_storage.one_write_per_trial():
            trial = self._study.ask(self._distributions)
        positions = trial.params
        return trial, self._space.sample(lambda name, options: options[positions[name]])

    def _enqueue_next_design(self) -> None:
        """Let the next proposal be the first reference, or else known good design, that the run does not have yet."""
        for arch in (reference_architecture(self._settings), self._space.teacher, *self._space.dense_designs):
            if arch.arch_id not in self._first_trials:
                answers = self._space.answers_for(arch)
                self._study.enqueue_trial(
                    {name: options.index(answers[name]) for name, options in self._space.parameters.items()}
                )
                return

    def _tell_again(self, trial: optuna.Trial, first: int) -> None:
        """Answer a repeated architecture with the values of its first trial."""
        known = self._study.get_trials(deepcopy=False)[first]
        if known.state == OptunaState.COMPLETE:
            self._study.tell(trial, known.values)
        else:
            # Failed, or in this very batch: either way there is nothing to learn from it twice.
            self._study.tell(trial, state=OptunaState.FAIL)

    def _work_on(self, batch: list[_Proposal]) -> None:
        if self._evaluators:
            batch = [proposal for proposal in batch if self._score(proposal)]
        if self._timing is not None and batch:
            batch = self._measure(batch, self._timing)
        for proposal in batch:
            self._tell(proposal)

    def _score(self, proposal: _Proposal) -> bool:
        """Score a proposal at the lowest fidelity; on failure end its trial and return ``False``."""
        try:
            proposal.score = self._score_at(self._evaluators[0], proposal.arch, number=proposal.trial.number)
        except NasError as error:
            self._fail(proposal, str(error))
            return False
        return True

    def _score_at(self, evaluator: Evaluator, arch: Architecture, *, number: int) -> Score:
        """Return a score, from the store if it is there.

        Raises:
            NasError: If the architecture cannot be scored.
        """
        return find_or_evaluate(
            evaluator,
            arch,
            store=self._store,
            on_step=lambda step, num_steps: self._observer.trained(number, step, num_steps),
        )

    def _promote(self) -> None:
        """Score at each next fidelity those who survive the one before, the references first and always.

        Who survives depends on scores and times in the store alone, so a run that
        was stopped, or has more candidates now, goes on with whoever lacks a score.
        """
        for lower, higher in pairwise(self._evaluators):
            rung = self._rung(lower)
            references = [trial for trial in rung if trial.role != Role.CANDIDATE]
            candidates = [trial for trial in rung if trial.role == Role.CANDIDATE]
            promoted = list(references)
            if candidates:
                losses = np.array([self._losses(trial) for trial in candidates])
                kept = survivors(losses, share=self._settings.request.promoted_share)
                promoted += [candidates[i] for i in kept]
            known = self._store.find_scores(higher.settings_id)
            missing = [trial for trial in promoted if trial.architecture.arch_id not in known]
            if missing:
                self._observer.promoting(len(missing), higher.name)
            for trial in missing:
                try:
                    score = self._score_at(higher, trial.architecture, number=trial.number)
                except NasError as error:
                    # Its score at the lower fidelity stays; the next search on the run tries again.
                    self._observer.failed(trial.number, str(error))
                else:
                    self._observer.promoted(trial.number, score)

    def _rung(self, evaluator: Evaluator) -> list[Trial]:
        """Return the trials, one for each architecture, that have a score of ``evaluator``, with that score."""
        scores = self._store.find_scores(evaluator.settings_id)
        return [
            replace(trial, score=scores[trial.architecture.arch_id])
            for trial in load_run(self._store, self._study.study_name).trials
            if self._is_usable(trial) and trial.architecture.arch_id in scores
        ]

    def _is_usable(self, trial: Trial) -> bool:
        """Tell whether a trial is complete, the first of its architecture, and timed where the run times."""
        # A measurement that another run on the store has taken up again has no blocks to show meanwhile.
        is_timed = self._timing is None or bool(trial.measurements)
        return trial.state == TrialState.COMPLETE and trial.same_as is None and is_timed

    def _measure(self, batch: list[_Proposal], timing: Timing) -> list[_Proposal]:
        start_s = time.monotonic()
        outcomes = timing.measure(
            [proposal.arch for proposal in batch],
            precision=self._plan.search_precision,
            budget_s=self._plan.batch_budget_s,
            on_progress=self._observer.measured,
        )
        self._timing_s += time.monotonic() - start_s
        measured = []
        for proposal in batch:
            outcome = outcomes[proposal.arch.arch_id]
            if not isinstance(outcome, Measurement):
                self._fail(proposal, str(outcome))
            elif len(kept_blocks(outcome.blocks)) < MIN_BLOCKS:
                reason = f"the measurement ended with {outcome.reason} after {len(outcome.blocks)} blocks"
                self._fail(proposal, reason)
            else:
                proposal.measurement = outcome
                measured.append(proposal)
        return measured

    def _tell(self, proposal: _Proposal) -> None:
        values = self._values(proposal.arch, proposal.score, proposal.measurement)
        self._study.tell(proposal.trial, list(values.values()))
        self._observer.finished(proposal.trial.number, values)

    def _values(
        self, arch: Architecture, score: Score | None, measurement: Measurement | None
    ) -> dict[Objective, float]:
        cost = model_cost(
            arch, sequence_length=self._settings.request.sequence_length, num_labels=self._settings.num_labels
        )
        known = {Objective.MACS: float(cost.macs), Objective.PARAMETERS: float(cost.parameters)}
        if score is not None:
            known[Objective.ACCURACY] = score.interval.estimate
        if measurement is not None:
            known[Objective.LATENCY] = ratio_interval(measurement.blocks).estimate
        return {objective: known[objective] for objective in self._settings.request.objectives}

    def _fail(self, proposal: _Proposal, reason: str) -> None:
        note = TrialNote(architecture=proposal.arch.to_json(), role=proposal.role, failure=reason)
        _write_note(proposal.trial, note)
        self._study.tell(proposal.trial, state=OptunaState.FAIL)
        self._observer.failed(proposal.trial.number, reason)

    def _refine_front(self) -> None:
        """Measure the front's members precisely. That may move the front, so again until all its members are."""
        if self._timing is None:
            return
        refined: set[str] = set()
        while True:
            run = load_run(self._store, self._study.study_name)
            wanted = {trial.architecture.arch_id: trial.architecture for trial in self._worth_refining(run)}
            missing = [arch for arch_id, arch in wanted.items() if arch_id not in refined]
            if not missing:
                return
            # In small sessions: the longer the way from one reference to the next, the less they have in common.
            for start in range(0, len(missing), BATCH_SIZE):
                if not self._refine(missing[start : start + BATCH_SIZE], self._timing):
                    return
            refined |= {arch.arch_id for arch in missing}

    def _refine(self, archs: Sequence[Architecture], timing: Timing) -> bool:
        """Measure ``archs`` with the front's precision; return ``False`` if there is no time left for it."""
        left_s = None if self._plan.total_budget_s is None else self._plan.total_budget_s - self._timing_s
        if left_s is not None and left_s < MIN_FRONT_BUDGET_S:
            return False
        self._observer.refining(len(archs), self._plan.front_precision)
        start_s = time.monotonic()
        timing.measure(
            archs, precision=self._plan.front_precision, budget_s=left_s, on_progress=self._observer.measured
        )
        self._timing_s += time.monotonic() - start_s
        return True

    def _worth_refining(self, run: Run) -> list[Trial]:
        """Return the front of the highest fidelity by the finest measurements there are, and the references."""
        complete = [
            trial
            for trial in run.trials
            if self._is_usable(trial)
            and (not self._evaluators or (trial.score is not None and trial.score.evaluator == run.evaluator))
        ]
        if not complete:
            return []
        losses = np.array([self._losses(trial) for trial in complete])
        on_front = non_dominated(losses)
        return [trial for trial, on in zip(complete, on_front, strict=True) if on or trial.role != Role.CANDIDATE]

    def _losses(self, trial: Trial) -> list[float]:
        measurement = trial.measurements[-1] if trial.measurements else None
        values = self._values(trial.architecture, trial.score, measurement)
        return [-value if objective == Objective.ACCURACY else value for objective, value in values.items()]


def _write_note(trial: optuna.Trial, note: TrialNote) -> None:
    trial.set_user_attr(NOTE_KEY, to_document(note))


def check_space(space: Space, settings: SearchSettings) -> None:
    """Refuse a space that does not contain the run's references.

    Raises:
        InvalidArchitectureError: If SqueezeBERT's rule or the dense teacher is not in the space.
    """
    for arch in (reference_architecture(settings), space.teacher):
        try:
            space.answers_for(arch)
        except InvalidArchitectureError as error:
            raise InvalidArchitectureError(f"the reference network is not in the space: {error}") from error


def _is_interrupted(trial: optuna.trial.FrozenTrial) -> bool:
    return trial.state == OptunaState.FAIL and (
        NOTE_KEY not in trial.user_attrs or read_note(trial).failure == INTERRUPTED
    )
