"""The measured latencies of a device by architecture, and predictions for a run's trials without one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from device_lab.measurement import Interval, Measurement, RunSettings
from device_lab.statistics import half_width
from nas.errors import PredictionError
from nas.latency import LEVEL, LatencyPredictor
from nas.latency_samples import latency_samples
from nas.records import Trial
from nas.store import Store
from nas.trial_notes import NOTE_KEY, read_note
from search_spaces.architecture import Architecture


def find_measured(
    store: Store, *, device_id: str, settings: RunSettings, reference: Architecture, among: Iterable[Architecture]
) -> dict[Architecture, tuple[Measurement, ...]]:
    """Return what was measured, by any run, of these architectures against ``reference`` on a device.

    Raises:
        StoreError: If the store cannot be read.
    """
    found = store.find_measurements(device_id=device_id, settings=settings, reference_arch_id=reference.arch_id)
    return {arch: found[arch.arch_id] for arch in among if arch.arch_id in found}


def with_predictions(
    trials: Sequence[Trial], measured: Mapping[Architecture, Sequence[Measurement]], *, reference: Architecture
) -> tuple[Trial, ...]:
    """Return the trials, those that are not timed with what the measured ones make of their latency."""
    samples = latency_samples(measured, reference=reference)
    untimed = [trial.architecture for trial in trials if not trial.measurements]
    settings = next((each.settings for measurements in measured.values() for each in measurements), None)
    if settings is None or not untimed:
        return tuple(trials)
    try:
        predictor = LatencyPredictor(samples, sequence_length=settings.sequence_length)
    except PredictionError:
        return tuple(trials)
    predictions = dict(zip(untimed, predictor.predict(untimed, reference=reference), strict=True))
    return tuple(
        trial
        if trial.measurements
        else replace(
            trial,
            predicted=Interval(
                estimate=predictions[trial.architecture].estimate,
                low=predictions[trial.architecture].low,
                high=predictions[trial.architecture].high,
                level=LEVEL,
            ),
        )
        for trial in trials
    )


def usable(measurements: Sequence[Measurement]) -> tuple[Measurement, ...]:
    """Return the measurements that have an interval, the narrowest last."""
    having = [each for each in measurements if math.isfinite(half_width(each.blocks))]
    return tuple(sorted(having, key=lambda each: -half_width(each.blocks)))


def architectures_of(store: Store) -> set[Architecture]:
    """Return the architectures of all runs on a store.

    Raises:
        StoreError: If it cannot be read.
    """
    storage = store.optuna_storage
    found: set[Architecture] = set()
    with store.errors():
        for study in storage.get_all_studies():
            for trial in storage.get_all_trials(study._study_id, deepcopy=False):
                if NOTE_KEY in trial.user_attrs:
                    found.add(Architecture.from_json(read_note(trial).architecture))
    return found
