"""Who a process is, in a name that lets others on its machine tell whether it still lives."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import socket
import uuid
from pathlib import Path

_MAX_HOST_LENGTH = 20


def new_holder() -> str:
    """Return a name for a part of this process that holds claims, never given twice, of up to 64 characters."""
    pid = os.getpid()
    host = socket.gethostname().split(".")[0].replace("/", "-")[:_MAX_HOST_LENGTH]
    return f"{host}/{pid}/{_machine()}-{_started_at(pid)}/{uuid.uuid4().hex[:6]}"


def show_holder(holder: str) -> str:
    """Return the host and the process of a holder as people call them."""
    host, pid, *_ = holder.split("/")
    return f"{host} (process {pid})"


def is_known_dead(holder: str) -> bool:
    """Tell whether a process has certainly ended: one of this machine's, which can see all of them.

    Of another machine, or of a container that sees other processes, nothing is known.
    """
    _, pid, process, _ = holder.split("/")
    machine, started_at = process.split("-")
    if machine != _machine():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    # The number may be another process's by now.
    return started_at != _started_at(int(pid))


@functools.cache
def _machine() -> str:
    """Return what all processes share that can see each other: host, boot and process namespace."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):  # not Linux
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path("/proc/self/ns/pid").readlink())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _started_at(pid: int) -> str:
    """Return when a process began, in the kernel's ticks, or ``?`` where no kernel tells."""
    try:
        # The name of the program, which may hold spaces, ends with the last parenthesis.
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "?"
    state, *fields = text.rpartition(")")[2].split()
    # A process that ended and was not waited for yet is as dead as any.
    return "ended" if state == "Z" else fields[18]
