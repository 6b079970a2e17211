"""The latencies of a batch of candidates: measured, or predicted where the front does not depend on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from device_lab.measurement import Backend
from device_lab.worst import worst_ratio
from nas.latency import PredictedLatency
from nas.latency_guide import Guide
from nas.objectives import all_losses
from nas.observer import Observer
from nas.records import LatencyMode, Role, Score
from nas.runs import SearchSettings
from nas.timed_sessions import TimedSessions
from nas.timing import TimingOutcome
from nas.undecided import GAIN_OF_RESOLUTION, undecided
from search_spaces.architecture import Architecture

# Of a batch, once predictions are good: measuring more while the front still moves measures what it leaves behind.
MAX_MEASURED_OF_BATCH = 1

Outcomes = dict[str, TimingOutcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a candidate has no values. ``is_device_lost``: for the want of a device that may be back later."""

    reason: str
    is_device_lost: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class Candidate:
    """A trial while its search goes on. ``latency_ratio`` is measured or predicted."""

    number: int
    arch: Architecture
    role: Role
    score: Score | None = None
    latency_ratio: float | None = None
    is_measured: bool = False


class BatchTiming:
    """Gives candidates their latencies, on the device or by the guide. Without a guide all are measured.

    Once the guide predicts, what is chosen of a batch is measured after the
    batch has its predictions: on a phone while the next batch is scored,
    on this machine, which scoring would disturb, at once. Either way later
    batches see the same, so a run does not depend on how fast its phone is.

    Args:
        sessions: What measures.
        settings: The run's.
        guide: What predicts, or ``None``.
        resolution: Relative error of a prediction that is as good as a measurement.
        observer: Hears of a candidate whose measurement failed after it had its prediction.
    """

    def __init__(
        self,
        sessions: TimedSessions,
        *,
        settings: SearchSettings,
        guide: Guide | None,
        resolution: float,
        observer: Observer,
    ) -> None:
        self._sessions = sessions
        self._settings = settings
        self._guide = guide
        self._resolution = resolution
        self._observer = observer
        self._known: list[Candidate] = []
        is_elsewhere = settings.device is not None and settings.device.backend is not Backend.HOST
        self._executor = ThreadPoolExecutor(max_workers=1) if is_elsewhere else None
        self._pending: tuple[list[Candidate], Outcomes | Future[Outcomes]] | None = None

    def remember(self, candidate: Candidate) -> None:
        """Weigh later candidates against this one as well."""
        self._known.append(candidate)

    def time(self, batch: Sequence[Candidate]) -> dict[str, Failure]:
        """Give each candidate of a batch its latency.

        Returns:
            Why some have none, by ``arch_id``.

        Raises:
            PredictionError: If nothing may be measured, and too little is to predict from.
        """
        self.finish()
        if self._guide is None:
            return self._take_in(batch, self._sessions.measure_batch([each.arch for each in batch]))
        self._guide.refit()
        if not self._guide.is_ready:
            return self._take_in(batch, self._sessions.measure_batch([each.arch for each in batch]))
        unmeasured = [each for each in (*self._known, *batch) if not each.is_measured]
        predictions = self._guide.predict([each.arch for each in unmeasured])
        predicted = dict(zip(unmeasured, predictions, strict=True))
        for candidate in batch:
            candidate.latency_ratio = predicted[candidate].estimate
        chosen = self._worth_measuring(batch, predicted)
        if chosen:
            archs = [candidate.arch for candidate in chosen]
            if self._executor is None:
                self._pending = chosen, self._sessions.measure_batch(archs)
            else:
                self._pending = chosen, self._executor.submit(self._sessions.measure_batch, archs)
        return {}

    def finish(self) -> None:
        """Wait for what is being measured, and learn from it."""
        if self._pending is not None:
            (chosen, outcomes), self._pending = self._pending, None
            failures = self._take_in(chosen, outcomes.result() if isinstance(outcomes, Future) else outcomes)
            for candidate in chosen:
                if candidate.arch.arch_id in failures:
                    self._observer.failed(candidate.number, failures[candidate.arch.arch_id].reason)

    def close(self) -> None:
        """End what is being measured at its next round; finished blocks are kept."""
        if self._executor is not None:
            self._sessions.stop()
            self._executor.shutdown(wait=True, cancel_futures=True)

    def _take_in(self, batch: Sequence[Candidate], outcomes: Outcomes) -> dict[str, Failure]:
        """Give candidates their measured latency, and let the guide learn; return why some have none."""
        failures: dict[str, Failure] = {}
        for candidate in batch:
            arch_id = candidate.arch.arch_id
            outcome = outcomes[arch_id]
            if self._guide is not None:
                for measurement in outcome.measurements:
                    self._guide.learn(candidate.arch, measurement)
            if outcome.failure is not None:
                failures[arch_id] = Failure(reason=outcome.failure, is_device_lost=outcome.is_device_lost)
            else:
                candidate.latency_ratio = worst_ratio([each.blocks for each in outcome.measurements]).estimate
                candidate.is_measured = True
        return failures

    def _worth_measuring(
        self, batch: Sequence[Candidate], predicted: Mapping[Candidate, PredictedLatency]
    ) -> list[Candidate]:
        """Choose what to measure of a batch: little by little, what the front depends on."""
        if self._settings.request.latency is LatencyMode.PREDICTED or not self._sessions.has_time_left:
            return []
        everyone = [*self._known, *batch]
        at_best = [predicted[each].low if each in predicted else each.latency_ratio for each in everyone]
        order = undecided(
            all_losses(
                self._settings,
                ((each.arch, each.score, ratio) for each, ratio in zip(everyone, at_best, strict=True)),
            ),
            is_measured=np.array([each.is_measured for each in everyone], dtype=np.bool_),
            tolerance=self._resolution * GAIN_OF_RESOLUTION,
        )
        possible = [everyone[i] for i in order if everyone[i] in batch]
        return [each for each in possible if relative_error(predicted[each]) > self._resolution][:MAX_MEASURED_OF_BATCH]


def relative_error(predicted: PredictedLatency) -> float:
    """Return half the width of a prediction's interval on the log scale, which for small ones is a share of it."""
    return math.log(predicted.high / predicted.low) / 2
