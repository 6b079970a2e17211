"""Where commands print: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

# No markup: a name or a command may hold brackets.
stdout = Console(highlight=False, soft_wrap=True, markup=False)
stderr = Console(stderr=True, highlight=False)


def print_json(document: Any) -> None:
    """Print one JSON object on standard output, without colours or wrapping."""
    stdout.print(json.dumps(document, indent=2), markup=False)


def print_sentence(sentence: str) -> None:
    """Print one sentence on standard output: wrapped for a reader, whole for a program that reads it."""
    stdout.print(sentence, markup=False, soft_wrap=not stdout.is_terminal)
