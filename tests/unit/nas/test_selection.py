from __future__ import annotations

from itertools import permutations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.selection import (
    Reader,
    assign_to_groups,
    assign_to_places,
    block_channels,
    contribution_order,
    explained_energy,
    output_energy,
)


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _covariance(num_channels: int, seed: int = 0) -> torch.Tensor:
    states = _random(200, num_channels, seed=seed) @ _random(num_channels, num_channels, seed=seed + 1)
    return torch.cov(states.T)


def _left_over(reader: Reader, kept: torch.Tensor) -> float:
    """Energy of the reader's outputs that the best map of the kept channels misses."""
    covariance, weight = reader.covariance, reader.weight
    cross = weight @ covariance[:, kept]
    explained = (torch.linalg.solve(covariance[kept][:, kept], cross.T).T * cross).sum()
    return float(((weight @ covariance) * weight).sum() - explained)


def test_channels_nobody_reads_come_last() -> None:
    weight = _random(5, 8)
    weight[:, [2, 5]] = 0

    order = contribution_order([Reader(covariance=torch.eye(8).double(), weight=weight)])

    assert set(order[-2:].tolist()) == {2, 5}
    assert sorted(order.tolist()) == list(range(8))


def test_a_copy_of_a_chosen_channel_adds_nothing() -> None:
    states = _random(300, 4)
    states[:, 3] = 2 * states[:, 0]
    weight = torch.diag(torch.tensor([5.0, 1.0, 1.0, 4.0], dtype=torch.float64))

    order = contribution_order([Reader(covariance=torch.cov(states.T), weight=weight)])

    assert order.tolist()[0] in (0, 3)
    assert order.tolist()[-1] in (0, 3)


def test_greedy_order_misses_less_than_the_largest_weights() -> None:
    reader = Reader(covariance=_covariance(24), weight=_random(6, 24, seed=5))
    largest = torch.argsort((reader.weight.square() * reader.covariance.diagonal()).sum(dim=0), descending=True)

    order = contribution_order([reader])

    assert all(_left_over(reader, order[:k]) <= _left_over(reader, largest[:k]) for k in (6, 12, 18))


def test_blocks_are_chosen_whole_and_by_all_readers() -> None:
    covariance = torch.eye(12).double()
    one, other = torch.zeros(2, 3, 12, dtype=torch.float64)
    one[:, 8:12] = 1.0
    other[:, 0:4] = 1.0
    other[:, 4:8] = 0.5

    order = contribution_order(
        [Reader(covariance=covariance, weight=one), Reader(covariance=covariance, weight=other)], block_size=4
    )

    assert order.tolist() == [2, 0, 1]
    assert block_channels(order[:1], 4).tolist() == [8, 9, 10, 11]


def test_groups_explain_what_least_squares_says() -> None:
    states, weight = _random(400, 6, seed=3), _random(2, 6, seed=4)
    states -= states.mean(dim=0)
    reader = Reader(covariance=states.T @ states / 400, weight=weight)
    outputs = states @ weight.T

    explained = explained_energy(reader, 2)

    for group in range(2):
        own = states[:, 3 * group : 3 * group + 3]
        left = outputs - own @ torch.linalg.lstsq(own, outputs).solution
        expected = (outputs.square().mean(dim=0) - left.square().mean(dim=0)).double()
        torch.testing.assert_close(explained[:, group], expected, rtol=0.02, atol=1e-3)
    torch.testing.assert_close(output_energy(reader), outputs.square().mean(dim=0))


def test_places_get_the_best_permutation() -> None:
    benefits = _random(4, 4)

    order = assign_to_places(benefits)

    gained = sum(float(benefits[item, place]) for place, item in enumerate(order.tolist()))
    best = max(sum(float(benefits[item, place]) for place, item in enumerate(p)) for p in permutations(range(4)))
    assert gained == best


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 99))
def test_groups_are_full_and_no_exchange_would_gain(num_groups: int, group_size: int, seed: int) -> None:
    benefits = _random(num_groups * group_size, num_groups, seed=seed)

    order = assign_to_groups(benefits)

    assert sorted(order.tolist()) == list(range(len(benefits)))
    group_of = torch.empty(len(benefits), dtype=torch.int64)
    group_of[order] = torch.arange(len(benefits)) // group_size
    for i in range(len(benefits)):
        for j in range(len(benefits)):
            now = benefits[i, group_of[i]] + benefits[j, group_of[j]]
            assert benefits[i, group_of[j]] + benefits[j, group_of[i]] <= now + 1e-8
