"""LiteRT's ``benchmark_model``, Google's own program for phones: its flags, and the report it prints.

It prints no samples and no answer. One process gives one time: the median of its
inferences where the release prints it, else their average. So the files it runs
are held against torch on this machine before, and both is written into every
measurement; see `device_lab.caveats`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from device_lab.errors import RunnerOutputError
from device_lab.measurement import ModelFile, Summary
from device_lab.runner.contract import RunnerOutput, RunRequest

RUNTIME = "litert"
_NUMBER = r"([0-9.]+(?:e[+-]?[0-9]+)?)"
_TITLE = "Inference timings in us:"
_AVERAGE = re.compile(rf"{_TITLE} .*\bInference \(avg\): {_NUMBER}")
_COUNTS = re.compile(rf"\bcount=([0-9]+)\b(?:.*\bmedian={_NUMBER})?")
_THREADS = re.compile(r"#threads used for CPU inference: \[([0-9]+)\]")
_MIN_WARMUP_RUNS = 30
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class BenchmarkModel:
    """Talks to ``benchmark_model``. See `device_lab.runner.dialect.Dialect`."""

    def arguments(self, path: str, model: ModelFile, request: RunRequest) -> list[str]:  # noqa: ARG002 - in the file
        """Return the flags that come closest to what our runners do. See `Dialect.arguments`."""
        return [
            f"--graph={path}",
            f"--num_threads={request.num_threads}",
            f"--num_runs={request.min_runs}",
            f"--min_secs={request.min_timed_s:g}",
            f"--max_secs={request.timeout_s:g}",
            f"--warmup_runs={_MIN_WARMUP_RUNS if request.max_warmup_s else 1}",
            "--use_xnnpack=true",
        ]

    def read(self, stdout: str, stderr: str) -> RunnerOutput:
        """Read its report, of which a part goes to standard error. See `Dialect.read`.

        The threads are those it says it was asked for; a release that does not say is refused.
        """
        text = f"{stdout}\n{stderr}"
        average, counts, threads = _AVERAGE.search(text), _COUNTS.findall(text), _THREADS.search(text)
        # The warm-up has a line of its own, before that of the timed runs.
        if average is None or len(counts) < 2 or threads is None:
            last = text.strip().splitlines()[-1] if text.strip() else ""
            raise RunnerOutputError(f"benchmark_model ended with {last[:120]!r} and printed no timings; try it by hand")
        num_runs, median_us = int(counts[1][0]), counts[1][1]
        time_ns = round(float(median_us or average.group(1)) * 1000)
        return RunnerOutput(
            runtime=RUNTIME,
            runtime_version="?",
            num_threads=int(threads.group(1)),
            num_warmup_runs=int(counts[0][0]),
            samples_ns=(time_ns,),
            wall_ns=round(float(average.group(1)) * 1000) * num_runs,
            cpu_ns=None,
            peak_rss_bytes=None,
            output=None,
            summary=Summary(statistic="median" if median_us else "average", num_runs=num_runs),
        )


def is_benchmark_model(program: Path) -> bool:
    """Return whether a program holds the title of the report that only this one prints.

    Raises:
        OSError: If it cannot be read.
    """
    window = b""
    with program.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            window = window[-len(_TITLE) :] + piece
            if _TITLE.encode() in window:
                return True
    return False
