"""A network's layers compiled by ``torch.compile``, where there is a compiler: the same steps, rounded otherwise."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from nas.errors import CompilationWarning
from search_spaces.bert import Bert


def compile_layers(network: Bert, *, device: str) -> None:
    """Compile the layers of ``network`` in place; without a compiler they stay, with a `CompilationWarning`.

    Layers of one shape are compiled once, at the first step, for all batches.
    """
    try:
        # Whether there is a compiler shows only when it is called.
        torch.compile(_try_out)(torch.ones(2, device=device))
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        warnings.warn(
            f"--compile does nothing: torch.compile finds no compiler ({reason})", CompilationWarning, stacklevel=2
        )
        return
    for layer in network.layers:
        # Dropout draws from torch's own generator, so that the same units are dropped.
        layer.compile(dynamic=True, options={"fallback_random": True})


def _try_out(tensor: Tensor) -> Tensor:
    return tensor.sin() + 1
