"""The folder of a run, in which one search at a time works."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nas.errors import RunBusyError


@contextmanager
def hold_run(folder: Path) -> Iterator[None]:
    """Keep other processes from searching in ``folder`` for as long as the block runs.

    The lock ends with the process, however that ends.

    Raises:
        RunBusyError: If another process holds the folder.
        OSError: If the folder cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise RunBusyError(
                f"run folder {folder} is in use by process {holder}; stop it, help it with "
                f"`nas worker --run {folder.name}`, or choose another run name"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def is_held(folder: Path) -> bool:
    """Tell whether a process holds the run in ``folder``.

    Raises:
        OSError: If that cannot be told.
    """
    try:
        with (folder / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
