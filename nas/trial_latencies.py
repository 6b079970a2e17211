"""What a run's trials are known to take: on its device, or over several the worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from device_lab.measurement import DeviceInfo, Interval, Measurement
from device_lab.statistics import ratio_interval
from device_lab.worst import worst_interval
from nas.records import DeviceLatency, Trial
from nas.run_latencies import usable, with_predictions
from search_spaces.architecture import Architecture


def with_latencies(
    trials: Sequence[Trial],
    measured_on: Mapping[DeviceInfo, Mapping[Architecture, Sequence[Measurement]]],
    *,
    reference: Architecture,
    is_predicting: bool,
) -> tuple[Trial, ...]:
    """Return trials with what was measured of them, and with predictions for the others.

    Args:
        trials: As read, without latencies.
        measured_on: What was measured against ``reference``, for each device of the run in its order.
        reference: What ratios are to.
        is_predicting: Whether the run goes by predictions where nothing is measured.
    """
    timed = [
        _on_one_device(trials, measured, reference=reference, is_predicting=is_predicting)
        for measured in measured_on.values()
    ]
    if len(timed) > 1:
        return tuple(_over_devices(tuple(measured_on), each) for each in zip(*timed, strict=True))
    return timed[0] if timed else tuple(trials)


def _on_one_device(
    trials: Sequence[Trial],
    measured: Mapping[Architecture, Sequence[Measurement]],
    *,
    reference: Architecture,
    is_predicting: bool,
) -> tuple[Trial, ...]:
    timed = tuple(replace(trial, measurements=usable(measured.get(trial.architecture, ()))) for trial in trials)
    return with_predictions(timed, measured, reference=reference) if is_predicting else timed


def _over_devices(devices: Sequence[DeviceInfo], timed: Sequence[Trial]) -> Trial:
    """Return one trial, given as each device knows it, as a run on all of them knows it."""
    on_devices = tuple(
        DeviceLatency(device=device, measurements=trial.measurements, predicted=trial.predicted)
        for device, trial in zip(devices, timed, strict=True)
    )
    known = [_interval(each) for each in on_devices]
    everywhere = [interval for interval in known if interval is not None]
    measurements: tuple[Measurement, ...] = ()
    predicted = None
    if all(each.measurements for each in on_devices):
        slowest = max(zip(everywhere, on_devices, strict=True), key=lambda pair: pair[0].estimate)[1]
        measurements = slowest.measurements
    elif len(everywhere) == len(on_devices):
        predicted = worst_interval(everywhere)
    return replace(timed[0], measurements=measurements, predicted=predicted, on_devices=on_devices)


def _interval(known: DeviceLatency) -> Interval | None:
    return ratio_interval(known.measurements[-1].blocks) if known.measurements else known.predicted
