"""Which architectures a run tries: asked for one by one, each tried once, whoever works on the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import TrialState as OptunaState

from nas.batch_timing import Candidate
from nas.documents import to_document
from nas.errors import SettingsError
from nas.latency_design import draw_pool
from nas.latency_guide import Guide
from nas.lost_devices import QUEUED_PARAMS_KEY, lost_with_a_device, tried_again
from nas.objectives import cost_of
from nas.observer import Observer
from nas.records import Role
from nas.runs import SearchSettings, reference_architecture
from nas.samplers import make_sampler
from nas.shared_run import SharedRun
from nas.store import Store
from nas.trial_notes import INTERRUPTED, NOTE_KEY, TrialNote, is_interrupted, is_rejected, read_note, write_note
from search_spaces.architecture import Architecture
from search_spaces.space import Space

# A sampler that has seen most of a small space repeats itself; this many
# repetitions in a row mean there is next to nothing left to find.
MAX_REPEATS = 100
# So many candidates in a row that miss a constraint mean that next to none keeps them.
MAX_REJECTIONS = 400


@dataclass(slots=True, kw_only=True, eq=False)
class Proposal:
    """A running trial and what is known of its architecture so far."""

    trial: optuna.Trial
    candidate: Candidate

    @property
    def arch(self) -> Architecture:
        """The architecture of the trial."""
        return self.candidate.arch


class Proposals:
    """What a run has tried, and what it tries next. See `nas.search.Search` for the arguments."""

    def __init__(
        self,
        *,
        store: Store,
        study: optuna.Study,
        space: Space,
        settings: SearchSettings,
        guide: Guide | None,
        shared: SharedRun,
        observer: Observer,
    ) -> None:
        self._store = store
        self._study = study
        self._space = space
        self._settings = settings
        self._guide = guide
        self._shared = shared
        self._observer = observer
        self._reference = reference_architecture(settings)
        self._roles = {
            self._reference.arch_id: Role.SQUEEZEBERT_RULE,
            space.teacher.arch_id: Role.DENSE_TEACHER,
        }
        # Positions in ordered lists: a sampler that knows 4 groups lie between 2 and 8 needs fewer trials.
        self._distributions: dict[str, BaseDistribution] = {
            name: IntDistribution(0, len(options) - 1) for name, options in space.parameters.items()
        }
        # Architectures of this run that were proposed, with the number of the first trial of each.
        self._first_trials: dict[Architecture, int] = {}
        self._rejected: set[Architecture] = set()
        self._states: dict[int, OptunaState] = {}
        self._tried_again: set[int] = set()

    @property
    def num_known(self) -> int:
        """How many distinct architectures the run has, those under way included."""
        return len(self._first_trials)

    @property
    def has_running(self) -> bool:
        """Whether trials were under way when the run was read last."""
        return OptunaState.RUNNING in self._states.values()

    def refresh(self) -> None:
        """Read what other processes have done since."""
        trials = self._study.get_trials(deepcopy=False)
        self._tried_again = tried_again(trials)
        self._first_trials = {
            arch: number for arch, number in self._first_trials.items() if number not in self._tried_again
        }
        for trial in trials:
            if self._states.get(trial.number) != trial.state:
                self._read(trial)
                self._states[trial.number] = trial.state

    def _read(self, trial: optuna.trial.FrozenTrial) -> None:
        if NOTE_KEY not in trial.user_attrs:
            return
        arch = Architecture.from_json(read_note(trial).architecture)
        if is_rejected(trial):
            self._rejected.add(arch)
        elif not is_interrupted(trial):
            if trial.number not in self._tried_again:
                self._first_trials.setdefault(arch, trial.number)
        elif self._first_trials.get(arch) == trial.number:
            del self._first_trials[arch]

    def give_up_lost(self) -> None:
        """Fail running trials that no living process has, and propose their architectures again."""
        running = self._study.get_trials(deepcopy=False, states=(OptunaState.RUNNING,))
        if any(trial.number not in self._shared.own_trials for trial in running):
            living, handed_over = self._shared.held_trials()
            lost = [trial.number for trial in running if trial.number not in living | handed_over]
            self._give_up_all([number for number in lost if self._shared.own_trial(number)])

    def propose_unanswered(self) -> None:
        """Propose again what failed for the want of a device: what was scored and measured of it is in the store."""
        trials = self._study.get_trials(deepcopy=False)
        done = tried_again(trials)
        for trial in lost_with_a_device(trials):
            if trial.number not in done and trial.params not in self._queued():
                self._study.enqueue_trial(trial.params)

    def give_up_own(self) -> None:
        """Fail this process's running trials, and propose their architectures again."""
        with self._shared.proposing():
            self._give_up_all(sorted(self._shared.own_trials))

    def _give_up_all(self, numbers: Sequence[int]) -> None:
        """Give trials up. What waits in the queue was to come after them, and shall again."""
        waiting = self._study.get_trials(deepcopy=False, states=(OptunaState.WAITING,)) if numbers else []
        for number in numbers:
            self._give_up(number)
        for trial in waiting:
            self._study.enqueue_trial(trial.system_attrs.get(QUEUED_PARAMS_KEY, {}))
            self._store.optuna_storage.set_trial_state_values(trial._trial_id, OptunaState.FAIL)

    def _give_up(self, number: int) -> None:
        storage = self._store.optuna_storage
        trial = storage.get_trial(self._trial_id(number))
        # Whoever had it may have told it a moment ago.
        if trial.state == OptunaState.RUNNING:
            # What was taken from the queue has its parameters there until they are written.
            params = trial.params or trial.system_attrs.get(QUEUED_PARAMS_KEY, {})
            # Proposed again before it is given up: a process that dies in between loses nothing.
            if len(params) == len(self._space.parameters) and params not in self._queued():
                self._study.enqueue_trial(params)
            if NOTE_KEY in trial.user_attrs:
                note = replace(read_note(trial), failure=INTERRUPTED)
                storage.set_trial_user_attr(trial._trial_id, NOTE_KEY, to_document(note))
            self._study.tell(number, state=OptunaState.FAIL)
        self._shared.end_trial(number)

    def _queued(self) -> list[dict[str, object]]:
        waiting = self._study.get_trials(deepcopy=False, states=(OptunaState.WAITING,))
        return [trial.system_attrs.get(QUEUED_PARAMS_KEY, {}) for trial in waiting]

    def take_over(self, max_count: int) -> list[Proposal]:
        """Make up to ``max_count`` trials this process's that others scored and left to be timed."""
        taken: list[Proposal] = []
        if not self.has_running:
            return taken
        _, handed_over = self._shared.held_trials()
        for number in sorted(handed_over):
            if len(taken) == max_count:
                break
            if not self._shared.own_trial(number):
                continue
            trial_id = self._trial_id(number)
            frozen = self._store.optuna_storage.get_trial(trial_id)
            if frozen.state != OptunaState.RUNNING:
                self._shared.end_trial(number)
                continue
            note = read_note(frozen)
            arch = Architecture.from_json(note.architecture)
            candidate = Candidate(number=number, arch=arch, role=note.role)
            self._observer.proposed(number, note.role)
            taken.append(Proposal(trial=optuna.Trial(self._study, trial_id), candidate=candidate))
        return taken

    def propose(self, max_count: int) -> list[Proposal]:
        """Ask for up to ``max_count`` architectures the run has not seen; fewer when the space is used up.

        Raises:
            SettingsError: If next to no candidate keeps the constraints.
        """
        batch: list[Proposal] = []
        num_repeats = 0
        missed: Counter[str] = Counter()
        while len(batch) < max_count and num_repeats < MAX_REPEATS:
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
                batch.append(Proposal(trial=trial, candidate=candidate))
                continue
            self._shared.end_trial(trial.number)
        return batch

    def require_possible(self) -> None:
        """Refuse constraints that nothing drawn from the space keeps.

        Raises:
            SettingsError: If that is so; the message says which is missed most.
        """
        if not self._settings.request.constraints:
            return
        pool = [*self._space.dense_designs, *draw_pool(self._space, seed=self._settings.request.seed)]
        misses = [self._foreseen_violations(Candidate(number=-1, arch=arch, role=Role.CANDIDATE)) for arch in pool]
        if pool and all(misses):
            raise SettingsError(self._impossible(len(pool), Counter(name for each in misses for name in each)))

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

    def _reject(self, trial: optuna.Trial, arch: Architecture, misses: Mapping[str, float]) -> None:
        """End a trial before anything is spent on it; the sampler learns how far off it was."""
        for name, by in misses.items():
            trial.set_constraint(name, by)
        self._study.tell(trial, state=OptunaState.PRUNED)
        self._rejected.add(arch)
        self._observer.rejected(trial.number, ", ".join(map(self._settings.request.constraints.show, misses)))

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
            earlier=self._study.sampler,
        )
        with self._store.optuna_storage.one_write_per_trial():
            trial = self._study.ask(self._distributions)
        self._shared.own_trial(trial.number)
        positions = trial.params
        return trial, self._space.sample(lambda name, options: options[positions[name]])

    def _enqueue_next_design(self) -> None:
        """Let the next proposal be the first reference, or else known good design, that the run does not have yet."""
        known = (self._reference, self._space.teacher, *self._space.dense_designs)
        missing = [arch for arch in known if arch not in self._first_trials and arch not in self._rejected]
        arch = missing[0] if missing else None
        if arch is None and self._guide is not None:
            arch = self._guide.next_in_design([*self._first_trials, *self._rejected])
        if arch is not None:
            answers = self._space.answers_for(arch)
            self._study.enqueue_trial(
                {name: options.index(answers[name]) for name, options in self._space.parameters.items()}
            )

    def _tell_again(self, trial: optuna.Trial, first: int) -> None:
        """Answer a repeated architecture with the values of its first trial."""
        known = self._study.get_trials(deepcopy=False)[first]
        if known.state == OptunaState.COMPLETE:
            self._study.tell(trial, known.values)
        else:
            # Failed, or under way: either way there is nothing to learn from it twice.
            self._study.tell(trial, state=OptunaState.FAIL)

    def _trial_id(self, number: int) -> int:
        return self._store.optuna_storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)
