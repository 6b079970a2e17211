"""The one training loop: fine-tuning a teacher and distilling candidates differ by their loss only.

AdamW with linear warm-up and decay, clipped gradients and batches of similar
length. A run is a function of its seed: bit for bit on the CPU with the same
number of threads, whether or not it was interrupted.

Shape legend: n examples, b batch, c num_labels.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from device_lab.files import write_atomically
from nas.errors import NonFiniteLossError, OutOfMemoryError, TrainingError
from nas.processes import ALONE, Processes
from nas.tokens import Batch, EncodedSplit, ordered_batches, training_batches

MAX_GRADIENT_NORM = 1.0
PREDICTION_BATCH_SIZE = 64

Loss = Callable[[nn.Module, Batch], Tensor]
"""Runs the network on a batch and returns the scalar to minimise."""

OnStep = Callable[[int, int], None]
"""Hears of every step: steps done, steps in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How long and how fast to train. ``warmup`` is the share of steps until the rate is full."""

    num_steps: int
    learning_rate: float
    batch_size: int = 32
    warmup: float = 0.1
    weight_decay: float = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpointing:
    """Where and how often to save the state of a run, so that it can go on after an interruption."""

    path: Path
    every_steps: int


def train(
    network: nn.Module,
    split: EncodedSplit,
    loss: Loss,
    *,
    recipe: Recipe,
    seed: int,
    device: str,
    checkpointing: Checkpointing | None = None,
    processes: Processes = ALONE,
    on_step: OnStep | None = None,
) -> None:
    """Train ``network`` in place; it ends on ``device`` in evaluation mode.

    With ``checkpointing`` a run that was interrupted goes on from its last
    checkpoint; who calls deletes the file once the result is safe. torch's
    global generators are left as they were.

    Args:
        network: The network to train.
        split: The examples to train on.
        loss: Runs the network on a batch and returns the scalar to minimise, a mean over its examples.
        recipe: Steps, learning rate and the like.
        seed: Seed of the order of examples and of dropout.
        device: ``cpu`` or ``cuda``; on CUDA hardware with bfloat16, matrix products use it.
        checkpointing: Where to save the state of the run, if anywhere.
        processes: Those that share out every batch; all call this function alike, the first one saves.
        on_step: Hears of every step done.

    Raises:
        SettingsError: If there are more processes than examples of a batch.
        NonFiniteLossError: If the loss became NaN or infinite.
        OutOfMemoryError: If the network does not fit into memory.
        TrainingError: If the checkpoint cannot be read or belongs to another run.
    """
    processes.require_rows(min(recipe.batch_size, len(split)))
    network.to(device).train()
    run = _Run(network, recipe)
    # Before the network changes.
    fingerprint = _fingerprint(network, split, recipe, seed) if checkpointing is not None else ""
    with (
        _own_generators(device, seed),
        translate_out_of_memory("training"),
        processes.replica(network) as replica,
    ):
        first_step = 0
        if checkpointing is not None:
            saved = processes.read(checkpointing.path)
            first_step = run.resume(saved, source=checkpointing.path, fingerprint=fingerprint)
        batches = training_batches(
            split.lengths, batch_size=recipe.batch_size, seed=seed, first_step=first_step, num_steps=recipe.num_steps
        )
        for step, rows in enumerate(batches, start=first_step):
            batch = replica.part(split.batch(rows)).to(device)
            with autocast(device):
                batch_loss = loss(replica.network, batch) * replica.share.weight
            value = processes.mean(batch_loss)
            if not math.isfinite(value):
                raise NonFiniteLossError(step=step, loss=value)
            run.update(batch_loss)
            if checkpointing is not None and processes.is_first and (step + 1) % checkpointing.every_steps == 0:
                run.save(checkpointing.path, fingerprint=fingerprint, step=step + 1)
            if on_step is not None:
                on_step(step + 1, recipe.num_steps)
    network.eval()


def predict(network: nn.Module, split: EncodedSplit, *, device: str) -> Tensor:
    """Compute the logits (n, c) of all examples, in their order, in float32, on the CPU.

    Always in float32: what is scored is what is shipped.

    Raises:
        OutOfMemoryError: If the network does not fit into memory.
    """
    network.to(device).eval()
    batches = ordered_batches(split.lengths, batch_size=PREDICTION_BATCH_SIZE)
    full_precision = torch.backends.cudnn.flags(allow_tf32=False)
    with torch.inference_mode(), full_precision, translate_out_of_memory("prediction"):
        logits = torch.cat([forward(network, split.batch(rows).to(device)).float().cpu() for rows in batches])
    ordered = torch.empty_like(logits)
    ordered[torch.cat(batches)] = logits
    return ordered


def forward(network: nn.Module, batch: Batch) -> Tensor:
    """Run the network on a batch and return its logits (b, c)."""
    logits: Tensor = network(batch.input_ids, batch.attention_mask, batch.token_type_ids)
    return logits


def autocast(device: str) -> AbstractContextManager[None]:
    """Compute matrix products in bfloat16 where CUDA hardware has it, in float32 elsewhere."""
    enabled = device.startswith("cuda") and torch.cuda.is_bf16_supported()
    return torch.autocast(device_type=device.partition(":")[0], dtype=torch.bfloat16, enabled=enabled)


@contextmanager
def translate_out_of_memory(doing: str) -> Iterator[None]:
    """Turn the three ways of running out of memory into `OutOfMemoryError`."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemoryError(doing=doing) from error
    except RuntimeError as error:
        # torch's CPU allocator has no exception class of its own.
        if "can't allocate memory" not in str(error):
            raise
        raise OutOfMemoryError(doing=doing) from error


