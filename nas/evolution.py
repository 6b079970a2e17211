"""Proposals for few, dear trials: children of the best so far, of which a cheap model picks the most promising.

Children are made by moving ordered answers by a place or two, one question in
all layers at once, one layer's answers into another, or from two parents. They
cost nothing, so there are hundreds, and those that a process fitted to all
trials expects to gain most have children again.

Shapes: n = rows of answers, p = parameters, d = objectives, v = directions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.special import log_ndtr

from nas.evolution_model import Floats, Process, draw, expected_gains, reach
from nas.questions import Ints, Questions

NUM_CHILDREN = 120
NUM_STRANGERS = 40
NUM_PARENTS = 20
NUM_ROUNDS = 2
# The best 250 rows say of the next what 500 would, in a quarter of the time.
MAX_ROWS = 250
MIN_TOLD = 2
# By how much the worst that counts lies beyond the worst told, as a share of what was told.
SLACK = 0.1

# A row of answers as bytes, which sort as the answers do.
Row = bytes
_ANSWER = np.dtype(">u2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one trial says: its row, its losses if it is complete, and its limits if it came so far."""

    row: Row
    state: TrialState
    losses: list[float] | None
    limits: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What is known of distinct rows: losses of those told, limits kept where at most 0, rows under way, all rows."""

    losses: dict[Row, list[float]]
    limits: dict[str, dict[Row, float]]
    pending: list[Row]
    seen: set[Row]


class EvolutionSampler(BaseSampler):
    """Proposes rows of ordered answers that all earlier trials together expect to gain most.

    Deterministic by ``seed`` and what is distinct among the trials, whatever their
    order. Trials under way count as if they had what the model expects of them;
    trials that fail teach it where not to look, unless the same was tried again.
    ``earlier``, a sampler of the same study, hands over what it has read of finished trials.
    """

    def __init__(
        self, distributions: Mapping[str, BaseDistribution], *, seed: int, earlier: BaseSampler | None = None
    ) -> None:
        self._distributions = {
            name: each for name, each in distributions.items() if isinstance(each, IntDistribution) and each.step == 1
        }
        self._questions = Questions({name: each.high - each.low + 1 for name, each in self._distributions.items()})
        self._lows: Ints = np.array([self._distributions[name].low for name in self._questions.names])
        self._seed = seed
        self._independent = RandomSampler(seed=seed)
        is_same = isinstance(earlier, EvolutionSampler) and earlier._distributions == self._distributions
        # By the trial's id; what is finished never changes.
        self._told: dict[int, Told] = earlier._told if isinstance(earlier, EvolutionSampler) and is_same else {}

    def infer_relative_search_space(self, _study: Study, _trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return all ordered parameters. See `BaseSampler.infer_relative_search_space`."""
        return dict(self._distributions)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, _search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See `BaseSampler.sample_relative`."""
        if self._distributions.keys() <= trial.system_attrs.get("fixed_params", {}).keys():
            return {}
        trials = study.get_trials(deepcopy=False)
        # Asked at the same time by others, who know what this one knows: each takes another of the best.
        place = sum(
            each.state == TrialState.RUNNING and each.number < trial.number and not each.params for each in trials
        )
        row = self._propose(self._read(trials, study.directions), place) + self._lows
        return dict(zip(self._questions.names, row.tolist(), strict=True))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw a parameter that is not an ordered one. See `BaseSampler.sample_independent`."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def _read(self, trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> History:
        losses: dict[Row, list[float]] = {}
        limits: dict[str, dict[Row, float]] = {}
        states: dict[Row, set[TrialState]] = {}
        for told in sorted(self._all_told(trials, directions), key=lambda each: each.row):
            states.setdefault(told.row, set()).add(told.state)
            if told.losses is not None:
                losses[told.row] = told.losses
            for name, value in told.limits.items():
                limits.setdefault(name, {})[told.row] = value
        pending = [row for row, its in states.items() if TrialState.RUNNING in its and row not in losses]
        # What failed and was then tried again has been interrupted.
        if failed := [row for row, its in states.items() if its == {TrialState.FAIL}]:
            limits["failed"] = dict.fromkeys(losses, -1.0) | dict.fromkeys(failed, 1.0)
        return History(losses=losses, limits=limits, pending=pending, seen=set(states))

    def _all_told(self, trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> list[Told]:
        """Return what the trials that were asked everything say, in their order."""
        signs = [-1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in directions]
        fresh = [
            each
            for each in trials
            if each._trial_id not in self._told and self._distributions.keys() <= each.params.keys()
        ]
        answers = [list(map(each.params.__getitem__, self._questions.names)) for each in fresh]
        rows = np.array(answers, dtype=np.int64).reshape(-1, len(self._lows)) - self._lows
        of_fresh = {
            each._trial_id: _told(each, row, signs)
            for each, row in zip(fresh, _keys(self._questions.canonical(rows)), strict=True)
        }
        known = self._told | of_fresh
        self._told |= {number: told for number, told in of_fresh.items() if told.state.is_finished()}
        return [known[each._trial_id] for each in trials if each._trial_id in known]

    def _propose(self, history: History, place: int) -> Ints:
        """Return the row that is the ``place``-th best of those found, or any if all have been seen."""
        generator = np.random.default_rng(self._seed)
        strangers = self._strangers(NUM_STRANGERS, generator)
        found: Ints = generator.permutation(self._unseen(strangers, history.seen))
        if len(history.losses) >= MIN_TOLD:
            found = self._best_first(found, history, generator)
        return np.asarray(found[min(place, len(found) - 1)] if len(found) else strangers[0])

    def _best_first(self, strangers: Ints, history: History, generator: np.random.Generator) -> Ints:
        """Return ``strangers`` and children of what was told, and their children, in the order of what they promise."""
        judge = Judge(self._questions, history, generator)
        children = np.concatenate([strangers, self._children(judge.parents, generator)])
        found, scores = strangers[:0], np.empty(0)
        for _ in range(NUM_ROUNDS):
            children = self._unseen(children, history.seen.union(_keys(found)))
            found, scores = np.concatenate([found, children]), np.concatenate([scores, judge.scores(children)])
            order = np.argsort(-scores, kind="stable")
            found, scores = found[order], scores[order]
            children = self._children(found[:NUM_PARENTS] if len(found) else judge.parents, generator)
        return found

    def _unseen(self, rows: Ints, seen: set[Row]) -> Ints:
        rows = np.unique(self._questions.canonical(rows), axis=0)
        return rows[[row not in seen for row in _keys(rows)]]

    def _strangers(self, count: int, generator: np.random.Generator) -> Ints:
        """Draw rows of which every other gives the same answers in all layers."""
        places = generator.random((count, len(self._lows)))
        places[::2] = places[::2, self._questions.question]
        drawn: Ints = np.floor(places * self._questions.num_options).astype(np.int64)
        return drawn

    def _children(self, parents: Ints, generator: np.random.Generator) -> Ints:
        count, width = NUM_CHILDREN, len(self._lows)
        asks = self._questions
        rows = parents[generator.integers(len(parents), size=count)]
        kinds = generator.integers(4, size=count)
        # From two parents: each layer, and each answer that is no layer's, from either.
        others = parents[generator.integers(len(parents), size=count)]
        from_other = generator.random((count, width))[:, asks.units] < 0.5
        rows = np.where((kinds == 0)[:, None] & from_other, others, rows)
        if len(asks.owners) > 1:
            (copied,) = np.nonzero(kinds == 1)
            one, other = generator.integers(len(asks.owners), size=(2, len(copied)))
            rows[copied[:, None], asks.owners[one]] = rows[copied[:, None], asks.owners[other]]
        steps = generator.choice([-2, -1, 1, 2], p=[0.1, 0.4, 0.4, 0.1], size=(count, width))
        alone = generator.random((count, width)) < generator.choice([1, 2, 4], size=(count, 1)) / width
        together = asks.question == generator.integers(asks.question.max() + 1, size=(count, 1))
        rows = rows + np.where((kinds == 2)[:, None], together * steps[:, :1], alone * steps)
        return np.asarray(np.clip(rows, 0, asks.num_options - 1))


class Judge:
    """What a history expects of rows nobody tried, and the best it has: ``parents``."""

    def __init__(self, questions: Questions, history: History, generator: np.random.Generator) -> None:
        self._questions = questions
        told = _rows(history.losses)
        losses = np.array(list(history.losses.values()))
        violation = np.zeros(len(losses))
        for limit in history.limits.values():
            violation += np.maximum([limit.get(row, 0.0) for row in history.losses], 0.0)
        low, high = losses.min(axis=0), losses.max(axis=0)
        losses = (losses - low) / np.where(high > low, high - low, 1.0)
        self._reference: Floats = np.full(losses.shape[1], 1 + SLACK)
        self._draws = draw(generator, losses.shape[1])
        order = self._best_first(losses, violation)[:MAX_ROWS]
        told, losses, violation = told[order], losses[order], violation[order]
        self.parents: Ints = told[:NUM_PARENTS]
        self._objectives = [self._process(told, values) for values in losses.T]
        self._limits = [
            self._limit(list(told_limits), np.array(list(told_limits.values())))
            for told_limits in history.limits.values()
        ]
        self._front: Floats = losses[violation <= 0]
        if history.pending:
            believed, _ = self._expect(_rows(history.pending))
            self._front = np.concatenate([self._front, believed])
            told = np.concatenate([told, _rows(history.pending)])
            self._objectives = [
                self._process(told, values, like=process)
                for process, values in zip(self._objectives, np.concatenate([losses, believed]).T, strict=True)
            ]

    def scores(self, rows: Ints) -> Floats:
        """Return what to choose by, (n,); more is better."""
        means, deviations = self._expect(rows)
        # Logarithms tell small chances and gains apart.
        scores: Floats = np.log(expected_gains(means, deviations, self._front, self._reference, self._draws) + 1e-12)
        features = self._questions.features(rows)
        for process in self._limits:
            mean, deviation = process.at(features)
            scores += log_ndtr(-mean / deviation)
        return scores

    def _expect(self, rows: Ints) -> tuple[Floats, Floats]:
        features = self._questions.features(rows)
        means, deviations = zip(*(process.at(features) for process in self._objectives), strict=True)
        return np.column_stack(means), np.column_stack(deviations)

    def _best_first(self, losses: Floats, violation: Floats) -> Ints:
        """Order rows by the best rank they have in any direction; those that violate a limit last, by how much."""
        reached = reach(self._reference - losses, self._draws.directions)
        best = best_ranks(reached, depth=MAX_ROWS)
        # Ranks behind those may be asked for where many violate a limit.
        if ((best < MAX_ROWS) & (violation == violation.min())).sum() < MAX_ROWS:
            best = best_ranks(reached, depth=len(losses))
        return np.lexsort((best, violation))

    def _limit(self, rows: list[Row], values: Floats) -> Process:
        # Where a limit runs is told by those nearest to it.
        nearest = np.sort(np.argsort(np.abs(values), kind="stable")[:MAX_ROWS])
        return self._process(_rows(rows[i] for i in nearest.tolist()), values[nearest])

    def _process(self, rows: Ints, values: Floats, *, like: Process | None = None) -> Process:
        return Process(self._questions.features(rows), values, kernel=like.kernel if like else None)


def _told(trial: FrozenTrial, row: Row, signs: Sequence[float]) -> Told:
    is_complete = trial.state == TrialState.COMPLETE
    return Told(
        row=row,
        state=trial.state,
        losses=[sign * value for sign, value in zip(signs, trial.values, strict=True)] if is_complete else None,
        limits=trial.constraints if is_complete or trial.state == TrialState.PRUNED else {},
    )


def best_ranks(reached: Floats, *, depth: int) -> Ints:
    """Return the best place of rows (n, v) in any direction, the furthest first; the first ``depth`` are exact."""
    ranks = np.full(len(reached), len(reached))
    for column in np.ascontiguousarray(-reached.T):
        candidates = np.arange(len(column))
        if depth < len(column):
            # Of thousands only those that may be among the first are put in order.
            candidates = np.flatnonzero(column <= np.partition(column, depth - 1)[depth - 1])
        its = candidates[np.argsort(column[candidates], kind="stable")]
        ranks[its] = np.minimum(ranks[its], np.arange(len(its)))
    return ranks


def _keys(rows: Ints) -> list[Row]:
    return [row.tobytes() for row in rows.astype(_ANSWER)]


def _rows(keys: Iterable[Row]) -> Ints:
    keys = list(keys)
    return np.frombuffer(b"".join(keys), dtype=_ANSWER).reshape(len(keys), -1).astype(np.int64)
