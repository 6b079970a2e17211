"""Files and folders that are whole or not there: atomic writes and content hashes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_CHUNK_BYTES = 1 << 20
_LOCK_POLL_S = 0.5
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; it becomes ``path`` only if the block succeeds.

    Raises:
        OSError: If the folder cannot be written, or the disk is full; ``path`` is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _room_for(path):
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    temporary = Path(name)
    try:
        # mkstemp lets only this user read; a file of ours is as readable as any other of this user's.
        os.fchmod(descriptor, 0o666 & ~_umask())
        os.close(descriptor)
        with _room_for(path):
            yield temporary
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def lock_file(path: Path, *, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Keep other processes out of a block under the same lock; wait for one inside it.

    The lock ends with the process, however that ends. ``on_wait`` is called every half second meanwhile.

    Raises:
        OSError: If the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        while not _try_lock(file):
            on_wait()
            time.sleep(_LOCK_POLL_S)
        yield


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path`` to fill; it becomes ``path`` only if the block succeeds.

    Raises:
        FileExistsError: If there is something at ``path`` already; it stays as it is.
        OSError: If the folder cannot be written, or the disk is full.
    """
    require_absent(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        require_absent(path)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def require_absent(path: Path) -> None:
    """Refuse to write where something is.

    Raises:
        FileExistsError: If there is something at ``path``.
    """
    if path.exists() or path.is_symlink():
        raise FileExistsError(f"{path}: is there already and stays as it is; give another path, or delete it first")


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write ``content`` to ``path`` so that a reader sees the old file or the new one, never a part."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _room_for(path: Path) -> Iterator[None]:
    """Name the file for which there is no room: the system's own error does not, once a file is open."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        reason = f"{path}: no room for it ({error.strerror}); free disk space, then give the same command again"
        raise OSError(reason) from error


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
