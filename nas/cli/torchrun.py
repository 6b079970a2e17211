"""What ``torchrun`` tells the processes it starts, and how they speak with one voice."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Self

# What torchrun itself gives a process to end before it kills it.
PATIENCE_S = 30.0
STOPPED_EXIT_CODE = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """How this process was started: the ``rank``-th of ``count``, with ``local_count`` of them on this machine."""

    rank: int
    count: int
    local_rank: int
    local_count: int

    @classmethod
    def read(cls) -> Self:
        """Read the environment; a process that torchrun did not start is the only one."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls(rank=0, count=1, local_rank=0, local_count=1)
        names = {"rank": "RANK", "count": "WORLD_SIZE", "local_rank": "LOCAL_RANK", "local_count": "LOCAL_WORLD_SIZE"}
        return cls(**{field: int(os.environ[name]) for field, name in names.items()})

    @property
    def prefix(self) -> str:
        """What a message begins with: which process speaks, or nothing if there is one only."""
        return f"rank {self.rank} of {self.count}: " if self.count > 1 else ""


class ToldElsewhereError(Exception):
    """Another process of the same command tells what is wrong; this one says nothing."""


@contextmanager
def quiet_unless_first() -> Iterator[None]:
    """Print nothing while the block runs, unless this is the first process or the only one.

    Raises:
        ToldElsewhereError: If the block exits with an error, which the first process tells.
    """
    if Started.read().rank == 0:
        yield
        return
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            yield
    except SystemExit as error:
        if error.code in (None, 0, STOPPED_EXIT_CODE):
            raise
        raise ToldElsewhereError from error


def await_end() -> None:
    """Wait to be ended by torchrun, which ends all others with the first process that fails.

    Who left earlier would have torchrun end the process that is about to speak.
    """
    time.sleep(PATIENCE_S)
