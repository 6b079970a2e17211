"""One adb connection: streams and transfers of adb-shell, its errors translated on the way out."""

from __future__ import annotations

import errno
import logging
import stat
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self

from adb_shell.adb_device import AdbDevice as AdbShellDevice
from adb_shell.transport.base_transport import BaseTransport

from device_lab.adb_errors import FOREIGN_ERRORS, translate_connect, translate_lost, translate_transfer
from device_lab.adb_transport import DeadlineTransport
from device_lab.keys import AdbKey

_LOCAL_ERRNOS = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.ENOENT, errno.EISDIR, errno.EROFS)
)


def log_warning(message: str) -> None:
    """Write a message for the person at the phone to the log."""
    logging.getLogger(__name__).warning(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a device is reached, and with how much patience.

    ``connect_timeout_s`` and ``silence_s`` bound the wait for the next byte while
    connecting and while transferring; ``dialog_timeout_s`` is how long a person
    has to accept the dialog on the phone, of which ``announce`` tells them.
    """

    serial: str
    open_transport: Callable[[], BaseTransport]
    keys: tuple[AdbKey, ...]
    announce: Callable[[str], None] = log_warning
    connect_timeout_s: float = 10.0
    dialog_timeout_s: float = 60.0
    silence_s: float = 30.0


class AdbConnection:
    """An open connection. After an error of any method, close it and open another."""

    def __init__(self, endpoint: Endpoint, device: Any, transport: DeadlineTransport) -> None:
        self._endpoint = endpoint
        self._device = device
        self._transport = transport

    @classmethod
    def open(cls, endpoint: Endpoint) -> Self:
        """Connect, and show the phone our keys where it asks.

        Raises:
            DeviceUnreachableError: If nothing answers there, or not adb.
            DeviceUnauthorizedError: If the phone accepts none of the keys.
        """
        is_dialog_shown = False

        def on_dialog(_: object) -> None:
            nonlocal is_dialog_shown
            is_dialog_shown = True
            endpoint.announce(
                f"{endpoint.serial}: unlock the phone and accept the dialog `Allow USB debugging?` on its screen"
            )

        device = None
        try:
            transport = DeadlineTransport(endpoint.open_transport())
            device = AdbShellDevice(transport)
            device.connect(
                rsa_keys=list(endpoint.keys),
                transport_timeout_s=endpoint.connect_timeout_s,
                read_timeout_s=endpoint.connect_timeout_s,
                auth_timeout_s=endpoint.dialog_timeout_s,
                auth_callback=on_dialog,
            )
        except FOREIGN_ERRORS as error:
            if device is not None:
                device.close()
            raise translate_connect(error, serial=endpoint.serial, dialog_shown=is_dialog_shown) from error
        return cls(endpoint, device, transport)

    def close(self) -> None:
        """Close the connection."""
        self._device.close()

    def stream(self, script: str, *, command: str, limit_s: float) -> Iterator[bytes]:
        """Run ``script`` in the device's shell and yield what it prints, as it arrives.

        Args:
            script: What the shell runs.
            command: What the script is for, named in an error.
            limit_s: Seconds for everything together.

        Raises:
            DeviceLostError: If the connection drops, or the limit passes.
        """
        self._transport.limit(limit_s)
        try:
            yield from self._device.streaming_shell(
                script, transport_timeout_s=limit_s, read_timeout_s=limit_s, decode=False
            )
        except FOREIGN_ERRORS as error:
            raise translate_lost(error, serial=self._endpoint.serial, command=command) from error

    def push(self, local: Path, remote: PurePosixPath) -> None:
        """Copy a file to the device, without a check.

        Raises:
            TransferError: If the device refuses it.
            DeviceLostError: If the connection drops.
        """
        with self._transfer(f"push {local.name}", remote, is_pushing=True) as silence_s:
            self._device.push(
                str(local),
                str(remote),
                st_mode=stat.S_IFREG | 0o600,
                transport_timeout_s=silence_s,
                read_timeout_s=silence_s,
            )

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        """Copy a file from the device, without a check.

        Raises:
            TransferError: If the device refuses it.
            DeviceLostError: If the connection drops.
        """
        with self._transfer(f"pull {remote.name}", remote, is_pushing=False) as silence_s:
            self._device.pull(str(remote), str(local), transport_timeout_s=silence_s, read_timeout_s=silence_s)

    @contextmanager
    def _transfer(self, command: str, remote: PurePosixPath, *, is_pushing: bool) -> Generator[float]:
        self._transport.limit(None, is_pushing=is_pushing)
        try:
            yield self._endpoint.silence_s
        except FOREIGN_ERRORS as error:
            if isinstance(error, OSError) and error.errno in _LOCAL_ERRNOS:
                raise  # the file on this machine, not the device
            raise translate_transfer(error, serial=self._endpoint.serial, path=str(remote), command=command) from error
