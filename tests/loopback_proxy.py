"""A proxy on this machine that loses connections when it is told to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class LoopbackProxy:
    """Passes bytes between clients and ``port``, a server here, until a connection is to be lost.

    ``rewrite`` is a pair of equally long byte strings: what the server says, and what clients hear instead.
    """

    def __init__(self, port: int, *, rewrite: tuple[bytes, bytes] = (b"", b"")) -> None:
        self._server_port = port
        self._rewrite = rewrite
        self._open: list[socket.socket] = []
        self._lost_answer = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def drop(self) -> None:
        """Lose all connections there are; new ones are taken."""
        while self._open:
            _close(self._open.pop())

    def lose_answer_to(self, words: bytes) -> None:
        """Lose the connection once, after the server has answered the next message with ``words`` in it."""
        self._lost_answer = words

    def close(self) -> None:
        """Lose all connections and take no more."""
        _close(self._listener)
        self.drop()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._server_port))
                except ConnectionRefusedError:
                    _close(client)
                    continue
                self._open += [client, server]
                is_doomed = threading.Event()
                for target, ends in ((self._to_server, (client, server)), (self._to_client, (server, client))):
                    threading.Thread(target=target, args=(*ends, is_doomed), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket, is_doomed: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65_536):
                if self._lost_answer and self._lost_answer in data:
                    self._lost_answer = b""
                    is_doomed.set()
                server.sendall(data)
        _close(server)

    def _to_client(self, server: socket.socket, client: socket.socket, is_doomed: threading.Event) -> None:
        with suppress(OSError):
            while (data := server.recv(65_536)) and not is_doomed.is_set():
                client.sendall(data.replace(*self._rewrite) if self._rewrite[0] else data)
        _close(client)
        _close(server)


@contextmanager
def loopback_proxy(port: int, *, rewrite: tuple[bytes, bytes] = (b"", b"")) -> Iterator[LoopbackProxy]:
    """Give a proxy to a server on this machine until the block ends."""
    proxy = LoopbackProxy(port, rewrite=rewrite)
    try:
        yield proxy
    finally:
        proxy.close()


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
