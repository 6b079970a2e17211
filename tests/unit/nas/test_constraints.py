from __future__ import annotations

import pytest

from nas.constraints import Constraints, model_mb
from nas.cost import Cost

COST = Cost(macs=2_000_000, encoder_macs=1_500_000, parameters=5_000_000)


def test_without_constraints_nothing_is_missed() -> None:
    assert not Constraints()
    assert Constraints().violations(COST, latency_ratio=9.0, accuracy=0.0) == {}
    assert Constraints().first_missed(COST, latency_ratio=9.0, accuracy=0.0) is None


def test_violations_are_shares_of_their_bounds_and_positive_where_missed() -> None:
    constraints = Constraints(max_latency_ratio=0.8, max_parameters=4_000_000, max_model_mb=40.0, min_accuracy=0.9)

    found = constraints.violations(COST, latency_ratio=0.6, accuracy=0.81)

    assert found == pytest.approx(
        {"max_latency_ratio": -0.25, "max_parameters": 0.25, "max_model_mb": -0.5, "min_accuracy": 0.1}
    )


def test_what_is_not_known_yet_is_not_judged() -> None:
    constraints = Constraints(max_latency_ratio=0.8, min_accuracy=0.9)

    assert constraints.violations(COST) == {}
    assert constraints.first_missed(COST) is None


def test_a_bound_that_is_met_exactly_is_kept() -> None:
    assert Constraints(max_parameters=5_000_000).first_missed(COST) is None
    assert Constraints(max_model_mb=model_mb(COST)).first_missed(COST) is None


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        (Constraints(max_parameters=4_000_000), "5,000,000 parameters against --max-parameters 4000000"),
        (Constraints(max_model_mb=10.0), "20 MB of weights against --max-model-mb 10.0"),
        (Constraints(max_latency_ratio=0.5), "a latency ratio of 0.6 against --max-latency-ratio 0.5"),
        (Constraints(min_accuracy=0.95), "a score of 0.9 against --min-accuracy 0.95"),
    ],
)
def test_what_is_missed_is_said_as_its_option_is_written(constraints: Constraints, message: str) -> None:
    assert constraints.first_missed(COST, latency_ratio=0.6, accuracy=0.9) == message
