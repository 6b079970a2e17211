"""Models as commands take them: a published name, an architecture's JSON file, or an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces.architecture import Architecture
from search_spaces.errors import InvalidArchitectureError, UnknownSpaceError
from search_spaces.reference import REFERENCES, reference

if TYPE_CHECKING:
    from device_lab.measurement import ModelFile
    from nas.timed_models import TimedModels

_FILE_ID_LENGTH = 12


def read_architecture(name: str) -> Architecture:
    """Return the published network called ``name``, or the architecture in the JSON file at that path.

    Raises:
        UnknownSpaceError: If it is neither.
        InvalidArchitectureError: If the file holds no architecture; the message names the file.
    """
    path = Path(name)
    if name in REFERENCES or not path.exists():
        try:
            return reference(name)
        except UnknownSpaceError as error:
            raise UnknownSpaceError(
                kind="model", name=name, known=(*REFERENCES, "a JSON file from `nas show RUN --trial N --json`")
            ) from error
    try:
        return Architecture.from_json(path.read_text())
    except (InvalidArchitectureError, UnicodeDecodeError) as error:
        raise InvalidArchitectureError(f"{path}: {error}") from error


def read_timed_model(name: str, *, made: TimedModels) -> tuple[str, ModelFile]:
    """Return a model that can be timed, and the id that certificates know it by.

    Args:
        name: An ONNX file, known by the beginning of its digest, or what `read_architecture` takes.
        made: Makes the file of an architecture.

    Raises:
        ModelFileError: If the file cannot be timed.
        UnknownSpaceError: If there is no such model.
        InvalidArchitectureError: If a JSON file holds no architecture.
        OSError: If a file cannot be read or written.
    """
    if not name.endswith(".onnx"):
        arch = read_architecture(name)
        return arch.arch_id, made.export(arch)
    # ONNX Runtime takes a moment to import.
    from nas.model_files import read_onnx_model

    model = read_onnx_model(Path(name), sequence_length=made.sequence_length)
    return model.sha256[:_FILE_ID_LENGTH], model
