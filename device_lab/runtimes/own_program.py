"""A program of the user's own on this machine, in the place of a runtime's runner."""

from __future__ import annotations

import platform
from pathlib import Path

from device_lab.measurement import ModelFile
from device_lab.runner.bundle import wrap_program
from device_lab.runner.contract import RunnerOutput, RunRequest


class OwnProgram:
    """Executes the models of a runtime by ``program``. See `device_lab.runtimes.Runtime`.

    Args:
        program: Keeps our contract, or is LiteRT's ``benchmark_model``; see `device_lab.runner.bundle.wrap_program`.
        runtime: The runtime whose models it takes.
        cache_folder: Where its copy is kept, see `device_lab.runner.bundle.default_cache_folder`.

    Raises:
        RunnerBuildError: If ``program`` cannot be used.
    """

    def __init__(self, program: Path, *, runtime: str, cache_folder: Path) -> None:
        self._bundle = wrap_program(program, runtime=runtime, abi=platform.machine(), cache_folder=cache_folder)
        self.name = runtime
        self.version = self._bundle.runtime_version

    def host_command(self, model: ModelFile, request: RunRequest) -> list[str]:
        """Return the command that runs ``model`` once in a fresh process on this machine."""
        return self._bundle.run_command(self._bundle.folder, str(model.path), model, request)

    def read(self, stdout: str, stderr: str) -> RunnerOutput:
        """Read what a run printed. See `device_lab.runner.bundle.Bundle.read`."""
        return self._bundle.read(stdout, stderr)
