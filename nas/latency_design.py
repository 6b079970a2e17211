"""Which architectures to measure first: those that together leave the least unknown.

Before anything is measured, the latency model says how uncertain each ratio is
and how one measurement would narrow the others. Taking the most uncertain one
again and again is the greedy way to a design of greatest information (D-optimal
for the model's linear part; Krause, Singh and Guestrin, 2008).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.latency import work_at_guessed_prices
from nas.latency_process import Pairs, prior_covariance
from search_spaces.architecture import Architecture
from search_spaces.space import Space

POOL_SIZE = 256
# Standard deviations of a log price, of what prices do not explain, and of a measurement.
PRICE_DEVIATION = 1.0
BUMP = (0.03, 1.0)
ERROR = 0.01


def draw_pool(space: Space, *, seed: int, size: int = POOL_SIZE) -> list[Architecture]:
    """Draw distinct architectures of all sizes.

    Drawn evenly, nearly all networks of a large space would be middling; so each
    draws a leaning towards small or large first, and answers by it.
    """
    generator = np.random.default_rng(seed)
    pool: dict[Architecture, None] = {}
    # A small space has fewer than were asked for.
    for _ in range(4 * size):
        if len(pool) == size:
            break
        pool[draw_leaning(space, generator)] = None
    return list(pool)


def most_informative(
    pool: Sequence[Architecture], *, known: Sequence[Architecture], reference: Architecture, sequence_length: int
) -> Architecture:
    """Return the architecture of ``pool`` whose ratio to ``reference`` the ``known`` ones tell least about.

    Raises:
        ValueError: If the pool is empty.
    """
    archs = [*known, *pool]
    work = work_at_guessed_prices([*archs, reference], reference=reference, sequence_length=sequence_length)
    pairs = Pairs(work=work[:-1], reference=np.repeat(work[-1:], len(archs), axis=0))
    covariance = prior_covariance(pairs, price_deviation=PRICE_DEVIATION, bump=BUMP)
    left = np.diag(covariance).copy()
    if known:
        of_known = covariance[: len(known), : len(known)] + ERROR**2 * np.eye(len(known))
        across = covariance[: len(known)]
        left -= (across * np.linalg.solve(of_known, across)).sum(axis=0)
    return pool[int(np.argmax(left[len(known) :]))]


def draw_leaning(space: Space, generator: np.random.Generator) -> Architecture:
    """Draw an architecture whose answers lean, all alike, towards small or large networks."""
    largeness = generator.random()

    def choose(name: str, options: Sequence[int]) -> int:
        # More groups make a network smaller, more of anything else larger.
        share = 1 - largeness if name.endswith("_groups") else largeness
        return options[int(generator.binomial(len(options) - 1, share))]

    return space.sample(choose)
