"""Runs the ``nas`` program inside the test's own process."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

from nas.cli.main import main


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The one line of an expected error, without the program's name."""
        lines = [line for line in self.stderr.splitlines() if line.startswith("nas: error: ")]
        assert (self.code, len(lines)) == (1, 1), self
        return lines[0].removeprefix("nas: error: ")


class CommandLine:
    """Calls ``nas`` with arguments; run folders lie in ``runs_folder``."""

    def __init__(self, capsys: pytest.CaptureFixture[str], runs_folder: Path) -> None:
        self._capsys = capsys
        self.runs_folder = runs_folder

    def __call__(self, *arguments: str) -> Finished:
        self._capsys.readouterr()
        with patch.object(sys, "argv", ["nas", *arguments]), pytest.raises(SystemExit) as exit_:
            main()
        captured = self._capsys.readouterr()
        code = exit_.value.code
        return Finished(code=code if isinstance(code, int) else 1, stdout=captured.out, stderr=captured.err)

    def in_folder(self, *arguments: str) -> Finished:
        """Call ``nas`` with ``--runs-folder`` added."""
        return self(*arguments, "--runs-folder", str(self.runs_folder))
