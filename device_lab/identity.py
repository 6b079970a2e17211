"""What a phone says it is."""

from __future__ import annotations

import re

from device_lab.adb import AdbDevice
from device_lab.adb_command import parse_properties
from device_lab.errors import DeviceUnreachableError
from device_lab.measurement import UNREADABLE, Backend, DeviceInfo
from device_lab.virtual_phone.fixtures import BACKEND_PROPERTY

_QUESTION_TIMEOUT_S = 10.0
# `nproc` counts the cores that are on now, so it is only the second choice.
_QUESTION = "getprop; echo; echo cores=$(cat /sys/devices/system/cpu/present 2>/dev/null); echo online=$(nproc)"


def device_info(adb: AdbDevice) -> DeviceInfo:
    """Return what a phone says it is; ``"?"`` for what it does not say.

    Raises:
        DeviceLabError: See `device_lab.adb.AdbDevice.run`.
    """
    text = adb.run(_QUESTION, timeout_s=_QUESTION_TIMEOUT_S, retry=True).text
    known = parse_properties(text)
    backend = known.get(BACKEND_PROPERTY)
    return DeviceInfo(
        # Some builds leave it out; the address is then the best name there is.
        device_id=_first(known, "ro.serialno", "ro.boot.serialno") or adb.serial,
        backend=Backend(backend) if backend in (Backend.VIRTUAL_PHONE, Backend.QEMU) else Backend.DEVICE,
        model=_first(known, "ro.product.model") or UNREADABLE,
        soc=_first(known, "ro.soc.model", "ro.board.platform", "ro.hardware") or UNREADABLE,
        os_version=_os_version(known),
        abi=_first(known, "ro.product.cpu.abi") or UNREADABLE,
        num_cores=_num_cores(text, serial=adb.serial),
    )


def _first(known: dict[str, str], *names: str) -> str:
    return next((known[name] for name in names if known.get(name) not in (None, "", "unknown")), "")


def _os_version(known: dict[str, str]) -> str:
    release = _first(known, "ro.build.version.release") or UNREADABLE
    return f"Android {release}, SDK {_first(known, 'ro.build.version.sdk') or UNREADABLE}"


def _num_cores(text: str, *, serial: str) -> int:
    match = re.search(r"^cores=([\d,-]+)$", text, re.MULTILINE)
    if match:
        bounds = [part.split("-") for part in match[1].split(",") if re.fullmatch(r"\d+(-\d+)?", part)]
        return sum(int(bound[-1]) - int(bound[0]) + 1 for bound in bounds)
    online = re.search(r"^online=(\d+)$", text, re.MULTILINE)
    if online is None:
        raise DeviceUnreachableError(
            serial=serial, seen="it does not say how many cores it has", advice="check that it is an Android phone"
        )
    return int(online[1])
