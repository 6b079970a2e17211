"""What is set on a phone so that its times are steady: fixed performance, a screen that stays on.

``scripts/hold.sh`` writes the way back down before it changes anything, and starts a
watchdog that walks it once the lease is no longer renewed. Giving the lease back, or
taking it after somebody who was killed, walks it too.
"""

from __future__ import annotations

from device_lab.adb import AdbDevice
from device_lab.lease import LEASE_FOLDER, Lease
from device_lab.measurement import UNREADABLE
from device_lab.phone_scripts import parse_pairs, run_script

READINGS = ("fixed_performance", "screen_kept_on")
"""Names of what `prepare` tells."""


def prepare(adb: AdbDevice, held: Lease) -> tuple[tuple[str, str], ...]:
    """Set what makes times steady, for as long as the lease is held, and return what came of it.

    Fixed-performance mode, from Android 11 on, keeps clocks at a level a phone can
    hold, where its maker implemented that; Android cannot be asked whether it was
    on before, so its default, off, is what is restored. The screen is woken and
    stays on while the phone is plugged in.

    Returns:
        ``fixed_performance``: ``on``, ``refused`` (by the phone) or ``unsupported``
        (before Android 11); ``screen_kept_on``: ``yes`` or ``no``.

    Raises:
        DeviceLabError: See `device_lab.adb.AdbDevice.run`.
    """
    pairs = parse_pairs(run_script(adb, "hold", "prepare", LEASE_FOLDER, held.nonce, retry=False))
    return tuple((name, pairs.get(name, UNREADABLE)) for name in READINGS)
