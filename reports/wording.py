"""The answers in plain sentences: what to ship, how sure that is, how it compares."""

from __future__ import annotations

from dataclasses import dataclass

from device_lab.measurement import Interval
from nas.records import Objective, Role
from reports import text
from reports.analysis import KNEE_RULE, SHIP_RULE, Analysis
from reports.evidence import Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A question of the first page with its answer in sentences."""

    question: str
    sentences: tuple[str, ...]


def answers(analysis: Analysis) -> tuple[Answer, ...]:
    """Return the three questions a reader comes with, answered as far as the run can."""
    if analysis.ship is None:
        return (
            Answer(
                question="What should I ship?",
                sentences=(f"Nothing yet: none of {len(analysis.evidence)} trials has finished.",),
            ),
        )
    return (
        Answer(question="What should I ship?", sentences=_what_to_ship(analysis, analysis.ship)),
        Answer(question="How sure is that?", sentences=_how_sure(analysis, analysis.ship)),
        Answer(question="How does it compare?", sentences=_how_it_compares(analysis, analysis.ship)),
    )


def describe(item: Evidence, analysis: Analysis) -> str:
    """Return a model's comparable numbers in words, each with its interval and its backend."""
    parts = []
    if item.accuracy is not None:
        parts.append(f"{analysis.metric} {text.percent(item.accuracy)}")
    if item.ratio is not None and analysis.bench is not None:
        parts.append(f"{text.ratio(item.ratio)} times the latency of SqueezeBERT's rule on {analysis.bench.label}")
    cost = item.trial.cost
    parts.append(f"{text.count(cost.macs)} MACs and {text.count(cost.parameters)} parameters")
    return "; ".join(parts)


def _what_to_ship(analysis: Analysis, ship: Evidence) -> tuple[str, ...]:
    sentences = [f"{_name(ship)}: {describe(ship, analysis)}."]
    if ship is analysis.knee and not _is_shipped_by_its_score(analysis, ship):
        sentences.append(f"It is the knee of the front: {KNEE_RULE}.")
    else:
        sentences.append(f"It is {SHIP_RULE}.")
    if ship.trial.role is Role.SQUEEZEBERT_RULE:
        sentences.append("No candidate scored as well at a lower cost; a longer search may find one.")
    if analysis.knee is not None and analysis.knee is not ship:
        sentences.append(
            f"The knee of the front is {_name(analysis.knee, start=False)}: {describe(analysis.knee, analysis)}."
        )
    return tuple(sentences)


def _is_shipped_by_its_score(analysis: Analysis, ship: Evidence) -> bool:
    rule = analysis.squeezebert
    if rule is None or rule.accuracy is None or ship.accuracy is None:
        return False
    return Objective.ACCURACY in analysis.objectives and ship.accuracy.estimate >= rule.accuracy.estimate


def _how_sure(analysis: Analysis, ship: Evidence) -> tuple[str, ...]:
    probability = analysis.probabilities[ship.trial.number]
    sentences = [
        f"It stays on the front in {text.probability(probability)} of the redraws of its measurement and its score.",
        "All ranges are 95 % intervals.",
    ]
    measurement = ship.measurement
    if measurement is not None:
        goal = text.probability(measurement.precision.goal)
        sentences.append(
            f"Its latency was measured at {measurement.precision.name} precision (goal: within {goal}), "
            f"alternating with the reference in fresh processes, {len(measurement.blocks)} blocks."
        )
    if ship.trial.score is not None:
        sentences.append(f"Its score is over {ship.trial.score.num_examples:,} dev examples.")
    return tuple(sentences)


def _how_it_compares(analysis: Analysis, ship: Evidence) -> tuple[str, ...]:
    sentences = []
    for other, name in ((analysis.squeezebert, "SqueezeBERT's rule"), (analysis.dense, "the dense teacher")):
        if other is None:
            sentences.append(f"{name[0].upper()}{name[1:]} has no finished trial to compare with.")
        elif other is not ship:
            sentences.append(_comparison(ship, other, name=name, analysis=analysis))
    return tuple(sentences)


def _comparison(ship: Evidence, other: Evidence, *, name: str, analysis: Analysis) -> str:
    parts = []
    if ship.accuracy is not None and other.accuracy is not None:
        parts.append(_accuracy_difference(ship.accuracy, other.accuracy))
    if ship.ratio is not None and other.ratio is not None and analysis.bench is not None:
        parts.append(_latency_difference(ship.ratio, other.ratio))
    parts.append(f"{ship.trial.cost.macs / other.trial.cost.macs:.2f} times its MACs")
    parts.append(f"{ship.trial.cost.parameters / other.trial.cost.parameters:.2f} times its parameters")
    return f"Against {name} (trial {other.trial.number}): {'; '.join(parts)}."


def _accuracy_difference(own: Interval, other: Interval) -> str:
    points = 100 * (own.estimate - other.estimate)
    overlap = own.low <= other.high and other.low <= own.high
    certainty = "the intervals overlap, so this run cannot tell them apart" if overlap else "the intervals are apart"
    return f"{points:+.1f} points ({certainty})"


def _latency_difference(own: Interval, other: Interval) -> str:
    share = own.estimate / other.estimate - 1
    direction = "less" if share < 0 else "more"
    overlap = own.low <= other.high and other.low <= own.high
    certainty = "the intervals overlap" if overlap else "the intervals are apart"
    return f"{100 * abs(share):.0f} % {direction} time per inference ({certainty})"


def _name(item: Evidence, *, start: bool = True) -> str:
    if item.trial.role is Role.CANDIDATE:
        return f"{'Trial' if start else 'trial'} {item.trial.number}"
    return f"{text.ROLE_NAMES[item.trial.role]} (trial {item.trial.number})"
