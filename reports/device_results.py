"""What the page of a device says of one set of results, as plain values for its template."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from matplotlib.figure import Figure

from device_lab.caveats import caveats, where_checked
from device_lab.conditions import flags
from device_lab.measurement import UNREADABLE, Backend, Interval, Measurement
from device_lab.protocol import MAX_HEAT
from device_lab.statistics import (
    MIN_KEPT_BLOCKS,
    candidate_runs,
    has_samples,
    heat_slope,
    kept_blocks,
    percentiles_ms,
    process_median_ns,
    ratio_interval,
    reference_runs,
)
from nas.records import DeviceResults
from reports import text
from reports.style import BLUE, VERMILLION, in_style, new_figure, settle

RATIO_HEADER = (
    "model",
    "ratio (95 %)",
    "p50 ms",
    "p90 ms",
    "blocks kept",
    "precision",
    "ended by",
    "pauses to cool",
    "drift per block",
    "answers",
)
_TEMPERATURE = "max_temperature_celsius"
_NO_CERTIFICATE = "none: this device was not qualified for these settings, so its ratios carry no A/A check"


def sessions(results: DeviceResults) -> list[Measurement]:
    """Return the measurements of a device in the order they were begun, that of the certificate among them."""
    found = [measurement for _, measurement in results.measurements]
    if results.certificate is not None:
        found.append(results.certificate.measurement)
    return sorted(found, key=lambda measurement: measurement.conditions_before.taken_at)


def ratio_rows(results: DeviceResults) -> tuple[tuple[str, ...], ...]:
    """Return a row for every model, the fastest first; models without an interval come last."""
    rows = [_ratio_row(name, measurement) for name, measurement in results.measurements]
    return tuple(row for _, row in sorted(rows, key=lambda pair: pair[0]))


def certificate_facts(results: DeviceResults) -> tuple[tuple[str, str], ...]:
    """Return what the A/A certificate says: names and values."""
    certificate = results.certificate
    if certificate is None:
        return (("certificate", _NO_CERTIFICATE),)
    measurement = certificate.measurement
    kept = kept_blocks(measurement.blocks)
    if len(kept) < MIN_KEPT_BLOCKS:
        return (("certificate", f"refused: only {len(kept)} of {len(measurement.blocks)} blocks kept"),)
    verdict = "qualified" if certificate.is_qualified else "refused: the interval must contain 1 within 2 %"
    return (
        ("certificate", f"{verdict}; taken {text.moment(measurement.conditions_before.taken_at)}"),
        ("the reference against itself", _ratio(certificate.ratio)),
        ("blocks kept", f"{len(kept)} of {len(measurement.blocks)}"),
        ("cold baseline", f"{certificate.cold_baseline_ns / 1e6:.3g} ms"),
    )


def condition_rows(results: DeviceResults) -> tuple[tuple[str, str, str], ...]:
    """Return the readings before the first session and after the last: name, before, after."""
    found = sessions(results)
    first = found[0].conditions_before
    last = max(found, key=lambda measurement: measurement.conditions_after.taken_at).conditions_after
    names = dict.fromkeys(name for taken in (first, last) for name, _ in taken.readings)
    taken_at = ("taken at", text.moment(first.taken_at), text.moment(last.taken_at))
    return (taken_at, *((name, first[name], last[name]) for name in names))


def notices(results: DeviceResults) -> tuple[str, ...]:
    """Return sentences on what was odd, and on what a runner did not print, each once with the models it is about."""
    found = []
    if results.num_older:
        found.append(
            f"{results.num_older:,} networks that were timed earlier are left out: the store has too many for one page."
        )
    models: dict[str, list[str]] = {}
    for name, measurement in results.measurements:
        odd = [] if results.device.backend is Backend.HOST else _flags(measurement)
        for sentence in (*caveats(measurement), *odd):
            models.setdefault(sentence, []).append(name)
    num_models = len(results.measurements)
    for sentence, names in models.items():
        about = f"all {num_models} models" if len(names) == num_models > 1 else ", ".join(names)
        found.append(f"{about}: {sentence}")
    return tuple(found)


@in_style
def reference_trace(results: DeviceResults) -> Figure | None:
    """Draw the reference over all sessions, as a multiple of its cold baseline where there is a certificate.

    Returns:
        The figure, or ``None`` if the reference never ran.
    """
    runs = reference_runs(block for measurement in sessions(results) for block in measurement.blocks)
    if not runs:
        return None
    medians_ns = np.array([process_median_ns(run) for run in runs])
    is_qualified = results.certificate is not None
    unit_ns = results.certificate.cold_baseline_ns if results.certificate is not None else float(np.median(medians_ns))
    figure, (axes,) = new_figure(height=2.6)
    axes.plot(np.arange(1, len(runs) + 1), medians_ns / unit_ns, ".", color=BLUE, markersize=4)
    axes.axhline(1, color=BLUE, linewidth=1, label="cold baseline" if is_qualified else "median")
    if is_qualified:
        axes.axhline(MAX_HEAT, color=VERMILLION, linewidth=1, label=f"heat gate, {MAX_HEAT:g}")
    axes.legend(loc="upper right")
    axes.set_xlabel("process of the reference, in the order run")
    axes.set_ylabel("time, baseline = 1")
    axes.margins(0.02, 0.3)
    settle(figure)
    return figure


@in_style
def temperature_trace(results: DeviceResults) -> Figure | None:
    """Draw the highest temperature of the device before and after every session, over the minutes since the first.

    Returns:
        The figure, or ``None`` if no temperature could be read.
    """
    taken = [
        conditions
        for measurement in sessions(results)
        for conditions in (measurement.conditions_before, measurement.conditions_after)
        if conditions[_TEMPERATURE] != UNREADABLE
    ]
    if not taken:
        return None
    times = [datetime.fromisoformat(conditions.taken_at) for conditions in taken]
    minutes = np.array([(time - min(times)).total_seconds() / 60 for time in times])
    celsius = np.array([float(conditions[_TEMPERATURE]) for conditions in taken])
    order = np.argsort(minutes, kind="stable")
    figure, (axes,) = new_figure(height=2.6)
    axes.plot(minutes[order], celsius[order], "o-", color=VERMILLION, markersize=3, linewidth=1)
    axes.set_xlabel("minutes since the first session")
    axes.set_ylabel("highest temperature (\N{DEGREE SIGN}C)")
    axes.margins(0.02, 0.3)
    settle(figure)
    return figure


def _ratio_row(name: str, measurement: Measurement) -> tuple[float, tuple[str, ...]]:
    kept = kept_blocks(measurement.blocks)
    runs = candidate_runs(measurement.blocks)
    ratio = ratio_interval(measurement.blocks) if len(kept) >= MIN_KEPT_BLOCKS else None
    percentiles = (
        percentiles_ms(runs, generator=np.random.default_rng(0), num_resamples=0)
        if ratio and has_samples(runs)
        else None
    )
    row = (
        name,
        _ratio(ratio) if ratio else text.MISSING,
        text.milliseconds(percentiles.p50 if percentiles else None),
        text.milliseconds(percentiles.p90 if percentiles else None),
        f"{len(kept)} of {len(measurement.blocks)}",
        measurement.precision.name,
        measurement.reason.value.replace("_", " "),
        str(measurement.num_cooldowns),
        f"{100 * heat_slope(measurement.blocks):+.2f} %" if measurement.blocks else text.MISSING,
        where_checked(measurement).removeprefix("outputs "),
    )
    return (ratio.estimate if ratio else float("inf"), row)


def _flags(measurement: Measurement) -> list[str]:
    return flags(measurement.conditions_before, measurement.conditions_after)


def _ratio(interval: Interval) -> str:
    # Measured, however narrow: never "by definition".
    return f"{interval.estimate:.3f} ({interval.low:.3f} to {interval.high:.3f})"
