"""The metrics of GLUE, and how far each would move with other dev examples.

Predictions are positions of classes, or numbers for regression. A bootstrap
over examples (Efron, 1979) never needs the examples themselves here: a
resample changes only how often each example, or each pair of predicted and
true class, counts, so a thousand resamples are a few array operations.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from device_lab.measurement import Interval
from nas.errors import TaskError

Numbers = NDArray[np.float64]

NUM_RESAMPLES = 1_000
LEVEL = 0.95
# Largest number of resample-by-example weights held at once, 8 bytes each.
MAX_WEIGHTS = 4_000_000


def compute_metric(name: str, predictions: Numbers, labels: Numbers) -> float:
    """Compute one metric as a fraction, or as a correlation.

    Args:
        name: One of `METRICS`. ``f1`` is that of the class at position 1.
        predictions: One class position or number per example.
        labels: What they should be.

    Returns:
        The metric. A correlation with a constant, Matthews' included, and an F1
        without any positive are 0.

    Raises:
        TaskError: If no metric has that name.
    """
    weights = np.ones((1, len(labels)))
    return float(_weighted(name, predictions, labels, weights)[0])


def bootstrap_interval(name: str, predictions: Numbers, labels: Numbers, *, seed: int) -> Interval:
    """Compute one metric with its 95 % percentile bootstrap interval over examples.

    The interval says how far the metric would move with other dev examples of
    the same kind. It does not include the noise of training.

    Raises:
        TaskError: If no metric has that name.
    """
    num_examples = len(labels)
    generator = np.random.default_rng(seed)
    even = np.full(num_examples, 1.0 / num_examples)
    # In slices, so that memory does not grow with the number of examples.
    num_slices = 1 + NUM_RESAMPLES * num_examples // MAX_WEIGHTS
    sizes = [len(rows) for rows in np.array_split(np.arange(NUM_RESAMPLES), num_slices)]
    counts = (generator.multinomial(num_examples, even, size=size).astype(np.float64) for size in sizes)
    values = np.concatenate([_weighted(name, predictions, labels, weights) for weights in counts])
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    estimate = compute_metric(name, predictions, labels)
    return Interval(estimate=estimate, low=float(low), high=float(high), level=LEVEL)


def _weighted(name: str, predictions: Numbers, labels: Numbers, weights: Numbers) -> Numbers:
    """Compute a metric once per row of ``weights``, (resamples, examples)."""
    if name not in METRICS:
        raise TaskError(f"unknown metric {name!r} (known: {', '.join(METRICS)})")
    return METRICS[name](np.asarray(predictions, np.float64), np.asarray(labels, np.float64), weights)


def _accuracy(predictions: Numbers, labels: Numbers, weights: Numbers) -> Numbers:
    return _divide(weights @ (predictions == labels), weights.sum(axis=1))


def _f1(predictions: Numbers, labels: Numbers, weights: Numbers) -> Numbers:
    both = weights @ ((predictions == 1) & (labels == 1))
    either = weights @ (predictions == 1) + weights @ (labels == 1)
    return _divide(2 * both, either)


def _matthews(predictions: Numbers, labels: Numbers, weights: Numbers) -> Numbers:
    """Gorodkin's form for any number of classes; with two it is the usual phi coefficient."""
    classes = np.union1d(predictions, labels)
    predicted = weights @ (predictions[:, None] == classes)  # (resamples, classes)
    true = weights @ (labels[:, None] == classes)
    total = weights.sum(axis=1)
    covariance = (weights @ (predictions == labels)) * total - (predicted * true).sum(axis=1)
    spreads = (total**2 - (predicted**2).sum(axis=1)) * (total**2 - (true**2).sum(axis=1))
    return _divide(covariance, np.sqrt(spreads))


def _pearson(predictions: Numbers, labels: Numbers, weights: Numbers) -> Numbers:
    # Centred first: the sums of squares would otherwise cancel for numbers far from zero.
    x, y = predictions - predictions.mean(), labels - labels.mean()
    return _correlation(weights, x, y)


def _spearman(predictions: Numbers, labels: Numbers, weights: Numbers) -> Numbers:
    return _correlation(weights, _midranks(predictions, weights), _midranks(labels, weights))


def _midranks(values: Numbers, weights: Numbers) -> Numbers:
    """Rank every example within each resample, ties sharing their mean rank, (resamples, examples).

    An example that a resample draws k times takes k neighbouring ranks, so
    ranks are running sums of weights in the order of the distinct values.
    """
    distinct, positions = np.unique(values, return_inverse=True)
    order = np.argsort(positions, kind="stable")
    starts = np.searchsorted(positions[order], np.arange(len(distinct)))
    counts = np.add.reduceat(weights[:, order], starts, axis=1)  # (resamples, distinct)
    ranks = np.cumsum(counts, axis=1) - counts / 2
    # Centred on the middle rank, so that the sums of squares do not cancel.
    centred: Numbers = ranks[:, positions] - weights.sum(axis=1, keepdims=True) / 2
    return centred


def _correlation(weights: Numbers, x: Numbers, y: Numbers) -> Numbers:
    total = weights.sum(axis=1)
    mean_x, mean_y = (weights * x).sum(axis=1) / total, (weights * y).sum(axis=1) / total
    covariance = (weights * x * y).sum(axis=1) / total - mean_x * mean_y
    variance_x = (weights * x * x).sum(axis=1) / total - mean_x**2
    variance_y = (weights * y * y).sum(axis=1) / total - mean_y**2
    # Rounding may leave a constant a variance of -1e-17.
    return _divide(covariance, np.sqrt(np.maximum(variance_x, 0) * np.maximum(variance_y, 0)))


def _divide(numerator: Numbers, denominator: Numbers) -> Numbers:
    quotient: Numbers = np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0)
    return quotient


METRICS: dict[str, Callable[[Numbers, Numbers, Numbers], Numbers]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
}
