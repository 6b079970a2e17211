"""Which of a teacher's channels a narrower or grouped candidate keeps, and in which order.

Channels are chosen by what they contribute to the layer that reads them, when
all that reader may do is a linear map of the chosen ones: greedy forward
selection, by covariances alone. Where the order of channels is free (heads of a
block, channels of an FFN), those that a group can explain are put into it. That
order is folded into the weights on both sides and costs nothing at inference.

Shape legend: n channels, r outputs of a reader, g groups, k chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from nas.moments import RIDGE

# A round of selection takes this share of the channels at once: one by one takes minutes and gains nothing.
SHARE_PER_ROUND = 1 / 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reader:
    """One linear layer that reads the channels: their covariance (n, n) and its weights (r, n)."""

    covariance: Tensor
    weight: Tensor


def contribution_order(readers: Sequence[Reader], *, block_size: int = 1) -> Tensor:
    """Order blocks of neighbouring channels by what they add to what the earlier ones explain.

    The first k of the order are the greedy choice of k blocks, for every k.

    Args:
        readers: Layers that read the channels. Each counts by the share of its own outputs' energy.
        block_size: Neighbouring channels that are kept or dropped together.

    Returns:
        Positions of the blocks, (n / block_size,), the most useful first.
    """
    covariances = [_regular(reader.covariance.double()) for reader in readers]
    crosses = [_readable(reader) for reader in readers]
    num_blocks = len(covariances[0]) // block_size
    per_round = max(1, int(num_blocks * SHARE_PER_ROUND))
    left = torch.ones(num_blocks, dtype=torch.bool)
    order: list[int] = []
    while len(order) < num_blocks:
        gains = torch.stack(
            [_gains(covariance, cross, block_size) for covariance, cross in zip(covariances, crosses, strict=True)]
        ).sum(dim=0)
        gains[~left] = -torch.inf
        best = torch.topk(gains, min(per_round, num_blocks - len(order))).indices
        left[best] = False
        order += best.tolist()
        channels = block_channels(best, block_size)
        for covariance, cross in zip(covariances, crosses, strict=True):
            _explain(covariance, cross, channels)
    return torch.tensor(order)


def block_channels(blocks: Tensor, block_size: int) -> Tensor:
    """Return the channels of blocks (k,) of neighbours, (k * block_size,)."""
    return (blocks[:, None] * block_size + torch.arange(block_size)).flatten()


def explained_energy(reader: Reader, groups: int) -> Tensor:
    """Return how much of each output's energy every group of inputs explains by itself, (r, g)."""
    covariance, weight = _regular(reader.covariance.double()), reader.weight.double()
    size = len(covariance) // groups
    explained = []
    for group in range(groups):
        inside = slice(group * size, (group + 1) * size)
        cross = weight @ covariance[:, inside]
        explained.append((torch.linalg.solve(covariance[inside, inside], cross.T).T * cross).sum(dim=1))
    return torch.stack(explained, dim=1)


def output_energy(reader: Reader) -> Tensor:
    """Return the energy of each output, (r,)."""
    weight = reader.weight.double()
    return ((weight @ reader.covariance.double()) * weight).sum(dim=1)


def assign_to_places(benefits: Tensor) -> Tensor:
    """Return which item goes to each place, (n,), for the largest sum of ``benefits`` (items n, places n)."""
    _, places = linear_sum_assignment(-benefits.numpy())
    return torch.from_numpy(np.argsort(places))


def assign_to_groups(benefits: Tensor) -> Tensor:
    """Order items so that equally many stand in each group, (n,), by ``benefits`` (items n, groups g).

    Items choose in the order of what they lose if they do not get their best
    group; then pairs are exchanged for as long as that gains.
    """
    num_items, num_groups = benefits.shape
    room = np.full(num_groups, num_items // num_groups)
    gain = benefits.numpy()
    best_two = np.sort(gain, axis=1)[:, -2:]
    group_of = np.empty(num_items, dtype=np.int64)
    for item in np.argsort(best_two[:, 0] - best_two[:, -1], kind="stable"):
        free = np.where(room > 0, gain[item], -np.inf)
        group_of[item] = np.argmax(free)
        room[group_of[item]] -= 1
    _exchange(gain, group_of)
    return torch.from_numpy(np.argsort(group_of, kind="stable"))


def _exchange(gain: np.ndarray, group_of: np.ndarray) -> None:
    """Swap the best pair of items of each two groups until no swap gains."""
    num_groups = gain.shape[1]
    own = gain[np.arange(len(gain)), group_of]
    improved = True
    while improved:
        improved = False
        for first in range(num_groups):
            for second in range(first + 1, num_groups):
                ours, theirs = np.flatnonzero(group_of == first), np.flatnonzero(group_of == second)
                give, take = gain[ours, second] - own[ours], gain[theirs, first] - own[theirs]
                i, j = ours[np.argmax(give)], theirs[np.argmax(take)]
                if give.max() + take.max() > 1e-9 * abs(gain).max():
                    group_of[i], group_of[j] = second, first
                    own[i], own[j] = gain[i, second], gain[j, first]
                    improved = True


def _regular(covariance: Tensor) -> Tensor:
    """Add a ridge to a copy of ``covariance``; channels that are constant stay harmless."""
    ridge = RIDGE * covariance.diagonal().mean() + torch.finfo(covariance.dtype).tiny
    return covariance + ridge * torch.eye(len(covariance), dtype=covariance.dtype)


def _readable(reader: Reader) -> Tensor:
    """Return the covariance of a reader's outputs with its inputs, scaled to energy 1, (at most n, n)."""
    weight = reader.weight.double()
    if len(weight) > weight.shape[1]:
        # Only the sizes of columns matter, and a triangle has the same.
        weight = torch.linalg.qr(weight, mode="r").R
    energy = ((weight @ reader.covariance.double()) * weight).sum()
    return (weight @ reader.covariance.double()) / torch.sqrt(energy.clamp_min(torch.finfo(torch.float64).tiny))


def _gains(covariance: Tensor, cross: Tensor, block_size: int) -> Tensor:
    """Energy that each block would explain in addition, (n / block_size,)."""
    if block_size == 1:
        floor = torch.finfo(covariance.dtype).tiny
        return cross.square().sum(dim=0) / covariance.diagonal().clamp_min(floor)
    num_blocks = len(covariance) // block_size
    gains = []
    for block in range(num_blocks):
        inside = slice(block * block_size, (block + 1) * block_size)
        own = _regular(covariance[inside, inside])
        gains.append((torch.linalg.solve(own, cross[:, inside].T).T * cross[:, inside]).sum())
    return torch.stack(gains)


def _explain(covariance: Tensor, cross: Tensor, channels: Tensor) -> None:
    """Take out of both, in place, what ``channels`` explain."""
    factor = torch.linalg.cholesky(_regular(covariance[channels][:, channels]))
    columns = torch.linalg.solve_triangular(factor, covariance[channels], upper=False)  # (k, n)
    answers = torch.linalg.solve_triangular(factor, cross[:, channels].T, upper=False)  # (k, r)
    covariance -= columns.T @ columns
    cross -= answers.T @ columns
