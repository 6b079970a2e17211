"""Errors a caller of ``reports`` may want to catch.

ReportError
├── EmptyRunError          the run has no trial yet
├── IncomparableRunsError  nothing of two runs means the same
├── NoPlaneError           a run with fewer than two objectives has no front to draw
├── NothingFitsError       no model of a run keeps the limit it is picked by
├── NothingTimedError      no device was timed on yet
└── UnknownFormatError     no figure can be written in that format
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


class IncomparableRunsError(ReportError):
    """Nothing of two runs means the same."""

    def __init__(self, *, first: str, second: str, reason: str) -> None:
        super().__init__(f"runs {first!r} and {second!r} cannot be compared: {reason}")
        self.first = first
        self.second = second


class NoPlaneError(ReportError):
    """A run with fewer than two comparable objectives has no front to draw."""

    def __init__(self, *, run: str) -> None:
        super().__init__(f"run {run!r} has fewer than two objectives to compare, so there is no front to draw")
        self.run = run


class NothingFitsError(ReportError):
    """No model of a run keeps the limit it is picked by; ``nearest`` comes closest, if any has a value."""

    def __init__(self, *, run: str, limit: str, nearest: str | None, lacking: str) -> None:
        told = (
            f"{nearest}; relax the limit, or search on with `nas search {run} --trials N`"
            if nearest is not None
            else f"none was {lacking}; pick by the other limit, or search a new run with it among its `--objectives`"
        )
        super().__init__(f"no compared model of run {run!r} has {limit}; {told}")
        self.run = run


class NothingTimedError(ReportError):
    """No device was timed on yet."""

    def __init__(self) -> None:
        super().__init__("nothing was timed yet, so no device has a page; start with `nas measure`")


class UnknownFormatError(ReportError):
    """No figure can be written in that format."""

    def __init__(self, *, name: str, known: Iterable[str]) -> None:
        super().__init__(f"unknown figure format {name!r} (known: {', '.join(known)})")
        self.name = name
