"""A simulated device that misbehaves on demand, and quick measurements on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from device_lab.device import Clock, Device
from device_lab.errors import DeviceLabError
from device_lab.measurement import Block, Conditions, DeviceInfo, Measurement, ModelFile, Precision
from device_lab.protocol import Progress, measure
from device_lab.runner.contract import RunnerOutput, RunRequest
from device_lab.simulation import SCENARIOS, SimulatedDevice

QUICK = Precision(name="quick", goal=0.05, looks=(3, 4, 6), min_timed_s=0.01, min_runs=5, max_warmup_s=0.1)
TRUE_TIMES_S = {"reference": 0.010, "fast": 0.005, "slow": 0.020, "middle": 0.012}


def model(name: str) -> ModelFile:
    return ModelFile(
        path=Path(f"{name}.onnx"),
        sha256=name,
        sequence_length=64,
        batch_size=1,
        token_limit=1000,
        expected_output=(0.25, -3.0),
    )


REFERENCE, FAST, SLOW, MIDDLE = (model(name) for name in TRUE_TIMES_S)


def simulated_device(seed: int = 0, scenario: str = "quiet") -> SimulatedDevice:
    return SimulatedDevice(TRUE_TIMES_S, scenario=SCENARIOS[scenario], generator=np.random.default_rng(seed))


def unchanged(name: str, count: int, output: RunnerOutput) -> RunnerOutput:
    return output


@dataclass
class MeddledDevice:
    """The simulated device, with a chance to meddle with each run and reading: what a broken phone would do."""

    inner: SimulatedDevice
    meddle: Callable[[str, int, RunnerOutput], RunnerOutput] = unchanged
    read: Callable[[], Conditions] | None = None
    names: list[str] = field(default_factory=list)

    @property
    def info(self) -> DeviceInfo:
        return self.inner.info

    @property
    def runtime(self) -> str:
        return self.inner.runtime

    @property
    def runtime_version(self) -> str:
        return self.inner.runtime_version

    def conditions(self) -> Conditions:
        return self.inner.conditions() if self.read is None else self.read()

    def run(self, model: ModelFile, request: RunRequest) -> RunnerOutput:
        self.names.append(model.sha256)
        return self.meddle(model.sha256, len(self.names), self.inner.run(model, request))


def measure_quickly(
    *candidates: ModelFile,
    device: Device,
    clock: Clock,
    precision: Precision = QUICK,
    cold_baseline_ns: float | None = None,
    budget_s: float | None = None,
    earlier_blocks: dict[str, list[Block]] | None = None,
    on_block: Callable[[ModelFile, Block], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> list[Measurement | DeviceLabError]:
    return measure(
        candidates,
        reference=REFERENCE,
        device=device,
        num_threads=2,
        precision=precision,
        generator=np.random.default_rng(1),
        cold_baseline_ns=cold_baseline_ns,
        budget_s=budget_s,
        earlier_blocks=earlier_blocks or {},
        on_block=on_block,
        on_progress=on_progress,
        clock=clock,
    )


def measured(outcome: Measurement | DeviceLabError) -> Measurement:
    if isinstance(outcome, DeviceLabError):
        raise outcome
    return outcome


def slowed(output: RunnerOutput, factor: float) -> RunnerOutput:
    return replace(output, samples_ns=tuple(int(sample * factor) for sample in output.samples_ns))
