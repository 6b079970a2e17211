"""ExecuTorch with its XNNPACK kernels, the second runtime.

Exporting a program needs the optional package ``executorch``, and so does loading
one into this process. Timing one does not: the compiled runner is linked with the
libraries of the official wheel.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from device_lab.errors import RuntimeMissingError
from device_lab.files import write_atomically
from device_lab.measurement import ModelFile
from device_lab.runner.bundle import build_bundle, default_cache_folder
from device_lab.runner.contract import RunnerArguments, RunnerOutput, RunRequest
from device_lab.runner.engines import EXECUTORCH_VERSION, host_target

if TYPE_CHECKING:
    from torch import Tensor, nn


class Executorch:
    """Executes ``.pte`` files by the compiled runner. See `device_lab.runtimes.Runtime`."""

    name = "executorch"
    version = EXECUTORCH_VERSION

    def __init__(self, *, cache_folder: Path | None = None) -> None:
        self._cache_folder = cache_folder or default_cache_folder()

    def host_command(self, model: ModelFile, request: RunRequest) -> list[str]:
        """Return the command that runs ``model`` once in a fresh process on this machine; build the runner if need be.

        Raises:
            RunnerBuildError: If the runner cannot be built here.
        """
        bundle = build_bundle(self.name, abi=host_target().abi, cache_folder=self._cache_folder)
        arguments = RunnerArguments.of_run(str(model.path), model, request)
        return [*bundle.command(bundle.folder), *arguments.to_argv()]

    def read(self, stdout: str, stderr: str) -> RunnerOutput:  # noqa: ARG002 - the engine's warnings
        """Read the last line of standard output. See `device_lab.runtimes.Runtime.read`."""
        return RunnerOutput.from_stdout(stdout)


def write_program(network: nn.Module, path: Path, *, example_inputs: tuple[Tensor, ...]) -> None:
    """Export a network as an ExecuTorch program for XNNPACK, of the shape of ``example_inputs``, atomically.

    Raises:
        RuntimeMissingError: If the package executorch is not installed.
        OSError: If the file cannot be written.
    """
    with _quiet():
        try:
            exir = importlib.import_module("executorch.exir")
            xnnpack = importlib.import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
        except ImportError as error:
            raise RuntimeMissingError(
                "exporting for runtime executorch needs its package; run `pip install 'pocketbert[executorch]'`"
            ) from error
        import torch

        with torch.no_grad():
            traced = torch.export.export(network.eval(), example_inputs)
            lowered = exir.to_edge_transform_and_lower(traced, partitioner=[xnnpack.XnnpackPartitioner()])
            program = lowered.to_executorch()
    write_atomically(path, bytes(program.buffer))


def load_program(path: Path) -> Callable[[tuple[Tensor, ...]], Tensor]:
    """Load a program into this process, to ask what it answers; nothing is timed this way.

    Returns:
        A function from the program's inputs to its only output, of the shapes it was exported with.

    Raises:
        RuntimeMissingError: If the package executorch is not installed.
    """
    with _quiet():
        try:
            runtime = importlib.import_module("executorch.runtime").Runtime.get()
        except ImportError as error:
            raise RuntimeMissingError(
                "running an ExecuTorch program here needs its package; run `pip install 'pocketbert[executorch]'`"
            ) from error
        method = runtime.load_program(path).load_method("forward")

    def forward(inputs: tuple[Tensor, ...]) -> Tensor:
        (output,) = method.execute(inputs)
        answer: Tensor = output.clone()  # the program may write the next answer to the same place
        return answer

    return forward


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the package's own warnings and log lines to itself: nothing in them concerns the network."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)
