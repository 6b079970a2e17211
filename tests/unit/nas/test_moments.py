from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import ProjectionWarning
from nas.moments import COLUMNS_PER_BLOCK, fit_moments, moments_of, ridge_map
from nas.products import ROWS_AT_ONCE


def _states(*shape: int, seed: int = 0, std: float = 1.0) -> torch.Tensor:
    return std * torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + 3


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 6))
def test_moments_of_chunks_merge_to_the_moments_of_the_whole(sizes: list[int], num_channels: int) -> None:
    whole = _states(sum(sizes), num_channels)
    chunks = [moments_of(chunk) for chunk in torch.split(whole, sizes)]

    merged = chunks[0]
    for chunk in chunks[1:]:
        merged = merged.merge(chunk)

    expected = moments_of(whole)
    assert merged.num_tokens == expected.num_tokens
    torch.testing.assert_close(merged.mean, expected.mean)
    torch.testing.assert_close(merged.scatter, expected.scatter)


def test_covariance_agrees_with_torchs() -> None:
    states = _states(50, 4)

    torch.testing.assert_close(moments_of(states).covariance, torch.cov(states.double().T, correction=0))


@pytest.mark.parametrize("num_inputs", [1, 7, COLUMNS_PER_BLOCK, 2 * COLUMNS_PER_BLOCK + 5])
def test_moments_in_slices_and_blocks_are_those_of_the_whole(num_inputs: int) -> None:
    inputs, targets = _states(2 * ROWS_AT_ONCE + 3, num_inputs), _states(2 * ROWS_AT_ONCE + 3, 3, seed=1)
    means = inputs.mean(dim=0), targets.mean(dim=0)

    scatter, cross = fit_moments(inputs, means[0], targets, means[1])

    exact, wanted = (inputs - means[0]).double(), (targets - means[1]).double()
    assert torch.equal(scatter, scatter.T)
    torch.testing.assert_close(scatter, exact.T @ exact, rtol=1e-5, atol=1e-2)
    torch.testing.assert_close(cross, wanted.T @ exact, rtol=1e-5, atol=1e-2)


def test_moments_of_groups_are_the_diagonal_blocks_of_what_is_left_beside_others() -> None:
    inputs, targets, beside = _states(500, 12), _states(500, 4, seed=1), _states(500, 4, seed=2)
    means = inputs.mean(dim=0), (targets - beside).mean(dim=0)

    scatter, cross = fit_moments(inputs, means[0], targets, means[1], groups=3, beside=beside)

    exact, wanted = (inputs - means[0]).double(), (targets - beside - means[1]).double()
    in_one_group = torch.kron(torch.eye(3), torch.ones(4, 4))
    torch.testing.assert_close(scatter, exact.T @ exact * in_one_group, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(cross, wanted.T @ exact, rtol=1e-5, atol=1e-3)


def test_a_linear_map_is_found_from_its_data() -> None:
    inputs = _states(500, 6).double()
    wanted = _states(3, 6, seed=1).double()
    centred = inputs - inputs.mean(dim=0)
    scatter = centred.T @ centred

    found = ridge_map(scatter, wanted @ scatter, prior=torch.zeros(3, 6), what="layer", ridge=1e-9)

    torch.testing.assert_close(found, wanted)


def test_the_solution_minimises_error_plus_ridge() -> None:
    inputs, targets, prior = _states(40, 4).double(), _states(40, 2, seed=1).double(), _states(2, 4, seed=2).double()
    scatter, ridge = inputs.T @ inputs, 0.1
    found = ridge_map(scatter, targets.T @ inputs, prior=prior, what="layer", ridge=ridge)

    def objective(weight: torch.Tensor) -> torch.Tensor:
        error = (targets - inputs @ weight.T).square().sum()
        return error + ridge * scatter.diagonal().mean() * (weight - prior).square().sum()

    for seed in range(5):
        assert objective(found) < objective(found + 1e-3 * _states(2, 4, seed=seed).double())


def test_where_the_data_is_silent_the_prior_stays() -> None:
    scatter = torch.diag(torch.tensor([5.0, 0.0], dtype=torch.float64))

    found = ridge_map(scatter, torch.tensor([[10.0, 0.0]]).double(), prior=torch.tensor([[7.0, -3.0]]), what="layer")

    assert found[0, 0] == pytest.approx(2.0, abs=0.02)
    assert found[0, 1] == pytest.approx(-3.0)


@pytest.mark.parametrize("value", [0.0, torch.nan, torch.inf])
def test_moments_that_determine_nothing_give_the_prior_and_a_warning(value: float) -> None:
    prior = torch.tensor([[1.0, 2.0]])

    with pytest.warns(ProjectionWarning, match="layer 3 query: its inputs do not determine a projection; the teacher"):
        found = ridge_map(
            torch.full((2, 2), value).double(), torch.ones(1, 2).double(), prior=prior, what="layer 3 query"
        )

    assert torch.equal(found, prior.double())
