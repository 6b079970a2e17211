"""Numbers as a reader wants them: rounded, with unit and interval. Pure strings."""

from __future__ import annotations

from datetime import UTC, datetime
from operator import attrgetter

from device_lab.measurement import Interval
from nas.records import Objective, Role
from search_spaces.architecture import GROUP_POSITIONS, Architecture, Block

MISSING = "\N{EN DASH}"
ROLE_NAMES = {
    Role.CANDIDATE: "candidate",
    Role.SQUEEZEBERT_RULE: "SqueezeBERT's rule",
    Role.DENSE_TEACHER: "dense teacher",
}
POSITION_NAMES = dict(
    zip(GROUP_POSITIONS, ("query", "key", "value", "after attention", "FFN in", "FFN out"), strict=True)
)
SHORT_POSITION_NAMES = dict(zip(GROUP_POSITIONS, ("q", "k", "v", "post", "in", "out"), strict=True))


def percent(interval: Interval | None, *, with_bounds: bool = True) -> str:
    """Return a fraction as ``89.1 % (87.7 to 90.5)``."""
    if interval is None:
        return MISSING
    text = f"{100 * interval.estimate:.1f} %"
    return f"{text} ({100 * interval.low:.1f} to {100 * interval.high:.1f})" if with_bounds else text


def ratio(interval: Interval | None, *, with_bounds: bool = True) -> str:
    """Return a ratio as ``0.712 (0.701 to 0.723)``, an exact one as ``1 (by definition)``."""
    if interval is None:
        return MISSING
    if not with_bounds:
        return f"{interval.estimate:.3f}"
    if interval.low == interval.high:
        return f"{interval.estimate:g} (by definition)"
    return f"{interval.estimate:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def milliseconds(interval: Interval | None, *, with_bounds: bool = False) -> str:
    """Return milliseconds to three digits, as ``7.98`` or ``7.98 (7.91 to 8.05)``."""
    if interval is None:
        return MISSING
    text = _three_digits(interval.estimate)
    return f"{text} ({_three_digits(interval.low)} to {_three_digits(interval.high)})" if with_bounds else text


def count(value: float) -> str:
    """Return a count to three digits with its prefix, as ``3.71 G`` or ``51.1 M``."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{_three_digits(value / factor)} {prefix}"
    return f"{value:g}"


def probability(value: float | None) -> str:
    """Return a probability as a whole percentage."""
    return MISSING if value is None else f"{100 * value:.0f} %"


def moment(stamp: str) -> str:
    """Return an ISO 8601 time as ``2026-11-28 22:00 UTC``, and what is none as it is."""
    try:
        taken = datetime.fromisoformat(stamp)
    except ValueError:
        return stamp
    return f"{taken.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if taken.tzinfo else f"{taken:%Y-%m-%d %H:%M}"


def objective_value(objective: Objective, interval: Interval | None) -> str:
    """Return the value of an objective with its interval, in its own unit."""
    match objective:
        case Objective.ACCURACY:
            return percent(interval)
        case Objective.LATENCY:
            return ratio(interval)
        case _:
            return MISSING if interval is None else count(interval.estimate)


def layer_ranges(arch: Architecture) -> list[tuple[str, Block]]:
    """Return the blocks with neighbours that are alike joined, each with its layers as ``3`` or ``3-6``."""
    ranges: list[tuple[int, int, Block]] = []
    for i, block in enumerate(arch.blocks, start=1):
        if ranges and ranges[-1][2] == block:
            ranges[-1] = (ranges[-1][0], i, block)
        else:
            ranges.append((i, i, block))
    return [(f"{first}" if first == last else f"{first}-{last}", block) for first, last, block in ranges]


def compact_groups(arch: Architecture) -> str:
    """Return the groups of all layers in one line, as ``1-6:4.4.4.1.4.4``; positions in `GROUP_POSITIONS` order."""
    return " ".join(f"{layers}:{'.'.join(map(str, _groups_of(block)))}" for layers, block in layer_ranges(arch))


_groups_of = attrgetter(*GROUP_POSITIONS)


def _three_digits(value: float) -> str:
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
