"""A comparison of two runs in sentences, as a table, as JSON's types and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from device_lab.measurement import Interval
from device_lab.statistics import LEVEL
from nas.records import Objective
from reports import text
from reports.compare import Comparison, Move, Side
from reports.evidence import Evidence
from reports.figures import axis_text, coordinates, draw_bars, scale_costs, step_corners
from reports.style import BLUE, VERMILLION, in_style, new_figure, settle

CHANCE = 1 - LEVEL


def sentences(comparison: Comparison) -> tuple[str, ...]:
    """Return what came of the comparison in whole sentences, the hypervolume first."""
    first, second, difference = comparison.first, comparison.second, comparison.difference
    points = f"{100 * difference.estimate:+.2f} points ({100 * difference.low:+.2f} to {100 * difference.high:+.2f})"
    certainty = "may be chance" if difference.low <= 0 <= difference.high else "beyond chance"
    found = [
        f"Hypervolume: {_share(first.hypervolume)} of the box in {first.name} ({len(first.compared)} models), "
        f"{_share(second.hypervolume)} in {second.name} ({len(second.compared)} models).",
        f"Difference: {points}, {certainty}.",
        *comparison.notices,
    ]
    if not comparison.moves:
        return (*found, "No model is in both runs.")
    beyond = sum(move.is_beyond_chance for move in comparison.moves)
    num_changes = sum(len(move.changes) for move in comparison.moves)
    found.append(
        f"{len(comparison.moves)} models are in both; {beyond} moved beyond chance "
        f"(of {num_changes} changes about {CHANCE * num_changes:.1f} would by chance alone)."
    )
    return tuple(found)


def move_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the models both runs have, those that moved first."""
    changed = [objective for objective, _ in comparison.moves[0].changes] if comparison.moves else []
    names = {Objective.ACCURACY: f"{comparison.metric}, points", Objective.LATENCY: "latency, times"}
    header = ["trials", "front", *(names[objective] for objective in changed), "moved"]
    return header, [_row(move) for move in comparison.moves]


def document(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as JSON's types. Accuracies are fractions, hypervolumes shares of the box."""
    return {
        "objectives": [objective.value for objective in comparison.objectives],
        "backend": comparison.bench.device.backend.value if comparison.bench else None,
        "notices": list(comparison.notices),
        "first": _side(comparison.first),
        "second": _side(comparison.second),
        "hypervolume_difference": _bounds(comparison.difference),
        "moves": [
            {
                "arch_id": move.arch_id,
                "first_trial": move.first.trial.number,
                "second_trial": move.second.trial.number,
                "was_on_front": move.was_on_front,
                "is_on_front": move.is_on_front,
                "changes": {objective.value: _bounds(change) for objective, change in move.changes},
                "is_beyond_chance": move.is_beyond_chance,
            }
            for move in comparison.moves
        ],
    }


@in_style
def comparison_figure(comparison: Comparison) -> Figure | None:
    """Draw the two fronts over each other, first as blue circles, second as red triangles.

    Returns:
        The figure, or ``None`` if fewer than two objectives are shared.
    """
    if len(comparison.objectives) < 2:
        return None
    costs = [objective for objective in comparison.objectives if objective is not Objective.ACCURACY]
    x = costs[0]
    y = next(objective for objective in comparison.objectives if objective is not x)
    figure, (axes,) = new_figure()
    everything = comparison.first.compared + comparison.second.compared
    largest = float(coordinates(everything, x)[:, 0].max())
    looks = ((comparison.first, BLUE, "o", "-"), (comparison.second, VERMILLION, "^", "--"))
    for side, color, marker, line in looks:
        xs, ys = coordinates(side.compared, x), coordinates(side.compared, y)
        front_xs, front_ys = coordinates(side.front, x), coordinates(side.front, y)
        axes.scatter(xs[:, 0], ys[:, 0], s=14, marker=marker, color=color, alpha=0.25, linewidths=0)
        draw_bars(axes, front_xs, front_ys, color=color, alpha=0.7, width=0.9)
        steps = step_corners(xs[:, 0], ys[:, 0], larger_is_better=y is Objective.ACCURACY, end=largest)
        axes.plot(steps[:, 0], steps[:, 1], line, drawstyle="steps-post", color=color)
        label = f"{side.name}: {len(side.front)} of {len(side.compared)} on its front"
        axes.scatter(front_xs[:, 0], front_ys[:, 0], s=30, marker=marker, color=color, label=label, zorder=3)
    axes.set_xlabel(axis_text(x, metric=comparison.metric, place=comparison.place))
    axes.set_ylabel(axis_text(y, metric=comparison.metric, place=comparison.place))
    axes.margins(0.08)
    scale_costs(axes, coordinates(everything, x))
    axes.legend(loc="lower right")
    settle(figure)
    return figure


def _row(move: Move) -> list[str]:
    fronts = {
        (True, True): "both",
        (True, False): "first only",
        (False, True): "second only",
        (False, False): "neither",
    }
    numbers = f"{move.first.trial.number}, {move.second.trial.number}"
    cells = [_change(objective, change) for objective, change in move.changes]
    return [numbers, fronts[move.was_on_front, move.is_on_front], *cells, "yes" if move.is_beyond_chance else ""]


def _change(objective: Objective, change: Interval) -> str:
    if objective is Objective.ACCURACY:
        return f"{100 * change.estimate:+.1f} ({100 * change.low:+.1f} to {100 * change.high:+.1f})"
    return text.ratio(change)


def _share(interval: Interval) -> str:
    return f"{100 * interval.estimate:.2f} % ({100 * interval.low:.2f} to {100 * interval.high:.2f})"


def _side(side: Side) -> dict[str, Any]:
    return {
        "run": side.name,
        "num_models": len(side.compared),
        "front": _numbers(side.front),
        "hypervolume": _bounds(side.hypervolume),
    }


def _numbers(items: Sequence[Evidence]) -> list[int]:
    return [item.trial.number for item in items]


def _bounds(interval: Interval) -> dict[str, float]:
    return {"estimate": interval.estimate, "low": interval.low, "high": interval.high, "level": interval.level}
