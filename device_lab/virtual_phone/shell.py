"""The shell service, version 1 on a raw terminal and version 2 in frames."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Mapping

from device_lab.virtual_phone.connection import Stream, StreamClosedError
from device_lab.virtual_phone.faults import Stage
from device_lab.virtual_phone.processes import (
    Child,
    read_some,
    start_on_pipes,
    start_on_terminal,
    write_all,
)

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN, WINDOW_SIZE = range(6)
_FRAME = struct.Struct("<BI")


class Shell:
    """Runs what ``shell:`` and ``exec:`` ask for."""

    def __init__(self, *, program: str, environment: Mapping[str, str]) -> None:
        self._program = program
        self._environment = environment
        self._waiting: set[asyncio.Task[int]] = set()

    async def serve(self, stream: Stream, *, arguments: tuple[str, ...], command: str) -> None:
        """Run one command, or a shell for a person if there is none.

        Args:
            stream: Where its bytes come from and go to.
            arguments: What stood between ``shell,`` and the colon.
            command: What stood after the colon.
        """
        stream.wire.enter(Stage.SHELL)
        is_framed = "v2" in arguments
        try:
            child = self._start(arguments=arguments, command=command)
        except OSError as error:  # most often: the argument list is too long
            await _write(
                stream, STDOUT, f"error: exec '{self._program}' failed: {error.strerror}".encode(), is_framed=is_framed
            )
            return
        waiting = asyncio.create_task(child.wait())
        self._waiting.add(waiting)
        waiting.add_done_callback(self._waiting.discard)
        feeding = asyncio.create_task(_feed(stream, child, is_framed=is_framed))
        forwarding = asyncio.create_task(_forward(stream, child, waiting, is_framed=is_framed))
        try:
            # Feeding ends only when the host has gone, forwarding when the process has.
            await asyncio.wait((feeding, forwarding), return_when=asyncio.FIRST_COMPLETED)
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            if not waiting.done():
                os.kill(child.process_id, signal.SIGHUP)
            forwarding.cancel()
            await asyncio.gather(forwarding, return_exceptions=True)
            child.close()

    def _start(self, *, arguments: tuple[str, ...], command: str) -> Child:
        started = [self._program, "-c", command] if command else [self._program]
        is_framed = "v2" in arguments
        if not is_framed or "pty" in arguments or (not command and "raw" not in arguments):
            is_raw = not is_framed and bool(command)
            return start_on_terminal(started, environment=self._environment, is_raw=is_raw)
        return start_on_pipes(started, environment=self._environment)


async def _forward(stream: Stream, child: Child, waiting: asyncio.Task[int], *, is_framed: bool) -> None:
    async def drain(descriptor: int, frame: int) -> None:
        while data := await read_some(descriptor):
            await _write(stream, frame, data, is_framed=is_framed)

    outputs = [drain(child.stdout, STDOUT)]
    if child.stderr is not None:
        outputs.append(drain(child.stderr, STDERR))
    await asyncio.gather(*outputs)
    status = await asyncio.shield(waiting)
    if is_framed:
        await _write(stream, EXIT, bytes([status & 0xFF]), is_framed=is_framed)


async def _write(stream: Stream, frame: int, data: bytes, *, is_framed: bool) -> None:
    await stream.write(_FRAME.pack(frame, len(data)) + data if is_framed else data)


async def _feed(stream: Stream, child: Child, *, is_framed: bool) -> None:
    """Hand the process what the host sends, until the host goes away."""
    with contextlib.suppress(StreamClosedError, ConnectionError):
        while True:
            if not is_framed:
                await _offer(child, await stream.read())
                continue
            frame, length = _FRAME.unpack(await stream.read_exactly(_FRAME.size))
            data = await stream.read_exactly(length)
            if frame == STDIN:
                await _offer(child, data)
            elif frame == CLOSE_STDIN:
                child.close_stdin()
            elif frame == WINDOW_SIZE and child.stderr is None:
                _resize(child.stdin, data)


async def _offer(child: Child, data: bytes) -> None:
    # A process may end without reading its input; what it would have read is dropped.
    with contextlib.suppress(OSError):
        await write_all(child.stdin, data)


def _resize(terminal: int, data: bytes) -> None:
    size, _, pixels = data.rstrip(b"\0").partition(b",")
    rows, _, columns = size.partition(b"x")
    width, _, height = pixels.partition(b"x")
    numbers = [int(number) if number.isdigit() else 0 for number in (rows, columns, width, height)]
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", *numbers))
