"""Which architectures of a run to measure, and what the others' latencies are predicted to be.

A run that predicts measures a small design first, the references and good
guesses among them. From then on a candidate is measured only where the front
depends on it, and the predictor learns from every measurement on the same
device, runtime, threads and sequence length, those of other runs on the store
included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Protocol

from device_lab.measurement import Measurement
from device_lab.timed import Timed, timed
from nas.errors import PredictionError
from nas.latency import LatencyPredictor, PredictedLatency
from nas.latency_design import draw_pool, most_informative
from nas.latency_samples import latency_samples
from nas.records import LatencyMode
from search_spaces.architecture import Architecture
from search_spaces.space import Space

# Beside the references: so many measured architectures bring the error of a prediction near that of a measurement.
NUM_DESIGN = 12


class Guide(Protocol):
    """Says which architectures of a run to measure next, and what the others take."""

    def learn(self, arch: Architecture, measurement: Measurement) -> None:
        """Take in a measurement; `refit` makes use of it."""
        ...

    def reread(self, measured: Mapping[Architecture, Sequence[Timed]]) -> None:
        """Take in what other processes measured; `refit` makes use of it."""
        ...

    def refit(self) -> None:
        """Make use of what is measured by now; raise `PredictionError` if the run may not measure and lacks it."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether the design is measured, so that predictions may stand for measurements."""
        ...

    @property
    def can_predict(self) -> bool:
        """Whether `predict` has enough to go by."""
        ...

    def next_in_design(self, known: Sequence[Architecture]) -> Architecture | None:
        """Return what to measure next beside ``known`` architectures, or ``None`` if that is enough."""
        ...

    def predict(self, archs: Sequence[Architecture]) -> list[PredictedLatency]:
        """Predict ratios to the reference; raise `PredictionError` if too little is measured."""
        ...


class LatencyGuide:
    """Predicts latencies of a run's architectures on one device from what is measured so far. See `Guide`.

    Args:
        mode: `LatencyMode.HYBRID` or `LatencyMode.PREDICTED`.
        reference: What ratios are to.
        sequence_length: Tokens of an inference.
        measured: What was measured on the run's device under its settings before, by architecture.
        space: Where the design is drawn from.
        seed: Of the design.
    """

    def __init__(
        self,
        *,
        mode: LatencyMode,
        reference: Architecture,
        sequence_length: int,
        measured: Mapping[Architecture, Sequence[Timed]],
        space: Space,
        seed: int,
    ) -> None:
        self._mode = mode
        self._reference = reference
        self._sequence_length = sequence_length
        self._measured = {arch: tuple(measurements) for arch, measurements in measured.items()}
        self._space = space
        self._seed = seed
        self._predictor: LatencyPredictor | None = None

    def learn(self, arch: Architecture, measurement: Measurement) -> None:
        """Take in a measurement; `refit` makes use of it."""
        self._measured[arch] = (*self._measured.get(arch, ()), timed(measurement))

    def reread(self, measured: Mapping[Architecture, Sequence[Timed]]) -> None:
        """Take in what other processes measured; `refit` makes use of it."""
        self._measured |= {arch: tuple(measurements) for arch, measurements in measured.items()}

    def refit(self) -> None:
        """Fit the predictor to what is measured by now.

        Raises:
            PredictionError: If the run may not measure and there is too little to predict from.
        """
        samples = latency_samples(self._measured, reference=self._reference)
        if self._predictor is not None and samples == list(self._predictor.samples):
            return
        try:
            self._predictor = LatencyPredictor(samples, sequence_length=self._sequence_length)
        except PredictionError as error:
            if self._mode is LatencyMode.PREDICTED:
                raise PredictionError(
                    f"--latency predicted has nothing to predict from: {error}; `nas search --latency hybrid` measures"
                ) from error

    @property
    def is_ready(self) -> bool:
        """Whether the design is measured, so that predictions may stand for measurements."""
        if self._mode is LatencyMode.PREDICTED:
            return True
        return self._predictor is not None and len(self._predictor.samples) >= NUM_DESIGN

    @property
    def can_predict(self) -> bool:
        """Whether `predict` has enough to go by."""
        return self._predictor is not None

    def next_in_design(self, known: Sequence[Architecture]) -> Architecture | None:
        """Return what to measure next beside ``known`` architectures, or ``None`` if that is enough."""
        if self.is_ready or len(known) > NUM_DESIGN:
            return None
        is_known = set(known)
        pool = [arch for arch in self._pool if arch not in is_known]
        if not pool:
            return None
        return most_informative(pool, known=known, reference=self._reference, sequence_length=self._sequence_length)

    @cached_property
    def _pool(self) -> list[Architecture]:
        return draw_pool(self._space, seed=self._seed)

    def predict(self, archs: Sequence[Architecture]) -> list[PredictedLatency]:
        """Predict ratios to the reference.

        Raises:
            PredictionError: If too little is measured.
        """
        if self._predictor is None:
            raise PredictionError("nothing is measured yet to predict latencies from")
        return self._predictor.predict(archs, reference=self._reference)