def learning_rate_factor(step: int, *, num_steps: int, warmup: float) -> float:
    """Return the share of the full learning rate at ``step``: up to 1 linearly, then down to 0."""
    num_warmup_steps = max(1, round(warmup * num_steps))
    if step < num_warmup_steps:
        return (step + 1) / num_warmup_steps
    return (num_steps - step) / max(1, num_steps - num_warmup_steps)


class _Run:
    """Optimizer and schedule of one run, and their state on disk."""

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        self._network = network
        self._optimizer = torch.optim.AdamW(
            _parameter_groups(network, weight_decay=recipe.weight_decay), lr=recipe.learning_rate, fused=True
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer,
            lambda step: learning_rate_factor(step, num_steps=recipe.num_steps, warmup=recipe.warmup),
        )

    def update(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._network.parameters(), MAX_GRADIENT_NORM)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()

    def save(self, path: Path, *, fingerprint: str, step: int) -> None:
        state = {
            "fingerprint": fingerprint,
            "step": step,
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "cpu_generator": torch.get_rng_state(),
            "cuda_generator": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(path, buffer.getvalue())

    def resume(self, saved: bytes | None, *, source: Path, fingerprint: str) -> int:
        """Take over the state ``saved`` at ``source``, if any, and return the number of steps already done."""
        if saved is None:
            return 0
        state = _load_state(saved, source=source)
        if state["fingerprint"] != fingerprint:
            raise TrainingError(f"{source}: checkpoint of another run; delete the file to start this one afresh")
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["cpu_generator"])
        if state["cuda_generator"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda_generator"])
        return int(state["step"])


def _load_state(saved: bytes, *, source: Path) -> dict[str, Any]:
    try:
        state: Any = torch.load(io.BytesIO(saved), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise TrainingError(f"{source}: damaged checkpoint; delete the file to train from the start") from error
    if not isinstance(state, dict) or "fingerprint" not in state:
        raise TrainingError(f"{source}: not a training checkpoint; delete the file to train from the start")
    return cast("dict[str, Any]", state)


def _parameter_groups(network: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Decay matrices and embeddings; biases and layer norms are vectors and must stay free."""
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trainable if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trainable if parameter.ndim <= 1], "weight_decay": 0.0},
    ]


def _fingerprint(network: nn.Module, split: EncodedSplit, recipe: Recipe, seed: int) -> str:
    """Tell runs apart by their start, data, recipe and seed."""
    digest = hashlib.sha256(f"{recipe} {seed}".encode())
    for tensor in (*network.state_dict().values(), split.input_ids, split.labels):
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _own_generators(device: str, seed: int) -> Iterator[None]:
    """Seed torch's global generators, which dropout draws from, and put them back at the end."""
    cuda_devices = [torch.cuda.current_device()] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cuda_devices):
        torch.manual_seed(seed)
        yield
