"""Errors a caller of ``reports`` may want to catch.

ReportError
├── EmptyRunError       the run has no trial yet
└── UnknownFormatError  no figure can be written in that format
"""

from __future__ import annotations

from collections.abc import Iterable


class ReportError(Exception):
    """Base class of every error raised by ``reports``."""


class EmptyRunError(ReportError):
    """The run has no trial yet."""

    def __init__(self, *, run: str) -> None:
        super().__init__(f"run {run!r} has no trials; start them with `nas search`")
        self.run = run


class UnknownFormatError(ReportError):
    """No figure can be written in that format."""

    def __init__(self, *, name: str, known: Iterable[str]) -> None:
        super().__init__(f"unknown figure format {name!r} (known: {', '.join(known)})")
        self.name = name
