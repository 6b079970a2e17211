"""What measuring on devices came to, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from device_lab.caveats import caveats, where_checked
from device_lab.conditions import flags
from device_lab.measurement import Backend, DeviceInfo, Interval, Measurement, Reason
from device_lab.statistics import (
    MIN_KEPT_BLOCKS,
    Percentiles,
    candidate_runs,
    half_width,
    has_samples,
    heat_slope,
    kept_blocks,
    percentiles_ms,
    ratio_interval,
)
from nas.cli.console import stderr, stdout
from nas.documents import to_document


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came of every model on one device: its measurement, or the error that ended it."""

    device: DeviceInfo
    outcomes: Mapping[str, Measurement | Exception]

    @property
    def is_whole(self) -> bool:
        """Whether every model was measured and the device was there to the end."""
        return all(
            isinstance(outcome, Measurement)
            and outcome.reason is not Reason.DISCONNECTED
            and len(kept_blocks(outcome.blocks)) >= MIN_KEPT_BLOCKS
            for outcome in self.outcomes.values()
        )


def documents(results: Mapping[str, Measured | Exception]) -> list[dict[str, Any]]:
    """Return what ``--json`` prints: one object for each device."""
    return [
        {
            "name": name,
            "device": to_document(result.device) if isinstance(result, Measured) else None,
            "error": None if isinstance(result, Measured) else str(result),
            "models": {model: _document(outcome) for model, outcome in result.outcomes.items()}
            if isinstance(result, Measured)
            else {},
        }
        for name, result in results.items()
    ]


def print_tables(results: Mapping[str, Measured | Exception], *, against: str) -> None:
    """Print one table with a row for each device and model; errors and flags go to standard error."""
    table = Table(box=None, pad_edge=False)
    for column in ("device", "backend", "model"):
        table.add_column(column, overflow="fold")
    for column in (f"ratio to {against} (95 %)", "p50 ms", "p90 ms", "blocks", "ended"):
        table.add_column(column, justify="right", overflow="fold")
    for name, result in results.items():
        if not isinstance(result, Measured):
            stderr.print(_named(name, str(result)), markup=False, soft_wrap=True)
            continue
        for model, outcome in result.outcomes.items():
            if isinstance(outcome, Measurement):
                table.add_row(name, outcome.device.backend, model, *_cells(outcome))
            else:
                stderr.print(_named(name, f"{model}: {outcome}"), markup=False, soft_wrap=True)
    if table.row_count:
        stdout.print(table)
    for name, result in results.items():
        if isinstance(result, Measured):
            _print_notes(name, result)


def _print_notes(name: str, result: Measured) -> None:
    measured = [outcome for outcome in result.outcomes.values() if isinstance(outcome, Measurement)]
    for settings, checked in {(outcome.settings, where_checked(outcome)) for outcome in measured}:
        device = result.device
        stdout.print(
            f"{name}: {device.soc}, {device.os_version} ({device.backend}), {settings.runtime} "
            f"{settings.runtime_version}, {settings.num_threads} thread(s), {checked}",
            markup=False,
        )
    for flag in dict.fromkeys(flag for outcome in measured for flag in _flags(outcome)):
        stderr.print(f"{name}: note: {flag}", markup=False, soft_wrap=True)
    if result.device.backend is Backend.QEMU and measured:
        stderr.print(
            f"{name}: outputs agree with torch; under an emulator nothing is timed", markup=False, soft_wrap=True
        )


def _cells(measurement: Measurement) -> tuple[str, ...]:
    ratio, milliseconds = _ratio(measurement), _milliseconds(measurement)
    return (
        f"{ratio.estimate:.3f} ({ratio.low:.3f}-{ratio.high:.3f})" if ratio else "",
        f"{milliseconds.p50.estimate:.2f}" if milliseconds else "",
        f"{milliseconds.p90.estimate:.2f}" if milliseconds else "",
        f"{len(kept_blocks(measurement.blocks))} of {len(measurement.blocks)}",
        measurement.reason.value.replace("_", " "),
    )


def _document(outcome: Measurement | Exception) -> dict[str, Any]:
    if not isinstance(outcome, Measurement):
        return {"error": str(outcome)}
    ratio, milliseconds = _ratio(outcome), _milliseconds(outcome)
    return {
        "error": None,
        "ratio": to_document(ratio),
        "half_width": half_width(outcome.blocks) if ratio else None,
        "latency_ms": to_document(milliseconds),
        "num_blocks": len(outcome.blocks),
        "num_kept_blocks": len(kept_blocks(outcome.blocks)),
        "num_cooldowns": outcome.num_cooldowns,
        "heat_slope": heat_slope(outcome.blocks) if ratio else None,
        "reason": outcome.reason.value,
        "outputs": where_checked(outcome),
        "flags": _flags(outcome),
        "backend": outcome.device.backend.value,
        "settings": to_document(outcome.settings),
        "precision": outcome.precision.name,
        "conditions_before": dict(outcome.conditions_before.readings),
        "conditions_after": dict(outcome.conditions_after.readings),
    }


def _ratio(measurement: Measurement) -> Interval | None:
    """Return the ratio, unless the blocks are too few, or an emulator made them."""
    if measurement.device.backend is Backend.QEMU or len(kept_blocks(measurement.blocks)) < MIN_KEPT_BLOCKS:
        return None
    return ratio_interval(measurement.blocks)


def _milliseconds(measurement: Measurement) -> Percentiles | None:
    runs = candidate_runs(measurement.blocks)
    if _ratio(measurement) is None or not has_samples(runs):
        return None
    return percentiles_ms(runs, generator=np.random.default_rng(0))


def _flags(measurement: Measurement) -> list[str]:
    found = caveats(measurement)
    if measurement.device.backend is not Backend.HOST:
        found += flags(measurement.conditions_before, measurement.conditions_after)
    return found


def _named(name: str, text: str) -> str:
    return text if text.startswith(name) else f"{name}: {text}"
