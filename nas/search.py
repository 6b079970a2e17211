"""The study loop: propose, score, time, tell; the front measured again; resume at any point.

Optuna keeps the trials; this loop decides what happens to one. Architectures
that a run has already seen are answered from the store, a candidate that fails
is a failed trial with its reason, and whatever a stopped process left half done
is proposed again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import TrialState as OptunaState

from nas.accuracy import Evaluator, find_or_evaluate
from nas.batch_timing import BatchTiming, Candidate
from nas.documents import to_document
from nas.errors import NasError, SettingsError
from nas.front_stages import FrontStages
from nas.latency_design import draw_pool
from nas.latency_guide import LatencyGuide
from nas.objectives import cost_of, latency_ratio, objective_values
from nas.observer import Observer
from nas.records import LatencyMode, Role, Trial, TrialState
from nas.run_latencies import architectures_of, find_measured
from nas.runs import SearchSettings, load_run, reference_architecture
from nas.samplers import make_sampler
from nas.store import Store
from nas.timed_sessions import TimedSessions
from nas.timing import Timing, TimingPlan
from nas.trial_notes import INTERRUPTED, NOTE_KEY, TrialNote, is_interrupted, is_rejected, read_note, write_note
from search_spaces.architecture import Architecture
from search_spaces.errors import InvalidArchitectureError
from search_spaces.space import Space

# Candidates of one batch are trained one by one and timed together, so that
# they share the references between them.
BATCH_SIZE = 4
# A sampler that has seen most of a small space repeats itself; this many
# repetitions in a row mean there is next to nothing left to find.
MAX_REPEATS = 100
# So many candidates in a row that miss a constraint mean that next to none keeps them.
MAX_REJECTIONS = 400


@dataclass(slots=True, kw_only=True, eq=False)
class _Proposal:
    """A running trial and what is known of its architecture so far."""

    trial: optuna.Trial
    candidate: Candidate

    @property
    def arch(self) -> Architecture:
        return self.candidate.arch


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
        self._observer = observer
        self._sessions = None if timing is None else TimedSessions(timing, plan=timing_plan, observer=observer)
        self._guide = self._make_guide() if self._sessions is not None else None
        self._timing = (
            None
            if self._sessions is None
            else BatchTiming(
                self._sessions,
                settings=settings,
                guide=self._guide,
                resolution=timing_plan.resolution,
                observer=observer,
            )
        )
        self._stages = FrontStages(
            store=store,
            name=study.study_name,
            settings=settings,
            evaluators=evaluators,
            sessions=self._sessions,
            observer=observer,
            resolution=timing_plan.resolution,
        )
        self._roles = {
            reference_architecture(settings).arch_id: Role.SQUEEZEBERT_RULE,
            space.teacher.arch_id: Role.DENSE_TEACHER,
        }
        # Positions in ordered lists: a sampler that knows 4 groups lie between 2 and 8 needs fewer trials.
        self._distributions: dict[str, BaseDistribution] = {
            name: IntDistribution(0, len(options) - 1) for name, options in space.parameters.items()
        }
        # Architectures of this run that were proposed, with the number of the first trial of each.
        self._first_trials: dict[Architecture, int] = {}
        self._rejected: set[Architecture] = set()

    def run(self, num_trials: int, *, max_minutes: float | None = None) -> None:
        """Go on until the run has ``num_trials`` distinct architectures, the references among them.

        Or until ``max_minutes`` have passed: the batch at hand is then the last.

        The best of them are then promoted from fidelity to fidelity, and the
        members of the last one's front measured with the front's precision.

        Raises:
            SettingsError: If next to no candidate keeps the constraints; the message says which is missed most.
            PredictionError: If nothing may be measured, and too little is to predict latencies from.
            StoreError: If the store cannot be read or written.
            OSError: If the disk is full or a file cannot be written.
            KeyboardInterrupt: Passed on after the store is consistent.
        """
        deadline_s = time.monotonic() + 60 * (max_minutes if max_minutes is not None else float("inf"))
        with self._store.errors():
            self._recover()
            self._observer.resumed(len(self._first_trials))
            self._begin()
            try:
                while len(self._first_trials) < num_trials and time.monotonic() < deadline_s:
                    batch = self._propose(min(BATCH_SIZE, num_trials - len(self._first_trials)))
                    if not batch:
                        break
                    self._work_on(batch)
                if self._timing is not None:
                    self._timing.finish()
                self._stages.run()
            except KeyboardInterrupt:
                self._give_up_running()
                raise
            finally:
                if self._timing is not None:
                    self._timing.close()

    def _recover(self) -> None:
        """Read what the run has; trials of a process that died are failed and proposed again."""
        self._give_up_running()
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state.is_finished() and NOTE_KEY in trial.user_attrs:
                arch = Architecture.from_json(read_note(trial).architecture)
                if is_rejected(trial):
                    self._rejected.add(arch)
                elif not is_interrupted(trial):
                    self._first_trials.setdefault(arch, trial.number)
        if self._guide is not None and self._timing is not None and self._first_trials:
            for known in load_run(self._store, self._study.study_name).trials:
                if known.state == TrialState.COMPLETE and known.same_as is None:
                    self._timing.remember(_candidate_of(known))

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
        missed: Counter[str] = Counter()
        while len(batch) < batch_size and num_repeats < MAX_REPEATS:
            trial, arch = self._ask()
            first = self._first_trials.get(arch)
            candidate = Candidate(number=trial.number, arch=arch, role=self._roles.get(arch.arch_id, Role.CANDIDATE))
            write_note(trial, TrialNote(architecture=arch.to_json(), role=candidate.role, same_as=first))
            if first is not None:
                num_repeats += 1
                self._tell_again(trial, first)
            elif misses := self._foreseen_violations(candidate):
                num_repeats += arch in self._rejected
                missed.update(misses)
                self._reject(trial, arch, misses)
                if missed.total() >= MAX_REJECTIONS:
                    raise SettingsError(self._impossible(missed.total(), missed))
            else:
                self._first_trials[arch] = trial.number
                self._observer.proposed(trial.number, candidate.role)
                batch.append(_Proposal(trial=trial, candidate=candidate))
        return batch

    def _foreseen_violations(self, candidate: Candidate) -> dict[str, float]:
        """Return which constraints a candidate misses, and by how much, as far as its numbers and predictions say."""
        constraints = self._settings.request.constraints
        if candidate.role != Role.CANDIDATE or not constraints:
            return {}
        ratio = None
        if self._guide is not None and self._guide.can_predict:
            # Only what is too slow even at its best is not worth a measurement.
            ratio = self._guide.predict([candidate.arch])[0].low
        found = constraints.violations(cost_of(self._settings, candidate.arch), latency_ratio=ratio)
        return {name: by for name, by in found.items() if by > 0}

    def _reject(self, trial: optuna.Trial, arch: Architecture, misses: dict[str, float]) -> None:
        """End a trial before anything is spent on it; the sampler learns how far off it was."""
        for name, by in misses.items():
            trial.set_constraint(name, by)
        self._study.tell(trial, state=OptunaState.PRUNED)
        self._rejected.add(arch)
        self._observer.rejected(trial.number, ", ".join(map(self._settings.request.constraints.show, misses)))

    def _begin(self) -> None:
        """Refuse what cannot be done while the run is new, and forget the run then: its name stays free."""
        try:
            if self._guide is not None:
                self._guide.refit()
            if not self._first_trials:
                self._require_possible()
        except NasError:
            if not self._study.get_trials(deepcopy=False):
                self._store.optuna_storage.delete_study(self._study._study_id)
            raise

    def _require_possible(self) -> None:
        """Refuse constraints that nothing drawn from the space keeps."""
        if not self._settings.request.constraints:
            return
        pool = [*self._space.dense_designs, *draw_pool(self._space, seed=self._settings.request.seed)]
        misses = [self._foreseen_violations(Candidate(number=-1, arch=arch, role=Role.CANDIDATE)) for arch in pool]
        if pool and all(misses):
            raise SettingsError(self._impossible(len(pool), Counter(name for each in misses for name in each)))

    def _impossible(self, count: int, missed: Counter[str]) -> str:
        ((worst, times),) = missed.most_common(1)
        constraints = self._settings.request.constraints
        wanted = " ".join(constraints.show(name) for name in missed)
        return (
            f"none of {count} drawn candidates keeps {wanted}; {constraints.show(worst)} rejects most ({times}): "
            "loosen it, or choose a larger space"
        )

    def _ask(self) -> tuple[optuna.Trial, Architecture]:
        trials = self._study.get_trials(deepcopy=False)
        # One at a time: what a stopped process had begun waits in the same queue, and comes first.
        if not any(trial.state == OptunaState.WAITING for trial in trials):
            self._enqueue_next_design()
        self._study.sampler = make_sampler(
            self._settings.request.sampler,
            seed=self._settings.request.seed,
            num_trials_before=sum(not is_interrupted(trial) for trial in trials),
            distributions=self._distributions,
        )
        with self._store.optuna_storage.one_write_per_trial():
            trial = self._study.ask(self._distributions)
        positions = trial.params
        return trial, self._space.sample(lambda name, options: options[positions[name]])

    def _enqueue_next_design(self) -> None:
        """Let the next proposal be the first reference, or else known good design, that the run does not have yet."""
        known = (reference_architecture(self._settings), self._space.teacher, *self._space.dense_designs)
        missing = [arch for arch in known if arch not in self._first_trials and arch not in self._rejected]
        arch = missing[0] if missing else None
        if arch is None and self._guide is not None:
            arch = self._guide.next_in_design([*self._first_trials, *self._rejected])
        if arch is not None:
            answers = self._space.answers_for(arch)
            self._study.enqueue_trial(
                {name: options.index(answers[name]) for name, options in self._space.parameters.items()}
            )

    def _make_guide(self) -> LatencyGuide | None:
        settings = self._settings
        mode = settings.request.latency
        if mode is LatencyMode.MEASURED or settings.device is None or settings.settings is None:
            return None
        reference = reference_architecture(settings)
        measured = find_measured(
            self._store,
            device_id=settings.device.device_id,
            settings=settings.settings,
            reference=reference,
            among=architectures_of(self._store),
        )
        return LatencyGuide(
            mode=mode,
            reference=reference,
            sequence_length=settings.request.sequence_length,
            measured=measured,
            space=self._space,
            seed=settings.request.seed,
        )

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
        failures = self._timing.time([proposal.candidate for proposal in batch]) if self._timing and batch else {}
        for proposal in batch:
            if proposal.arch.arch_id in failures:
                self._fail(proposal, failures[proposal.arch.arch_id])
            else:
                self._tell(proposal)

    def _score(self, proposal: _Proposal) -> bool:
        """Score a proposal at the lowest fidelity; on failure end its trial and return ``False``."""
        number = proposal.trial.number
        try:
            proposal.candidate.score = find_or_evaluate(
                self._evaluators[0],
                proposal.arch,
                store=self._store,
                on_step=lambda step, num_steps: self._observer.trained(number, step, num_steps),
            )
        except NasError as error:
            self._fail(proposal, str(error))
            return False
        return True

    def _tell(self, proposal: _Proposal) -> None:
        candidate = proposal.candidate
        values = objective_values(
            self._settings, candidate.arch, score=candidate.score, latency_ratio=candidate.latency_ratio
        )
        violations = self._settings.request.constraints.violations(
            cost_of(self._settings, candidate.arch),
            latency_ratio=candidate.latency_ratio,
            accuracy=None if candidate.score is None else candidate.score.interval.estimate,
        )
        for name, by in violations.items():
            proposal.trial.set_constraint(name, by)
        self._study.tell(proposal.trial, list(values.values()))
        if self._timing is not None:
            self._timing.remember(candidate)
        is_predicted = candidate.latency_ratio is not None and not candidate.is_measured
        self._observer.finished(proposal.trial.number, values, is_predicted=is_predicted)

    def _fail(self, proposal: _Proposal, reason: str) -> None:
        note = TrialNote(architecture=proposal.arch.to_json(), role=proposal.candidate.role, failure=reason)
        write_note(proposal.trial, note)
        self._study.tell(proposal.trial, state=OptunaState.FAIL)
        self._observer.failed(proposal.trial.number, reason)


def _candidate_of(trial: Trial) -> Candidate:
    """Return a trial of an earlier process as the search would remember it."""
    return Candidate(
        number=trial.number,
        arch=trial.architecture,
        role=trial.role,
        score=trial.score,
        latency_ratio=latency_ratio(trial),
        is_measured=bool(trial.measurements),
    )


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
