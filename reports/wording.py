"""The answers in plain sentences: what to ship, how sure that is, how it compares."""

from __future__ import annotations

from dataclasses import dataclass

from device_lab.measurement import Interval
from nas.records import Objective, Role
from reports import text
from reports.analysis import KNEE_RULE, SHIP_RULE, Analysis
from reports.evidence import Evidence
from reports.resampling import NUM_RESAMPLES

_NO_WORSE = {Objective.ACCURACY: "as accurate", Objective.LATENCY: "as fast"}


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


def headline(analysis: Analysis) -> str:
    """Return what to ship, how it compares with SqueezeBERT's rule and how sure that is, in one breath."""
    ship, rule = analysis.ship, analysis.squeezebert
    if ship is None:
        return ""
    if ship is rule:
        return f"Ship {_name(ship, start=False)}: no candidate scored as well at a lower cost."
    sentences = [f"Ship {_name(ship, start=False)}: {', '.join(_facts(ship, analysis))}."]
    sure = [f"{text.probability(share)} sure to be {_NO_WORSE[name]}" for name, share in analysis.no_worse.items()]
    if sure:
        sentences.append(f"{', '.join(sure)}.")
    return " ".join(sentences)


def _facts(ship: Evidence, analysis: Analysis) -> list[str]:
    rule, owner = analysis.squeezebert, "SqueezeBERT's rule"
    facts = []
    if ship.accuracy is not None:
        facts.append(f"{text.percent(ship.accuracy, with_bounds=False)} {analysis.metric}")
        if rule is not None and rule.accuracy is not None:
            facts[0] += f" against {text.percent(rule.accuracy, with_bounds=False)} of {owner}"
            owner = "the rule"
    if ship.ratio is not None:
        facts.append(f"{text.ratio(ship.ratio)} times the time of {owner}")
    elif rule is not None:
        facts.append(f"{ship.trial.cost.macs / rule.trial.cost.macs:.2f} times the MACs of {owner}")
    return facts


def describe(item: Evidence, analysis: Analysis) -> tuple[str, ...]:
    """Return a model's comparable numbers in sentences, each with its interval and its backend."""
    sentences = []
    if item.accuracy is not None:
        sentences.append(f"Its {analysis.metric} is {text.percent(item.accuracy)}.")
    if item.ratio is not None and analysis.bench is not None and item.trial.role is not Role.SQUEEZEBERT_RULE:
        sentences.append(
            f"It takes {text.ratio(item.ratio)} times as long as SqueezeBERT's rule, on {analysis.bench.label}."
        )
    cost = item.trial.cost
    sentences.append(f"It needs {text.count(cost.macs)} MACs and has {text.count(cost.parameters)} parameters.")
    return tuple(sentences)


def _what_to_ship(analysis: Analysis, ship: Evidence) -> tuple[str, ...]:
    sentences = [f"{_name(ship)}. {' '.join(describe(ship, analysis))}"]
    if _is_shipped_by_its_score(analysis, ship):
        sentences.append(f"It is {SHIP_RULE}.")
    else:
        sentences.append(f"It is the knee: {KNEE_RULE}.")
    if ship.trial.role is Role.SQUEEZEBERT_RULE:
        sentences.append("No candidate scored as well at a lower cost; a longer search may find one.")
    knee = analysis.knee
    if knee is not None and knee is not ship:
        sentences.append(f"The knee of the front is {_name(knee, start=False)}. {' '.join(describe(knee, analysis))}")
    return tuple(sentences)


def _is_shipped_by_its_score(analysis: Analysis, ship: Evidence) -> bool:
    rule = analysis.squeezebert
    if rule is None or rule.accuracy is None or ship.accuracy is None:
        return False
    return Objective.ACCURACY in analysis.objectives and ship.accuracy.estimate >= rule.accuracy.estimate


def _how_sure(analysis: Analysis, ship: Evidence) -> tuple[str, ...]:
    probability = analysis.probabilities[ship.trial.number]
    sentences = [
        f"It is on the front in {text.probability(probability)} of {NUM_RESAMPLES} redraws of all times and scores."
    ]
    shares = [f"{_NO_WORSE[name]} in {text.probability(share)}" for name, share in analysis.no_worse.items()]
    if shares:
        sentences.append(f"In the same redraws it is as good as SqueezeBERT's rule or better: {' and '.join(shares)}.")
    sentences.append("All ranges are 95 % intervals.")
    measurement = ship.measurement
    if measurement is not None:
        goal = text.probability(measurement.precision.goal)
        sentences.append(
            f"Its latency was measured at {measurement.precision.name} precision (goal: within {goal}), "
            f"alternating with the reference in fresh processes, {measurement.num_blocks} blocks."
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
    parts = [f"Against {name} (trial {other.trial.number}):"]
    if ship.accuracy is not None and other.accuracy is not None:
        parts.append(accuracy_difference(ship.accuracy, other.accuracy, metric=analysis.metric))
    if ship.ratio is not None and other.ratio is not None and analysis.bench is not None:
        parts.append(latency_difference(ship.ratio, other.ratio, place=analysis.bench.label))
    macs = ship.trial.cost.macs / other.trial.cost.macs
    parameters = ship.trial.cost.parameters / other.trial.cost.parameters
    parts.append(f"{macs:.2f} times the MACs and {parameters:.2f} times the parameters.")
    return " ".join(parts)


def accuracy_difference(own: Interval, other: Interval, *, metric: str) -> str:
    """Return how far apart two scores are, and whether that may be chance."""
    points = 100 * (own.estimate - other.estimate)
    direction = "higher" if points >= 0 else "lower"
    return f"{metric} {abs(points):.1f} points {direction}, {_certainty(own, other)};"


def latency_difference(own: Interval, other: Interval, *, place: str) -> str:
    """Return how far apart two latency ratios are, and whether that may be chance."""
    share = own.estimate / other.estimate - 1
    direction = "less" if share < 0 else "more"
    return f"{100 * abs(share):.0f} % {direction} time per inference on {place}, {_certainty(own, other)};"


def _certainty(own: Interval, other: Interval) -> str:
    overlap = own.low <= other.high and other.low <= own.high
    return "which may be chance (the intervals overlap)" if overlap else "beyond chance (the intervals are apart)"


def _name(item: Evidence, *, start: bool = True) -> str:
    if item.trial.role is Role.CANDIDATE:
        return f"{'Trial' if start else 'trial'} {item.trial.number}"
    return f"{text.ROLE_NAMES[item.trial.role]} (trial {item.trial.number})"
