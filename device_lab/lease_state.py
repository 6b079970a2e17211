"""What a phone says about its lease, and whether that still binds anybody."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from device_lab.measurement import UNREADABLE
from device_lab.phone_scripts import parse_pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseState:
    """What a phone says about its current lease, ``"?"`` where it says nothing.

    ``number`` is 0 before the first lease. ``expires`` and ``now`` are seconds
    since the phone started, as text.
    """

    number: int
    now: str
    boot_id: str
    is_released: bool
    expires: str
    host: str
    host_id: str
    process_id: str
    since: str
    lease_boot_id: str

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what ``hold.sh look`` prints."""
        pairs = parse_pairs(text)
        number = pairs.get("number", "")
        return cls(
            number=int(number) if number.isdigit() else 0,
            now=pairs.get("now", UNREADABLE),
            boot_id=pairs.get("boot", UNREADABLE),
            is_released=pairs.get("released") == "yes",
            expires=pairs.get("expires", UNREADABLE),
            host=pairs.get("host", UNREADABLE),
            host_id=pairs.get("host_id", UNREADABLE),
            process_id=pairs.get("process_id", UNREADABLE),
            since=pairs.get("since", UNREADABLE),
            lease_boot_id=pairs.get("boot_id", UNREADABLE),
        )

    @property
    def is_complete(self) -> bool:
        """Whether its holder is written down, or there is none."""
        return self.number == 0 or self.is_released or (self.lease_boot_id != UNREADABLE and self.expires.isdigit())

    def is_free(self, *, host_id: str, is_alive: Callable[[int], bool]) -> bool:
        """Return whether the phone may be taken.

        Args:
            host_id: This machine, see `this_host_id`.
            is_alive: Tells whether a process of this machine still runs.
        """
        if self.number == 0 or self.is_released or not self.is_complete:
            return True
        if UNREADABLE not in (self.boot_id, self.lease_boot_id) and self.boot_id != self.lease_boot_id:
            return True
        if self.host_id == host_id and self.process_id.isdigit() and not is_alive(int(self.process_id)):
            return True
        return self.now.isdigit() and int(self.now) >= int(self.expires)


def this_host_id() -> str:
    """Return a name of this machine, as far as process ids mean the same on it: since it started, in this container."""
    parts = [os.uname().nodename]
    with contextlib.suppress(OSError):  # where there is no Linux
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def is_alive(process_id: int) -> bool:
    """Return whether a process of this machine still runs."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
