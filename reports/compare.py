"""Two runs against each other: what they can be compared on, their hypervolumes, the models that moved.

Pure: two analyses in, plain values out. Numbers are put side by side only where
they mean the same: scores of one task, metric and evaluator; times of one
device, runtime, shape and reference.

Shapes: n = trials of a run, d = shared objectives, r = resamples.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from device_lab.measurement import Interval
from device_lab.statistics import LEVEL
from nas.records import Objective, Role
from reports.analysis import REFERENCE_COST, Analysis
from reports.errors import IncomparableRunsError
from reports.evidence import Bench, Evidence
from reports.front import Bools, Floats, hypervolume, non_dominated
from reports.resampling import losses_of, resampled_losses


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Side:
    """One of the two runs, on the shared objectives: ``compared`` trials with their mask ``on_front`` (n,)."""

    name: str
    compared: tuple[Evidence, ...]
    on_front: Bools
    hypervolume: Interval

    @property
    def front(self) -> tuple[Evidence, ...]:
        """The trials nothing of this run beats in the shared objectives, in trial order."""
        return tuple(item for item, member in zip(self.compared, self.on_front, strict=True) if member)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A model both runs have, with its numbers in each.

    ``changes`` are by objective: points of accuracy as a difference of
    fractions, costs as the ratio second over first. ``is_beyond_chance`` if one
    of the changes has an interval without "no change".
    """

    arch_id: str
    first: Evidence
    second: Evidence
    was_on_front: bool
    is_on_front: bool
    changes: tuple[tuple[Objective, Interval], ...]
    is_beyond_chance: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Two runs against each other.

    ``difference`` is the hypervolume of the second less that of the first, as
    shares of the same box. ``notices`` say in whole sentences what is not
    compared, and why. ``metric`` and ``place`` label the two kinds of numbers.
    """

    objectives: tuple[Objective, ...]
    notices: tuple[str, ...]
    metric: str
    bench: Bench | None
    first: Side
    second: Side
    difference: Interval
    moves: tuple[Move, ...]

    @property
    def place(self) -> str:
        """Where the times come from; empty if none are compared."""
        return self.bench.label if self.bench is not None else ""


def compare(first: Analysis, second: Analysis) -> Comparison:
    """Compare two analysed runs; the same two give the same answer.

    The hypervolumes are shares of one box: from the ideal to accuracy 0 and
    twice the cost of SqueezeBERT's rule. Their intervals are bootstraps over
    blocks and scores, shifted to lie around the estimate, because the best of
    many noisy numbers looks too good in every redraw. Both runs are redrawn
    together: on the same dev examples, and what both have of one measurement once.

    Raises:
        IncomparableRunsError: If nothing of the two runs means the same.
    """
    objectives, notices = _shared_objectives(first, second)
    pair = [tuple(item for item in side.evidence if _has_all(item, objectives)) for side in (first, second)]
    for analysis, items in zip((first, second), pair, strict=True):
        if not items:
            raise IncomparableRunsError(
                first=first.run.name,
                second=second.run.name,
                reason=f"run {analysis.run.name!r} has no finished trial with {', '.join(objectives)}",
            )
    reference = _reference(pair[0] + pair[1], objectives)
    draws = _hypervolumes(pair[0], pair[1], objectives, reference, np.random.default_rng(first.run.seed))
    sides = [
        _side(analysis.run.name, items, objectives, reference, drawn)
        for analysis, items, drawn in zip((first, second), pair, draws, strict=True)
    ]
    difference = sides[1].hypervolume.estimate - sides[0].hypervolume.estimate
    return Comparison(
        objectives=objectives,
        notices=notices,
        metric=first.metric,
        bench=first.bench if Objective.LATENCY in objectives else None,
        first=sides[0],
        second=sides[1],
        difference=_around(difference, draws[1] - draws[0]),
        moves=_moves(sides[0], sides[1], objectives),
    )


def _shared_objectives(first: Analysis, second: Analysis) -> tuple[tuple[Objective, ...], tuple[str, ...]]:
    shared = [objective for objective in first.objectives if objective in second.objectives]
    notices = []
    if not _costs(shared) and _costs(first.objectives) and _costs(second.objectives):
        shared.append(Objective.MACS)
        notices.append("Multiply-accumulates stand in for cost: the runs share no other.")
    if Objective.ACCURACY in shared and (reason := _why_scores_differ(first, second)):
        shared.remove(Objective.ACCURACY)
        notices.append(f"Accuracy is not compared: {reason}.")
    if Objective.LATENCY in shared and (reason := _why_times_differ(first.bench, second.bench)):
        shared[shared.index(Objective.LATENCY)] = Objective.MACS
        notices.append(f"Latency is not compared, multiply-accumulates stand in for it: {reason}.")
    if first.bench and second.bench and Objective.LATENCY in shared:
        notices += _what_else_differs(first.bench, second.bench)
    objectives = tuple(dict.fromkeys(shared))
    if not objectives:
        reason = " ".join(notices) or "they share no objective"
        raise IncomparableRunsError(first=first.run.name, second=second.run.name, reason=reason)
    return objectives, tuple(notices)


def _costs(objectives: Iterable[Objective]) -> list[Objective]:
    return [objective for objective in objectives if objective is not Objective.ACCURACY]


def _why_scores_differ(first: Analysis, second: Analysis) -> str:
    for name in ("task", "evaluator"):
        ours, theirs = getattr(first.run, name), getattr(second.run, name)
        if ours != theirs:
            return f"the runs have the {name}s {ours!r} and {theirs!r}"
    ours, theirs = first.run.task_sha256, second.run.task_sha256
    if ours and theirs and ours != theirs:
        return f"the data of task {first.run.task!r} are others ({ours[:8]} and {theirs[:8]})"
    return "" if first.metric == second.metric else f"the metrics are {first.metric!r} and {second.metric!r}"


def _why_times_differ(first: Bench | None, second: Bench | None) -> str:
    if first is None or second is None:
        return "one of the runs has no times"
    if first.device.backend is not second.device.backend:
        return f"one was timed on {first.label}, the other on {second.label}"
    ours, theirs = _devices(first), _devices(second)
    if ours != theirs:
        return f"the devices are {ours} and {theirs}"
    for name in ("runtime", "num_threads", "sequence_length", "batch_size"):
        ours, theirs = getattr(first.settings, name), getattr(second.settings, name)
        if ours != theirs:
            return f"{name} is {ours} and {theirs}"
    return "" if first.reference_sha256 == second.reference_sha256 else "the ratios are to different references"


def _devices(bench: Bench) -> str:
    return " with ".join(device.device_id for device in bench.all_devices)


def _what_else_differs(first: Bench, second: Bench) -> list[str]:
    pairs = (
        ("runtime", first.settings.runtime_version, second.settings.runtime_version),
        ("system", first.device.os_version, second.device.os_version),
    )
    return [f"The {name} was {ours} and then {theirs}." for name, ours, theirs in pairs if ours != theirs]


def _has_all(item: Evidence, objectives: tuple[Objective, ...]) -> bool:
    return item.left_out is None and all(item.value(objective) is not None for objective in objectives)


def _reference(items: tuple[Evidence, ...], objectives: tuple[Objective, ...]) -> Floats:
    losses = losses_of(items, objectives)
    # Runs around different teachers have different rules; the box holds the dearer one.
    is_rule = np.array([item.trial.role is Role.SQUEEZEBERT_RULE for item in items])
    dearest = losses[is_rule if is_rule.any() else slice(None)].max(axis=0)
    is_accuracy = np.array([objective is Objective.ACCURACY for objective in objectives])
    return np.asarray(np.where(is_accuracy, 1.0, REFERENCE_COST * dearest))


def _hypervolumes(
    first: tuple[Evidence, ...],
    second: tuple[Evidence, ...],
    objectives: tuple[Objective, ...],
    reference: Floats,
    generator: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Return the hypervolumes of both runs, redrawn together, (r,) each."""
    everyone = list(first)
    places = {item.trial.architecture: place for place, item in enumerate(first)}
    of_second = []
    for item in second:
        place = places.get(item.trial.architecture)
        if place is None or not _is_same_evidence(everyone[place], item):
            place = len(everyone)
            everyone.append(item)
        of_second.append(place)
    resampled = resampled_losses(everyone, objectives, generator)
    box = float(np.prod(reference))

    def volumes(members: Sequence[int]) -> Floats:
        return np.array([hypervolume(losses[members], reference=reference) for losses in resampled]) / box

    return volumes(range(len(first))), volumes(of_second)


