"""Latencies of architectures on one device: from the store, or measured there and kept.

A latency does not depend on the values of weights, so architectures are timed
with made up ones; see `nas.timed_models`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from device_lab.device import Clock, Device
from device_lab.errors import DeviceLabError
from device_lab.measurement import Block, Measurement, Precision, RunSettings
from device_lab.protocol import Progress, measure
from device_lab.statistics import PRECISIONS
from nas.store import Store, is_unfinished
from nas.timed_models import TimedModels
from search_spaces.architecture import Architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingPlan:
    """How precisely a search times, and how long it may take where a device does not settle.

    ``batch_budget_s`` bounds the session of one batch, ``total_budget_s`` all
    sessions of one `Search.run`; the front is measured again with what is left
    of it. A measurement that ran out of its budget keeps its blocks and an
    interval as wide as they make it; the next search on the run goes on with it.
    ``resolution`` is the relative error of a predicted latency that is as good as measured.
    """

    search_precision: Precision = PRECISIONS["coarse"]
    front_precision: Precision = PRECISIONS["normal"]
    batch_budget_s: float | None = None
    total_budget_s: float | None = None
    resolution: float = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingOutcome:
    """What came of timing one architecture on every device of a run.

    ``measurements`` are those that have an interval, in the order of the devices.
    ``failure`` says why a device has none, by its name where there are several,
    and is ``None`` if all have one. ``is_device_lost`` says that nothing but a lost
    device is to blame, so that it is worth trying again.
    """

    measurements: tuple[Measurement, ...]
    failure: str | None = None
    is_device_lost: bool = False


class Timing(Protocol):
    """Measures architectures against the run's reference, on every device of the run."""

    @property
    def device_ids(self) -> tuple[str, ...]:
        """What it measures on: nobody else may at the same time."""
        ...

    def measure(
        self,
        archs: Sequence[Architecture],
        *,
        precision: Precision,
        budget_s: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> dict[str, TimingOutcome]:
        """Return what came of each architecture, by ``arch_id``; ``budget_s`` bounds the session."""
        ...


def device_settings(device: Device, *, num_threads: int, sequence_length: int) -> RunSettings:
    """Return what latencies taken on a device belong to."""
    return RunSettings(
        runtime=device.runtime,
        runtime_version=device.runtime_version,
        num_threads=num_threads,
        sequence_length=sequence_length,
    )


class Timer:
    """Times architectures against one reference on one device, and keeps everything in the store.

    ``cold_baseline_ns`` is the reference's time on the cold device, from its
    certificate; without it there is no heat gate.
    """

    def __init__(
        self,
        *,
        store: Store,
        device: Device,
        num_threads: int,
        reference: Architecture,
        models: TimedModels,
        seed: int,
        cold_baseline_ns: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.device = device
        self.reference = reference
        self.settings = device_settings(device, num_threads=num_threads, sequence_length=models.sequence_length)
        self._models = models
        self._store = store
        self._cold_baseline_ns = cold_baseline_ns
        self._clock = clock
        self._generator = np.random.default_rng(seed)

    def measure(
        self,
        archs: Sequence[Architecture],
        *,
        precision: Precision,
        budget_s: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> dict[str, Measurement | DeviceLabError]:
        """Return a measurement for each architecture, taking from the store what is there.

        What is not there is measured in one session, in which all architectures
        share the references between them. Every finished block is kept at once,
        so a session that was interrupted, or ran out of its budget, goes on where
        it stopped.

        Args:
            archs: What to time.
            precision: Goal and looks.
            budget_s: Bounds the session; see `device_lab.protocol.measure`.
            on_progress: See `device_lab.protocol.measure`.

        Returns:
            ``arch_id`` to its measurement, or to the error that ended it.

        Raises:
            StoreError: If the store cannot be read or written.
            OSError: If a model file cannot be written.
        """
        by_id = {arch.arch_id: arch for arch in archs}
        outcomes = self._known(by_id, precision)
        missing = [arch for arch_id, arch in by_id.items() if arch_id not in outcomes]
        if missing:
            outcomes |= self._measure_missing(missing, precision, budget_s, on_progress)
        return outcomes

    def _known(
        self, by_id: Mapping[str, Architecture], precision: Precision
    ) -> dict[str, Measurement | DeviceLabError]:
        """Look up finished measurements at least as precise as ``precision``, the finest first."""
        found = self._store.find_measurements(
            device_id=self.device.info.device_id,
            settings=self.settings,
            reference_arch_id=self.reference.arch_id,
            arch_ids=by_id,
        )
        known: dict[str, Measurement | DeviceLabError] = {}
        for arch_id in by_id:
            fine = [
                each
                for each in found.get(arch_id, ())
                if each.precision.goal <= precision.goal and not is_unfinished(each)
            ]
            if fine:
                known[arch_id] = fine[-1]
        return known

    def _measure_missing(
        self,
        archs: Sequence[Architecture],
        precision: Precision,
        budget_s: float | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> dict[str, Measurement | DeviceLabError]:
        reference = self._models.export(self.reference)
        models = [self._models.export(arch) for arch in archs]
        ids: dict[str, int] = {}
        earlier: dict[str, tuple[Block, ...]] = {}
        for arch, model in zip(archs, models, strict=True):
            ids[model.sha256], earlier[model.sha256] = self._store.begin_measurement(
                device_id=self.device.info.device_id,
                settings=self.settings,
                precision=precision.name,
                arch_id=arch.arch_id,
                reference_arch_id=self.reference.arch_id,
            )
        outcomes = measure(
            models,
            reference=reference,
            device=self.device,
            num_threads=self.settings.num_threads,
            precision=precision,
            generator=self._generator,
            cold_baseline_ns=self._cold_baseline_ns,
            budget_s=budget_s,
            earlier_blocks=earlier,
            on_block=lambda model, block: self._store.save_block(ids[model.sha256], block),
            on_progress=on_progress,
            clock=self._clock,
        )
        for model, outcome in zip(models, outcomes, strict=True):
            if isinstance(outcome, Measurement):
                self._store.finish_measurement(ids[model.sha256], outcome)
        return {arch.arch_id: outcome for arch, outcome in zip(archs, outcomes, strict=True)}
