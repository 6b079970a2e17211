"""ONNX Runtime, the default: the same release on this machine and on a phone."""

from __future__ import annotations

import importlib.metadata
import sys

from device_lab.errors import RuntimeMissingError
from device_lab.measurement import ModelFile
from device_lab.runner.contract import RunnerArguments, RunnerOutput, RunRequest


class OnnxRuntime:
    """Executes ``.onnx`` files by the Python package ``onnxruntime``. See `device_lab.runtimes.Runtime`."""

    name = "onnxruntime"

    @property
    def version(self) -> str:
        """Version of the installed package, read without importing it.

        Raises:
            RuntimeMissingError: If it is not installed.
        """
        try:
            return importlib.metadata.version("onnxruntime")
        except importlib.metadata.PackageNotFoundError as error:
            raise RuntimeMissingError("runtime onnxruntime is not installed; run `pip install onnxruntime`") from error

    def host_command(self, model: ModelFile, request: RunRequest) -> list[str]:
        """Return the command that runs ``model`` once in a fresh process on this machine."""
        arguments = RunnerArguments.of_run(str(model.path), model, request)
        # -P keeps the folder nas was started in from hiding a module of the runner.
        return [sys.executable, "-P", "-m", "device_lab.runner.host_onnxruntime", *arguments.to_argv()]

    def read(self, stdout: str, stderr: str) -> RunnerOutput:  # noqa: ARG002 - the engine's warnings
        """Read the last line of standard output. See `device_lab.runtimes.Runtime.read`."""
        return RunnerOutput.from_stdout(stdout)
