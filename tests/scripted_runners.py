"""Runners that are shell scripts: they answer as torch does and take the time they are told to, or misbehave."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from device_lab.measurement import ModelFile
from device_lab.runner.contract import RunnerOutput

NUM_SAMPLES = 20


def write_runner(
    path: Path,
    models: Mapping[int, ModelFile],
    *,
    before: str = "",
    add_to_output: float = 0.0,
    num_threads: int = 1,
) -> Path:
    """Write a runner for the given models, by the nanoseconds each takes; return its path.

    Args:
        path: The script.
        models: What it can run.
        before: Shell commands it begins with; they find the model's path in ``$2``.
        add_to_output: Makes it answer wrongly.
        num_threads: What it says it used.
    """
    cases = []
    for nanoseconds, model in models.items():
        output = RunnerOutput(
            runtime="onnxruntime",
            runtime_version="scripted",
            num_threads=num_threads,
            num_warmup_runs=1,
            samples_ns=(nanoseconds,) * NUM_SAMPLES,
            wall_ns=nanoseconds * NUM_SAMPLES,
            cpu_ns=nanoseconds * NUM_SAMPLES,
            peak_rss_bytes=None,
            output=tuple(value + add_to_output for value in model.expected_output),
        )
        assert "'" not in json.dumps(output.to_json())
        # A phone has it under its digest, this machine under its name.
        cases.append(f"*{model.sha256}|*/{model.path.name}) echo '{output.to_json()}' ;;")
    path.write_text("\n".join(["#!/bin/sh", before, 'case "$2" in', *cases, "*) exit 9 ;;", "esac", ""]))
    path.chmod(0o755)
    return path
