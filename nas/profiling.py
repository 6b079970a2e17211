"""Where on a device the time of an inference goes, operator by operator.

The engine names what it ran. What an operator is for stands in the model file:
its weights are called after the layer they belong to, and an operator without
weights belongs to what stands around it. An engine that renames or joins
operators keeps the old name inside the new one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

import onnx

from device_lab.device import ProfilingDevice
from device_lab.measurement import ModelFile, RunSettings
from device_lab.runner.contract import RunRequest
from device_lab.runner.profile import OperatorProfile
from nas.records import ModelProfile, OperatorCost

NUM_PROCESSES = 5
NUM_RUNS = 20
_ADD_AND_NORMALIZE = "add and normalise"
_POSITIONS = {
    "embeddings": "embeddings and mask",
    "query": "query",
    "key": "key",
    "value": "value",
    "post_attention": "after attention",
    "post_attention_layer_norm": _ADD_AND_NORMALIZE,
    "intermediate": "FFN in",
    "output": "FFN out",
    "output_layer_norm": _ADD_AND_NORMALIZE,
    "pooler": "classifier",
    "classifier": "classifier",
}
# What an operator without weights is for where it follows one of these; elsewhere it is for the same.
_BEHIND = {"value": "attention", "after attention": _ADD_AND_NORMALIZE, "FFN out": _ADD_AND_NORMALIZE}
_NODE_NAME = re.compile(r"[A-Z][A-Za-z]*_\d+|logits")


def profile_model(model: ModelFile, device: ProfilingDevice, settings: RunSettings) -> ModelProfile:
    """Profile one model file on a device, in several fresh processes.

    Other work on the device hits one operator of one inference and takes longer
    than all others together; so what counts is the median over the processes.

    Raises:
        DeviceLabError: If the device cannot run it, or tells no times of operators.
    """
    request = RunRequest(num_threads=settings.num_threads, min_runs=NUM_RUNS, min_timed_s=0.0, max_warmup_s=0.0)
    profiles = [device.profile(model, request) for _ in range(NUM_PROCESSES)]
    positions = onnx_positions(model.path) if settings.runtime == "onnxruntime" else {}
    return ModelProfile(
        device=device.info,
        settings=settings,
        taken_at=datetime.now(UTC).isoformat(timespec="seconds"),
        num_processes=len(profiles),
        num_runs=sum(profile.num_runs for profile in profiles),
        pocketbert_version=version("pocketbert"),
        operators=operator_costs(profiles, positions),
    )


def onnx_positions(path: Path) -> dict[str, str]:
    """Return what each node of a file written by `nas.export` is for, by its name."""
    graph = onnx.load(str(path), load_external_data=False).graph
    positions: dict[str, str] = {}
    position = ""
    for node in graph.node:
        own = [found for found in map(_position_of_weights, node.input) if found]
        position = own[0] if own else _behind(position, node.op_type)
        positions[node.name] = position
    return positions


def operator_costs(profiles: Sequence[OperatorProfile], positions: Mapping[str, str]) -> tuple[OperatorCost, ...]:
    """Add up the operators of one inference by kind and position, the most expensive first.

    Args:
        profiles: What runners printed of one model; of each operator, the median over them counts.
        positions: What each operator is for, by its name in the model file.
    """
    per_inference: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for profile in profiles:
        for operator in profile.operators:
            # ExecuTorch says of an operator where it ran; its name is its kind.
            kind = operator.name if operator.type in ("kernel", "delegate") else operator.type
            taken = (operator.num_calls / profile.num_runs, operator.total_ns / profile.num_runs)
            per_inference.setdefault((operator.name, kind), []).append(taken)
    sums: dict[tuple[str, str], tuple[float, float]] = {}
    for (name, kind), taken_each in per_inference.items():
        found = _NODE_NAME.search(name)
        key = (kind, positions.get(found.group(), "") if found else "")
        calls, time_ns = (median(values) for values in zip(*taken_each, strict=True))
        calls_before, time_before_ns = sums.get(key, (0.0, 0.0))
        sums[key] = (calls_before + calls, time_before_ns + time_ns)
    costs = [
        OperatorCost(kind=kind, position=position, num_calls=calls, time_ns=time_ns)
        for (kind, position), (calls, time_ns) in sums.items()
    ]
    return tuple(sorted(costs, key=lambda cost: -cost.time_ns))


def _position_of_weights(name: str) -> str:
    """Return the position of ``layers.3.query.weight``; "" for what is no weight."""
    parts = name.split(".")
    if parts[-1] not in ("weight", "bias"):
        return ""
    return _POSITIONS.get(parts[2] if parts[0] == "layers" else parts[0], "")


def _behind(position: str, op_type: str) -> str:
    # What splits the values into heads is still theirs.
    return position if (position, op_type) == ("value", "Reshape") else _BEHIND.get(position, position)
