"""The shell scripts that do on a phone what must happen in one go there."""

from __future__ import annotations

import shlex
from pathlib import Path

from device_lab.adb import AdbDevice

_FOLDER = Path(__file__).with_name("scripts")
_TIMEOUT_S = 30.0


def script_path(name: str) -> Path:
    """Return where the script called ``name`` lies on this machine."""
    return _FOLDER / f"{name}.sh"


def run_script(adb: AdbDevice, name: str, *arguments: str, retry: bool) -> str:
    """Run a script on a phone and return what it printed. It is pushed only where it is not there.

    Args:
        adb: The phone.
        name: See `script_path`.
        arguments: What it is given; every one arrives as one word, whatever it holds.
        retry: Whether it may run again if the connection drops.

    Raises:
        DeviceLabError: See `device_lab.adb.AdbDevice.run` and ``push_cached``.
    """
    remote = adb.push_cached(script_path(name))
    words = " ".join(map(shlex.quote, ("sh", str(remote), *arguments)))
    return adb.run(words, timeout_s=_TIMEOUT_S, retry=retry).text


def parse_pairs(text: str) -> dict[str, str]:
    """Return the ``key=value`` lines of a script's output; of a key given twice the last, without line ends."""
    pairs = (line.rstrip("\r").partition("=") for line in text.splitlines())
    return {key: value for key, mark, value in pairs if mark}
