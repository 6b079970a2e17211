"""A network to an ExecuTorch program. Tracing it takes tens of seconds, where an ONNX file takes a fraction of one."""

from __future__ import annotations

from pathlib import Path

import torch

from device_lab.errors import RuntimeMissingError
from device_lab.files import sha256_of
from device_lab.measurement import ModelFile
from device_lab.runner.contract import token_ids
from device_lab.runtimes.executorch import write_program
from nas.errors import MissingExtraError
from nas.export import expected_output, token_limit_of
from search_spaces.bert import Bert


def export_executorch(network: Bert, path: Path, *, sequence_length: int, batch_size: int = 1) -> ModelFile:
    """Write a network as an ExecuTorch program of fixed input shape, atomically.

    Inputs and output are those of `nas.export.export_onnx`.

    Raises:
        MissingExtraError: If the extra ``executorch`` is not installed.
        OSError: If the file cannot be written.
    """
    token_limit = token_limit_of(network)
    ids = torch.tensor(token_ids(batch_size * sequence_length, token_limit=token_limit))
    ids = ids.view(batch_size, sequence_length)
    try:
        write_program(network, path, example_inputs=(ids, torch.ones_like(ids), torch.zeros_like(ids)))
    except RuntimeMissingError as error:
        raise MissingExtraError(feature="exporting for runtime executorch", extra="executorch") from error
    return ModelFile(
        path=path,
        sha256=sha256_of(path),
        sequence_length=sequence_length,
        batch_size=batch_size,
        token_limit=token_limit,
        expected_output=expected_output(network, sequence_length=sequence_length, batch_size=batch_size),
    )
