"""Errors a caller of ``device_lab`` may want to catch.

DeviceLabError
├── DeviceNotFoundError        no device with that serial answers
├── DeviceLostError            the connection dropped in the middle of a command
├── UnknownRuntimeError        no runtime of that name
├── RuntimeMissingError        the runtime's package is not installed
├── RunnerFailedError          the runner exited with an error
│   ├── OutOfMemoryError       it was killed for memory
│   └── RunnerTimeoutError     it was stopped because it took too long
├── RunnerOutputError          the runner printed something that is not its contract
├── ThreadCountError           the runner did not use the number of threads asked for
├── ModelMismatchError         candidate and reference cannot be compared
├── TooFewBlocksError          there are too few blocks for an interval
└── WrongOutputError           the model's answer differs from torch's: a wrong answer is never a latency
"""

from __future__ import annotations

from collections.abc import Iterable


class DeviceLabError(Exception):
    """Base class of every error raised by ``device_lab``."""


class DeviceNotFoundError(DeviceLabError):
    """No device with that serial answers."""

    def __init__(self, *, serial: str, attached: Iterable[str]) -> None:
        found = ", ".join(sorted(attached)) or "none"
        super().__init__(f"no device with serial {serial!r} (attached: {found}); run `nas devices`")
        self.serial = serial


class DeviceLostError(DeviceLabError):
    """The connection dropped in the middle of a command."""

    def __init__(self, *, serial: str, command: str) -> None:
        super().__init__(f"{serial}: lost the device while running `{command}`; check the cable, then measure again")
        self.serial = serial
        self.command = command


class UnknownRuntimeError(DeviceLabError):
    """No runtime has that name."""

    def __init__(self, *, name: str, known: Iterable[str]) -> None:
        super().__init__(f"unknown runtime {name!r} (known: {', '.join(known)})")
        self.name = name


class RuntimeMissingError(DeviceLabError):
    """The package of a runtime is not installed."""


class RunnerFailedError(DeviceLabError):
    """The runner exited with an error."""


class OutOfMemoryError(RunnerFailedError):
    """The runner was killed for memory."""


class RunnerTimeoutError(RunnerFailedError):
    """The runner was stopped because it took too long."""


class ThreadCountError(DeviceLabError):
    """The runner did not use the number of threads it was asked for."""

    def __init__(self, *, asked: int, used: int) -> None:
        super().__init__(f"num_threads={asked} was asked for, the runner used {used}; a latency belongs to its threads")
        self.asked = asked
        self.used = used


class ModelMismatchError(DeviceLabError):
    """A candidate cannot be compared with the reference."""


class TooFewBlocksError(DeviceLabError):
    """There are too few blocks for an interval."""

    def __init__(self, *, num_kept: int, num_blocks: int) -> None:
        super().__init__(f"{num_kept} of {num_blocks} blocks kept, an interval needs at least 2; measure again")
        self.num_kept = num_kept
        self.num_blocks = num_blocks


class RunnerOutputError(DeviceLabError):
    """The runner printed something that is not its contract."""


class WrongOutputError(DeviceLabError):
    """The model's answer differs from torch's."""
