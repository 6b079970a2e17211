"""Whether exported files still are the network they were written from, asked with a task's own dev examples.

Shape legend: n examples, s tokens, c num_labels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from device_lab.errors import RuntimeMissingError
from device_lab.runtimes.executorch import load_program
from nas.errors import AgreementError, MissingExtraError
from nas.losses import predictions_from_logits
from nas.metrics import compute_metric
from nas.tokens import EncodedSplit, TokenizedTask
from nas.training import OnStep

# Of the largest logit, or of 1: float32 sums in another order.
MAX_RELATIVE_DIFFERENCE = 1e-4
# Far below what one example is worth in any metric.
MAX_METRIC_DIFFERENCE = 1e-6

Forward = Callable[[tuple[Tensor, Tensor, Tensor]], Tensor]
"""Maps token ids, mask and token types, each (1, s), to logits (1, c)."""


def check_answers(
    file: str, logits: Tensor, *, wanted: Tensor, data: TokenizedTask, metrics: tuple[tuple[str, float], ...]
) -> None:
    """Require that a file answers the dev examples as torch does, and scores what was scored.

    Args:
        file: The file's name, for the error.
        logits: What it answers (n, c).
        wanted: What torch answers (n, c).
        data: The task.
        metrics: The scores to find again, by name.

    Raises:
        AgreementError: If a logit or a score differs.
    """
    difference = float((logits - wanted).abs().max())
    if not difference <= MAX_RELATIVE_DIFFERENCE * max(1.0, float(wanted.abs().max())):
        raise AgreementError(
            f"{file}: logits of the dev examples differ from torch's by up to {difference:.1e}; report this"
        )
    predictions = predictions_from_logits(logits, data.task.kind).numpy()
    labels = data.dev.labels.double().numpy()
    for name, value in metrics:
        seen = compute_metric(name, predictions, labels)
        if not abs(seen - value) <= MAX_METRIC_DIFFERENCE:
            raise AgreementError(
                f"{file}: {name} of the dev examples is {seen:.6f}, the run has {value:.6f}; "
                "the weights, the task or its tokenizer are not those that were scored"
            )


def onnx_logits(path: Path, split: EncodedSplit, *, on_step: OnStep | None = None) -> Tensor:
    """Compute the logits (n, c) of all examples with ONNX Runtime, each padded to the file's own length."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    _, sequence_length = session.get_inputs()[0].shape

    def forward(inputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        names = ("input_ids", "attention_mask", "token_type_ids")
        (logits,) = session.run(["logits"], {n: np.asarray(t) for n, t in zip(names, inputs, strict=True)})
        return torch.from_numpy(logits)

    return _logits(forward, split, sequence_length=sequence_length, on_step=on_step)


def executorch_logits(
    path: Path, split: EncodedSplit, *, sequence_length: int, on_step: OnStep | None = None
) -> Tensor:
    """Compute the logits (n, c) of all examples with ExecuTorch, each padded to the program's ``sequence_length``.

    Raises:
        MissingExtraError: If the extra ``executorch`` is not installed.
    """
    try:
        program = load_program(path)
    except RuntimeMissingError as error:
        raise MissingExtraError(feature="checking an ExecuTorch program", extra="executorch") from error
    return _logits(program, split, sequence_length=sequence_length, on_step=on_step)


def _logits(forward: Forward, split: EncodedSplit, *, sequence_length: int, on_step: OnStep | None) -> Tensor:
    rows = []
    for row in range(len(split)):
        batch = split.batch(torch.tensor([row]))
        padding = (0, sequence_length - batch.input_ids.shape[1])
        ids, mask, types = (
            torch.nn.functional.pad(tensor, padding)
            for tensor in (batch.input_ids, batch.attention_mask, batch.token_type_ids)
        )
        rows.append(forward((ids, mask, types)))
        if on_step is not None:
            on_step(row + 1, len(split))
    return torch.cat(rows)
