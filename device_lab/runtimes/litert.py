"""LiteRT through ``benchmark_model``, Google's own program for Android: a check from outside.

It prints averages, no samples and no outputs. So its numbers stand beside a
measurement of ours and never become one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Self

from device_lab.errors import RunnerOutputError
from device_lab.runner.contract import RunRequest

_NUMBER = r"([0-9.]+(?:e[+-]?[0-9]+)?)"
_SUMMARY = re.compile(
    rf"Inference timings in us: Init: {_NUMBER}, First inference: {_NUMBER}, "
    rf"Warmup \(avg\): {_NUMBER}, Inference \(avg\): {_NUMBER}"
)
_COUNT = re.compile(r"\bcount=([0-9]+)\b")
_THREADS = re.compile(r"#threads used for CPU inference: \[([0-9]+)\]")


def benchmark_model_arguments(model: PurePath, request: RunRequest) -> list[str]:
    """Return the arguments for ``benchmark_model`` that come closest to what our runners do."""
    return [
        f"--graph={model}",
        f"--num_threads={request.num_threads}",
        f"--num_runs={request.min_runs}",
        f"--min_secs={request.min_timed_s:g}",
        f"--max_secs={request.timeout_s:g}",
        "--warmup_runs=30",
        "--use_xnnpack=true",
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkModelOutput:
    """What ``benchmark_model`` printed, averages in nanoseconds. ``num_threads`` is None where it does not say."""

    num_threads: int | None
    num_warmup_runs: int
    num_runs: int
    initialization_ns: int
    first_inference_ns: int
    warmup_average_ns: int
    inference_average_ns: int

    @classmethod
    def from_stdout(cls, text: str) -> Self:
        """Read the whole of its output.

        Raises:
            RunnerOutputError: If the line with the timings, or one of the two counts, is not in it.
        """
        summary, counts, threads = _SUMMARY.search(text), _COUNT.findall(text), _THREADS.search(text)
        if summary is None or len(counts) < 2:
            last = text.strip().splitlines()[-1] if text.strip() else ""
            raise RunnerOutputError(f"benchmark_model ended with {last[:120]!r} and printed no timings; try it by hand")
        initialization_ns, first_ns, warmup_ns, inference_ns = (round(float(us) * 1000) for us in summary.groups())
        return cls(
            num_threads=int(threads.group(1)) if threads else None,
            num_warmup_runs=int(counts[0]),
            num_runs=int(counts[1]),
            initialization_ns=initialization_ns,
            first_inference_ns=first_ns,
            warmup_average_ns=warmup_ns,
            inference_average_ns=inference_ns,
        )
