"""Predict an architecture's latency from a handful of measurements on the same device.

The model is physical first: a time is a sum of amounts of work, each at its own
price (`nas.latency_features`), and a ratio to the reference is a quotient of two
such sums. Logarithms of prices have a wide normal prior, so no price is ever
negative, a few measurements suffice, and the reference's ratio is exactly 1.
What the sum cannot explain is left to a Gaussian process over what the work is
made of. Around the best prices both are one Gaussian process in the log ratio
(Rasmussen and Williams, 2006, sections 2.2 and 2.7), which gives the intervals;
they are then stretched until they cover the left-out measurements (split as in
cross-conformal prediction, Vovk, 2015).

Shapes: n measurements, m architectures asked for, p prices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from nas.errors import PredictionError
from nas.latency_features import GUESSED_PRICES, describe
from nas.latency_process import Pairs, RatioProcess, linearise
from search_spaces.architecture import GROUP_POSITIONS, Architecture

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Setting:
    """Width of the prior of a log price, deviation and length of the smooth part, and the nugget."""

    deviation: float
    bump: tuple[float, float]
    nugget: float


LEVEL = 0.90
MIN_SAMPLES = 5
# Beyond the error that a measurement tells of: what two architectures of equal description differ by, and what their
# places in memory do.
NUGGETS = (0.003, 0.007, 0.014)
PRICE_DEVIATIONS = (0.5, 1.0, 2.0)
BUMP_DEVIATIONS = (0.01, 0.03, 0.08)
BUMP_LENGTHS = (0.5, 1.0, 2.0)
# Degrees of freedom of the measurements' errors: a wild one loses its weight.
DEGREES_OF_FREEDOM = 4.0
NUM_REWEIGHTINGS = 6
# What prices are fitted with before the width of the smooth part is known.
TYPICAL_BUMP = 0.02
CALM_SAMPLES = 4
CALM_STRETCH = 2.0
NUM_FOLDS = 8
MIN_SPREAD = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySample:
    """One measured latency: the ratio to ``reference``, and the standard error of its logarithm."""

    arch: Architecture
    reference: Architecture
    ratio: float
    standard_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedLatency:
    """A ratio to the reference with its 90 % interval.

    ``outside`` says in what the architecture lies beyond everything measured, or is "".
    """

    estimate: float
    low: float
    high: float
    outside: str


class LatencyPredictor:
    """Prices of work on one device, and what it takes to tell the ratios of other architectures from them.

    All samples must be of one device, runtime, number of threads and sequence
    length; `nas.latency_samples` sees to that. Their references may differ.
    ``left_out_errors`` are, for each sample, the relative errors of what the
    others say of it.

    Raises:
        PredictionError: If there are fewer than `MIN_SAMPLES`, or all are of one latency.
    """

    def __init__(self, samples: Sequence[LatencySample], *, sequence_length: int) -> None:
        _check(samples)
        self.samples = tuple(samples)
        self._sequence_length = sequence_length
        self._seen = _ranges([arch for sample in samples for arch in (sample.arch, sample.reference)])
        self._observed = np.log([sample.ratio for sample in samples])
        self._error_variance = np.array([sample.standard_error for sample in samples]) ** 2
        self._process, setting, noise = self._fit()
        self._nugget = setting.nugget
        residuals, deviations = self._left_out(setting, noise)
        self._stretch = _stretch(residuals / deviations)
        self.left_out_errors: Floats = np.expm1(np.abs(residuals))

    def predict(self, archs: Sequence[Architecture], *, reference: Architecture) -> list[PredictedLatency]:
        """Predict ratios to ``reference``, with intervals in which a measurement as fine as the samples would lie."""
        if not archs:
            return []
        means, variances = self._process.at(self._pairs(archs, [reference] * len(archs)))
        # A reference's ratio to itself needs no measurement.
        is_known = np.array([arch == reference for arch in archs])
        variances = np.where(is_known, 0.0, variances + self._nugget**2 + np.median(self._error_variance))
        # The stretch is itself an estimate, from as many residuals as there are samples.
        quantile = float(stdtrit(CALM_SAMPLES + len(self.samples), (1 + LEVEL) / 2))
        halves = quantile * self._stretch * np.sqrt(variances)
        return [
            PredictedLatency(
                estimate=math.exp(mean),
                low=math.exp(mean - half),
                high=math.exp(mean + half),
                outside=_outside(arch, self._seen),
            )
            for arch, mean, half in zip(archs, means.tolist(), halves.tolist(), strict=True)
        ]

    def _fit(self) -> tuple[RatioProcess, Setting, Floats]:
        """Fit again and again, each time with the samples weighted by how well the others foretell them.

        Returns:
            The process, the widths of its priors, and the variance each sample is taken to have.
        """
        pairs = self._pairs_of(self.samples)
        noise = self._error_variance
        process, setting = _most_likely(pairs, self._observed, noise)
        for _ in range(NUM_REWEIGHTINGS):
            residuals, deviations = process.left_out()
            ordinary = self._error_variance + setting.nugget**2
            # Of a t distribution: the weight of a sample falls with its distance, as if its own error were ordinary.
            squared = residuals**2 / (deviations**2 - noise + self._error_variance)
            wanted = ordinary * np.maximum(1.0, (DEGREES_OF_FREEDOM + squared) / (DEGREES_OF_FREEDOM + 1))
            wanted -= setting.nugget**2
            if np.allclose(wanted, noise, rtol=0.1):
                break
            noise = wanted
            process = _process(pairs, self._observed, noise, setting)
        # Widths chosen with a wild sample at full weight would be too great.
        process, setting = _most_likely(pairs, self._observed, noise)
        return process, setting, noise

    def _left_out(self, setting: Setting, noise: Floats) -> tuple[Floats, Floats]:
        """Return how far each sample lies from what a fit without its fold says, and in what standard deviation."""
        num_samples = len(self.samples)
        residuals, variances = np.zeros(num_samples), np.zeros(num_samples)
        folds = np.arange(num_samples) % min(NUM_FOLDS, num_samples)
        for fold in range(folds.max() + 1):
            (here,), (others,) = np.nonzero(folds == fold), np.nonzero(folds != fold)
            pairs = self._pairs_of([self.samples[i] for i in others])
            without = _process(pairs, self._observed[others], noise[others], setting)
            means, variances[here] = without.at(self._pairs_of([self.samples[i] for i in here]))
            residuals[here] = self._observed[here] - means
        return residuals, np.sqrt(variances + setting.nugget**2 + self._error_variance)

    def _pairs_of(self, samples: Sequence[LatencySample]) -> Pairs:
        return self._pairs([sample.arch for sample in samples], [sample.reference for sample in samples])

    def _pairs(self, archs: Sequence[Architecture], references: Sequence[Architecture]) -> Pairs:
        return Pairs(work=self._work(archs), reference=self._work(references))

    def _work(self, archs: Sequence[Architecture]) -> Floats:
        return work_at_guessed_prices(archs, reference=self.samples[0].reference, sequence_length=self._sequence_length)


def work_at_guessed_prices(archs: Sequence[Architecture], *, reference: Architecture, sequence_length: int) -> Floats:
    """Return amounts of work at guessed prices, as parts of the reference's guessed time, (n, p)."""
    prices: Floats = np.array(list(GUESSED_PRICES.values()))
    unit = float((describe([reference], sequence_length=sequence_length) @ prices)[0])
    return describe(archs, sequence_length=sequence_length) * prices / unit


