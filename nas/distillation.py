"""The loss of a candidate that learns from its teacher, inside as well as at the head.

Besides the labels and the teacher's answers it asks for the teacher's hidden
states after every layer that both have, and for the relations between tokens
inside the last attention (MiniLMv2, Wang et al., arXiv 2012.15828).

Shape legend: b batch, s tokens, h hidden_size, a all heads' channels, n heads,
c num_labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from nas.losses import label_loss, logit_loss
from nas.tasks import TaskKind
from nas.teacher_states import LOGITS, RELATED, TeacherStates, observed
from nas.tokens import Batch
from nas.training import forward
from search_spaces.bert import Bert, attention_bias


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """How much each part counts; the labels have what the teacher's logits leave of one."""

    temperature: float = 2.0
    logits: float = 0.5
    hidden: float = 1.0
    relations: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Correspondence:
    """Where a candidate's states are found in its teacher.

    ``layers`` are the teacher layers that the candidate's stand for, ``hidden``
    (h,) the residual channels, ``heads`` (a,) the last layer's head channels.
    """

    layers: Sequence[int]
    hidden: Tensor
    heads: Tensor


class DistillationLoss:
    """Runs a candidate on a batch and returns how far it is from its teacher; a `nas.training.Loss`."""

    def __init__(
        self, teacher: TeacherStates, correspondence: Correspondence, *, kind: TaskKind, weights: LossWeights
    ) -> None:
        self._teacher = teacher
        self._correspondence = correspondence
        self._kind = kind
        self._weights = weights

    def __call__(self, network: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of ``network``, a `Bert`, on ``batch``."""
        # Hooks need a `Bert`; whoever calls has built one from an architecture.
        network = cast("Bert", network)
        same, weights = self._correspondence, self._weights
        wanted = self._teacher(batch, same.layers)
        with observed(network, range(len(network.layers))) as seen:
            logits = forward(network, batch).float()
        total = weights.logits * logit_loss(self._kind, logits, wanted[LOGITS], temperature=weights.temperature)
        total = total + (1 - weights.logits) * label_loss(logits, batch, self._kind)
        mask = batch.attention_mask.float()
        for layer, teacher_layer in enumerate(same.layers):
            apart = hidden_loss(seen[layer], wanted[teacher_layer][:, same.hidden], mask)
            total = total + weights.hidden / len(same.layers) * apart
        num_heads = network.arch.blocks[-1].num_attention_heads
        for name in RELATED:
            apart = relation_loss(seen[name], wanted[name][:, same.heads], mask, num_heads=num_heads)
            total = total + weights.relations / len(RELATED) * apart
        return total


def hidden_loss(states: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """Return the squared distance of hidden states (b, h, s) from those wanted, as a share of their variance.

    ``mask`` (b, s) is 0 for padding, which counts in neither.
    """
    weight = mask[:, None] / (mask.sum() * states.shape[1])  # (b, 1, s)
    mean = (weight * wanted).sum(dim=(0, 2), keepdim=True) * states.shape[1]  # (1, h, 1)
    variance = (weight * (wanted - mean).square()).sum()
    return (weight * (states.float() - wanted).square()).sum() / variance


def relation_loss(states: Tensor, wanted: Tensor, mask: Tensor, *, num_heads: int) -> Tensor:
    """Return the divergence between the relations of tokens within each head of states (b, a, s) and those wanted.

    A token's relations are the softmax over all tokens of its scaled products
    with them. ``mask`` (b, s) is 0 for padding, which counts in neither.
    """
    ours, theirs = (_relations(each, mask, num_heads=num_heads) for each in (states.float(), wanted.float()))
    divergence = (theirs.exp() * (theirs - ours)).sum(dim=3)  # (b, n, s)
    return (divergence * mask[:, None]).sum() / (mask.sum() * num_heads)


def _relations(states: Tensor, mask: Tensor, *, num_heads: int) -> Tensor:
    """Return the log relations (b, n, s, s)."""
    b, _, s = states.shape
    heads = states.view(b, num_heads, -1, s)
    # In float32 also where the network computes in bfloat16: a softmax of 8 bits has no tail.
    with torch.autocast(device_type=states.device.type, enabled=False):
        products = heads.transpose(2, 3) @ heads / math.sqrt(heads.shape[2])
    return log_softmax(products + attention_bias(mask, dtype=products.dtype), dim=3)
