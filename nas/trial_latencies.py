"""What a run's trials are known to take: on its device, or over several the worst."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from device_lab.measurement import DeviceInfo, Interval
from device_lab.timed import Timed
from device_lab.worst import worst_interval
from nas.records import DeviceLatency, Trial
from nas.run_latencies import is_untimed, usable, with_predictions
from search_spaces.architecture import Architecture


class FindMeasured(Protocol):
    """Returns what was measured on a device: of the run's architectures, or of those of other runs, too."""

    def __call__(self, *, device_id: str, others: bool) -> Mapping[Architecture, Sequence[Timed]]:
        """See `nas.run_latencies.find_measured`."""
        ...


def with_latencies(
    trials: Sequence[Trial],
    devices: Sequence[DeviceInfo],
    find_measured: FindMeasured,
    *,
    reference: Architecture,
    is_predicting: bool,
) -> tuple[Trial, ...]:
    """Return trials with what was measured of them, and with predictions for the others.

    Args:
        trials: As read, without latencies.
        devices: The run's, in its order.
        find_measured: What was measured against ``reference`` on one of them.
        reference: What ratios are to.
        is_predicting: Whether the run goes by predictions where nothing is measured.
    """
    timed = [
        _on_one_device(
            trials,
            partial(find_measured, device_id=device.device_id),
            reference=reference,
            is_predicting=is_predicting,
        )
        for device in devices
    ]
    if len(timed) > 1:
        return tuple(_over_devices(devices, each) for each in zip(*timed, strict=True))
    return timed[0]


def _on_one_device(
    trials: Sequence[Trial],
    find_measured: Callable[..., Mapping[Architecture, Sequence[Timed]]],
    *,
    reference: Architecture,
    is_predicting: bool,
) -> tuple[Trial, ...]:
    measured = find_measured(others=False)
    timed = tuple(replace(trial, measurements=usable(measured.get(trial.architecture, ()))) for trial in trials)
    if not is_predicting or not any(map(is_untimed, timed)):
        return timed
    return with_predictions(timed, find_measured(others=True), reference=reference)


def _over_devices(devices: Sequence[DeviceInfo], timed: Sequence[Trial]) -> Trial:
    """Return one trial, given as each device knows it, as a run on all of them knows it."""
    on_devices = tuple(
        DeviceLatency(device=device, measurements=trial.measurements, predicted=trial.predicted)
        for device, trial in zip(devices, timed, strict=True)
    )
    known = [_interval(each) for each in on_devices]
    everywhere = [interval for interval in known if interval is not None]
    measurements: tuple[Timed, ...] = ()
    predicted = None
    if all(each.measurements for each in on_devices):
        slowest = max(zip(everywhere, on_devices, strict=True), key=lambda pair: pair[0].estimate)[1]
        measurements = slowest.measurements
    elif len(everywhere) == len(on_devices):
        predicted = worst_interval(everywhere)
    beyond = next((trial.predicted_beyond for trial in timed if trial.predicted_beyond), "")
    return replace(
        timed[0], measurements=measurements, predicted=predicted, predicted_beyond=beyond, on_devices=on_devices
    )


def _interval(known: DeviceLatency) -> Interval | None:
    return known.measurements[-1].ratio if known.measurements else known.predicted
