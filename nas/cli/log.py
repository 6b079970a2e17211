"""The log of a run: what was asked, what came of every trial, how it ended; in the run's folder, never cut."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from nas.passwords import hide_passwords

FILE_NAME = "log.txt"

Log = Callable[[str], None]


@contextmanager
def run_log(folder: Path, *, file_name: str = FILE_NAME) -> Iterator[Log]:
    """Append to the log of the run in ``folder`` while the block runs; how the block ends is its last line.

    Raises:
        OSError: If the file cannot be written.
    """
    with (folder / file_name).open("a", encoding="utf-8") as file:

        def log(line: str) -> None:
            shown = hide_passwords(" ".join(line.split()))
            file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {shown}\n")
            file.flush()

        log(f"begin: {' '.join(['nas', *sys.argv[1:]])} (pocketbert {version('pocketbert')})")
        try:
            yield log
        except KeyboardInterrupt:
            log("end: stopped by Ctrl-C")
            raise
        except Exception as error:
            log(f"end: {type(error).__name__}: {error}")
            raise
        log("end: done")
