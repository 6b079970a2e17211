"""A network to a LiteRT file, held against torch on this machine before it has its name."""

from __future__ import annotations

import importlib
import sys
import warnings
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from device_lab.errors import RuntimeMissingError
from device_lab.files import atomic_path, sha256_of
from device_lab.host import HostDevice
from device_lab.measurement import ModelFile
from device_lab.runner.contract import RunRequest, check_output, token_ids
from device_lab.runtimes import find_runtime
from nas.errors import MissingExtraError
from nas.export import expected_output, token_limit_of
from search_spaces.bert import Bert

_ONCE = RunRequest(num_threads=1, min_runs=1, min_timed_s=0.0, max_warmup_s=0.0)


class _TokensOnly(nn.Module):
    """``benchmark_model`` feeds numbers from 0 to 99: tokens, but neither a mask nor sentence numbers."""

    def __init__(self, network: Bert) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor) -> Tensor:
        logits: Tensor = self.network(input_ids, torch.ones_like(input_ids), torch.zeros_like(input_ids))
        return logits


def export_litert(network: Bert, path: Path, *, sequence_length: int) -> ModelFile:
    """Write a network as a LiteRT file of fixed input shape, atomically, once its answer is torch's.

    The input is ``input_ids``, int32, (1, sequence_length); the output is the
    logits, float32, (1, num_labels). Tracing takes tens of seconds.

    Returns:
        The file, marked as checked: LiteRT on this machine computed torch's logits from it.

    Raises:
        MissingExtraError: If the extra ``litert`` is not installed.
        WrongOutputError: If what LiteRT computes from the file on this machine differs from torch.
        DeviceLabError: If LiteRT cannot run the file on this machine.
        OSError: If the file cannot be written.
    """
    runtime = find_runtime("litert")
    try:
        checked_here_by = f"{runtime.name} {runtime.version}"
        converter = _converter()
    except (ImportError, RuntimeMissingError) as error:
        raise MissingExtraError(feature="exporting for runtime litert", extra="litert") from error
    token_limit = token_limit_of(network)
    ids = torch.tensor([token_ids(sequence_length, token_limit=token_limit)])  # (1, s)
    # The converter tells its progress on standard output, where only results of ours belong.
    with atomic_path(path) as temporary, redirect_stdout(sys.stderr):
        with warnings.catch_warnings():
            # The converter warns about its own use of torch and jax; nothing in it concerns the network.
            warnings.simplefilter("ignore")
            converter.convert(_TokensOnly(network).eval(), (ids,)).export(str(temporary))
        model = ModelFile(
            path=temporary,
            sha256=sha256_of(temporary),
            sequence_length=sequence_length,
            batch_size=1,
            token_limit=token_limit,
            expected_output=expected_output(network, sequence_length=sequence_length, batch_size=1),
        )
        check_output(HostDevice(runtime).run(model, _ONCE).output or (), expected=model.expected_output)
    return replace(model, path=path, checked_here_by=checked_here_by)


def _converter() -> ModuleType:
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        return importlib.import_module("litert_torch")
