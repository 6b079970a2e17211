"""Runtimes by name: the programs that execute a model.

A runtime knows how to start its runner for one model on this machine. It is
listed here without importing the package that does the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from device_lab.errors import UnknownRuntimeError
from device_lab.measurement import ModelFile
from device_lab.runner.contract import RunnerOutput, RunRequest
from device_lab.runtimes.executorch import Executorch
from device_lab.runtimes.litert import Litert
from device_lab.runtimes.onnxruntime import OnnxRuntime


class Runtime(Protocol):
    """A program that executes models on this machine."""

    @property
    def name(self) -> str:
        """Short lower-case name, as given to ``--runtime``."""
        ...

    @property
    def version(self) -> str:
        """Version of the installed package.

        Raises:
            RuntimeMissingError: If it is not installed.
        """
        ...

    def host_command(self, model: ModelFile, request: RunRequest) -> Sequence[str]:
        """Return the command that runs ``model`` once in a fresh process on this machine."""
        ...

    def read(self, stdout: str, stderr: str) -> RunnerOutput:
        """Read what such a process printed.

        Raises:
            RunnerOutputError: If it is something else.
        """
        ...


_RUNTIMES: dict[str, Runtime] = {runtime.name: runtime for runtime in (Executorch(), Litert(), OnnxRuntime())}


def runtime_names() -> tuple[str, ...]:
    """Return the names `find_runtime` knows, in alphabetical order."""
    return tuple(sorted(_RUNTIMES))


def find_runtime(name: str) -> Runtime:
    """Return the runtime called ``name``.

    Raises:
        UnknownRuntimeError: If there is none.
    """
    if name not in _RUNTIMES:
        raise UnknownRuntimeError(name=name, known=runtime_names())
    return _RUNTIMES[name]
