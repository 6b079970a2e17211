"""Where phones are reached over TCP: addresses a person gave, and those of a file.

Nothing is ever scanned for. The file is ``~/.config/pocketbert/devices.toml``, or
what ``POCKETBERT_DEVICES`` names, and holds one list::

    addresses = ["192.168.1.20:5555", "pixel.local"]
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from device_lab.errors import DeviceAddressError

CONFIG_VARIABLE = "POCKETBERT_DEVICES"
"""Environment variable that names another file of addresses."""

_ADB_PORT = 5555
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/]+)(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpAddress:
    """Host and port of an adb daemon."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, *, source: str) -> Self:
        """Read ``HOST:PORT`` or ``HOST``, whose port is then 5555.

        Args:
            text: The address; an IPv6 host stands in brackets.
            source: Where it was given, named in an error.

        Raises:
            DeviceAddressError: If it is no such address.
        """
        match = _ADDRESS.fullmatch(text)
        port = int(match["port"] or _ADB_PORT) if match else 0
        if match is None or not 0 < port < 1 << 16:
            raise DeviceAddressError(source=source, seen=f"{text!r} is not HOST:PORT")
        return cls(host=match["host"].strip("[]"), port=port)

    def __str__(self) -> str:
        """Return ``host:port``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def configured_addresses(
    config: Path | None = None, *, home: Path, environment: Mapping[str, str]
) -> tuple[TcpAddress, ...]:
    """Return the addresses the file of devices lists; none if nobody wrote one.

    Args:
        config: The file, if it is not the usual one.
        home: The user's home folder.
        environment: Where ``POCKETBERT_DEVICES`` and ``XDG_CONFIG_HOME`` are looked up.

    Raises:
        DeviceAddressError: If a file somebody named is missing, or a file lists anything but addresses.
    """
    named = config or (Path(environment[CONFIG_VARIABLE]) if environment.get(CONFIG_VARIABLE) else None)
    folder = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    path = named or folder / "pocketbert" / "devices.toml"
    if named is None and not path.exists():
        return ()
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise DeviceAddressError(source=str(path), seen=f"cannot read it: {error.strerror}") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise DeviceAddressError(source=str(path), seen=f"not TOML: {error}") from error
    listed = document.pop("addresses", [])
    if document or not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise DeviceAddressError(source=str(path), seen="it may hold `addresses`, a list of texts, and nothing else")
    return tuple(TcpAddress.parse(item, source=str(path)) for item in listed)
