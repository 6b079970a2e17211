"""What the network that is best for one device costs on the others.

Best for a device is the network with the lowest ratio there among those that
score no less than SqueezeBERT's rule, and were timed on every device. The
regret of a network on a device is its ratio there over that of the device's own
best. Both are to the same reference, measured in sessions whose errors are taken
to be independent, so the logs of their half-widths add in squares. That the own
best was chosen by the same measurements makes a regret a little too large.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from device_lab.measurement import DeviceInfo, Interval
from nas.records import Objective
from reports import text
from reports.analysis import Analysis
from reports.evidence import EXACTLY_ONE, Evidence, missed_constraint
from reports.tables import csv_text, markdown_table, model_name

ALL_DEVICES = "all of them"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RegretRow:
    """The network that is best for a device, or for all, and its regret on each device."""

    best_for: str
    network: Evidence
    cells: tuple[Interval, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Regret:
    """The networks that are best for each of ``devices``, in their order, and last for the slowest of them.

    ``rule`` says in words what best is.
    """

    devices: tuple[DeviceInfo, ...]
    rows: tuple[RegretRow, ...]
    rule: str


def regret(analysis: Analysis) -> Regret | None:
    """Return the regrets of a run on several devices; ``None`` for other runs, and where nothing qualifies."""
    devices = analysis.bench.devices if analysis.bench is not None else ()
    floor = _floor(analysis)
    possible = [item for item in analysis.compared if _qualifies(item, analysis, floor=floor)]
    if not devices or not possible:
        return None
    own_best = [min(possible, key=_ratio_on(i)) for i in range(len(devices))]
    names = [*(device.device_id for device in devices), ALL_DEVICES]
    networks = [*own_best, min(possible, key=lambda item: item.value(Objective.LATENCY) or math.inf)]
    rows = [
        RegretRow(
            best_for=name,
            network=network,
            cells=tuple(_quotient(network, best, position=i) for i, best in enumerate(own_best)),
        )
        for name, network in zip(names, networks, strict=True)
    ]
    among = "that were timed on every device"
    if floor is not None:
        among = (
            f"that score at least as well as SqueezeBERT's rule ({100 * floor:.1f} %) and were timed on every device"
        )
    return Regret(
        devices=devices, rows=tuple(rows), rule=f"the one with the lowest latency ratio there, of those {among}"
    )


def reading(found: Regret) -> str:
    """Return how to read the matrix, in one sentence."""
    return (
        "Read along a row: the network that is best for the device at its left takes so many times as long on the "
        f"device above as that device's own best; 1 means that nothing is lost there. Best is {found.rule}."
    )


def regret_table(found: Regret) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the matrix with intervals."""
    header = ["best for", "network", *(f"on {device.device_id}" for device in found.devices)]
    rows = [[row.best_for, model_name(row.network), *(_cell(cell) for cell in row.cells)] for row in found.rows]
    return header, rows


def regret_markdown(found: Regret) -> str:
    """Return the matrix as a section of a Markdown page."""
    table = markdown_table(*regret_table(found))
    return "\n".join(["## What the best network of one device costs on another", "", reading(found), "", *table, ""])


def regret_csv(found: Regret) -> str:
    """Return the matrix as CSV, a line for each cell."""
    cells = [
        {
            "best_for": row.best_for,
            "number": row.network.trial.number,
            "device": device.device_id,
            "ratio": known.ratio.estimate if known.ratio else None,
            "regret": cell.estimate,
            "regret_low": cell.low,
            "regret_high": cell.high,
        }
        for row in found.rows
        for device, known, cell in zip(found.devices, row.network.on_devices, row.cells, strict=True)
    ]
    return csv_text(cells)


def _floor(analysis: Analysis) -> float | None:
    rule = analysis.squeezebert
    if Objective.ACCURACY not in analysis.objectives or rule is None or rule.accuracy is None:
        return None
    return rule.accuracy.estimate


def _qualifies(item: Evidence, analysis: Analysis, *, floor: float | None) -> bool:
    is_timed = bool(item.on_devices) and all(each.ratio is not None for each in item.on_devices)
    is_good = floor is None or (item.accuracy is not None and item.accuracy.estimate >= floor)
    return is_timed and is_good and missed_constraint(item, analysis.run) is None


def _ratio_on(position: int) -> Callable[[Evidence], float]:
    def ratio(item: Evidence) -> float:
        known = item.on_devices[position].ratio
        return math.inf if known is None else known.estimate

    return ratio


def _quotient(item: Evidence, best: Evidence, *, position: int) -> Interval:
    own, other = item.on_devices[position].ratio, best.on_devices[position].ratio
    if item is best or own is None or other is None:
        return EXACTLY_ONE
    estimate = own.estimate / other.estimate
    down = math.hypot(math.log(own.estimate / own.low), math.log(other.high / other.estimate))
    up = math.hypot(math.log(own.high / own.estimate), math.log(other.estimate / other.low))
    return Interval(estimate=estimate, low=estimate * math.exp(-down), high=estimate * math.exp(up))


def _cell(regret_there: Interval) -> str:
    return "1 (its own best)" if regret_there == EXACTLY_ONE else text.ratio(regret_there)
