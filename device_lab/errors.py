"""Errors a caller of ``device_lab`` may want to catch.

DeviceLabError
├── DeviceNotFoundError        no device with that serial answers
├── UnknownRuntimeError        no runtime of that name
├── RuntimeMissingError        the runtime's package is not installed
├── RunnerFailedError          the runner exited with an error
│   └── OutOfMemoryError       it was killed for memory
├── RunnerOutputError          the runner printed something that is not its contract
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


class RunnerOutputError(DeviceLabError):
    """The runner printed something that is not its contract."""


class WrongOutputError(DeviceLabError):
    """The model's answer differs from torch's."""
