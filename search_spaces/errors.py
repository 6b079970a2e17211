"""Errors a caller of ``search_spaces`` may want to catch.

SearchSpaceError
├── InvalidArchitectureError   numbers that do not fit together, or a document that is not an architecture
├── UnsupportedSchemaError     a document written by another release
├── UnknownSpaceError          no space or reference network of that name
└── CheckpointError            a checkpoint with missing, extra or wrongly shaped tensors, or a pickle
"""

from __future__ import annotations

from collections.abc import Iterable


class SearchSpaceError(Exception):
    """Base class of every error raised by ``search_spaces``."""


class InvalidArchitectureError(SearchSpaceError):
    """The numbers of an architecture do not fit together."""


class UnsupportedSchemaError(SearchSpaceError):
    """A document was written with a schema this release does not read."""


class UnknownSpaceError(SearchSpaceError):
    """No space or reference network has that name."""

    def __init__(self, *, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"unknown {kind} {name!r} (known: {', '.join(known)})")
        self.name = name


class CheckpointError(SearchSpaceError):
    """A checkpoint cannot be read into a network of ours."""
