"""What a Python runner of this machine reads about its own process."""

from __future__ import annotations

import re
from pathlib import Path

_TASKS = Path("/proc/self/task")
_STATUS = Path("/proc/self/status")


def num_tasks() -> int:
    """Return how many threads this process has, or 0 where the system does not list them."""
    return sum(1 for _ in _TASKS.iterdir()) if _TASKS.is_dir() else 0


def peak_rss_bytes() -> int | None:
    """Return the peak of this process, Python included; the kernel keeps it anyway, so the timing does not pay.

    Not from ``getrusage``: its figure survives the start of a program, so it would be the caller's.
    """
    status = _STATUS.read_text() if _STATUS.is_file() else ""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, flags=re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None
