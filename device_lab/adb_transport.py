"""Transports for ``adb-shell`` that send everything, keep a deadline and notice a closed connection.

The TCP transport of ``adb-shell`` 0.4.4 drops what a short ``send`` left over, waits
40 ms per message for want of ``TCP_NODELAY``, and takes the end of the stream for
a slow device. All three are mended here through its public interface.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from adb_shell import adb_device
from adb_shell.exceptions import InvalidTransportError, PushFailedError, TcpTimeoutException
from adb_shell.transport.base_transport import BaseTransport
from adb_shell.transport.tcp_transport import TcpTransport

_SYNC_HEADER_BYTES = 8


class CompleteTcpTransport(TcpTransport):  # type: ignore[misc]  # adb-shell ships no types
    """A TCP connection to adbd on which nothing is dropped and its end is an error."""

    def connect(self, transport_timeout_s: float | None) -> None:
        """Open the connection.

        Raises:
            OSError: If nothing answers within ``transport_timeout_s``.
        """
        super().connect(transport_timeout_s)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def bulk_read(self, numbytes: int, transport_timeout_s: float | None) -> bytes:
        """Return between 1 and ``numbytes`` bytes.

        Raises:
            ConnectionResetError: If the device closed the connection.
            TcpTimeoutException: If nothing arrived within ``transport_timeout_s``.
        """
        data: bytes = super().bulk_read(numbytes, transport_timeout_s)
        if not data:
            raise ConnectionResetError("the device closed the connection")
        return data

    def bulk_write(self, data: bytes, transport_timeout_s: float | None) -> int:
        """Send all of ``data`` and return its length.

        Raises:
            TcpTimeoutException: If not everything was taken within ``transport_timeout_s``.
        """
        deadline = _Deadline(transport_timeout_s)
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[super().bulk_write(rest, deadline.remaining_s()) :]
            except BlockingIOError:
                continue  # select may report a socket ready that then takes nothing
        return len(data)


class DeadlineTransport(BaseTransport):  # type: ignore[misc]  # adb-shell ships no types
    """Any transport, with one moment after which nothing waits any longer.

    ``adb-shell`` limits each read by itself, so a command that prints now and then
    never meets a limit. ``limit(seconds)`` bounds everything until the next call.
    It also drops the reason with which a phone refuses a large push, and waits for
    an answer that will not come; while ``is_pushing``, a refusal ends the wait.
    """

    def __init__(self, inner: BaseTransport) -> None:
        self._inner = inner
        self._deadline = _Deadline(None)
        self._is_pushing = False
        self._refusal: bytes | None = None

    def limit(self, duration_s: float | None, *, is_pushing: bool = False) -> None:
        """Let everything that follows take ``duration_s`` seconds together; ``None`` for no limit."""
        self._deadline = _Deadline(duration_s)
        self._is_pushing = is_pushing
        self._refusal = None

    def connect(self, transport_timeout_s: float | None) -> None:
        """Open the connection."""
        self._inner.connect(self._deadline.remaining_s(transport_timeout_s))

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()

    def bulk_read(self, numbytes: int, transport_timeout_s: float | None) -> bytes:
        """Return at most ``numbytes`` bytes.

        Raises:
            PushFailedError: If the device refused what is being pushed.
        """
        if self._refusal is not None:
            raise PushFailedError(self._refusal)
        data: bytes = self._inner.bulk_read(numbytes, self._deadline.remaining_s(transport_timeout_s))
        if self._is_pushing and data.startswith(b"FAIL"):
            self._refusal = data[_SYNC_HEADER_BYTES:]
        return data

    def bulk_write(self, data: bytes, transport_timeout_s: float | None) -> int:
        """Send ``data`` and return how much of it was sent."""
        sent: int = self._inner.bulk_write(data, self._deadline.remaining_s(transport_timeout_s))
        return sent


def tcp_transport(host: str, port: int) -> Callable[[], BaseTransport]:
    """Return what opens a TCP connection to ``host:port``."""
    return lambda: CompleteTcpTransport(host, port)


def usb_transport(serial: str) -> Callable[[], BaseTransport]:
    """Return what opens the USB connection to the phone with that serial.

    Opening raises adb-shell's ``InvalidTransportError`` where libusb is missing.
    """

    def open_transport() -> BaseTransport:
        if adb_device.UsbTransport is None:
            raise InvalidTransportError("libusb is missing")
        return adb_device.UsbTransport.find_adb(serial=serial)

    return open_transport


class _Deadline:
    """A moment in the future, or never."""

    def __init__(self, duration_s: float | None) -> None:
        self._at_s = None if duration_s is None else time.monotonic() + duration_s

    def remaining_s(self, at_most_s: float | None = None) -> float | None:
        """Return the seconds left, at most ``at_most_s``; ``None`` for no limit."""
        if self._at_s is None:
            return at_most_s
        remaining_s = self._at_s - time.monotonic()
        if remaining_s <= 0:
            raise TcpTimeoutException("the time limit passed")
        return remaining_s if at_most_s is None else min(remaining_s, at_most_s)
