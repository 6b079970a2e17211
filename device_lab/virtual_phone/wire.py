"""The connection to one host, on which faults strike at the exact byte."""

from __future__ import annotations

import asyncio
import socket
import struct

from device_lab.virtual_phone.faults import Fault, FaultBoard, Kind, Stage
from device_lab.virtual_phone.protocol import (
    HEADER,
    MAX_HANDSHAKE_BYTES,
    MAX_PAYLOAD_BYTES,
    VERSION_WITH_CHECKSUM,
    Packet,
    ProtocolError,
    checksum,
    decode_header,
)


class Wire:
    """Packets in and out of one TCP connection.

    ``peer_version`` and ``max_payload_bytes`` are what the handshake agreed on.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, board: FaultBoard) -> None:
        self._reader = reader
        self._writer = writer
        self._board = board
        self._fault: Fault | None = None
        self._bytes_left = 0
        self._is_stalled = False
        self.peer_version = VERSION_WITH_CHECKSUM
        self.max_payload_bytes = MAX_HANDSHAKE_BYTES

    def enter(self, stage: Stage) -> None:
        """Say what the host does now, and start counting bytes for a fault that waits for it."""
        fault = self._board.take(stage)
        if fault is not None:
            self._fault = fault
            self._bytes_left = fault.after_bytes

    def refuses(self, *stages: Stage) -> bool:
        """Return whether a service of one of these stages is to be refused."""
        return self._board.take(*stages, refusal=True) is not None

    def is_full(self) -> bool:
        """Return whether the disk is to be full from now on, as far as this transfer goes."""
        if self._fault is not None and self._fault.kind is Kind.FULL and self._bytes_left <= 0:
            self._fault = None
            return True
        return False

    async def read(self) -> Packet:
        """Return the next packet.

        Raises:
            ProtocolError: If what came is not a packet.
            ConnectionError: If the connection ended.
        """
        max_length = MAX_PAYLOAD_BYTES if self.max_payload_bytes > MAX_HANDSHAKE_BYTES else MAX_HANDSHAKE_BYTES
        header = decode_header(await self._read_exactly(HEADER.size), max_length=max_length)
        data = await self._read_exactly(header.length)
        has_checksum = self.peer_version == VERSION_WITH_CHECKSUM
        if (has_checksum and checksum(data) != header.checksum) or (data and self._corrupts()):
            raise ProtocolError(f"checksum of a {header.command!r} packet is wrong")
        return Packet(header.command, header.arg0, header.arg1, data)

    async def send(self, packet: Packet) -> None:
        """Send a packet and wait until the host takes more.

        Raises:
            ConnectionError: If the connection ended.
        """
        await self._stall()
        raw = packet.encode()
        if packet.data and self._corrupts():
            raw = raw[:-1] + bytes([raw[-1] ^ 0xFF])
        allowed = self._strike(len(raw))
        if allowed < len(raw):
            self._writer.write(raw[:allowed])
            await self._end()
        self._writer.write(raw)
        await self._writer.drain()

    def close(self) -> None:
        """Close the connection in order."""
        self._writer.close()

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        connection: socket.socket = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def _read_exactly(self, length: int) -> bytes:
        await self._stall()
        allowed = self._strike(length)
        try:
            data = await self._reader.readexactly(allowed)
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the host closed the connection") from error
        if allowed < length:
            await self._end()
        return data

    def _strike(self, length: int) -> int:
        """Return how many of ``length`` bytes pass before the fault in force ends the connection."""
        if self._fault is None:
            return length
        allowed = min(length, max(self._bytes_left, 0))
        self._bytes_left -= length
        is_ending = self._fault.kind in (Kind.CLOSE, Kind.RESET, Kind.STALL)
        return allowed if is_ending else length

    async def _end(self) -> None:
        fault, self._fault = self._fault, None
        if fault is not None and fault.kind is Kind.STALL:
            self._is_stalled = True
        await self._stall()
        if fault is not None and fault.kind is Kind.RESET:
            self.reset()
        self.close()
        raise ConnectionAbortedError("a fault ended the connection")

    async def _stall(self) -> None:
        if self._is_stalled:
            await asyncio.Event().wait()

    def _corrupts(self) -> bool:
        if self._fault is not None and self._fault.kind is Kind.CORRUPT and self._bytes_left <= 0:
            self._fault = None
            return True
        return False
