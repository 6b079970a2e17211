"""Whether a written ONNX file still is the network it was written from, asked with a task's own dev examples.

Shape legend: n examples, s tokens, c num_labels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from nas.errors import AgreementError
from nas.losses import predictions_from_logits
from nas.metrics import compute_metric
from nas.tokens import EncodedSplit, TokenizedTask
from nas.training import OnStep, predict
from search_spaces.bert import Bert

# Of the largest logit, or of 1: float32 sums in another order.
MAX_RELATIVE_DIFFERENCE = 1e-4
# Far below what one example is worth in any metric.
MAX_METRIC_DIFFERENCE = 1e-6


def check_onnx(
    path: Path,
    network: Bert,
    data: TokenizedTask,
    *,
    metrics: tuple[tuple[str, float], ...],
    on_step: OnStep | None = None,
) -> None:
    """Require that an ONNX file answers the dev examples as torch does, and scores what was scored.

    Args:
        path: A file of `nas.export.export_onnx`, for one sequence at a time.
        network: What it was written from.
        data: The task.
        metrics: The scores to find again, by name.
        on_step: Hears of every example done.

    Raises:
        AgreementError: If a logit or a score differs.
    """
    logits = onnx_logits(path, data.dev, on_step=on_step)
    wanted = predict(network, data.dev, device="cpu")
    difference = float((logits - wanted).abs().max())
    if not difference <= MAX_RELATIVE_DIFFERENCE * max(1.0, float(wanted.abs().max())):
        raise AgreementError(
            f"{path.name}: logits of the dev examples differ from torch's by up to {difference:.1e}; report this"
        )
    predictions = predictions_from_logits(logits, data.task.kind).numpy()
    labels = data.dev.labels.double().numpy()
    for name, value in metrics:
        seen = compute_metric(name, predictions, labels)
        if not abs(seen - value) <= MAX_METRIC_DIFFERENCE:
            raise AgreementError(
                f"{path.name}: {name} of the dev examples is {seen:.6f}, the run has {value:.6f}; "
                "the weights, the task or its tokenizer are not those that were scored"
            )


def onnx_logits(path: Path, split: EncodedSplit, *, on_step: OnStep | None = None) -> Tensor:
    """Compute the logits (n, c) of all examples with ONNX Runtime, each padded to the file's own length."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    _, sequence_length = session.get_inputs()[0].shape
    rows = []
    for row in range(len(split)):
        batch = split.batch(torch.tensor([row]))
        padding = (0, sequence_length - batch.input_ids.shape[1])
        inputs = {
            name: np.asarray(torch.nn.functional.pad(getattr(batch, name), padding))
            for name in ("input_ids", "attention_mask", "token_type_ids")
        }
        (logits,) = session.run(["logits"], inputs)
        rows.append(torch.from_numpy(logits))
        if on_step is not None:
            on_step(row + 1, len(split))
    return torch.cat(rows)
