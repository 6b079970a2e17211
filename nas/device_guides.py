"""Predictions for a run on several devices: a guide for each, and the worst of what they say.

A device's predictor learns from measurements on that device alone; measurements
of two never meet in one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from device_lab.measurement import Interval, Measurement
from device_lab.timed import Timed
from device_lab.worst import worst_interval
from nas.errors import PredictionError
from nas.latency import LEVEL, PredictedLatency
from nas.latency_guide import Guide, LatencyGuide
from nas.records import LatencyMode
from nas.run_latencies import find_measured
from nas.runs import SearchSettings, reference_architecture
from nas.store import Store
from search_spaces.architecture import Architecture
from search_spaces.space import Space


class DeviceGuides:
    """The guides of several devices as one. See `nas.latency_guide.Guide`.

    Args:
        guides: One for each device, by its ``device_id``.
    """

    def __init__(self, guides: Mapping[str, Guide]) -> None:
        self._guides = dict(guides)

    def learn(self, arch: Architecture, measurement: Measurement) -> None:
        """Take in a measurement, for the device it is of."""
        self._guides[measurement.device.device_id].learn(arch, measurement)

    def reread(self, measured: Mapping[Architecture, Sequence[Timed]]) -> None:
        """Take in what other processes measured, each device what is of it."""
        for device_id, guide in self._guides.items():
            guide.reread(_taken_on(device_id, measured))

    def refit(self) -> None:
        """Fit every device's predictor to what is measured on it by now.

        Raises:
            PredictionError: If the run may not measure and there is too little for one of them.
        """
        for device_id, guide in self._guides.items():
            try:
                guide.refit()
            except PredictionError as error:
                raise PredictionError(f"{device_id}: {error}") from error

    @property
    def is_ready(self) -> bool:
        """Whether the design is measured on every device."""
        return all(guide.is_ready for guide in self._guides.values())

    @property
    def can_predict(self) -> bool:
        """Whether there is enough to go by for every device."""
        return all(guide.can_predict for guide in self._guides.values())

    def next_in_design(self, known: Sequence[Architecture]) -> Architecture | None:
        """Return what a device lacks beside ``known`` architectures, or ``None`` if none lacks anything."""
        wanted = (guide.next_in_design(known) for guide in self._guides.values())
        return next((arch for arch in wanted if arch is not None), None)

    def predict(self, archs: Sequence[Architecture]) -> list[PredictedLatency]:
        """Predict ratios to the reference on the device where each is greatest.

        Raises:
            PredictionError: If too little is measured on one of them.
        """
        everywhere = [guide.predict(archs) for guide in self._guides.values()]
        return [_worst(predictions) for predictions in zip(*everywhere, strict=True)]


def make_guide(store: Store, settings: SearchSettings, space: Space) -> Guide | None:
    """Return what predicts the latencies of a run, or ``None`` if it measures them all.

    Raises:
        StoreError: If the store cannot be read.
    """
    if settings.request.latency is LatencyMode.MEASURED or settings.device is None:
        return None
    measured = find_measured_of_run(store, settings)
    guides = {
        device.device_id: LatencyGuide(
            mode=settings.request.latency,
            reference=reference_architecture(settings),
            sequence_length=settings.request.sequence_length,
            measured=_taken_on(device.device_id, measured),
            space=space,
            seed=settings.request.seed,
        )
        for device in settings.all_devices
    }
    return DeviceGuides(guides) if settings.devices else guides[settings.device.device_id]


def find_measured_of_run(store: Store, settings: SearchSettings) -> dict[Architecture, tuple[Timed, ...]]:
    """Return what was measured, by any run, on the devices of a run under its settings.

    Raises:
        StoreError: If the store cannot be read.
    """
    measured: dict[Architecture, tuple[Timed, ...]] = {}
    if settings.settings is None:
        return measured
    for device in settings.all_devices:
        found = find_measured(
            store,
            device_id=device.device_id,
            settings=settings.settings,
            reference=reference_architecture(settings),
            among={},
            others=True,
        )
        for arch, measurements in found.items():
            measured[arch] = (*measured.get(arch, ()), *measurements)
    return measured


def _taken_on(
    device_id: str, measured: Mapping[Architecture, Sequence[Timed]]
) -> dict[Architecture, tuple[Timed, ...]]:
    of_device = {
        arch: tuple(each for each in measurements if each.device.device_id == device_id)
        for arch, measurements in measured.items()
    }
    return {arch: measurements for arch, measurements in of_device.items() if measurements}


def _worst(predictions: Sequence[PredictedLatency]) -> PredictedLatency:
    worst = worst_interval(
        [Interval(estimate=each.estimate, low=each.low, high=each.high, level=LEVEL) for each in predictions]
    )
    return PredictedLatency(
        estimate=worst.estimate,
        low=worst.low,
        high=worst.high,
        outside=next((each.outside for each in predictions if each.outside), ""),
    )
