from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from adb_shell import adb_device
from adb_shell.exceptions import InvalidTransportError, PushFailedError, TcpTimeoutException
from adb_shell.transport.base_transport import BaseTransport

from device_lab.adb_transport import CompleteTcpTransport, DeadlineTransport, usb_transport


class ShortSocket:
    """A socket whose ``send`` takes 7 bytes at a time, as a busy network's may."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self.num_sends = 0

    def fileno(self) -> int:
        return self._inner.fileno()

    def send(self, data: bytes) -> int:
        self.num_sends += 1
        return self._inner.send(data[:7])


class RecordingTransport(BaseTransport):  # type: ignore[misc]  # adb-shell ships no types
    """Keeps the time-outs it was given and answers with prepared bytes."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self.timeouts_s: list[float | None] = []

    def connect(self, transport_timeout_s: float | None) -> None:
        self.timeouts_s.append(transport_timeout_s)

    def close(self) -> None:
        pass

    def bulk_read(self, numbytes: int, transport_timeout_s: float | None) -> bytes:
        self.timeouts_s.append(transport_timeout_s)
        return self._answers.pop(0)

    def bulk_write(self, data: bytes, transport_timeout_s: float | None) -> int:
        self.timeouts_s.append(transport_timeout_s)
        return len(data)


@pytest.fixture
def pair() -> Iterator[tuple[CompleteTcpTransport, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport = CompleteTcpTransport("127.0.0.1", server.getsockname()[1])
        transport.connect(5.0)
        peer, _ = server.accept()
        with peer:
            yield transport, peer
        transport.close()


def test_everything_is_sent_through_a_socket_that_takes_seven_bytes_at_a_time(
    pair: tuple[CompleteTcpTransport, socket.socket],
) -> None:
    transport, peer = pair
    short = ShortSocket(transport._connection)
    transport._connection = short
    data = bytes(range(250)) * 4

    try:
        sent = transport.bulk_write(data, 5.0)
    finally:
        transport._connection = short._inner

    assert sent == 1000
    assert short.num_sends == 143  # 142 * 7 + 6
    assert peer.recv(1000, socket.MSG_WAITALL) == data


def test_a_megabyte_passes_through_small_socket_buffers(pair: tuple[CompleteTcpTransport, socket.socket]) -> None:
    transport, peer = pair
    transport._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    received = bytearray()

    def drain() -> None:
        while len(received) < 1_000_000:
            received.extend(peer.recv(4096))

    reader = threading.Thread(target=drain)
    reader.start()
    transport.bulk_write(b"x" * 1_000_000, 20.0)
    reader.join()

    assert received == b"x" * 1_000_000


def test_a_peer_that_takes_nothing_more_is_a_time_out(pair: tuple[CompleteTcpTransport, socket.socket]) -> None:
    transport, _ = pair

    with pytest.raises(TcpTimeoutException):
        transport.bulk_write(b"x" * 50_000_000, 0.2)


def test_the_end_of_the_stream_is_an_error_at_once(pair: tuple[CompleteTcpTransport, socket.socket]) -> None:
    transport, peer = pair
    peer.close()

    with pytest.raises(ConnectionResetError, match="closed the connection"):
        transport.bulk_read(24, 60.0)


def test_small_messages_are_not_held_back(pair: tuple[CompleteTcpTransport, socket.socket]) -> None:
    connection = pair[0]._connection

    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_a_limit_shortens_every_wait_below_it() -> None:
    inner = RecordingTransport(b"a", b"b")
    transport = DeadlineTransport(inner)

    transport.bulk_read(1, 9.0)
    transport.limit(5.0)
    transport.bulk_write(b"x", None)
    transport.bulk_read(1, 0.5)

    before, during, shorter = inner.timeouts_s
    assert before == 9.0
    assert during is not None
    assert 4.0 < during <= 5.0
    assert shorter == 0.5


def test_nothing_waits_after_the_limit() -> None:
    transport = DeadlineTransport(RecordingTransport(b"never read"))
    transport.limit(0.0)

    with pytest.raises(TcpTimeoutException, match="time limit passed"):
        transport.bulk_read(1, 9.0)


def test_the_reason_of_a_refused_push_is_not_lost() -> None:
    transport = DeadlineTransport(RecordingTransport(b"FAIL\x07\x00\x00\x00no room", b"never read"))
    transport.limit(None, is_pushing=True)
    transport.bulk_read(15, 1.0)

    with pytest.raises(PushFailedError, match="no room"):
        transport.bulk_read(24, 1.0)


def test_output_that_looks_like_a_refusal_is_only_output() -> None:
    transport = DeadlineTransport(RecordingTransport(b"FAIL: 3 tests", b"more"))
    transport.limit(9.0)
    transport.bulk_read(15, 1.0)

    assert transport.bulk_read(4, 1.0) == b"more"


def test_usb_without_libusb_is_reported_when_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adb_device, "UsbTransport", None)
    open_transport = usb_transport("8A3X1")

    with pytest.raises(InvalidTransportError):
        open_transport()
