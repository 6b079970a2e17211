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
from datetime import UTC, datetime

from device_lab.adb import AdbDevice
from device_lab.adb_command import CommandResult
from device_lab.adb_connection import log_warning
from device_lab.devices import AttachedPhone
from device_lab.errors import DeviceNotFoundError
from device_lab.lease import DURATION_S, Lease, lease
from device_lab.measurement import Conditions, DeviceInfo
from device_lab.performance_mode import prepare
from device_lab.phone_scripts import run_script
from device_lab.snapshot import parse_snapshot

# Where sysfs and proc lie on a phone.
_ROOTS = ("/sys", "/proc")


class HeldPhone:
    """A phone nobody else times on for now.

    Attributes:
        adb: The phone, connected; for transfers and short commands.
        info: What it is.
        settings: What was set on it, see `device_lab.performance_mode.prepare`.
    """

    def __init__(self, adb: AdbDevice, *, info: DeviceInfo, held: Lease, settings: tuple[tuple[str, str], ...]) -> None:
        self.adb = adb
        self.info = info
        self.settings = settings
        self._lease = held

    def conditions(self) -> Conditions:
        """Read what is in force now, in one round trip, `settings` included; ``"?"`` for what cannot be read.

        Raises:
            DeviceLabError: See `device_lab.adb.AdbDevice.run`.
        """
        text = run_script(self.adb, "snapshot", *_ROOTS, retry=True)
        return Conditions(
            taken_at=datetime.now(UTC).isoformat(timespec="seconds"), readings=(*parse_snapshot(text), *self.settings)
        )

    def run(self, command: str, *, timeout_s: float) -> CommandResult:
        """Run a command that may take long; see `device_lab.adb.AdbDevice.run`.

        Costs one more round trip before the command, and none while it runs.

        Raises:
            DeviceBusyError: If somebody else took the phone in the meantime.
            DeviceLostError: If the connection dropped, or the phone rebooted since it
                was taken: leave the context and hold it anew.
            DeviceLabError: See `device_lab.adb.AdbDevice.run`.
        """
        self._lease.renew(duration_s=timeout_s)
        return self.adb.run(command, timeout_s=timeout_s)


@contextmanager
def hold_phone(
    attached: AttachedPhone, *, duration_s: int = DURATION_S, announce: Callable[[str], None] = log_warning
) -> Generator[HeldPhone]:
    """Yield a phone, connected, leased and prepared; release and restore it in the end.

    Prepared means: fixed-performance mode where the phone offers it (Android 11 on),
    and the screen kept on while plugged in. What was in force before is restored on
    every exit; after a SIGKILL of this process by a watchdog on the phone once the
    lease ran out, or by the next one to hold the phone, whichever comes first.

    Args:
        attached: A phone that is ready, from `device_lab.devices.find_phone`.
        duration_s: How long the phone stays held if this process vanishes from another machine's view.
        announce: Called with a line for the person in front, when a setting could not be restored.

    Raises:
        DeviceBusyError: If another process holds it.
        DeviceLabError: ``attached.problem``, or if the connection fails.
    """
    if attached.problem is not None:
        raise attached.problem
    if attached.info is None or attached.endpoint is None:
        raise DeviceNotFoundError(serial=attached.address, attached=())
    device_id = attached.info.device_id
    with (
        AdbDevice(attached.endpoint) as adb,
        lease(adb, device_id=device_id, duration_s=duration_s, announce=announce) as held,
    ):
        yield HeldPhone(adb, info=attached.info, held=held, settings=prepare(adb, held))
