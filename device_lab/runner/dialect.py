"""How to talk to a runner: the words it is started with, and what it prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from device_lab.measurement import ModelFile
from device_lab.runner.contract import RunnerArguments, RunnerOutput, RunRequest


class Dialect(Protocol):
    """Command line and output of one kind of runner."""

    def arguments(self, path: str, model: ModelFile, request: RunRequest) -> list[str]:
        """Return the words after the program that run ``model``, which lies at ``path`` where the runner is."""
        ...

    def read(self, stdout: str, stderr: str) -> RunnerOutput:
        """Read what a run printed.

        Raises:
            RunnerOutputError: If it is something else.
        """
        ...


@dataclass(frozen=True, slots=True)
class OwnContract:
    """The JSON contract of our runners, see `device_lab.runner.contract`."""

    def arguments(self, path: str, model: ModelFile, request: RunRequest) -> list[str]:
        """Return ``--name value`` pairs. See `Dialect.arguments`."""
        return RunnerArguments.of_run(path, model, request).to_argv()

    def read(self, stdout: str, stderr: str) -> RunnerOutput:  # noqa: ARG002 - warnings of an engine land there
        """Read the last line of standard output. See `Dialect.read`."""
        return RunnerOutput.from_stdout(stdout)


OWN_CONTRACT = OwnContract()
