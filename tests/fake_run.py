"""Made-up runs for tests and benchmarks of the reports. No number in here was ever measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

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
from device_lab.timed import Timed, timed
from nas.cost import model_cost
from nas.records import DeviceLatency, Objective, Role, Run, Score, Trial, TrialState
from search_spaces.architecture import Architecture
from search_spaces.reference import dense_encoder, squeezebert_rule
from search_spaces.space import make_space

TEACHER = dense_encoder(hidden_size=256, num_hidden_layers=6, num_attention_heads=4, intermediate_size=1024)
HOST = DeviceInfo(
    device_id="host-1",
    backend=Backend.HOST,
    model="Two-core test machine",
    soc="x86-64",
    os_version="Linux 6.1",
    abi="x86_64",
    num_cores=2,
)
SETTINGS = RunSettings(runtime="onnxruntime", runtime_version="1.23.0", num_threads=1, sequence_length=64)
REFERENCE_MS = 8.0
NUM_EXAMPLES = 2000


def fake_process(run_id: str, *, median_ms: float, generator: np.random.Generator, num_runs: int = 20) -> ProcessRun:
    """One process with one offset of its own, and a tail of slow inferences."""
    offset = generator.normal(0, 0.006)
    tail = generator.random(num_runs) < 0.04
    samples_ms = median_ms * np.exp(offset + generator.normal(0, 0.01, num_runs)) * np.where(tail, 1.4, 1.0)
    samples_ns = tuple(int(sample * 1e6) for sample in samples_ms)
    return ProcessRun(
        run_id=run_id,
        samples_ns=samples_ns,
        num_warmup_runs=30,
        num_threads=SETTINGS.num_threads,
        wall_ns=sum(samples_ns),
        cpu_ns=int(0.99 * sum(samples_ns)),
    )


def fake_measurement(
    label: str,
    *,
    ratio: float,
    generator: np.random.Generator,
    precision: str = "coarse",
    num_runs: int = 20,
    device: DeviceInfo = HOST,
) -> Measurement:
    """As many blocks as the first look of ``precision`` asks for, around a true ratio."""
    count = PRECISIONS[precision].looks[0]
    references = [
        fake_process(f"{label}-r{i}", median_ms=REFERENCE_MS, generator=generator, num_runs=num_runs)
        for i in range(count + 1)
    ]
    blocks = tuple(
        Block(
            index=i,
            reference_before=references[i],
            candidate=fake_process(
                f"{label}-c{i}", median_ms=REFERENCE_MS * ratio, generator=generator, num_runs=num_runs
            ),
            reference_after=references[i + 1],
        )
        for i in range(count)
    )
    conditions = Conditions(taken_at="2026-01-05T10:00:00+00:00", readings=(("governor", "?"), ("load_1min", "0.42")))
    return Measurement(
        device=device,
        settings=SETTINGS,
        precision=PRECISIONS[precision],
        model_sha256=f"model of {label}",
        reference_sha256="model of the reference",
        blocks=blocks,
        reason=Reason.GOAL_MET,
        num_cooldowns=0,
        conditions_before=conditions,
        conditions_after=replace(conditions, taken_at="2026-01-05T10:01:00+00:00"),
    )


def fake_score(value: float, *, evaluator: str = "distilled") -> Score:
    """A score with the width a bootstrap over the dev examples would have."""
    half = 1.96 * math.sqrt(value * (1 - value) / NUM_EXAMPLES)
    return Score(
        task="subj",
        metric="accuracy",
        evaluator=evaluator,
        interval=Interval(estimate=value, low=value - half, high=value + half),
        metrics=(("accuracy", value),),
        num_examples=NUM_EXAMPLES,
        duration_s=12.5,
        weights_sha256=None,
        teacher_divergence=0.25,
    )


def fake_trial(
    number: int,
    *,
    architecture: Architecture = TEACHER,
    role: Role = Role.CANDIDATE,
    accuracy: float | None = 0.9,
    ratio: float | None = 0.8,
    precision: str = "coarse",
    num_runs: int = 20,
) -> Trial:
    """One finished trial; ``None`` for what it lacks."""
    generator = np.random.default_rng(number)
    measurements: tuple[Timed, ...] = ()
    if ratio is not None:
        measurement = fake_measurement(
            f"t{number}", ratio=ratio, generator=generator, precision=precision, num_runs=num_runs
        )
        measurements = (timed(measurement),)
    return Trial(
        number=number,
        state=TrialState.COMPLETE,
        role=role,
        architecture=architecture,
        cost=model_cost(architecture, sequence_length=SETTINGS.sequence_length, num_labels=2),
        score=fake_score(accuracy) if accuracy is not None else None,
        measurements=measurements,
        same_as=None,
        failure=None,
        duration_s=20.0,
    )


def on_devices(run: Run, ratios_on: Mapping[DeviceInfo, Callable[[Trial, float], float]]) -> Run:
    """``run``, had it been timed on several devices: on each at a true ratio made from a trial and its own."""
    trials = tuple(_on_devices(trial, ratios_on) for trial in run.trials)
    first, *_ = ratios_on
    return replace(run, trials=trials, device=first, devices=tuple(ratios_on))


def _on_devices(trial: Trial, ratios_on: Mapping[DeviceInfo, Callable[[Trial, float], float]]) -> Trial:
    if not trial.measurements:
        known = [DeviceLatency(device=device, measurements=(), predicted=None) for device in ratios_on]
        return replace(trial, on_devices=tuple(known))
    own = _estimate(trial.measurements)
    known = [
        DeviceLatency(
            device=device,
            measurements=(
                timed(
                    fake_measurement(
                        f"t{trial.number}-{device.device_id}",
                        ratio=ratio_there(trial, own),
                        generator=np.random.default_rng([trial.number, position]),
                        device=device,
                    )
                ),
            ),
            predicted=None,
        )
        for position, (device, ratio_there) in enumerate(ratios_on.items())
    ]
    slowest = max(known, key=lambda each: _estimate(each.measurements))
    return replace(trial, measurements=slowest.measurements, on_devices=tuple(known))


def _estimate(measurements: Sequence[Timed]) -> float:
    ratio = measurements[-1].ratio
    assert ratio is not None
    return ratio.estimate


def failed(trial: Trial, *, failure: str) -> Trial:
    """``trial``, had it failed."""
    return replace(trial, state=TrialState.FAILED, score=None, measurements=(), failure=failure)


def fake_run_of(
    *trials: Trial, objectives: tuple[Objective, ...] = (Objective.ACCURACY, Objective.LATENCY), name: str = "fake"
) -> Run:
    """A run made of ``trials``."""
    return Run(
        name=name,
        space="grouped",
        task="subj",
        objectives=objectives,
        sampler="tpe",
        evaluator="distilled",
        seed=0,
        teacher="dense 6x256",
        created_at="2026-01-05T09:00:00+00:00",
        versions=(("python", "3.11"), ("onnxruntime", "1.23.0")),
        device=HOST,
        settings=SETTINGS,
        trials=trials,
    )


def fake_run(
    num_trials: int = 40,
    *,
    seed: int = 0,
    objectives: tuple[Objective, ...] = (Objective.ACCURACY, Objective.LATENCY),
    num_runs: int = 20,
    teacher: Architecture = TEACHER,
) -> Run:
    """A whole run: two references first, then candidates, every 13th failed and every 17th a repeat."""
    generator = np.random.default_rng(seed)
    squeezebert = squeezebert_rule(teacher)
    space = make_space("grouped", teacher)
    base_macs = _macs(squeezebert)
    trials: list[Trial] = []
    for number in range(num_trials):
        if number < 2:
            arch = (squeezebert, teacher)[number]
            role = (Role.SQUEEZEBERT_RULE, Role.DENSE_TEACHER)[number]
        else:
            arch = space.sample(lambda _, options: int(generator.choice(options)))
            role = Role.CANDIDATE
        if number % 17 == 16:
            arch = trials[5].architecture
        relative = _macs(arch) / base_macs
        accuracy = float(0.93 - 0.06 / (0.4 + relative) + generator.normal(0, 0.006))
        ratio = (0.25 + 0.75 * relative) * math.exp(generator.normal(0, 0.05)) if number else 1.0
        trial = fake_trial(
            number, architecture=arch, role=role, accuracy=accuracy, ratio=float(ratio), num_runs=num_runs
        )
        if number % 17 == 16:
            earlier = trials[5]
            trial = replace(trial, score=earlier.score, measurements=earlier.measurements, same_as=5)
        elif number % 13 == 12:
            trial = failed(trial, failure="loss=nan at step 40 is not finite; lower the learning rate")
        trials.append(trial)
    return fake_run_of(*trials, objectives=objectives)


def _macs(arch: Architecture) -> int:
    return model_cost(arch, sequence_length=SETTINGS.sequence_length, num_labels=2).macs
