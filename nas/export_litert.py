"""A network to a LiteRT file, for the check from outside by ``benchmark_model``."""

from __future__ import annotations

import importlib
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import torch
from torch import Tensor, nn

from device_lab.files import atomic_path
from device_lab.runner.contract import check_output, token_ids
from nas.errors import MissingExtraError
from nas.export import expected_output, token_limit_of
from search_spaces.bert import Bert


class _TokensOnly(nn.Module):
    """``benchmark_model`` feeds numbers from 0 to 99: tokens, but neither a mask nor sentence numbers."""

    def __init__(self, network: Bert) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor) -> Tensor:
        logits: Tensor = self.network(input_ids, torch.ones_like(input_ids), torch.zeros_like(input_ids))
        return logits


def export_litert(network: Bert, path: Path, *, sequence_length: int) -> None:
    """Write a network as a LiteRT file of fixed input shape, atomically, once its answer is torch's.

    The input is ``input_ids``, int32, (1, sequence_length); the output is the
    logits, float32, (1, num_labels). Tracing takes tens of seconds.

    Raises:
        MissingExtraError: If the extra ``litert`` is not installed.
        WrongOutputError: If what LiteRT computes on this machine differs from torch.
        OSError: If the file cannot be written.
    """
    # The converter tells its progress on standard output, where only results of ours belong.
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        # The converter warns about its own use of torch and jax; nothing in it concerns the network.
        warnings.simplefilter("ignore")
        try:
            litert_torch = importlib.import_module("litert_torch")
        except ImportError as error:
            raise MissingExtraError(feature="exporting for LiteRT", extra="litert") from error
        ids = torch.tensor([token_ids(sequence_length, token_limit=token_limit_of(network))])  # (1, s)
        model = litert_torch.convert(_TokensOnly(network).eval(), (ids,))
        logits = model(ids.to(torch.int32))
    check_output(
        logits.flatten().tolist(), expected=expected_output(network, sequence_length=sequence_length, batch_size=1)
    )
    with atomic_path(path) as temporary, redirect_stdout(sys.stderr):
        model.export(str(temporary))