def _is_same_evidence(one: Evidence, other: Evidence) -> bool:
    """Tell whether two runs have one score and one measurement of a model: runs on one store share them."""
    return (
        one.trial.score == other.trial.score
        and one.measurement == other.measurement
        and [each.measurement for each in one.on_devices] == [each.measurement for each in other.on_devices]
    )


def _side(
    name: str, items: tuple[Evidence, ...], objectives: tuple[Objective, ...], reference: Floats, drawn: Floats
) -> Side:
    losses = losses_of(items, objectives)
    estimate = hypervolume(losses, reference=reference) / float(np.prod(reference))
    return Side(name=name, compared=items, on_front=non_dominated(losses), hypervolume=_around(float(estimate), drawn))


def _around(estimate: float, draws: Floats) -> Interval:
    """Return the spread of ``draws`` (r,) as an interval around ``estimate``."""
    low, high = np.quantile(draws - draws.mean(), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(estimate=estimate, low=estimate + float(low), high=estimate + float(high), level=LEVEL)


def _moves(first: Side, second: Side, objectives: tuple[Objective, ...]) -> tuple[Move, ...]:
    """Return the models both sides have, those that moved beyond chance first, each kind by trial number."""
    later = {item.trial.architecture.arch_id: item for item in second.compared}
    on_first = {item.trial.architecture.arch_id for item in first.front}
    on_second = {item.trial.architecture.arch_id for item in second.front}
    moves = []
    for item in first.compared:
        arch_id = item.trial.architecture.arch_id
        if arch_id not in later:
            continue
        changes = _changes(item, later[arch_id], objectives)
        moves.append(
            Move(
                arch_id=arch_id,
                first=item,
                second=later[arch_id],
                was_on_front=arch_id in on_first,
                is_on_front=arch_id in on_second,
                changes=changes,
                is_beyond_chance=any(_excludes_no_change(objective, change) for objective, change in changes),
            )
        )
    return tuple(sorted(moves, key=lambda move: (not move.is_beyond_chance, move.first.trial.number)))


def _changes(
    first: Evidence, second: Evidence, objectives: tuple[Objective, ...]
) -> tuple[tuple[Objective, Interval], ...]:
    changes = []
    for objective in (Objective.ACCURACY, Objective.LATENCY):
        before, after = first.interval(objective), second.interval(objective)
        if objective in objectives and before is not None and after is not None:
            by = _difference if objective is Objective.ACCURACY else _quotient
            changes.append((objective, by(before, after)))
    return tuple(changes)


def _difference(before: Interval, after: Interval) -> Interval:
    half = math.hypot(before.high - before.low, after.high - after.low) / 2
    estimate = after.estimate - before.estimate
    return Interval(estimate=estimate, low=estimate - half, high=estimate + half)


def _quotient(before: Interval, after: Interval) -> Interval:
    half = math.hypot(math.log(before.high / before.low), math.log(after.high / after.low)) / 2
    estimate = after.estimate / before.estimate
    return Interval(estimate=estimate, low=estimate * math.exp(-half), high=estimate * math.exp(half))


def _excludes_no_change(objective: Objective, change: Interval) -> bool:
    no_change = 0.0 if objective is Objective.ACCURACY else 1.0
    return not change.low <= no_change <= change.high
