from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from device_lab.errors import RunnerOutputError
from device_lab.runner.contract import RunRequest
from device_lab.runtimes.litert import BenchmarkModelOutput, benchmark_model_arguments

# The lines of benchmark_model that matter, in its format.
OUTPUT = """\
STARTING!
Graph: [/data/local/tmp/m.tflite]
INFO: #threads used for CPU inference: [2]
Initialized session in 1.5ms.
count=30 first=4000 curr=2100 min=2000 max=4000 avg=2200.5 std=93

count=51 first=2010 curr=2011 min=1990 max=2400 avg=2050.25 std=45

INFO: Inference timings in us: Init: 1500, First inference: 4000, Warmup (avg): 2200.5, Inference (avg): 2050.25
Peak memory footprint (MB): init=0 overall=12.8672
"""


def test_its_averages_are_read_in_nanoseconds() -> None:
    assert BenchmarkModelOutput.from_stdout(OUTPUT) == BenchmarkModelOutput(
        num_threads=2,
        num_warmup_runs=30,
        num_runs=51,
        initialization_ns=1_500_000,
        first_inference_ns=4_000_000,
        warmup_average_ns=2_200_500,
        inference_average_ns=2_050_250,
    )


def test_large_averages_may_have_an_exponent() -> None:
    text = OUTPUT.replace("(avg): 2050.25", "(avg): 1.25e+06")

    assert BenchmarkModelOutput.from_stdout(text).inference_average_ns == 1_250_000_000


def test_threads_it_does_not_print_are_unknown() -> None:
    text = OUTPUT.replace("#threads", "threads")

    assert BenchmarkModelOutput.from_stdout(text).num_threads is None


@pytest.mark.parametrize("text", ["", "STARTING!\nFailed to mmap model\n", OUTPUT.replace("count=", "runs=")])
def test_output_without_timings_is_an_error(text: str) -> None:
    with pytest.raises(RunnerOutputError, match="printed no timings; try it by hand"):
        BenchmarkModelOutput.from_stdout(text)


def test_it_is_asked_for_what_our_runners_do() -> None:
    request = RunRequest(num_threads=4, min_runs=20, min_timed_s=1.0, max_warmup_s=8.0, timeout_s=90.0)

    assert benchmark_model_arguments(PurePosixPath("/data/local/tmp/m.tflite"), request) == [
        "--graph=/data/local/tmp/m.tflite",
        "--num_threads=4",
        "--num_runs=20",
        "--min_secs=1",
        "--max_secs=90",
        "--warmup_runs=30",
        "--use_xnnpack=true",
    ]
