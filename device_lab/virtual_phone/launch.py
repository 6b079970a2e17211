"""Start virtual phones and order their faults, from a test or a command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from device_lab.errors import DeviceLabError
from device_lab.virtual_phone.faults import Fault
from device_lab.virtual_phone.fixtures import write_fixtures
from device_lab.virtual_phone.namespace import allows_namespaces, enter_command
from device_lab.virtual_phone.options import ABIS, PhoneOptions

_STOP_S = 5.0


class VirtualPhoneError(DeviceLabError):
    """A virtual phone cannot be as it was ordered."""


class VirtualPhone:
    """A virtual phone that runs, and the line to its daemon."""

    def __init__(
        self, *, options: PhoneOptions, host: str, port: int, files: Path, orders: IO[str], answers: IO[str]
    ) -> None:
        self.options = options
        self.host = host
        self.port = port
        self._files = files
        self._orders = orders
        self._answers = answers

    @property
    def address(self) -> str:
        """``host:port``, as the official adb takes it."""
        return f"{self.host}:{self.port}"

    def on_host(self, path: str) -> Path:
        """Return where a path below /data lies on this machine, unless ``data_bytes`` was given."""
        return self._files / path.lstrip("/")

    def inject(self, fault: Fault) -> None:
        """Have a fault strike."""
        self._order("inject", **asdict(fault))

    def clear_faults(self) -> None:
        """Forget the faults that did not strike yet."""
        self._order("clear")

    def heat(self, *, status: int, celsius: float) -> None:
        """Set thermal status and skin temperature."""
        self._order("heat", status=status, celsius=celsius)

    def ramp_heat(self, *, status: int, start_celsius: float, end_celsius: float, duration_s: float) -> None:
        """Let the skin temperature go from one value to another; ``status`` is reached with the last."""
        self._order("ramp", status=status, start_celsius=start_celsius, end_celsius=end_celsius, duration_s=duration_s)

    def jump_clock(self, *, offset_s: int) -> None:
        """Set the phone's ``date`` off by so many seconds."""
        self._order("jump_clock", offset_s=offset_s)

    def reboot(self, *, down_s: float = 0.0) -> None:
        """Drop all connections, kill all processes, and come back with another boot id."""
        self._order("reboot", down_s=down_s)

    def _order(self, what: str, **details: Any) -> None:
        self._orders.write(json.dumps({"do": what, **details}) + "\n")
        self._orders.flush()
        answer = json.loads(self._answers.readline() or '{"error": "it has ended"}')
        if "error" in answer:
            raise VirtualPhoneError(f"virtual phone cannot {what}: {answer['error']}")


@contextmanager
def start_virtual_phone(options: PhoneOptions | None = None) -> Generator[VirtualPhone]:
    """Yield a virtual phone that listens on 127.0.0.1; stop it and remove its files in the end.

    It is no prison: what is pushed to it runs as this user, who can write to the
    rest of this machine from there.

    Raises:
        VirtualPhoneError: If this machine cannot run such a phone.
    """
    options = options or PhoneOptions()
    has_namespaces = allows_namespaces()
    _require_possible(options, has_namespaces=has_namespaces)
    with tempfile.TemporaryDirectory(prefix="virtual-phone-", ignore_cleanup_errors=True) as name:
        sandbox = Path(name).resolve()
        write_fixtures(sandbox, options=options)
        (sandbox / "state" / "boot_id").touch()
        root = "/" if has_namespaces else str(sandbox)
        command = [sys.executable, "-m", "device_lab.virtual_phone.server", options.to_json(), str(sandbox), root]
        if has_namespaces:
            command = enter_command(command, sandbox=sandbox, options=options)
        with _daemon(command) as (orders, answers):
            hello = answers.readline()
            if not hello:
                raise VirtualPhoneError(f"virtual phone did not start on port {options.port}; the reason stands above")
            yield VirtualPhone(
                options=options,
                host="127.0.0.1",
                port=json.loads(hello)["port"],
                files=sandbox,
                orders=orders,
                answers=answers,
            )


@contextmanager
def _daemon(command: list[str]) -> Generator[tuple[IO[str], IO[str]]]:
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise VirtualPhoneError("virtual phone has no pipes")
        try:
            yield process.stdin, process.stdout
        finally:
            process.stdin.close()
            try:
                process.wait(timeout=_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _require_possible(options: PhoneOptions, *, has_namespaces: bool) -> None:
    if options.abi not in ABIS:
        raise VirtualPhoneError(f"abi {options.abi!r} is not one of {', '.join(ABIS)}")
    if options.abi == "arm64-v8a" and shutil.which("qemu-aarch64-static") is None:
        raise VirtualPhoneError("an arm64-v8a phone needs qemu-aarch64-static; run `apt-get install qemu-user-static`")
    if not has_namespaces and (options.abi == "arm64-v8a" or options.data_bytes is not None):
        raise VirtualPhoneError(
            "an arm64-v8a phone and a limited /data need user namespaces, which this machine forbids; "
            "allow them with `sysctl kernel.unprivileged_userns_clone=1`"
        )
