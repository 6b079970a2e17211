"""Whether a SQLite file is where many processes, or several machines, may open it."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import sqlalchemy as sa

from nas.errors import StoreWarning
from nas.store_url import sqlite_path

MANY_PROCESSES = 4
_MOUNTS = Path("/proc/self/mounts")
_LOCKS = Path("/proc/locks")
# Their locks and their shared memory do not reach from machine to machine, or only sometimes.
_NETWORK = (
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs",
    "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "pvfs2", "smb3", "smbfs", "virtiofs",
)  # fmt: skip


def warn_of_place(url: sa.URL) -> None:
    """Warn where a SQLite store lies on a network filesystem, or many processes have it open."""
    path = sqlite_path(url)
    if path is None:
        return
    advice = (
        f"keep it in PostgreSQL: `nas store copy {path} postgresql+psycopg://USER@HOST/DATABASE`, "
        "then --storage with that URL"
    )
    filesystem = find_network_filesystem(path)
    if filesystem is not None:
        _warn(f"store {path} is on {filesystem}, where SQLite may lose what two machines write; {advice}")
    num_others = count_other_processes(path)
    if num_others >= MANY_PROCESSES:
        _warn(f"store {path} is open in {num_others} other processes, which wait for each other; {advice}")


def find_network_filesystem(path: Path) -> str | None:
    """Return the type of the network filesystem a file is on, or ``None`` if it is on none, or that cannot be told."""
    resolved = path.resolve()
    best, found = -1, ""
    for line in _read(_MOUNTS):
        _, mount, kind, *_ = line.split()
        # The kernel writes a blank as \040, and so on.
        folder = Path(mount.encode().decode("unicode_escape"))
        if resolved.is_relative_to(folder) and len(folder.parts) >= best:
            best, found = len(folder.parts), kind
    return found if found in _NETWORK else None


def count_other_processes(path: Path) -> int:
    """Return how many other processes of this machine have a SQLite file open; 0 where that cannot be told.

    Each holds a lock on the file of shared memory beside it.
    """
    try:
        inode = path.with_name(f"{path.name}-shm").stat().st_ino
    except OSError:
        return 0
    # 1: POSIX  ADVISORY  READ 18245 fe:00:16040379 128 128
    fields = [line.split() for line in _read(_LOCKS) if "->" not in line]
    holders = {each[4] for each in fields if each[5].rpartition(":")[2] == str(inode)}
    return len(holders - {str(os.getpid())})


def _read(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        # Only Linux has it.
        return []


def _warn(message: str) -> None:
    warnings.warn(message, StoreWarning, stacklevel=4)
