"""One host's connection: the handshake, then any number of streams side by side."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from device_lab.virtual_phone.auth import Gatekeeper
from device_lab.virtual_phone.faults import Stage
from device_lab.virtual_phone.protocol import (
    CLSE,
    CNXN,
    MAX_PAYLOAD_BYTES,
    OKAY,
    OPEN,
    VERSION_WITHOUT_CHECKSUM,
    WRTE,
    Packet,
    ProtocolError,
)
from device_lab.virtual_phone.wire import Wire

FEATURES = ("shell_v2", "cmd", "stat_v2", "ls_v2", "fixed_push_mkdir")

Service = Callable[["Stream"], Awaitable[None]]
"""Serves one stream until it returns."""


class StreamClosedError(Exception):
    """The host closed the stream, or the connection ended."""


class Stream:
    """One service in use: bytes in, bytes out, one packet in flight each way."""

    def __init__(self, wire: Wire, *, local_id: int, remote_id: int) -> None:
        self._wire = wire
        self._local_id = local_id
        self._remote_id = remote_id
        self._arrived: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._buffer = bytearray()
        self._is_taken = asyncio.Event()
        self._is_closed = False

    @property
    def wire(self) -> Wire:
        """The connection below."""
        return self._wire

    async def read(self) -> bytes:
        """Return the next bytes the host sent.

        Raises:
            StreamClosedError: If the host closed the stream.
        """
        if self._buffer:
            data = bytes(self._buffer)
            self._buffer.clear()
            return data
        arrived = None if self._is_closed and self._arrived.empty() else await self._arrived.get()
        if arrived is None:
            raise StreamClosedError
        await self._wire.send(Packet(OKAY, self._local_id, self._remote_id))
        return arrived

    async def read_exactly(self, length: int) -> bytes:
        """Return ``length`` bytes.

        Raises:
            StreamClosedError: If the host closed the stream before.
        """
        while len(self._buffer) < length:
            held = bytes(self._buffer)
            self._buffer.clear()
            self._buffer += held + await self.read()
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        return data

    async def write(self, data: bytes) -> None:
        """Send ``data`` and return when the host has taken it.

        Raises:
            StreamClosedError: If the host closed the stream.
        """
        step = self._wire.max_payload_bytes
        for start in range(0, len(data), step):
            self._is_taken.clear()
            if self._is_closed:
                raise StreamClosedError
            await self._wire.send(Packet(WRTE, self._local_id, self._remote_id, data[start : start + step]))
            await self._is_taken.wait()
        if self._is_closed:
            raise StreamClosedError

    def receive(self, data: bytes) -> None:
        """Take in what the host sent."""
        self._arrived.put_nowait(data)

    def acknowledge(self) -> None:
        """Note that the host took what was written last."""
        self._is_taken.set()

    def close(self) -> None:
        """Note that the host will send and take no more."""
        self._is_closed = True
        self._arrived.put_nowait(None)
        self._is_taken.set()


class Connection:
    """Serves one host until it goes away or does something adb forbids."""

    def __init__(
        self, wire: Wire, *, banner: bytes, gatekeeper: Gatekeeper, find_service: Callable[[str], Service | None]
    ) -> None:
        self._wire = wire
        self._banner = banner
        self._gatekeeper = gatekeeper
        self._find_service = find_service
        self._streams: dict[int, Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_id = 0

    async def serve(self) -> None:
        """Shake hands, then serve streams until the connection ends."""
        try:
            self._wire.enter(Stage.CONNECT)
            await self._shake_hands()
            while True:
                await self._dispatch(await self._wire.read())
        except (ConnectionError, ProtocolError):
            pass  # adbd drops the connection too, and the host sees that
        finally:
            await self._end()

    async def _shake_hands(self) -> None:
        packet = await self._wire.read()
        if packet.command != CNXN:
            raise ProtocolError(f"{packet.command!r} before the handshake")
        await self._gatekeeper.admit(self._wire)
        self._wire.peer_version = min(packet.arg0, VERSION_WITHOUT_CHECKSUM)
        self._wire.max_payload_bytes = min(packet.arg1, MAX_PAYLOAD_BYTES)
        await self._wire.send(Packet(CNXN, VERSION_WITHOUT_CHECKSUM, MAX_PAYLOAD_BYTES, self._banner))

    async def _dispatch(self, packet: Packet) -> None:
        if packet.command == OPEN:
            await self._open(packet)
            return
        stream = self._streams.get(packet.arg1)
        if packet.command == WRTE and stream is not None:
            stream.receive(packet.data)
        elif packet.command == OKAY and stream is not None:
            stream.acknowledge()
        elif packet.command == CLSE and stream is not None:
            stream.close()

    async def _open(self, packet: Packet) -> None:
        name = packet.data.rstrip(b"\0").decode(errors="replace")
        service = None if self._is_refused(name) else self._find_service(name)
        if service is None:
            await self._wire.send(Packet(CLSE, 0, packet.arg0))
            return
        self._last_id += 1
        stream = Stream(self._wire, local_id=self._last_id, remote_id=packet.arg0)
        self._streams[self._last_id] = stream
        await self._wire.send(Packet(OKAY, self._last_id, packet.arg0))
        task = asyncio.create_task(self._run(service, stream, self._last_id, packet.arg0))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _is_refused(self, name: str) -> bool:
        stages = (Stage.PUSH, Stage.PULL) if name.startswith("sync:") else (Stage.SHELL,)
        return self._wire.refuses(*stages)

    async def _run(self, service: Service, stream: Stream, local_id: int, remote_id: int) -> None:
        with contextlib.suppress(StreamClosedError, ConnectionError):
            await service(stream)
        with contextlib.suppress(ConnectionError):
            await self._wire.send(Packet(CLSE, local_id, remote_id))
        del self._streams[local_id]

    async def _end(self) -> None:
        self._wire.close()
        for stream in self._streams.values():
            stream.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
