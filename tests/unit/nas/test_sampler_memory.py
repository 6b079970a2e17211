"""What a sampler keeps between proposals saves time and changes nothing."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import TrialState

from nas.evolution import MAX_ROWS, best_ranks
from nas.samplers import make_sampler

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    f"layer{layer}.{name}": IntDistribution(0, 5) for layer in range(3) for name in ("groups", "width")
}
STATES = (TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED, TrialState.RUNNING)


def proposals(*, num_before: int, num_asks: int, remembers: bool) -> list[dict[str, object]]:
    """What is proposed one after the other, each told in another way, after trials drawn at random."""
    generator = np.random.default_rng(0)
    study = optuna.create_study(directions=["maximize", "minimize"])
    for _ in range(num_before):
        params = {name: int(generator.integers(6)) for name in DISTRIBUTIONS}
        values = [sum(params.values()) / 30, 1 + float(generator.random())]
        study.add_trial(optuna.trial.create_trial(params=params, distributions=DISTRIBUTIONS, values=values))
    found: list[dict[str, object]] = []
    for number in range(num_asks):
        study.sampler = make_sampler(
            "evolution",
            seed=1,
            num_trials_before=num_before + number,
            distributions=DISTRIBUTIONS,
            earlier=study.sampler if remembers else None,
        )
        trial = study.ask(DISTRIBUTIONS)
        found.append(dict(trial.params))
        state = STATES[number % len(STATES)]
        if state == TrialState.COMPLETE:
            study.tell(trial, [0.5 + 0.01 * number, 1.0 - 0.01 * number])
        elif state != TrialState.RUNNING:
            study.tell(trial, state=state)
    return found


@pytest.mark.parametrize("num_before", [0, MAX_ROWS + 50])
def test_a_sampler_that_remembers_proposes_what_one_that_does_not_proposes(num_before: int) -> None:
    with_memory, without = (
        proposals(num_before=num_before, num_asks=9, remembers=remembers) for remembers in (True, False)
    )

    assert with_memory == without
    assert len({tuple(each.items()) for each in with_memory}) == len(with_memory)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.sampled_from([2, 5, 1000]))
def test_the_first_places_do_not_need_all_rows_in_order(seed: int, num_rows: int, depth: int, num_values: int) -> None:
    reached = np.random.default_rng(seed).integers(num_values, size=(num_rows, 3)).astype(float)

    quick, exact = (best_ranks(reached, depth=each) for each in (min(depth, num_rows), num_rows))

    is_first = exact < depth
    assert quick[is_first].tolist() == exact[is_first].tolist()
    assert (quick[~is_first] >= min(depth, num_rows)).all()
