"""Starts programs by the real ``torchrun``, two processes each, on the loopback interface."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
NUM_PROCESSES = 2
TIMEOUT_S = 180


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What torchrun and its processes left behind."""

    code: int
    stdout: str
    stderr: str

    @property
    def ours(self) -> list[str]:
        """Lines of standard error that we wrote, without torchrun's own report."""
        return [line for line in self.stderr.splitlines() if line.startswith(("nas: ", "stopped", "next: "))]


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment, with this project's code and its installed commands found first."""
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": commands, "PYTHONPATH": str(ROOT), **more}


def start(*words: str, folder: Path) -> subprocess.Popen[str]:
    """Start a program in ``folder``: a Python file, or ``--no-python`` and a command."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(NUM_PROCESSES)),
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1", *words),
        ],
        cwd=folder,
        env=environment(OMP_NUM_THREADS="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> Ended:
    """Wait for what `start` started."""
    try:
        stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.terminate()
    return Ended(code=process.returncode, stdout=stdout, stderr=stderr)
