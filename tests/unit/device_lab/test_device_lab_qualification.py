from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device_lab.errors import DeviceNotQualifiedError, RunnerFailedError
from device_lab.measurement import ModelFile
from device_lab.qualification import Qualification, qualify
from device_lab.runner.contract import RunnerOutput, RunRequest
from device_lab.simulation import SCENARIOS, SimulatedDevice
from tests.lab_blocks import chain, measured, process

REFERENCE = ModelFile(
    path=Path("reference.onnx"),
    sha256="reference",
    sequence_length=64,
    batch_size=1,
    token_limit=1000,
    expected_output=(0.5,),
)


def _device(seed: int) -> SimulatedDevice:
    return SimulatedDevice({"reference": 0.05}, scenario=SCENARIOS["quiet"], generator=np.random.default_rng(seed))


def _evidence(candidates_ns: list[int]) -> Qualification:
    measurement = measured(chain([10_000] * (len(candidates_ns) + 1), candidates_ns))
    return Qualification(baseline_runs=(process(3), process(1), process(2, 2, 9)), measurement=measurement)


def test_a_quiet_device_is_qualified_with_its_cold_baseline() -> None:
    device = _device(seed=0)

    qualification = qualify(REFERENCE, device=device, num_threads=1, generator=np.random.default_rng(0), clock=device)

    qualification.require()
    assert qualification.ratio.low <= 1.0 <= qualification.ratio.high
    assert len(qualification.baseline_runs) == 9
    assert qualification.cold_baseline_ns == pytest.approx(50e6, rel=0.02)


def test_the_cold_baseline_is_the_median_of_the_medians() -> None:
    assert _evidence([10_000] * 3).cold_baseline_ns == 2.0


def test_a_device_whose_interval_misses_one_is_refused_with_the_figures() -> None:
    qualification = _evidence([10_300, 10_300, 10_301, 10_299])

    assert not qualification.is_qualified
    with pytest.raises(
        DeviceNotQualifiedError, match=r"simulated: .* gave 1\.030 \(1\.030 to 1\.030, half-width 0\.0%\)"
    ):
        qualification.require()


def test_a_device_whose_interval_is_too_wide_is_refused() -> None:
    qualification = _evidence([9_700, 10_300, 9_800, 10_200])

    assert qualification.ratio.low < 1 < qualification.ratio.high
    with pytest.raises(DeviceNotQualifiedError, match=r"half-width be at most 2%"):
        qualification.require()


def test_a_reference_that_cannot_run_is_an_error_not_a_verdict() -> None:
    class Broken(SimulatedDevice):
        def run(self, model: ModelFile, request: RunRequest) -> RunnerOutput:
            if self.monotonic_s() > 30:
                raise RunnerFailedError("reference.onnx: the runner exited with 1: no output")
            return super().run(model, request)

    device = Broken({"reference": 0.05}, scenario=SCENARIOS["quiet"], generator=np.random.default_rng(0))

    with pytest.raises(RunnerFailedError, match=r"reference\.onnx: the runner exited with 1"):
        qualify(REFERENCE, device=device, num_threads=1, generator=np.random.default_rng(0), clock=device)
