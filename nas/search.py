"""The study loop: propose, score, time, tell; the front measured again; resume at any point, alone or with others.

Optuna keeps the trials; this loop decides what happens to one. Architectures
that a run has already seen are answered from the store, a candidate that fails
is a failed trial with its reason, and whatever a stopped process left half done
is proposed again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState as OptunaState

from nas.accuracy import Evaluator, find_or_evaluate
from nas.batch_timing import BatchTiming, Candidate, Failure
from nas.device_guides import find_measured_of_run, make_guide
from nas.elsewhere import Elsewhere
from nas.errors import NasError, WorkerLostError
from nas.front_stages import FrontStages
from nas.objectives import cost_of, final_accuracy, latency_ratio, objective_values
from nas.observer import Observer
from nas.proposals import Proposal, Proposals
from nas.records import Objective, Trial, TrialState
from nas.runs import SearchSettings, keep_goal, keep_resolution, load_run, read_goal, reference_architecture
from nas.shared_run import POLL_S, SharedRun, WorkRole, refuse_deadly
from nas.store import Store
from nas.timed_sessions import TimedSessions
from nas.timing import Timing, TimingPlan
from nas.trial_notes import TrialNote, write_note
from search_spaces.errors import InvalidArchitectureError
from search_spaces.space import Space

# Candidates of one batch are trained one by one and timed together, so that
# they share the references between them.
BATCH_SIZE = 4


class Search:
    """One process's work on a run: all of it, or what ``role`` says. Others may work on it at the same time.

    Args:
        store: Where the run is kept.
        study: The run.
        space: What it searches.
        settings: How.
        evaluators: One for each fidelity; a process that only times needs just their names.
        timing: What measures; ``None`` if there is nothing to measure, or others do it.
        observer: Hears how it goes on.
        timing_plan: How precisely to measure.
        role: What this process does.
    """

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
        role: WorkRole = WorkRole.BOTH,
    ) -> None:
        self._store = store
        self._study = study
        self._space = space
        self._settings = settings
        self._evaluators = evaluators
        self._observer = observer
        self._resolution = timing_plan.resolution
        self._shared = SharedRun(store, study._study_id, role=role)
        self._sessions = (
            None
            if timing is None
            else TimedSessions(
                timing,
                plan=timing_plan,
                observer=observer,
                shared=self._shared,
                elsewhere=Elsewhere(store, settings, shared=self._shared, here=timing.device_ids),
            )
        )
        self._guide = make_guide(store, settings, space)
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
            shared=self._shared,
            observer=observer,
            resolution=timing_plan.resolution,
        )
        self._proposals = Proposals(
            store=store,
            study=study,
            space=space,
            settings=settings,
            guide=self._guide,
            shared=self._shared,
            observer=observer,
        )
        # Trials that later candidates are weighed against.
        self._remembered: set[int] = set()
        self._num_known_when_settled = 0

    def run(self, num_trials: int | None = None, *, max_minutes: float | None = None) -> None:
        """Go on until the run has ``num_trials`` distinct architectures, the references among them.

        Or until ``max_minutes`` have passed: the batch at hand is then the last.
        Without a number it is the one that was asked for last, by any process.

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
        with self._store.errors(), self._shared:
            self._recover()
            self._observer.resumed(self._proposals.num_known)
            self._begin()
            if num_trials is not None:
                keep_goal(self._study, num_trials)
                keep_resolution(self._study, self._resolution)
            if self._sessions is not None:
                self._sessions.begin()
            try:
                with self._shared.settling() if self._timing is not None else nullcontext():
                    self._try_candidates(deadline_s)
                    if self._timing is not None:
                        self._timing.finish()
                    self._stages.settle()
                self._stages.run()
                if self._sessions is not None:
                    self._sessions.serve_to_the_end()
            except KeyboardInterrupt:
                self._proposals.give_up_own()
                raise
            finally:
                if self._timing is not None:
                    self._timing.close()

    def _try_candidates(self, deadline_s: float) -> None:
        while time.monotonic() < deadline_s:
            self._serve()
            batch = self._next_batch()
            if batch:
                self._work_on(batch)
            elif self._proposals.num_known >= self._goal() and not self._proposals.has_running:
                return
            elif not self._time_what_others_predict():
                self._observer.waiting(lacking=self._lacking_role())
                time.sleep(POLL_S)

    def _serve(self) -> bool:
        """Measure what other processes want of the devices that are here; tell whether there was anything."""
        if self._sessions is None or self._timing is None or not self._sessions.has_requests:
            return False
        # What is measured in the background has the device to itself.
        self._timing.finish()
        return self._sessions.serve()

    def _lacking_role(self) -> WorkRole | None:
        """Return what somebody has to do for the run to go on, if nobody is there who does it."""
        lacking = None
        if self._shared.role is WorkRole.MEASURE:
            lacking = WorkRole.TRAIN
        elif self._sessions is None and self._shared.held_trials()[1]:
            lacking = WorkRole.MEASURE
        has_somebody = lacking is None or self._shared.has_company(of_roles=(lacking, WorkRole.BOTH))
        return None if has_somebody else lacking

    def _goal(self) -> int:
        goal = read_goal(self._study)
        return self._proposals.num_known if goal is None else goal

    def _next_batch(self) -> list[Proposal]:
        """Take what waits to be timed, or else propose something new."""
        if self._sessions is not None and (batch := self._proposals.take_over(BATCH_SIZE)):
            return batch
        with self._shared.proposing():
            self._proposals.give_up_lost()
            self._proposals.refresh()
            num_known = self._proposals.num_known
            num_missing = self._goal() - num_known
            if num_missing <= 0 or self._shared.role is WorkRole.MEASURE:
                return []
            # A batch that was stopped in its middle is completed first: the sampler then sees what it would have seen.
            batch = self._proposals.propose(min(BATCH_SIZE - num_known % BATCH_SIZE, num_missing))
            if not batch:
                # The space is used up: nobody needs to try again.
                keep_goal(self._study, num_known)
            return batch

    def _recover(self) -> None:
        """Read what the run has; trials of a process that died are failed and proposed again."""
        with self._shared.proposing():
            self._proposals.refresh()
            self._proposals.give_up_lost()
            self._proposals.propose_unanswered()
            self._proposals.refresh()
        self._remember_others()

    def _remember_others(self) -> None:
        """Weigh later candidates against those that other processes told, now or earlier, as well."""
        if self._guide is None or self._timing is None or not self._proposals.num_known:
            return
        for known in load_run(self._store, self._study.study_name).trials:
            if known.state == TrialState.COMPLETE and known.same_as is None and known.number not in self._remembered:
                self._remember(_candidate_of(known))

    def _remember(self, candidate: Candidate) -> None:
        if self._timing is not None:
            self._timing.remember(candidate)
            self._remembered.add(candidate.number)

    def _begin(self) -> None:
        """Refuse what cannot be done while the run is new, and forget the run then: its name stays free."""
        try:
            if self._guide is not None:
                self._guide.refit()
            if not self._proposals.num_known:
                self._proposals.require_possible()
        except NasError:
            if not self._study.get_trials(deepcopy=False):
                self._store.optuna_storage.delete_study(self._study._study_id)
            raise

    def _work_on(self, batch: list[Proposal]) -> None:
        if self._evaluators:
            batch = [proposal for proposal in batch if self._score(proposal)]
        failures: dict[str, Failure] = {}
        if batch and self._guide is not None and self._shared.has_company():
            self._guide.reread(find_measured_of_run(self._store, self._settings))
            self._remember_others()
        if self._timing is not None:
            failures = self._time(batch)
        elif Objective.LATENCY in self._settings.request.objectives:
            batch = self._foretell(batch)
        for proposal in batch:
            if proposal.arch.arch_id in failures:
                self._fail(proposal, failures[proposal.arch.arch_id])
            else:
                self._tell(proposal)

    def _score(self, proposal: Proposal) -> bool:
        """Score a proposal at the lowest fidelity; on failure end its trial and return ``False``."""
        number, arch = proposal.trial.number, proposal.arch
        held = self._shared.begin(f"score/{arch.arch_id}")
        try:
            refuse_deadly(held)
            proposal.candidate.score = find_or_evaluate(
                self._evaluators[0],
                arch,
                store=self._store,
                on_step=lambda step, num_steps: self._observer.trained(number, step, num_steps),
            )
        except NasError as error:
            self._fail(proposal, Failure(reason=str(error)))
            return False
        finally:
            self._shared.end(held, is_done=True)
        return True

    def _time(self, batch: Sequence[Proposal]) -> dict[str, Failure]:
        """Give proposals their latency; return why some have none, by ``arch_id``."""
        if self._timing is None or not batch:
            return {}
        held = {proposal: self._shared.begin(f"time/{proposal.arch.arch_id}") for proposal in batch}
        try:
            # Which of a batch a process died of nobody knows, so each of them is timed by itself then.
            suspects = [each for each in batch if (claim := held[each]) is not None and claim.num_deaths]
            others = [each.candidate for each in batch if each not in suspects]
            failures = self._timing.time(others) if others else {}
            for suspect in suspects:
                failures |= self._time_alone(self._timing, suspect)
        finally:
            for claim in held.values():
                self._shared.end(claim, is_done=True)
        return failures

    def _time_alone(self, timing: BatchTiming, proposal: Proposal) -> dict[str, Failure]:
        held = self._shared.begin(f"alone/{proposal.arch.arch_id}")
        try:
            refuse_deadly(held)
            return timing.time([proposal.candidate])
        except WorkerLostError as error:
            return {proposal.arch.arch_id: Failure(reason=str(error))}
        finally:
            self._shared.end(held, is_done=True)

    def _foretell(self, batch: Sequence[Proposal]) -> list[Proposal]:
        """Give proposals predicted latencies, and return them; what cannot be predicted yet is left to be timed."""
        if self._guide is not None:
            self._guide.refit()
        if batch and self._guide is not None and self._guide.is_ready:
            predictions = self._guide.predict([proposal.arch for proposal in batch])
            for proposal, predicted in zip(batch, predictions, strict=True):
                proposal.candidate.latency_ratio = predicted.estimate
            return list(batch)
        for proposal in batch:
            self._shared.hand_over(proposal.trial.number)
            self._observer.handed_over(proposal.trial.number)
        return []

    def _time_what_others_predict(self) -> bool:
        """Time one network that the front may depend on, now and then, while others propose; tell whether it did."""
        is_due = self._proposals.num_known >= self._num_known_when_settled + BATCH_SIZE
        if self._shared.role is not WorkRole.MEASURE or self._timing is None or not is_due:
            return False
        # What is measured in the background has the device to itself.
        self._timing.finish()
        self._num_known_when_settled = self._proposals.num_known
        return self._stages.settle(max_architectures=1)

    def _tell(self, proposal: Proposal) -> None:
        candidate = proposal.candidate
        values = objective_values(
            self._settings, candidate.arch, score=candidate.score, latency_ratio=candidate.latency_ratio
        )
        violations = self._settings.request.constraints.violations(
            cost_of(self._settings, candidate.arch),
            latency_ratio=candidate.latency_ratio,
            accuracy=final_accuracy(self._settings, candidate.score),
        )
        # Whoever lost its claim on the way may find the trial ended; its score and blocks are kept all the same.
        with suppress(UpdateFinishedTrialError):
            for name, by in violations.items():
                proposal.trial.set_constraint(name, by)
            self._study.tell(proposal.trial, list(values.values()), skip_if_finished=True)
        self._shared.end_trial(candidate.number)
        self._remember(candidate)
        is_predicted = candidate.latency_ratio is not None and not candidate.is_measured
        self._observer.finished(proposal.trial.number, values, is_predicted=is_predicted)

    def _fail(self, proposal: Proposal, failure: Failure) -> None:
        note = TrialNote(
            architecture=proposal.arch.to_json(),
            role=proposal.candidate.role,
            failure=failure.reason,
            is_device_lost=failure.is_device_lost,
        )
        with suppress(UpdateFinishedTrialError):
            write_note(proposal.trial, note)
            self._study.tell(proposal.trial, state=OptunaState.FAIL, skip_if_finished=True)
        self._shared.end_trial(proposal.trial.number)
        self._observer.failed(proposal.trial.number, failure.reason)


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
