from __future__ import annotations

import optuna
import pytest
from optuna.distributions import BaseDistribution, IntDistribution

from nas.errors import SettingsError
from nas.samplers import SAMPLERS, make_sampler

DISTRIBUTIONS: dict[str, BaseDistribution] = {f"layer{i}": IntDistribution(0, 4) for i in range(6)}


def proposals(name: str, *, seed: int, count: int) -> list[dict[str, int]]:
    """Ask and tell a two-objective study; a sampler is built anew for every proposal, as a search does."""
    study = optuna.create_study(directions=["minimize", "minimize"])
    for number in range(count):
        study.sampler = make_sampler(name, seed=seed, num_trials_before=number, distributions=DISTRIBUTIONS)
        trial = study.ask(DISTRIBUTIONS)
        total = sum(trial.params.values())
        study.tell(trial, [total, (total - 10) ** 2])
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("name", SAMPLERS)
def test_proposals_depend_on_the_seed_alone(name: str) -> None:
    once, again, other = (proposals(name, seed=seed, count=25) for seed in (3, 3, 4))

    assert once == again != other


@pytest.mark.parametrize("name", SAMPLERS)
def test_successive_proposals_differ(name: str) -> None:
    assert len({tuple(sorted(params.items())) for params in proposals(name, seed=0, count=12)}) >= 9


@pytest.mark.parametrize("name", ["evolution", "tpe", "nsga2"])
def test_a_sampler_that_learns_ends_up_where_the_objectives_agree(name: str) -> None:
    late = proposals(name, seed=1, count=120)[60:]

    # Both objectives are best from a total of 0 to 10; a random total is 12 on the average.
    assert sum(sum(params.values()) for params in late) / len(late) < 10.5


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_parameter_is_proposed_even_without_earlier_trials(name: str) -> None:
    (first,) = proposals(name, seed=0, count=1)

    assert set(first) == set(DISTRIBUTIONS)


def test_an_unknown_sampler_is_named_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"unknown sampler 'grid' \(known: evolution, tpe, nsga2, random\)"):
        make_sampler("grid", seed=0, num_trials_before=0, distributions=DISTRIBUTIONS)
