"""A check from outside: Google's ``benchmark_model`` on models of LiteRT, on a phone that is held.

What it prints are averages without samples or outputs, so it is never a
measurement: it stands beside one, made by a program that is not ours.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from device_lab.conditions import gate
from device_lab.errors import DeviceUnfitError
from device_lab.held_phone import HeldPhone
from device_lab.runner.contract import RunRequest
from device_lab.runtimes.litert import BenchmarkModelOutput, benchmark_model_arguments


def crosscheck(
    held: HeldPhone, program: Path, models: Mapping[str, Path], *, request: RunRequest, num_rounds: int
) -> dict[str, list[BenchmarkModelOutput]]:
    """Run ``program`` on every model in turn, ``num_rounds`` times over, each in a fresh process.

    Args:
        held: The phone.
        program: ``benchmark_model``, for the phone's kind of processor.
        models: ``.tflite`` files by any name.
        request: Threads, runs and seconds of each process.
        num_rounds: How often each model has its turn.

    Returns:
        What each turn printed, by the name of the model.

    Raises:
        DeviceUnfitError: If the phone is unfit to be timed before a round.
        RunnerOutputError: If ``program`` prints no timings.
        RemoteCommandError: If it fails.
        DeviceLabError: If the phone cannot be reached or refuses the files.
    """
    outputs: dict[str, list[BenchmarkModelOutput]] = {name: [] for name in models}
    remote = held.adb.push_cached(program)
    on_phone = {name: held.adb.push_cached(path) for name, path in models.items()}
    for _ in range(num_rounds):
        if reasons := gate(held.conditions()):
            raise DeviceUnfitError(serial=held.info.device_id, reasons=reasons)
        for name, model in on_phone.items():
            words = shlex.join([str(remote), *benchmark_model_arguments(model, request)])
            # It writes part of its report to standard error.
            printed = held.run(f"{words} 2>&1", timeout_s=request.timeout_s).text
            outputs[name].append(BenchmarkModelOutput.from_stdout(printed))
    return outputs
