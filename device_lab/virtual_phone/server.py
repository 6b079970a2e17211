"""The daemon: listens on 127.0.0.1, serves hosts, and takes orders for faults on standard input.

Started by `device_lab.virtual_phone.launch`. It prints its port as a line of
JSON, then answers each line of JSON it reads with another, and ends when its
input does.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from device_lab.virtual_phone.auth import Gatekeeper
from device_lab.virtual_phone.connection import FEATURES, Connection, Service, Stream
from device_lab.virtual_phone.faults import Fault, FaultBoard, Kind, Stage
from device_lab.virtual_phone.fixtures import banner
from device_lab.virtual_phone.options import PhoneOptions
from device_lab.virtual_phone.phone import Phone
from device_lab.virtual_phone.protocol import MAX_PAYLOAD_BYTES
from device_lab.virtual_phone.shell import Shell
from device_lab.virtual_phone.sync import FileService
from device_lab.virtual_phone.wire import Wire

HOST = "127.0.0.1"
_BUFFER_BYTES = 2 * MAX_PAYLOAD_BYTES
_SHELL_SERVICES = ("shell", "exec")
_REPLIES = {
    "root:": b"adbd cannot run as root in production builds\n",
    "unroot:": b"adbd not running as root\n",
}


class Server:
    """One virtual phone, being served."""

    def __init__(self, *, options: PhoneOptions, phone: Phone) -> None:
        self._options = options
        self._phone = phone
        self._board = FaultBoard()
        self._gatekeeper = Gatekeeper(
            known_keys=phone.known_keys, dialog=options.dialog, accept_after_s=options.accept_after_s
        )
        self._shell = Shell(program="/bin/sh", environment=phone.environment)
        self._files = FileService(locate=phone.locate)
        self._listener: asyncio.Server | None = None
        self._port = options.port
        self._connections: dict[asyncio.Task[None], Wire] = {}

    async def listen(self) -> int:
        """Start to accept hosts and return the port."""
        self._listener = await asyncio.start_server(self._accept, HOST, self._port, limit=_BUFFER_BYTES)
        self._port = self._listener.sockets[0].getsockname()[1]
        return self._port

    async def obey(self, order: dict[str, Any]) -> None:
        """Do what an order says: ``inject``, ``clear``, ``heat``, ``ramp``, ``jump_clock`` or ``reboot``."""
        match order.pop("do"):
            case "inject":
                self._board.add(Fault(kind=Kind(order.pop("kind")), stage=Stage(order.pop("stage")), **order))
            case "clear":
                self._board.clear()
            case "heat":
                self._phone.heat(**order)
            case "ramp":
                self._phone.ramp(**order)
            case "jump_clock":
                self._phone.jump_clock(**order)
            case "reboot":
                await self._reboot(**order)
            case unknown:
                raise ValueError(f"unknown order {unknown!r}")

    async def stop(self) -> None:
        """Stop accepting hosts and end every connection."""
        if self._listener is not None:
            self._listener.close()
        for task, wire in tuple(self._connections.items()):
            wire.reset()
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _reboot(self, *, down_s: float) -> None:
        await self.stop()
        self._phone.kill_everything()
        self._phone.renew_boot_id()
        await asyncio.sleep(down_s)
        await self.listen()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer, self._board)
        connection = Connection(
            wire,
            banner=banner(self._options, features=FEATURES),
            gatekeeper=self._gatekeeper,
            find_service=self._find_service,
        )
        task = asyncio.create_task(connection.serve())
        self._connections[task] = wire
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._connections[task]

    def _find_service(self, name: str) -> Service | None:
        kind, _, command = name.partition(":")
        word, *arguments = kind.split(",")
        if word in _SHELL_SERVICES:

            async def serve_shell(stream: Stream) -> None:
                await self._shell.serve(stream, arguments=tuple(arguments), command=self._phone.rewrite(command))

            return serve_shell
        if name in _REPLIES:

            async def reply(stream: Stream) -> None:
                await stream.write(_REPLIES[name])

            return reply
        return self._files.serve if word == "sync" else None


async def serve(options: PhoneOptions, phone: Phone) -> None:
    """Serve a phone until standard input ends."""
    server = Server(options=options, phone=phone)
    _say({"port": await server.listen()})
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        try:
            await server.obey(json.loads(line))
        except (KeyError, OSError, TypeError, ValueError) as error:
            _say({"error": str(error)})
        else:
            _say({})
    await server.stop()


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve the phone whose options, sandbox and root are the arguments."""
    options, sandbox, root = sys.argv[1:]
    os.umask(0o022)
    os.chdir("/")
    asyncio.run(
        serve(PhoneOptions.from_json(options), Phone(sandbox=Path(sandbox), root=Path(root))),
    )


if __name__ == "__main__":
    main()
