"""Every metric equals another implementation of its definition, on inputs as degenerate as they come."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from nas.metrics import Numbers, compute_metric

CLOSE = 1e-9


@st.composite
def classes(draw: st.DrawFn, *, num_classes: int) -> tuple[Numbers, Numbers]:
    """Predicted and true classes of one example or more; often all alike."""
    size = draw(st.integers(1, 12))
    positions = st.lists(st.integers(0, num_classes - 1), min_size=size, max_size=size)
    return np.array(draw(positions), dtype=np.float64), np.array(draw(positions), dtype=np.float64)


@st.composite
def numbers(draw: st.DrawFn) -> tuple[Numbers, Numbers]:
    """Predicted and true numbers with many ties; often constant."""
    size = draw(st.integers(1, 12))
    values = st.lists(st.sampled_from((0.0, 0.1, 1 / 3, 2.5, 4.75, 5.0, -1.0)), min_size=size, max_size=size)
    return np.array(draw(values)), np.array(draw(values))


@given(classes(num_classes=2))
def test_binary_metrics_follow_the_confusion_matrix(pair: tuple[Numbers, Numbers]) -> None:
    predictions, labels = pair
    outcomes = list(zip(predictions.tolist(), labels.tolist(), strict=True))
    tp, fp, fn, tn = (outcomes.count(outcome) for outcome in ((1, 1), (1, 0), (0, 1), (0, 0)))
    precision = tp / (tp + fp) if tp + fp else 0.0
    recall = tp / (tp + fn) if tp + fn else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    spread = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))

    assert compute_metric("accuracy", predictions, labels) == pytest.approx((tp + tn) / len(outcomes), abs=CLOSE)
    assert compute_metric("f1", predictions, labels) == pytest.approx(f1, abs=CLOSE)
    matthews = (tp * tn - fp * fn) / spread if spread else 0.0
    assert compute_metric("matthews", predictions, labels) == pytest.approx(matthews, abs=CLOSE)


@given(classes(num_classes=4))
def test_matthews_is_the_correlation_of_indicators(pair: tuple[Numbers, Numbers]) -> None:
    predictions, labels = pair
    one, other = (np.eye(4)[values.astype(int)] for values in pair)
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    spread = math.sqrt((one * one).sum() * (other * other).sum())

    wanted = (one * other).sum() / spread if spread > 1e-12 else 0.0

    assert compute_metric("matthews", predictions, labels) == pytest.approx(wanted, abs=CLOSE)


@given(numbers())
def test_correlations_are_scipys_and_zero_where_it_has_none(pair: tuple[Numbers, Numbers]) -> None:
    predictions, labels = pair
    defined = len(set(predictions.tolist())) > 1 and len(set(labels.tolist())) > 1

    for name, theirs in (("pearson", pearsonr), ("spearman", spearmanr)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = theirs(predictions, labels).statistic if defined else 0.0
        assert compute_metric(name, predictions, labels) == pytest.approx(wanted, abs=CLOSE)
