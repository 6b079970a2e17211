"""Optuna's samplers by name, with every argument that matters pinned."""

from __future__ import annotations

import warnings

import numpy as np
import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler

from nas.errors import SettingsError

SAMPLERS = ("tpe", "nsga2", "random")
# Optuna's default of 50 spends the whole budget of a small search at random.
NSGA2_POPULATION_SIZE = 20


def check_sampler(name: str) -> None:
    """Refuse a name that is not in `SAMPLERS`.

    Raises:
        SettingsError: If it is not.
    """
    if name not in SAMPLERS:
        raise SettingsError(f"unknown sampler {name!r} (known: {', '.join(SAMPLERS)})")


def make_sampler(name: str, *, seed: int, num_trials_before: int) -> BaseSampler:
    """Build a sampler whose draws depend on the seed and on how many trials a run already has.

    A search builds one for every proposal, so a run that was stopped and resumed
    proposes what it would have proposed without the stop: samplers keep what
    they learn in the storage, and nothing else than their generator in memory.

    Raises:
        SettingsError: If there is no sampler of that name.
    """
    check_sampler(name)
    draw_seed = int(np.random.SeedSequence([seed, num_trials_before]).generate_state(1)[0])
    if name == "random":
        return RandomSampler(seed=draw_seed)
    if name == "nsga2":
        return NSGAIISampler(population_size=NSGA2_POPULATION_SIZE, seed=draw_seed)
    with warnings.catch_warnings():
        # multivariate and constant_liar are marked experimental; their behaviour is pinned by our tests.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(multivariate=True, constant_liar=True, seed=draw_seed)
