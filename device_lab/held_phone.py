"""A phone for one user alone, prepared for timing, and left as it was found.

For callers::

    with hold_phone(find_phone("8A3X1")) as held:
        reasons = gate(held.conditions())      # device_lab.conditions
        held.run("./runner ...", timeout_s=300.0)

Whatever is to be timed goes through `HeldPhone.run`, which keeps the lease for as
long as the command may take. In between, the lease renews itself and asks nothing
of the phone while a command runs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from device_lab.adb import AdbDevice
from device_lab.adb_command import CommandResult
from device_lab.adb_connection import log_warning
from device_lab.devices import AttachedPhone
from device_lab.measurement import Conditions, DeviceInfo


class HeldPhone:
    """A phone nobody else times on for now."""

    @property
    def adb(self) -> AdbDevice:
        """The phone, connected; for transfers and short commands."""
        raise NotImplementedError

    @property
    def info(self) -> DeviceInfo:
        """What it is."""
        raise NotImplementedError

    def conditions(self) -> Conditions:
        """Read what is in force now, in one round trip; ``"?"`` for what cannot be read.

        Raises:
            DeviceLabError: See `device_lab.adb.AdbDevice.run`.
        """
        raise NotImplementedError

    def run(self, command: str, *, timeout_s: float) -> CommandResult:
        """Run a command that may take long; see `device_lab.adb.AdbDevice.run`.

        Raises:
            DeviceBusyError: If somebody else took the phone in the meantime.
            DeviceLostError: If the connection dropped, or the phone rebooted since it
                was taken: leave the context and hold it anew.
            DeviceLabError: See `device_lab.adb.AdbDevice.run`.
        """
        raise NotImplementedError


@contextmanager
def hold_phone(attached: AttachedPhone, *, announce: Callable[[str], None] = log_warning) -> Generator[HeldPhone]:
    """Yield a phone, connected, leased and prepared; release and restore it in the end.

    Prepared means: fixed-performance mode where the phone offers it (Android 11 on),
    and the screen kept on while plugged in. What was in force before is restored on
    every exit; after a SIGKILL of this process by a watchdog on the phone once the
    lease ran out, or by the next one to hold the phone, whichever comes first.

    Args:
        attached: A phone that is ready, from `device_lab.devices.find_phone`.
        announce: Called with a line for the person in front, when a setting could not be restored.

    Raises:
        DeviceBusyError: If another process holds it.
        DeviceLabError: ``attached.problem``, or if the connection fails.
    """
    raise NotImplementedError
    yield
