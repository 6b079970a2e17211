"""A phone over adb: commands with an exit status, checked transfers, no orphan left behind.

One `AdbDevice` holds one connection and one lock, since the streams of
``adb-shell`` are not safe to share. After any failure the connection is closed
and forgotten, for the state of its streams is unknown; the next call connects
anew and first kills whatever the lost one may have left running.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self, TypeVar

from device_lab.adb_command import (
    MAX_COMMAND_BYTES,
    Answer,
    CommandResult,
    kill_script,
    parse,
    parse_free_bytes,
    parse_properties,
    process_id,
    wrap,
)
from device_lab.adb_connection import AdbConnection, Endpoint
from device_lab.errors import (
    CommandTimeoutError,
    DeviceFullError,
    DeviceLostError,
    DeviceUnauthorizedError,
    DeviceUnreachableError,
    RemoteCommandError,
    TransferError,
)

LAB_FOLDER = PurePosixPath("/data/local/tmp/pocketbert")
"""Everything the lab writes on a device lies below this folder."""

_CACHE_FOLDER = LAB_FOLDER / "cache"
_BACKOFF_S = (0.2, 1.0)
# A device kills an overlong command itself; this much later the host no longer believes that it will.
_GRACE_S = 2.0
_HOUSEKEEPING_S = 30.0
# Reading a file back to hash it: slow flash and a slow sha256sum manage this much.
_HASHED_BYTES_PER_S = 20e6
_NO_SPACE = "No space left on device"
# Nobody has written to it for that long, so whoever pushed it is gone. By the time of the last change, which only
# the device's own clock sets; the time of the content is the pusher's.
_STALE_PART_S = 3600

_T = TypeVar("_T")


class AdbDevice:
    """One phone. Connects when first used; every method may be called from any thread, one at a time runs."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._connection: AdbConnection | None = None
        self._lock = threading.RLock()
        self._running: str | None = None
        self._orphans: dict[str, int | None] = {}
        self._verified: set[PurePosixPath] = set()
        self._parts: set[PurePosixPath] = set()

    @property
    def serial(self) -> str:
        """The serial or address this device is reached under, as errors name it."""
        return self._endpoint.serial

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> None:
        """Connect now, unless connected. Otherwise the first call of another method does it.

        Raises:
            DeviceUnreachableError: If nothing answers, or not adb; its subclasses say why.
            DeviceUnauthorizedError: If nobody accepts this computer's key on the phone.
        """
        with self._lock:
            self._connected()

    def close(self) -> None:
        """Close the connection, if there is one."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            self._verified.clear()

    def run(self, command: str, *, timeout_s: float, retry: bool = False) -> CommandResult:
        """Run ``command`` in the device's shell and return what it wrote.

        Processes it leaves in the background are killed when it ends, unless they
        were started with ``setsid`` and have all three streams redirected. One
        that is to stay must have got as far as that before the command ends.

        Args:
            command: For ``sh``; quote what comes from elsewhere with `shlex.quote`.
            timeout_s: After that long the command and its children are killed.
            retry: Run it up to three times if the connection drops. Only for
                commands that may run twice; never for a measurement.

        Raises:
            RemoteCommandError: If its exit status is not zero.
            CommandTimeoutError: If it was killed after ``timeout_s``.
            DeviceLostError: If the connection dropped, or the shell was killed.
            DeviceUnreachableError: If there was no connection and none can be made.
            DeviceUnauthorizedError: If the phone no longer accepts this computer's key.
        """
        if retry:
            return self._retrying(lambda: self.run(command, timeout_s=timeout_s))
        with self._lock:
            answer = self._execute(command, timeout_s=timeout_s)
        if answer.exit_status:
            raise RemoteCommandError(
                serial=self.serial,
                command=command,
                exit_status=answer.exit_status,
                stdout=answer.stdout,
                stderr=answer.stderr,
            )
        return CommandResult(stdout=answer.stdout, stderr=answer.stderr)

    def interrupt(self) -> None:
        """Kill the command another thread is running; that thread gets a `DeviceLostError`.

        Goes through a connection of its own, which USB does not allow: there it
        raises `DeviceUnreachableError`, and the command ends at its time limit.
        """
        nonce = self._running
        if nonce is not None:
            connection = AdbConnection.open(self._endpoint)
            try:
                _kill(connection, serial=self.serial, nonce=nonce, group=None)
            finally:
                connection.close()

    def properties(self) -> dict[str, str]:
        """Return the system properties, as ``getprop`` lists them."""
        return parse_properties(self.run("getprop", timeout_s=_HOUSEKEEPING_S, retry=True).text)

    def push(self, local: Path, remote: PurePosixPath, *, mode: int = 0o644) -> None:
        """Copy a file to the device. It appears under its final name whole and checked, or not at all.

        Raises:
            DeviceFullError: If the device has no space for it.
            TransferError: If the device refuses it, or another digest arrives.
            DeviceLostError: If the connection dropped three times.
        """
        digest = _digest(local)
        self._retrying(lambda: self._push(local, remote, mode=mode, digest=digest))

    def push_cached(self, local: Path) -> PurePosixPath:
        """Return where an executable copy of a file lies on the device; it is pushed only if it is not there.

        The copy is named by its content, so a file pushed once is never pushed again.

        Raises:
            TransferError: See `push`.
            DeviceLostError: See `push`.
        """
        digest = _digest(local)
        remote = _CACHE_FOLDER / digest
        with self._lock:
            if remote not in self._verified:
                limit_s = _HOUSEKEEPING_S + local.stat().st_size / _HASHED_BYTES_PER_S
                found = self.run(f"sha256sum {remote} 2>/dev/null || true", timeout_s=limit_s, retry=True).text
                if not found.startswith(digest):
                    self._retrying(lambda: self._push(local, remote, mode=0o755, digest=digest))
                self._verified.add(remote)
        return remote

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        """Copy a file from the device. It appears under its final name whole and checked, or not at all.

        Raises:
            TransferError: If the device refuses it, or something else arrives than lies there.
            DeviceLostError: If the connection dropped three times.
        """
        self._retrying(lambda: self._pull(remote, local))

    def _connected(self) -> AdbConnection:
        if self._connection is None:
            connection = AdbConnection.open(self._endpoint)
            try:
                for nonce, group in tuple(self._orphans.items()):
                    _kill(connection, serial=self.serial, nonce=nonce, group=group)
                    del self._orphans[nonce]
            except DeviceLostError:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _execute(self, command: str, *, timeout_s: float) -> Answer:
        if len(command.encode()) > MAX_COMMAND_BYTES:
            raise RemoteCommandError(
                serial=self.serial,
                command=f"{command[:40]}...",
                exit_status=126,
                stdout=b"",
                stderr=f"a command has at most {MAX_COMMAND_BYTES} bytes; push a script instead".encode(),
            )
        connection = self._connected()
        nonce = secrets.token_hex(16)
        script = wrap(command, nonce=nonce, limit_s=timeout_s)
        reply = bytearray()
        started_s = time.monotonic()
        answer = None
        self._running = nonce
        try:
            for chunk in connection.stream(script, command=command, limit_s=timeout_s + _GRACE_S):
                reply += chunk
            answer = _answer(bytes(reply), serial=self.serial, nonce=nonce, command=command)
        except DeviceLostError as error:
            group = process_id(bytes(reply), nonce=nonce)
            is_overdue = group is not None and time.monotonic() - started_s >= timeout_s
            if self._abandon(nonce, group) and is_overdue:
                raise CommandTimeoutError(serial=self.serial, command=command, timeout_s=timeout_s) from error
            raise
        finally:
            self._running = None
            if answer is None and self._connection is connection:  # interrupted from the keyboard
                self._abandon(nonce, process_id(bytes(reply), nonce=nonce))
        return answer

    def _abandon(self, nonce: str, group: int | None) -> bool:
        """Forget the connection and kill what ran on it; return whether the device answered."""
        self.close()
        self._orphans[nonce] = group
        with contextlib.suppress(DeviceLostError, DeviceUnreachableError, DeviceUnauthorizedError):
            self._connected()
        return nonce not in self._orphans

    def _retrying(self, operation: Callable[[], _T]) -> _T:
        for backoff_s in _BACKOFF_S:
            try:
                with self._lock:
                    return operation()
            except (DeviceLostError, DeviceUnreachableError):
                time.sleep(backoff_s)
        with self._lock:
            return operation()

    def _push(self, local: Path, remote: PurePosixPath, *, mode: int, digest: str) -> None:
        part = remote.with_name(f"{remote.name}.part-{secrets.token_hex(4)}")
        self._require_space(local, remote)
        connection = self._connected()
        self._parts.add(part)
        is_sent = False
        try:
            connection.push(local, part)
            is_sent = True
        except TransferError as error:
            if _NO_SPACE in str(error):
                size_bytes = local.stat().st_size
                raise DeviceFullError(
                    serial=self.serial, path=str(remote), needed_bytes=size_bytes, free_bytes=None
                ) from error
            raise
        finally:
            if not is_sent:
                self.close()
        quoted, target = shlex.quote(str(part)), shlex.quote(str(remote))
        finish = (
            f'set -- $(sha256sum {quoted}); if [ "$1" = {digest} ]; '
            f"then chmod {mode:o} {quoted} && mv -f {quoted} {target}; "
            f'else rm -f {quoted}; echo "arrived with another digest" >&2; exit 1; fi'
        )
        self._run_for_file(finish, remote, size_bytes=local.stat().st_size)
        self._parts.discard(part)

    def _require_space(self, local: Path, remote: PurePosixPath) -> None:
        """Make the folder of ``remote``, sweep what pushes that failed left there, and ask for its free space.

        Another process may be pushing the same file just now; its part is spared.
        """
        folder, target = shlex.quote(str(remote.parent)), shlex.quote(str(remote))
        own_parts = shlex.join(map(str, self._parts))
        report = self._run_for_file(
            f'if [ -d {target} ]; then echo "is a directory" >&2; exit 1; fi; '
            f"mkdir -p {folder} || exit 1; rm -f {own_parts}; "
            f'for part in {target}.part-*; do [ -f "$part" ] || continue; '
            f'changed=$(stat -c %Z "$part") && [ $(($(date +%s) - changed)) -gt {_STALE_PART_S} ] && rm -f "$part"; '
            f"done; df -k {folder}",
            remote,
        )
        self._parts.clear()
        try:
            free_bytes = parse_free_bytes(report)
        except ValueError as error:
            raise TransferError(serial=self.serial, path=str(remote), seen=str(error)) from error
        size_bytes = local.stat().st_size
        if free_bytes < size_bytes:
            raise DeviceFullError(serial=self.serial, path=str(remote), needed_bytes=size_bytes, free_bytes=free_bytes)

    def _pull(self, remote: PurePosixPath, local: Path) -> None:
        quoted = shlex.quote(str(remote))
        size_bytes = int(self._run_for_file(f"[ -f {quoted} ] && wc -c <{quoted} || cat {quoted}", remote))
        digest = self._run_for_file(f"sha256sum {quoted}", remote, size_bytes=size_bytes).split()[0]
        part = local.with_name(f".{local.name}.part-{secrets.token_hex(4)}")
        is_received = False
        try:
            self._connected().pull(remote, part)
            is_received = True
            if part.stat().st_size != size_bytes or _digest(part) != digest:
                raise TransferError(serial=self.serial, path=str(remote), seen="changed while it was pulled")
            os.replace(part, local)  # noqa: PTH105 - Path.replace hides that an existing file goes
        finally:
            part.unlink(missing_ok=True)
            if not is_received:
                self.close()

    def _run_for_file(self, command: str, path: PurePosixPath, *, size_bytes: int = 0) -> str:
        """Run a command of a transfer; its failure is the transfer's."""
        try:
            return self.run(command, timeout_s=_HOUSEKEEPING_S + size_bytes / _HASHED_BYTES_PER_S).text
        except RemoteCommandError as error:
            said = error.stderr.decode(errors="replace").strip().splitlines()
            raise TransferError(
                serial=self.serial, path=str(path), seen=said[-1] if said else f"exit status {error.exit_status}"
            ) from error


def _kill(connection: AdbConnection, *, serial: str, nonce: str, group: int | None) -> None:
    command, own = "kill what was left running", secrets.token_hex(16)
    script = wrap(kill_script(nonce=nonce, group=group), nonce=own, limit_s=_HOUSEKEEPING_S)
    reply = b"".join(connection.stream(script, command=command, limit_s=_HOUSEKEEPING_S))
    _answer(reply, serial=serial, nonce=own, command=command)


def _answer(reply: bytes, *, serial: str, nonce: str, command: str) -> Answer:
    answer = parse(reply, nonce=nonce)
    if answer is None:
        raise DeviceLostError(serial=serial, command=command, seen="its shell ended without an exit status")
    return answer


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