def _most_likely(pairs: Pairs, observed: Floats, noise: Floats) -> tuple[RatioProcess, Setting]:
    """Return the process, and the widths of its priors, under which the observations are likeliest."""
    tried = []
    for deviation in PRICE_DEVIATIONS:
        linearised = linearise(pairs, observed, noise + TYPICAL_BUMP**2, deviation=deviation)
        for bump in product(BUMP_DEVIATIONS, BUMP_LENGTHS):
            for nugget in NUGGETS:
                process = RatioProcess(pairs, observed, noise + nugget**2, linearised=linearised, bump=bump)
                tried.append((process, Setting(deviation, bump, nugget)))
    return max(tried, key=lambda pair: pair[0].log_likelihood)


def _process(pairs: Pairs, observed: Floats, noise: Floats, setting: Setting) -> RatioProcess:
    linearised = linearise(pairs, observed, noise + TYPICAL_BUMP**2, deviation=setting.deviation)
    return RatioProcess(pairs, observed, noise + setting.nugget**2, linearised=linearised, bump=setting.bump)


def _check(samples: Sequence[LatencySample]) -> None:
    if len(samples) < MIN_SAMPLES:
        raise PredictionError(
            f"{len(samples)} measured architectures are too few to predict latencies from; "
            f"measure {MIN_SAMPLES} at least"
        )
    ratios = [sample.ratio for sample in samples]
    if not (np.isfinite(ratios).all() and min(ratios) > 0):
        raise PredictionError("a measured latency is not a positive number; measure it again")
    if max(ratios) / min(ratios) < 1 + MIN_SPREAD:
        raise PredictionError(
            f"all {len(samples)} measured latencies are equal within {MIN_SPREAD:.1%}; "
            "measure architectures of different sizes"
        )


def _stretch(scores: Floats) -> float:
    """Return by how much intervals have to be wider, from left-out residuals in standard deviations.

    As if besides the samples there were `CALM_SAMPLES` that lie `CALM_STRETCH` away; wild ones count as four.
    """
    squared = np.minimum(scores**2, 16.0)
    return math.sqrt((CALM_SAMPLES * CALM_STRETCH**2 + float(squared.sum())) / (CALM_SAMPLES + len(scores)))


def _ranges(archs: Sequence[Architecture]) -> dict[str, tuple[int, int]]:
    """Return the least and the greatest of every number of these architectures, by name."""
    ranges: dict[str, tuple[int, int]] = {}
    for arch in archs:
        for name, values in _numbers(arch).items():
            low, high = ranges.get(name, (values[0], values[0]))
            ranges[name] = (min(low, *values), max(high, *values))
    return ranges


def _numbers(arch: Architecture) -> dict[str, list[int]]:
    own = {"hidden_size": [arch.hidden_size], "num_hidden_layers": [arch.num_hidden_layers]}
    own["attention_head_size"] = [arch.attention_head_size]
    names = ("num_attention_heads", "intermediate_size", *GROUP_POSITIONS)
    return own | {name: [getattr(block, name) for block in arch.blocks] for name in names}


def _outside(arch: Architecture, seen: dict[str, tuple[int, int]]) -> str:
    for name, values in _numbers(arch).items():
        low, high = seen[name]
        for value in values:
            if not low <= value <= high:
                return f"{name} {value} is outside of the measured {low} to {high}"
    return ""
