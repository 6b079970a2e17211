"""Where commands print: results to standard output, everything else to standard error."""

from __future__ import annotations

import gc
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from nas.errors import CompilationWarning, ProjectionWarning, StoreWarning

# No markup: a name or a command may hold brackets.
stdout = Console(highlight=False, soft_wrap=True, markup=False)
stderr = Console(stderr=True, highlight=False)


def print_json(document: Any) -> None:
    """Print one JSON object on standard output, without colours or wrapping."""
    stdout.print(json.dumps(document, indent=2), markup=False)


def print_sentence(sentence: str) -> None:
    """Print one sentence on standard output: wrapped for a reader, whole for a program that reads it."""
    stdout.print(sentence, markup=False, soft_wrap=not stdout.is_terminal)


@contextmanager
def uncollected() -> Iterator[None]:
    """Let Python look for garbage only after the block: half a million values that all live cost seconds to look at."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            # What is left lives to the end of the process, and nobody needs to look through it then either.
            gc.freeze()
            gc.enable()


@contextmanager
def our_warnings_as_lines() -> Iterator[None]:
    """Print our own warnings as one line on standard error while the block runs, and others as Python does."""
    with warnings.catch_warnings():
        show_as_python_does = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, CompilationWarning | ProjectionWarning | StoreWarning):
                stderr.print(f"warning: {message}", markup=False, soft_wrap=True)
            else:
                show_as_python_does(message, category, *place, **more)

        warnings.showwarning = show
        yield
