"""How often the intervals contain the truth when every process goes over adb to a virtual phone.

The samples are those of a simulated device with known ratios, and so is the clock
the session waits by. Everything in between is real: the lease and its renewal, the
push of models, the shell, the runner's process, its line of JSON. Run from the
project's root: ``python -m benchmarks.phone_coverage``.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

from device_lab.coverage import Coverage, simulate_coverage
from device_lab.devices import find_phone
from device_lab.held_phone import HeldPhone, hold_phone
from device_lab.measurement import Conditions, ModelFile
from device_lab.phone import PhoneDevice
from device_lab.runner.bundle import Bundle, wrap_program
from device_lab.runner.contract import RunnerOutput, RunRequest
from device_lab.simulation import SCENARIOS, Scenario, SimulatedDevice
from device_lab.statistics import PRECISIONS
from device_lab.virtual_phone.launch import start_virtual_phone
from device_lab.virtual_phone.options import PhoneOptions

NUM_SESSIONS = 200
REFERENCE_S = 0.1
SEED = 20
# What the simulated device answers next lies here when the runner starts.
ANSWER = PurePosixPath("/data/local/tmp/answer.json")
RUNNER = f'#!/bin/sh\n[ -f "$2" ] && exec cat {ANSWER}\n'


class ThroughPhone:
    """The simulated device behind a phone: each process is drawn there, and run over adb. See `device_lab.device`."""

    def __init__(self, simulated: SimulatedDevice, phone: PhoneDevice, *, answer: Path, models: Path) -> None:
        self.info = phone.info
        self.runtime, self.runtime_version = phone.runtime, phone.runtime_version
        self._simulated, self._phone = simulated, phone
        self._answer, self._models = answer, models

    def conditions(self) -> Conditions:
        """Read the phone's. See `device_lab.device.Device.conditions`."""
        return self._phone.conditions()

    def run(self, model: ModelFile, request: RunRequest) -> RunnerOutput:
        """Draw a process and run it. See `device_lab.device.Device.run`."""
        drawn = self._simulated.run(model, request)
        self._answer.write_text(drawn.to_json())
        path = self._models / model.sha256
        path.write_text(model.sha256)
        output = self._phone.run(replace(model, path=path), request)
        if replace(output, runtime_version=drawn.runtime_version) != drawn:
            raise SystemExit("the phone handed on something else than what was drawn")
        return output


def _coverage(scenario: Scenario, held: HeldPhone, bundle: Bundle, *, answer: Path, models: Path) -> Coverage:
    return simulate_coverage(
        scenario,
        precision=PRECISIONS["normal"],
        num_sessions=NUM_SESSIONS,
        num_candidates=1,
        reference_s=REFERENCE_S,
        has_heat_gate=True,
        seed=SEED,
        through=lambda simulated: ThroughPhone(
            simulated, PhoneDevice(held, bundle, num_threads=1), answer=answer, models=models
        ),
    )


def main() -> None:
    print(f"{NUM_SESSIONS} sessions in each row, normal precision, every process over adb to a virtual phone")
    print("scenario covered  goal met  explained  blocks  rms %")
    found = {}
    with tempfile.TemporaryDirectory() as name, start_virtual_phone(PhoneOptions(serial="COVERAGE")) as started:
        program = Path(name) / "runner"
        program.write_text(RUNNER)
        bundle = wrap_program(program, runtime="simulated", abi="x86_64", cache_folder=Path(name) / "bundles")
        with hold_phone(find_phone(started.address)) as held:
            answer = started.on_host(str(ANSWER))
            for scenario in SCENARIOS.values():
                coverage = _coverage(scenario, held, bundle, answer=answer, models=Path(name))
                found[scenario.name] = coverage
                print(
                    f"{scenario.name:9}{coverage.covered:8.1%}{coverage.goal_met:10.1%}{coverage.explained:11.1%}"
                    f"{coverage.num_blocks:8.1f}{100 * coverage.root_mean_square_error:7.2f}",
                    flush=True,
                )
    for name, coverage in found.items():
        percent = 100 * coverage.covered
        verdict = "met" if 93 <= percent <= 98 else "short"
        print(f"figure: phone_coverage_{name} {percent:.1f} % target=93-98 {verdict}")
    percent = 100 * min(coverage.explained for coverage in found.values())
    print(f"figure: phone_goal_met_or_a_reason {percent:.0f} % target=100 {'met' if percent == 100 else 'short'}")


if __name__ == "__main__":
    main()
