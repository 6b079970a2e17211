"""One process of this user at a time per device, by a lock the kernel lets go of when the process ends."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from device_lab.errors import DeviceBusyError


def lock_folder(*, home: Path, environment: Mapping[str, str]) -> Path:
    """Return where this user's lock files lie."""
    return Path(environment.get("XDG_CACHE_HOME") or home / ".cache") / "pocketbert" / "locks"


@contextmanager
def host_lock(device_id: str, *, folder: Path) -> Generator[None]:
    """Hold the lock of a device. The file stays behind; only the lock on it says anything.

    Raises:
        DeviceBusyError: If another process, or another thread of this one, holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # A serial number may hold anything, a file name may not.
    path = folder / f"{hashlib.sha256(device_id.encode()).hexdigest()[:16]}.lock"
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            raise _busy(device_id, stream.read()) from error
        try:
            stream.truncate(0)
            since = datetime.now(UTC).isoformat(timespec="seconds")
            stream.write(json.dumps({"device_id": device_id, "process_id": str(os.getpid()), "since": since}))
            stream.flush()
            yield
        finally:
            # Closing is not enough where a child of this process inherited the file.
            fcntl.flock(stream, fcntl.LOCK_UN)


def _busy(device_id: str, text: str) -> DeviceBusyError:
    try:
        holder = json.loads(text)
    except ValueError:  # its holder has the lock and is about to write
        holder = {}
    return DeviceBusyError(
        serial=device_id,
        host="this machine",
        process_id=holder.get("process_id", "?"),
        since=holder.get("since", "?"),
    )
