"""The commands and the programs our documents show."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"(<!-- not run: (?P<reason>[^>]*?) -->\n)?```(?P<kind>\w+)\n(?P<body>.*?)```", flags=re.DOTALL)

_COMMAND = re.compile(r"\$ (torchrun .*--no-python )?(?P<command>nas .*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A command line, and why a test cannot run it (empty if it can)."""

    words: tuple[str, ...]
    target: str
    reason: str

    def __str__(self) -> str:
        return shlex.join(self.words)


def shown_commands(path: Path) -> list[Shown]:
    """Return the ``nas`` commands of a document's console blocks, without remarks; ``target`` is where output goes.

    What ``torchrun`` starts is such a command, too.
    """
    found = []
    for block in _BLOCK.finditer(path.read_text()):
        if block["kind"] != "console":
            continue
        for line in block["body"].splitlines():
            if started := _COMMAND.match(line):
                command, _, target = started["command"].split("  #")[0].partition(" > ")
                found.append(
                    Shown(words=tuple(shlex.split(command)), target=target.strip(), reason=block["reason"] or "")
                )
    return found


def shown_programs(path: Path) -> list[str]:
    """Return the Python blocks of a document."""
    return [block["body"] for block in _BLOCK.finditer(path.read_text()) if block["kind"] == "python"]
