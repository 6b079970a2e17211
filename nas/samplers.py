"""Samplers by name: our own, and Optuna's with every argument that matters pinned."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from nas.errors import SettingsError
from nas.evolution import EvolutionSampler

SAMPLERS = ("evolution", "tpe", "nsga2", "random")
# Optuna's default of 50 spends the whole budget of a small search at random.
NSGA2_POPULATION_SIZE = 20


def check_sampler(name: str) -> None:
    """Refuse a name that is not in `SAMPLERS`.

    Raises:
        SettingsError: If it is not.
    """
    if name not in SAMPLERS:
        raise SettingsError(f"unknown sampler {name!r} (known: {', '.join(SAMPLERS)})")


def make_sampler(
    name: str,
    *,
    seed: int,
    num_trials_before: int,
    distributions: Mapping[str, BaseDistribution],
    earlier: BaseSampler | None = None,
) -> BaseSampler:
    """Build a sampler whose draws depend on the seed and on how many trials a run already has.

    A search builds one for every proposal, so a run that was stopped and resumed
    proposes what it would have proposed without the stop: samplers keep what
    they learn in the storage, and nothing else than their generator in memory.

    Args:
        name: One of `SAMPLERS`.
        seed: The run's seed.
        num_trials_before: Trials the run already has.
        distributions: All parameters, which every trial is asked for.
        earlier: The study's sampler before, whose reading of finished trials need not be done again.

    Raises:
        SettingsError: If there is no sampler of that name.
    """
    check_sampler(name)
    draw_seed = int(np.random.SeedSequence([seed, num_trials_before]).generate_state(1)[0])
    if name == "evolution":
        return EvolutionSampler(distributions, seed=draw_seed, earlier=earlier)
    if name == "random":
        return RandomSampler(seed=draw_seed)
    if name == "nsga2":
        return _KnownSpaceSampler(NSGAIISampler(population_size=NSGA2_POPULATION_SIZE, seed=draw_seed), distributions)
    with warnings.catch_warnings():
        # multivariate and constant_liar are marked experimental; their behaviour is pinned by our tests.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        tpe = TPESampler(multivariate=True, constant_liar=True, seed=draw_seed)
    return _KnownSpaceSampler(tpe, distributions)


class _KnownSpaceSampler(BaseSampler):
    """Another sampler that is told the search space instead of reading it off all earlier trials each time."""

    def __init__(self, sampler: BaseSampler, distributions: Mapping[str, BaseDistribution]) -> None:
        self._sampler = sampler
        self._distributions = dict(sorted(distributions.items()))

    def infer_relative_search_space(self, _study: Study, _trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return all parameters. See `BaseSampler.infer_relative_search_space`."""
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """See `BaseSampler.sample_relative`."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """See `BaseSampler.sample_independent`."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """See `BaseSampler.before_trial`."""
        self._sampler.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """See `BaseSampler.after_trial`."""
        self._sampler.after_trial(study, trial, state, values)
