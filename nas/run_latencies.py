"""The measured latencies of a device by architecture, and predictions for a run's trials without one."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import sqlalchemy as sa

from device_lab.measurement import Interval, RunSettings
from device_lab.timed import Timed
from nas.documents import from_document
from nas.errors import PredictionError
from nas.latency import LEVEL, LatencyPredictor
from nas.latency_samples import latency_samples
from nas.optuna_rows import read_attributes
from nas.records import Trial, TrialState
from nas.store import Store
from nas.trial_notes import NOTE_KEY, TrialNote
from search_spaces.architecture import Architecture, canonical_id


def find_measured(
    store: Store,
    *,
    device_id: str,
    settings: RunSettings,
    reference: Architecture,
    among: Mapping[str, Architecture],
    others: bool,
) -> dict[Architecture, tuple[Timed, ...]]:
    """Return what was measured, by any run, of architectures against ``reference`` on a device.

    Args:
        store: Where to look.
        device_id: The device.
        settings: How it was timed.
        reference: What ratios are to.
        among: Architectures by ``arch_id``.
        others: Whether those are wanted, too, that only other runs have proposed.

    Raises:
        StoreError: If the store cannot be read.
    """
    found = store.find_timed(
        device_id=device_id,
        settings=settings,
        reference_arch_id=reference.arch_id,
        arch_ids=None if others else among,
    )
    known = {arch_id: among[arch_id] for arch_id in found.keys() & among.keys()}
    missing = found.keys() - known.keys()
    if others and missing:
        known |= find_architectures(store, missing)
    return {known[arch_id]: each for arch_id, each in found.items() if arch_id in known}


def with_predictions(
    trials: Sequence[Trial], measured: Mapping[Architecture, Sequence[Timed]], *, reference: Architecture
) -> tuple[Trial, ...]:
    """Return the trials, those that are not timed with what the measured ones make of their latency."""
    samples = latency_samples(measured, reference=reference)
    untimed = [trial.architecture for trial in trials if is_untimed(trial)]
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
        if not is_untimed(trial)
        else replace(
            trial,
            predicted=Interval(
                estimate=predictions[trial.architecture].estimate,
                low=predictions[trial.architecture].low,
                high=predictions[trial.architecture].high,
                level=LEVEL,
            ),
            predicted_beyond=predictions[trial.architecture].outside,
        )
        for trial in trials
    )


def is_untimed(trial: Trial) -> bool:
    """Tell whether a trial came to its end without having been timed, as one does whose latency is predicted."""
    return trial.state is TrialState.COMPLETE and not trial.measurements


def usable(measurements: Sequence[Timed]) -> tuple[Timed, ...]:
    """Return the measurements that have an interval, the narrowest last."""
    having = [each for each in measurements if each.ratio is not None]
    return tuple(sorted(having, key=lambda each: -each.findings.half_width))


def find_architectures(store: Store, arch_ids: Collection[str]) -> dict[str, Architecture]:
    """Return those of some architectures that any run on a store has proposed, by ``arch_id``.

    Raises:
        StoreError: If the store cannot be read.
    """

    def read(connection: sa.Connection) -> dict[str, Architecture]:
        found: dict[str, Architecture] = {}
        for text in read_attributes(connection, key=NOTE_KEY):
            note = from_document(TrialNote, json.loads(text))
            # What is kept is the canonical form, so its id needs no network to be built.
            arch_id = canonical_id(note.architecture)
            if arch_id in arch_ids and arch_id not in found:
                found[arch_id] = Architecture.from_json(note.architecture)
        return found

    return store.transaction(read)
