"""Architectures as commands take them: a published name, or a JSON file."""

from __future__ import annotations

from pathlib import Path

from search_spaces.architecture import Architecture
from search_spaces.errors import InvalidArchitectureError, UnknownSpaceError
from search_spaces.reference import REFERENCES, reference


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
