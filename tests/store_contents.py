"""What the tests of the store keep in it."""

from __future__ import annotations

from device_lab.measurement import (
    Backend,
    Block,
    Conditions,
    DeviceInfo,
    Interval,
    Measurement,
    ProcessRun,
    Reason,
    RunSettings,
)
from device_lab.statistics import PRECISIONS
from nas.records import Score

SETTINGS = RunSettings(runtime="engine", runtime_version="1.2", num_threads=2, sequence_length=8)
SCORE = Score(
    task="subj",
    metric="accuracy",
    evaluator="distilled",
    interval=Interval(estimate=0.81, low=0.7, high=0.9),
    metrics=(("accuracy", 0.81), ("f1", 0.5)),
    num_examples=7,
    duration_s=1.5,
    weights_sha256=None,
    teacher_divergence=0.25,
)


def process_run(number: int) -> ProcessRun:
    return ProcessRun(
        run_id=f"run{number}",
        samples_ns=(number + 1, number + 20),
        num_warmup_runs=number,
        num_threads=2,
        wall_ns=30 + number,
        cpu_ns=50 + number,
    )


def blocks(count: int) -> tuple[Block, ...]:
    """Blocks that share the references between them."""
    return tuple(
        Block(
            index=i,
            reference_before=process_run(2 * i),
            candidate=process_run(2 * i + 1),
            reference_after=process_run(2 * i + 2),
        )
        for i in range(count)
    )


def measurement(count: int = 3, precision: str = "coarse") -> Measurement:
    return Measurement(
        device=DeviceInfo(
            device_id="phone", backend=Backend.HOST, model="m", soc="s", os_version="o", abi="a", num_cores=8
        ),
        settings=SETTINGS,
        precision=PRECISIONS[precision],
        model_sha256="model",
        reference_sha256="reference",
        blocks=blocks(count),
        reason=Reason.NOISY_REFERENCE,
        num_cooldowns=4,
        conditions_before=Conditions(taken_at="before", readings=(("load", "?"),)),
        conditions_after=Conditions(taken_at="after", readings=(("load", "0.5"), ("governor", "x"))),
    )
