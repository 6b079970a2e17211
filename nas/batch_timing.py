"""The latencies of a batch of candidates: measured, or predicted where the front does not depend on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from device_lab.measurement import Measurement
from device_lab.statistics import kept_blocks, ratio_interval
from nas.latency import PredictedLatency
from nas.latency_guide import LatencyGuide
from nas.objectives import losses_of, objective_values
from nas.records import LatencyMode, Role, Score
from nas.runs import SearchSettings
from nas.timed_sessions import TimedSessions
from nas.undecided import undecided
from reports.front import Floats
from search_spaces.architecture import Architecture

# An interval needs two.
MIN_BLOCKS = 2
# Of a batch, once predictions are good: measuring more while the front still moves measures what it leaves behind.
MAX_MEASURED_OF_BATCH = 1


@dataclass(slots=True, kw_only=True, eq=False)
class Candidate:
    """What is known of an architecture while a search goes on. ``latency_ratio`` is measured or predicted."""

    arch: Architecture
    role: Role
    score: Score | None = None
    latency_ratio: float | None = None
    is_measured: bool = False


class BatchTiming:
    """Gives candidates their latencies, on the device or by the guide. Without a guide all are measured."""

    def __init__(
        self, sessions: TimedSessions, *, settings: SearchSettings, guide: LatencyGuide | None, resolution: float
    ) -> None:
        self._sessions = sessions
        self._settings = settings
        self._guide = guide
        self._resolution = resolution
        self._known: list[Candidate] = []

    def remember(self, candidate: Candidate) -> None:
        """Weigh later candidates against this one as well."""
        self._known.append(candidate)

    def time(self, batch: Sequence[Candidate]) -> dict[str, str]:
        """Give each candidate of a batch its latency.

        Returns:
            Why some have none, by ``arch_id``.

        Raises:
            PredictionError: If nothing may be measured, and too little is to predict from.
        """
        guide = self._guide
        if guide is None:
            return self._measure(batch)
        guide.refit()
        chosen = self._worth_measuring(batch, guide)
        failures = self._measure(chosen)
        guide.refit()
        rest = [candidate for candidate in batch if candidate not in chosen]
        if rest:
            for candidate, predicted in zip(rest, guide.predict([each.arch for each in rest]), strict=True):
                candidate.latency_ratio = predicted.estimate
        return failures

    def _measure(self, batch: Sequence[Candidate]) -> dict[str, str]:
        if not batch:
            return {}
        failures: dict[str, str] = {}
        outcomes = self._sessions.measure_batch([candidate.arch for candidate in batch])
        for candidate in batch:
            arch_id = candidate.arch.arch_id
            outcome = outcomes[arch_id]
            if not isinstance(outcome, Measurement):
                failures[arch_id] = str(outcome)
            elif len(kept_blocks(outcome.blocks)) < MIN_BLOCKS:
                failures[arch_id] = f"the measurement ended with {outcome.reason} after {len(outcome.blocks)} blocks"
            else:
                candidate.latency_ratio = ratio_interval(outcome.blocks).estimate
                candidate.is_measured = True
                if self._guide is not None:
                    self._guide.learn(candidate.arch, outcome)
        return failures

    def _worth_measuring(self, batch: Sequence[Candidate], guide: LatencyGuide) -> list[Candidate]:
        """Choose what to measure now: all that a design lacks, then little by little what the front depends on."""
        if guide.mode is LatencyMode.PREDICTED:
            return []
        if not guide.is_ready:
            return list(batch)
        if not self._sessions.has_time_left:
            return []
        everyone = [*self._known, *batch]
        unmeasured = [each for each in everyone if not each.is_measured]
        predictions = guide.predict([each.arch for each in unmeasured])
        by_candidate = {id(each): predicted for each, predicted in zip(unmeasured, predictions, strict=True)}
        order = undecided(
            self._losses(everyone, {name: each.estimate for name, each in by_candidate.items()}),
            self._losses(everyone, {name: each.low for name, each in by_candidate.items()}),
            is_measured=np.array([each.is_measured for each in everyone], dtype=np.bool_),
        )
        possible = [everyone[i] for i in order]
        return [
            each for each in possible if each in batch and relative_error(by_candidate[id(each)]) > self._resolution
        ][:MAX_MEASURED_OF_BATCH]

    def _losses(self, candidates: Sequence[Candidate], ratios: Mapping[int, float]) -> Floats:
        """Return losses with these ratios, by candidate, in place of what is not measured, (n, d)."""
        return np.array([
            losses_of(
                objective_values(
                    self._settings,
                    each.arch,
                    score=each.score,
                    latency_ratio=ratios.get(id(each), each.latency_ratio),
                )
            )
            for each in candidates
        ])  # fmt: skip


def relative_error(predicted: PredictedLatency) -> float:
    """Return half the width of a prediction's interval on the log scale, which for small ones is a share of it."""
    return math.log(predicted.high / predicted.low) / 2
