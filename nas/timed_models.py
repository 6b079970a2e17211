"""The model files architectures are timed with: one per architecture, whatever trained it."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from device_lab.measurement import ModelFile
from device_lab.runner.contract import MAX_TOKEN_LIMIT
from nas.export import export_onnx, random_network
from nas.export_executorch import export_executorch
from nas.export_litert import export_litert
from nas.generated import generated_network
from search_spaces.architecture import Architecture


class TimedModels:
    """A folder of model files for one runtime and one input shape. May be shared by threads.

    For ONNX Runtime a file holds the graph only, and the runner generates the
    weights; ``with_weights`` puts them in, for a runner that cannot. A program
    of ExecuTorch and a file of LiteRT always carry them.
    """

    def __init__(
        self, folder: Path, *, runtime: str, sequence_length: int, num_labels: int, with_weights: bool = False
    ) -> None:
        self.sequence_length = sequence_length
        self._folder = folder
        self._runtime = runtime
        self._num_labels = num_labels
        self._with_weights = with_weights
        self._exported: dict[str, ModelFile] = {}
        self._lock = threading.Lock()

    def export(self, arch: Architecture) -> ModelFile:
        """Return the model file of an architecture; it is written once in the life of this object.

        Raises:
            MissingExtraError: If the exporter of the runtime is not installed.
            DeviceLabError: If a file of LiteRT does not answer as torch does.
            OSError: If the file cannot be written.
        """
        with self._lock:
            if arch.arch_id not in self._exported:
                self._exported[arch.arch_id] = self._write(arch)
            return self._exported[arch.arch_id]

    def _write(self, arch: Architecture) -> ModelFile:
        # An inference reads one row of the embedding table per token, so a table cut to the rows that are read takes
        # nearly the same time, and leaves a file that is cheap to move where it has to carry its weights.
        carried = replace(arch, vocab_size=min(arch.vocab_size, MAX_TOKEN_LIMIT))
        path = self._folder / f"{arch.arch_id}-{self._num_labels}-{self.sequence_length}"
        if self._runtime == "executorch":
            network = random_network(carried, num_labels=self._num_labels)
            return export_executorch(network, path.with_suffix(".pte"), sequence_length=self.sequence_length)
        if self._runtime == "litert":
            network = random_network(carried, num_labels=self._num_labels)
            return export_litert(network, path.with_suffix(".tflite"), sequence_length=self.sequence_length)
        network, layout = generated_network(arch, num_labels=self._num_labels)
        if self._with_weights:
            whole = path.with_name(f"{path.name}-whole.onnx")
            return export_onnx(network, whole, sequence_length=self.sequence_length)
        return export_onnx(
            network, path.with_suffix(".onnx"), sequence_length=self.sequence_length, weight_layout=layout
        )
