"""LiteRT with its XNNPACK kernels, the third runtime.

On this machine its Python package executes the models, and also holds each
exported file against torch, since on a phone the program that times them,
`device_lab.runner.benchmark_model`, prints no answer.
"""

from __future__ import annotations

import importlib.metadata
import sys

from device_lab.errors import RuntimeMissingError
from device_lab.measurement import ModelFile
from device_lab.runner.contract import RunnerArguments, RunnerOutput, RunRequest


class Litert:
    """Executes ``.tflite`` files by the Python package ``ai-edge-litert``. See `device_lab.runtimes.Runtime`."""

    name = "litert"

    @property
    def version(self) -> str:
        """Version of the installed package, read without importing it.

        Raises:
            RuntimeMissingError: If it is not installed.
        """
        try:
            return importlib.metadata.version("ai-edge-litert")
        except importlib.metadata.PackageNotFoundError as error:
            raise RuntimeMissingError(
                "runtime litert is not installed; run `pip install 'pocketbert[litert]'`"
            ) from error

    def host_command(self, model: ModelFile, request: RunRequest) -> list[str]:
        """Return the command that runs ``model`` once in a fresh process on this machine."""
        arguments = RunnerArguments.of_run(str(model.path), model, request)
        return [sys.executable, "-P", "-m", "device_lab.runner.host_litert", *arguments.to_argv()]

    def read(self, stdout: str, stderr: str) -> RunnerOutput:  # noqa: ARG002 - the engine's warnings
        """Read the last line of standard output. See `device_lab.runtimes.Runtime.read`."""
        return RunnerOutput.from_stdout(stdout)
