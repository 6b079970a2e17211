from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from nas.errors import TaskError
from nas.metrics import METRICS, Numbers, bootstrap_interval, compute_metric

# Of 8 examples: 3 true positives, 1 false positive, 2 false negatives, 2 true negatives.
PREDICTED = np.array([1, 1, 1, 1, 0, 0, 0, 0], dtype=np.float64)
TRUE = np.array([1, 1, 1, 0, 1, 1, 0, 0], dtype=np.float64)


def test_accuracy_is_the_share_of_equal_classes() -> None:
    assert compute_metric("accuracy", PREDICTED, TRUE) == 5 / 8


def test_f1_is_that_of_the_class_at_position_one() -> None:
    # 2 * 3 / (2 * 3 + 1 + 2)
    assert compute_metric("f1", PREDICTED, TRUE) == pytest.approx(6 / 9)
    # The other class: 2 * 2 / (2 * 2 + 2 + 1)
    assert compute_metric("f1", 1 - PREDICTED, 1 - TRUE) == pytest.approx(4 / 7)


def test_matthews_is_the_phi_coefficient_of_two_classes() -> None:
    # (3 * 2 - 1 * 2) / sqrt(4 * 5 * 3 * 4)
    assert compute_metric("matthews", PREDICTED, TRUE) == pytest.approx(4 / math.sqrt(240))
    assert compute_metric("matthews", PREDICTED, TRUE) == pytest.approx(pearsonr(PREDICTED, TRUE).statistic)


def test_matthews_of_three_classes_follows_gorodkin() -> None:
    predicted, true = np.array([0.0, 1, 2, 2]), np.array([0.0, 1, 2, 1])
    # 3 right of 4; predicted 1, 1, 2 times, true 1, 2, 1 times: (3*4 - 5) / sqrt((16 - 6) * (16 - 6))
    assert compute_metric("matthews", predicted, true) == pytest.approx(7 / 10)


def test_correlations_agree_with_scipy_also_with_ties_and_far_from_zero() -> None:
    generator = np.random.default_rng(3)
    predictions = generator.normal(size=400) + 1e4
    labels = np.round(predictions + generator.normal(size=400))

    assert compute_metric("pearson", predictions, labels) == pytest.approx(pearsonr(predictions, labels).statistic)
    assert compute_metric("spearman", predictions, labels) == pytest.approx(spearmanr(predictions, labels).statistic)


@pytest.mark.parametrize("name", ["matthews", "pearson", "spearman"])
def test_the_correlation_with_a_constant_is_zero(name: str) -> None:
    assert compute_metric(name, np.full(8, 1.0), TRUE) == 0


def test_f1_without_any_positive_is_zero() -> None:
    assert compute_metric("f1", np.zeros(4), np.zeros(4)) == 0


def test_an_unknown_metric_lists_the_known_ones() -> None:
    with pytest.raises(TaskError, match=r"unknown metric 'auc' \(known: accuracy, f1, matthews, pearson, spearman\)"):
        compute_metric("auc", PREDICTED, TRUE)


def test_the_interval_of_an_accuracy_is_that_of_a_binomial_share() -> None:
    labels = np.zeros(1000)
    predictions = (np.arange(1000) >= 800).astype(np.float64)

    interval = bootstrap_interval("accuracy", predictions, labels, seed=1)

    half_width = 1.96 * math.sqrt(0.8 * 0.2 / 1000)
    assert interval.estimate == 0.8
    assert interval.level == 0.95
    assert interval.low == pytest.approx(0.8 - half_width, abs=0.004)
    assert interval.high == pytest.approx(0.8 + half_width, abs=0.004)


@pytest.mark.parametrize("name", METRICS)
def test_a_resample_weighs_examples_as_if_they_were_repeated(name: str) -> None:
    generator = np.random.default_rng(5)
    predictions, labels = (generator.integers(0, 3, size=60).astype(np.float64) for _ in range(2))
    counts = generator.integers(0, 4, size=(1, 60)).astype(np.float64)

    repeated = compute_metric(name, _repeat(predictions, counts), _repeat(labels, counts))

    assert METRICS[name](predictions, labels, counts)[0] == pytest.approx(repeated)


@pytest.mark.parametrize("name", METRICS)
def test_intervals_are_seeded_and_hold_the_estimate(name: str) -> None:
    generator = np.random.default_rng(7)
    labels = generator.integers(0, 2, size=300).astype(np.float64)
    predictions = np.where(generator.random(300) < 0.8, labels, 1 - labels)

    interval = bootstrap_interval(name, predictions, labels, seed=2)

    assert interval == bootstrap_interval(name, predictions, labels, seed=2)
    assert interval.low < interval.estimate < interval.high


def _repeat(values: Numbers, counts: Numbers) -> Numbers:
    repeated: Numbers = np.repeat(values, counts[0].astype(np.int64))
    return repeated
