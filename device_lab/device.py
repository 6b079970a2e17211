"""The seam between the protocol and whatever executes a model.

A device runs a runner once, in a fresh process, and hands back what the runner
printed. A phone, this machine and the simulated device are all used through it.
"""

from __future__ import annotations

import time
from typing import Protocol

from device_lab.measurement import Conditions, DeviceInfo, ModelFile
from device_lab.runner.contract import RunnerOutput, RunRequest
from device_lab.runner.profile import OperatorProfile


class Device(Protocol):
    """One device with one runtime, held by the caller alone for as long as it is measured on."""

    @property
    def info(self) -> DeviceInfo:
        """What the device is."""
        ...

    @property
    def runtime(self) -> str:
        """Name of the runtime that executes the models."""
        ...

    @property
    def runtime_version(self) -> str:
        """Version of that runtime on the device."""
        ...

    def conditions(self) -> Conditions:
        """Read what is in force now: heat, clocks, load; ``"?"`` for what cannot be read."""
        ...

    def run(self, model: ModelFile, request: RunRequest) -> RunnerOutput:
        """Start a fresh process that loads ``model``, warms up and times inferences.

        Raises:
            DeviceLostError: If the connection dropped.
            OutOfMemoryError: If the process was killed for memory.
            RunnerFailedError: If it exited with an error.
            RunnerOutputError: If it printed something that is not the contract.
        """
        ...


class ProfilingDevice(Device, Protocol):
    """A device whose runner can also tell the time of each operator."""

    def profile(self, model: ModelFile, request: RunRequest) -> OperatorProfile:
        """Start a fresh process that runs ``request.min_runs`` inferences and times every operator of them.

        Raises:
            DeviceLabError: As `Device.run` does.
        """
        ...


class Clock(Protocol):
    """The time by which the protocol waits. Passed in, so that a simulation does not have to."""

    def monotonic_s(self) -> float:
        """Return seconds since some fixed moment."""
        ...

    def sleep(self, duration_s: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The real time."""

    def monotonic_s(self) -> float:
        """Return seconds since some fixed moment. See `Clock.monotonic_s`."""
        return time.monotonic()

    def sleep(self, duration_s: float) -> None:
        """Wait. See `Clock.sleep`."""
        time.sleep(duration_s)
