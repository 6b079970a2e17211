"""The file service: look, list, receive and send files, versions 1 and 2 of each question."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

from device_lab.virtual_phone.connection import Stream
from device_lab.virtual_phone.faults import Stage

MAX_PATH_BYTES = 1024
MAX_DATA_BYTES = 65536

_REQUEST = struct.Struct("<4sI")
_STAT_1 = struct.Struct("<4sIII")
_ENTRY_1 = struct.Struct("<4sIIII")
_STAT_2 = struct.Struct("<4sIQQIIIIQqqq")
_NAME_LENGTH = struct.Struct("<I")
_ALL_ONES = 0xFFFFFFFF


class FileService:
    """Serves ``sync:`` streams. ``locate`` turns a path of the phone into one of the host."""

    def __init__(self, *, locate: Callable[[str], Path]) -> None:
        self._locate = locate

    async def serve(self, stream: Stream) -> None:
        """Answer requests until the host says QUIT."""
        while True:
            word, length = _REQUEST.unpack(await stream.read_exactly(_REQUEST.size))
            if word == b"QUIT":
                return
            if length > MAX_PATH_BYTES:
                await _fail(stream, "path too long")
                return
            name = (await stream.read_exactly(length)).decode(errors="surrogateescape")
            if word in (b"STAT", b"LST2", b"STA2"):
                await stream.write(_look(self._locate(name), word))
            elif word in (b"LIST", b"LIS2"):
                await _list(stream, self._locate(name), has_version_2=word == b"LIS2")
            elif word == b"RECV":
                await _receive(stream, self._locate(name))
            elif word == b"SEND":
                path, _, mode = name.rpartition(",")
                await _send(stream, self._locate(path), int(mode))
            else:
                await _fail(stream, f"unknown command {word.decode(errors='replace')}")
                return


def _look(path: Path, word: bytes) -> bytes:
    try:
        status = path.stat() if word == b"STA2" else path.lstat()
    except OSError as error:
        if word == b"STAT":
            return _STAT_1.pack(word, 0, 0, 0)
        return _STAT_2.pack(word, error.errno or errno.EIO, *(0,) * 10)
    if word == b"STAT":
        return _STAT_1.pack(word, status.st_mode, status.st_size & _ALL_ONES, int(status.st_mtime) & _ALL_ONES)
    return _pack_2(word, status)


def _pack_2(word: bytes, status: os.stat_result) -> bytes:
    return _STAT_2.pack(
        word,
        0,
        status.st_dev,
        status.st_ino,
        status.st_mode,
        status.st_nlink,
        status.st_uid,
        status.st_gid,
        status.st_size,
        int(status.st_atime),
        int(status.st_mtime),
        int(status.st_ctime),
    )


async def _list(stream: Stream, folder: Path, *, has_version_2: bool) -> None:
    names = [".", "..", *sorted(os.listdir(folder))] if folder.is_dir() else []  # noqa: PTH208 - names, not paths
    for name in names:
        status = (folder / name).lstat()
        raw = os.fsencode(name)
        if has_version_2:
            await stream.write(_pack_2(b"DNT2", status) + _NAME_LENGTH.pack(len(raw)) + raw)
        else:
            size, time_s = status.st_size & _ALL_ONES, int(status.st_mtime) & _ALL_ONES
            await stream.write(_ENTRY_1.pack(b"DENT", status.st_mode, size, time_s, len(raw)) + raw)
    end = _STAT_2.size + _NAME_LENGTH.size if has_version_2 else _ENTRY_1.size
    await stream.write(b"DONE".ljust(end, b"\0"))


async def _receive(stream: Stream, path: Path) -> None:
    stream.wire.enter(Stage.PULL)
    try:
        source = path.open("rb")
    except OSError as error:
        await _fail(stream, f"open failed: {error.strerror}")
        return
    with source:
        while data := source.read(MAX_DATA_BYTES):
            await stream.write(_REQUEST.pack(b"DATA", len(data)) + data)
    await stream.write(_REQUEST.pack(b"DONE", 0))


async def _send(stream: Stream, path: Path, mode: int) -> None:
    stream.wire.enter(Stage.PUSH)
    drop = _LinkDrop(path) if stat.S_ISLNK(mode) else _FileDrop(path, mode)
    refusal: str | None = None
    try:
        drop.open()
    except OSError as error:
        refusal = f"couldn't create file: {error.strerror}"
        await _fail(stream, refusal)
    try:
        while True:
            word, length = _REQUEST.unpack(await stream.read_exactly(_REQUEST.size))
            if word == b"DONE":
                break
            if word != b"DATA" or length > MAX_DATA_BYTES:
                await _fail(stream, "invalid data message")
                return
            data = await stream.read_exactly(length)
            if refusal is None:
                refusal = _write(drop, data, is_full=stream.wire.is_full())
                if refusal is not None:
                    await _fail(stream, refusal)
        if refusal is None:
            drop.finish(time_s=length)
            await stream.write(_REQUEST.pack(b"OKAY", 0))
    finally:
        drop.close()


def _write(drop: _FileDrop | _LinkDrop, data: bytes, *, is_full: bool) -> str | None:
    """Store some data; return why that failed, having removed what was stored, or ``None``."""
    if is_full:
        drop.remove()
        return f"write failed: {os.strerror(errno.ENOSPC)}"
    try:
        drop.write(data)
    except OSError as error:
        drop.remove()
        return f"write failed: {error.strerror}"
    return None


class _FileDrop:
    """A file that is being received."""

    def __init__(self, path: Path, mode: int) -> None:
        self._path = path
        # adbd gives the group and everybody what the owner has.
        user = mode & 0o700
        self._mode = (mode & 0o777) | user >> 3 | user >> 6
        self._descriptor: int | None = None

    def open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.is_symlink() or self._path.is_file():
            self._path.unlink()
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def write(self, data: bytes) -> None:
        if self._descriptor is not None:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    def finish(self, *, time_s: int) -> None:
        self._path.chmod(self._mode)
        os.utime(self._path, (time_s, time_s))

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


class _LinkDrop:
    """A symbolic link that is being received: its data is its target."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._target = b""

    def open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, data: bytes) -> None:
        self._target += data

    def finish(self, *, time_s: int) -> None:  # noqa: ARG002 - a link keeps no time here
        self._path.unlink(missing_ok=True)
        self._path.symlink_to(os.fsdecode(self._target.rstrip(b"\0")))

    def remove(self) -> None:
        """Nothing was made yet."""

    def close(self) -> None:
        """Nothing is held open."""


async def _fail(stream: Stream, reason: str) -> None:
    raw = reason.encode(errors="surrogateescape")
    await stream.write(_REQUEST.pack(b"FAIL", len(raw)) + raw)
