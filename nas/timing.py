"""Latencies of architectures on one device: from the store, or measured there and kept.

A latency does not depend on the values of weights, so architectures are timed
with seeded random ones: one model file per architecture, whatever trained it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from device_lab.device import Device
from device_lab.errors import DeviceLabError
from device_lab.measurement import Block, Measurement, ModelFile, Precision, RunSettings
from device_lab.protocol import Progress, measure
from nas.export import export_onnx, random_network
from nas.store import Store
from search_spaces.architecture import Architecture

# An inference reads one row of the embedding table per token, so a table cut to
# the rows that are read takes the same time and leaves a file that is cheap to move.
TIMED_VOCABULARY_SIZE = 1000


class Timer:
    """Times architectures against one reference on one device, and keeps everything in the store."""

    def __init__(
        self,
        *,
        store: Store,
        device: Device,
        num_threads: int,
        reference: Architecture,
        sequence_length: int,
        num_labels: int,
        models_folder: Path,
        seed: int,
    ) -> None:
        self.device = device
        self.reference = reference
        self.settings = RunSettings(
            runtime=device.runtime,
            runtime_version=device.runtime_version,
            num_threads=num_threads,
            sequence_length=sequence_length,
        )
        self._store = store
        self._num_labels = num_labels
        self._models_folder = models_folder
        self._generator = np.random.default_rng(seed)

    def measure(
        self,
        archs: Sequence[Architecture],
        *,
        precision: Precision,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> dict[str, Measurement | DeviceLabError]:
        """Return a measurement for each architecture, taking from the store what is there.

        What is not there is measured in one session, in which all architectures
        share the references between them. Every finished block is kept at once,
        so a session that was interrupted goes on where it stopped.

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
            outcomes |= self._measure_missing(missing, precision, on_progress)
        return outcomes

    def export(self, arch: Architecture) -> ModelFile:
        """Write the model file an architecture is timed with; it is the same for every run."""
        timed = replace(arch, vocab_size=min(arch.vocab_size, TIMED_VOCABULARY_SIZE))
        network = random_network(timed, num_labels=self._num_labels)
        path = self._models_folder / f"{arch.arch_id}-{self.settings.sequence_length}.onnx"
        return export_onnx(network, path, sequence_length=self.settings.sequence_length)

    def _known(
        self, by_id: Mapping[str, Architecture], precision: Precision
    ) -> dict[str, Measurement | DeviceLabError]:
        """Look up finished measurements at least as precise as ``precision``, the finest first."""
        found = self._store.find_measurements(
            device_id=self.device.info.device_id,
            settings=self.settings,
            reference_arch_id=self.reference.arch_id,
        )
        known: dict[str, Measurement | DeviceLabError] = {}
        for arch_id in by_id:
            fine = [each for each in found.get(arch_id, ()) if each.precision.goal <= precision.goal]
            if fine:
                known[arch_id] = fine[-1]
        return known

    def _measure_missing(
        self,
        archs: Sequence[Architecture],
        precision: Precision,
        on_progress: Callable[[Progress], None] | None,
    ) -> dict[str, Measurement | DeviceLabError]:
        reference = self.export(self.reference)
        models = [self.export(arch) for arch in archs]
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
            earlier_blocks=earlier,
            on_block=lambda model, block: self._store.save_block(ids[model.sha256], block),
            on_progress=on_progress,
        )
        for model, outcome in zip(models, outcomes, strict=True):
            if isinstance(outcome, Measurement):
                self._store.finish_measurement(ids[model.sha256], outcome)
        return {arch.arch_id: outcome for arch, outcome in zip(archs, outcomes, strict=True)}
