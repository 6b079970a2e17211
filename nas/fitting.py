"""Single layers in closed form: linear layers with groups, and layer norms.

Shape legend: t tokens, n inputs and r outputs of a layer, g groups, h channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from nas.moments import RIDGE, ridge_map
from nas.packed import grouped_linear
from nas.products import slices


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linear:
    """A linear layer with groups: weight (g, r / g, n / g) and bias (r,)."""

    weight: Tensor
    bias: Tensor

    def __call__(
        self, states: Tensor, *, activation: Callable[[Tensor], Tensor] | None = None, out: Tensor | None = None
    ) -> Tensor:
        """Map ``states`` (t, n) to (t, r). See `nas.packed.grouped_linear`."""
        return grouped_linear(states, self.weight, self.bias, activation=activation, out=out)

    def state(self, name: str) -> dict[str, Tensor]:
        """Return it as the state of a 1x1 convolution called ``name``."""
        return {f"{name}.weight": self.weight.flatten(0, 1)[:, :, None], f"{name}.bias": self.bias}


def diagonal_blocks(weight: Tensor, groups: int) -> Tensor:
    """Return the diagonal blocks (g, r / g, n / g) of a matrix (r, n)."""
    rows, columns = weight.shape[0] // groups, weight.shape[1] // groups
    blocks = weight.view(groups, rows, groups, columns)
    return torch.stack([blocks[group, :, group] for group in range(groups)])


def fit_groups(
    *,
    scatter: Tensor,
    cross: Tensor,
    prior: Tensor,
    groups: int,
    input_mean: Tensor,
    target_mean: Tensor,
    what: str,
) -> Linear:
    """Fit a linear layer with groups to targets by least squares, every group from its own inputs.

    Args:
        scatter: Second moment of the inputs, (n, n) in float64; only its diagonal blocks are read.
        cross: Second moment of targets and inputs, (r, n); only its diagonal blocks are read.
        prior: The dense weight (r, n) that the fit is drawn to where the data is silent.
        groups: Groups of the layer.
        input_mean: Mean of the inputs, (n,).
        target_mean: Mean of the targets, (r,).
        what: Which layer this is, for a warning.
    """
    blocks = list(zip(diagonal_blocks(scatter, groups), diagonal_blocks(cross, groups), strict=True))
    return fit_blocks(blocks, prior=prior, input_mean=input_mean, target_mean=target_mean, what=what)


def fit_blocks(
    blocks: Sequence[tuple[Tensor, Tensor]],
    *,
    prior: Tensor,
    input_mean: Tensor,
    target_mean: Tensor,
    what: str,
    ridge: float = RIDGE,
) -> Linear:
    """Fit as `fit_groups` does, from each group's own second moments (n / g, n / g) and (r / g, n / g)."""
    priors = diagonal_blocks(prior, len(blocks))
    weight = torch.stack(
        [
            ridge_map(scatter, cross, prior=own, what=what, ridge=ridge)
            for (scatter, cross), own in zip(blocks, priors, strict=True)
        ]
    )
    # What a group cannot explain of the mean is not lost: the bias has it.
    reached = torch.einsum("grn,gn->gr", weight, input_mean.double().view(len(blocks), -1)).flatten()
    return Linear(weight=weight.float(), bias=(target_mean.double() - reached).float())


def fit_layer_norm(states: Tensor, targets: Tensor, *, prior_scale: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Fit scale and shift (h,) so that normalised ``states`` (t, h) come close to ``targets`` (t, h).

    ``prior_scale`` (h,) is the scale that the fit is drawn to.
    """
    sums = torch.zeros(4, states.shape[1], dtype=torch.float64, device=states.device)
    for part in slices(len(states)):
        normalized, wanted = layer_norm(states[part], (states.shape[1],), None, None, eps), targets[part]
        products = (normalized, wanted, normalized * wanted, normalized.square())
        sums += torch.stack([each.sum(dim=0) for each in products])
    mean, target_mean, product, square = sums / len(states)
    scale = (product - mean * target_mean + RIDGE * prior_scale) / (square - mean.square() + RIDGE)
    return scale.float(), (target_mean - scale * mean).float()
