"""Processes of the phone's shell and the file descriptors through which asyncio talks to them."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import tty
from collections.abc import Mapping, Sequence
from typing import Any

_CHUNK_BYTES = 65536


class Child:
    """A running process and our ends of its standard streams; ``stderr`` is ``None`` on a terminal."""

    def __init__(self, process_id: int, *, stdin: int, stdout: int, stderr: int | None) -> None:
        self.process_id = process_id
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self._open = {descriptor for descriptor in (stdin, stdout, stderr) if descriptor is not None}
        for descriptor in self._open:
            os.set_blocking(descriptor, False)

    def close_stdin(self) -> None:
        """Let the process read the end of its input; a terminal stays open."""
        if self.stderr is not None:
            self._close(self.stdin)

    def close(self) -> None:
        """Let go of all streams; a process on a terminal is hung up by that."""
        for descriptor in tuple(self._open):
            self._close(descriptor)

    async def wait(self) -> int:
        """Return the exit status as a shell counts it: 128 + n for signal n. To be called once."""
        descriptor = os.pidfd_open(self.process_id)
        try:
            await _until_readable(descriptor)
        finally:
            os.close(descriptor)
        status = os.waitstatus_to_exitcode(os.waitpid(self.process_id, 0)[1])
        return status if status >= 0 else 128 - status

    def _close(self, descriptor: int) -> None:
        if descriptor in self._open:
            self._open.remove(descriptor)
            os.close(descriptor)


def start_on_pipes(arguments: list[str], *, environment: Mapping[str, str]) -> Child:
    """Start a process in a session of its own, on three pipes.

    Raises:
        OSError: If it cannot be started.
    """
    stdin, stdout, stderr = os.pipe(), os.pipe(), os.pipe()
    theirs = (stdin[0], stdout[1], stderr[1])
    try:
        process_id = _spawn(arguments, environment, [(os.POSIX_SPAWN_DUP2, end, n) for n, end in enumerate(theirs)])
    finally:
        for end in theirs:
            os.close(end)
    return Child(process_id, stdin=stdin[1], stdout=stdout[0], stderr=stderr[0])


def start_on_terminal(arguments: list[str], *, environment: Mapping[str, str], is_raw: bool) -> Child:
    """Start a process that leads a session on a terminal of its own, so that hanging up ends it.

    Raises:
        OSError: If it cannot be started.
    """
    ours, theirs = pty.openpty()
    if is_raw:
        tty.setraw(theirs)
    # The first terminal the leader of a session opens becomes its own.
    opening = [(os.POSIX_SPAWN_OPEN, n, os.ttyname(theirs), os.O_RDWR, 0) for n in range(3)]
    try:
        process_id = _spawn(arguments, environment, opening)
    finally:
        os.close(theirs)
    return Child(process_id, stdin=ours, stdout=ours, stderr=None)


def _spawn(arguments: list[str], environment: Mapping[str, str], actions: Sequence[tuple[Any, ...]]) -> int:
    # Three times faster than a fork of this process, and every shell round trip waits for it. The process
    # inherits the working folder, which the daemon has set to /.
    return os.posix_spawn(
        arguments[0],
        arguments,
        environment,
        file_actions=actions,
        setsid=True,
        setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
    )


async def read_some(descriptor: int) -> bytes:
    """Return what the process wrote next; nothing at its end."""
    while True:
        try:
            return os.read(descriptor, _CHUNK_BYTES)
        except BlockingIOError:
            await _until_readable(descriptor)
        except OSError:  # EIO: the last process let go of the terminal
            return b""


async def write_all(descriptor: int, data: bytes) -> None:
    """Write ``data`` to the process.

    Raises:
        OSError: If it no longer reads.
    """
    loop = asyncio.get_running_loop()
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            ready: asyncio.Future[None] = loop.create_future()
            loop.add_writer(descriptor, _wake, ready)
            try:
                await ready
            finally:
                loop.remove_writer(descriptor)


async def _until_readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
