from __future__ import annotations

from pathlib import Path

import pytest

from device_lab.errors import RunnerBuildError, RunnerOutputError
from device_lab.measurement import ModelFile, Summary
from device_lab.runner.benchmark_model import BenchmarkModel, is_benchmark_model
from device_lab.runner.bundle import wrap_program
from device_lab.runner.contract import RunnerOutput, RunRequest

# The lines of benchmark_model that matter, in its format.
OUTPUT = """\
INFO: STARTING!
INFO: Graph: [/data/local/tmp/m.tflite]
INFO: #threads used for CPU inference: [2]
INFO: Initialized session in 1.5ms.
INFO: count=30 first=4000 curr=2100 min=2000 max=4000 avg=2200.5 std=93

INFO: count=51 first=2010 curr=2011 min=1990 max=2400 avg=2050.25 std=45

INFO: Inference timings in us: Init: 1500, First inference: 4000, Warmup (avg): 2200.5, Inference (avg): 2050.25
INFO: Memory footprint delta from the start of the tool (MB): init=21.9 overall=34.5
"""
NEWER = OUTPUT.replace("std=93", "std=93 p5=2050 median=2100 p95=2200").replace(
    "std=45", "std=45 p5=1995 median=2045 p95=2100"
)
MODEL = ModelFile(
    path=Path("m.tflite"), sha256="0" * 64, sequence_length=8, batch_size=1, token_limit=100, expected_output=(0.5,)
)


def test_the_average_stands_for_the_samples_it_does_not_print() -> None:
    assert BenchmarkModel().read(OUTPUT, "") == RunnerOutput(
        runtime="litert",
        runtime_version="?",
        num_threads=2,
        num_warmup_runs=30,
        samples_ns=(2_050_250,),
        wall_ns=51 * 2_050_250,
        cpu_ns=None,
        peak_rss_bytes=None,
        output=None,
        summary=Summary(statistic="average", num_runs=51),
    )


def test_a_release_that_prints_the_median_gives_that_instead() -> None:
    output = BenchmarkModel().read(NEWER, "")

    assert output.samples_ns == (2_045_000,)
    assert output.summary == Summary(statistic="median", num_runs=51)
    assert output.wall_ns == 51 * 2_050_250


def test_its_report_may_be_spread_over_both_streams() -> None:
    lines = OUTPUT.splitlines(keepends=True)

    split = BenchmarkModel().read("".join(lines[:3]), "".join(lines[3:]))

    assert split == BenchmarkModel().read(OUTPUT, "")


def test_large_times_may_have_an_exponent() -> None:
    text = OUTPUT.replace("Inference (avg): 2050.25", "Inference (avg): 1.25e+06")

    assert BenchmarkModel().read(text, "").samples_ns == (1_250_000_000,)


@pytest.mark.parametrize(
    "text",
    ["", "STARTING!\nFailed to mmap model\n", OUTPUT.replace("count=", "runs="), OUTPUT.replace("#threads", "threads")],
)
def test_a_report_without_timings_or_threads_is_an_error(text: str) -> None:
    with pytest.raises(RunnerOutputError, match="printed no timings; try it by hand"):
        BenchmarkModel().read(text, "")


def test_it_is_asked_for_what_our_runners_do() -> None:
    request = RunRequest(num_threads=4, min_runs=20, min_timed_s=1.5, max_warmup_s=8.0, timeout_s=90.0)

    assert BenchmarkModel().arguments("/data/local/tmp/m.tflite", MODEL, request) == [
        "--graph=/data/local/tmp/m.tflite",
        "--num_threads=4",
        "--num_runs=20",
        "--min_secs=1.5",
        "--max_secs=90",
        "--warmup_runs=30",
        "--use_xnnpack=true",
    ]


def test_it_is_known_by_the_title_of_its_report_wherever_that_stands(tmp_path: Path) -> None:
    program = tmp_path / "program"
    title = b"Inference timings in us:"
    # Across the border of two pieces, too.
    program.write_bytes(b"\0" * ((1 << 20) - 5) + title)
    assert is_benchmark_model(program)

    program.write_bytes(b"\0" * (1 << 20) + title[:-1])
    assert not is_benchmark_model(program)


def test_it_is_refused_for_the_models_of_another_runtime(tmp_path: Path) -> None:
    program = tmp_path / "benchmark_model"
    program.write_text("Inference timings in us:")

    with pytest.raises(
        RunnerBuildError,
        match=r"benchmark_model is LiteRT's benchmark_model, not for onnxruntime",
    ):
        wrap_program(program, runtime="onnxruntime", abi="x86_64", cache_folder=tmp_path / "cache")

    bundle = wrap_program(program, runtime="litert", abi="x86_64", cache_folder=tmp_path / "cache")
    assert bundle.read(OUTPUT, "").runtime_version == bundle.runtime_version
    assert bundle.runtime_version.startswith("program-")
