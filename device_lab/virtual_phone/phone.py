"""The state of a virtual phone that its faults change: boot id, heat, clock."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import uuid
from pathlib import Path

from device_lab.virtual_phone.fixtures import thermal_report

_MAPPED = re.compile(r"(?<![\w./-])/(data|sys|system)(?=/|\b)")
_STEP_S = 0.1


class Phone:
    """The files of a phone, seen from the daemon.

    Inside a mount namespace ``root`` is ``/`` and every path is the phone's own.
    Without one, ``root`` is the sandbox, and /data, /sys and /system are
    replaced by folders below it in the paths and commands the host sends: not
    in scripts it pushes, nor in what comes back.
    """

    def __init__(self, *, sandbox: Path, root: Path) -> None:
        self._state = sandbox / "state"
        self._root = root
        self._is_mapped = root != Path("/")
        self._heating: asyncio.Task[None] | None = None
        self.renew_boot_id()

    @property
    def known_keys(self) -> Path:
        """The keys of hosts that were accepted."""
        return self.locate("/data/misc/adb/adb_keys")

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the phone's shell."""
        return {
            "PATH": f"{self.locate('/system/bin')}:/usr/bin:/bin:/usr/sbin:/sbin",
            "ANDROID_ROOT": "/system",
            "ANDROID_DATA": "/data",
            "HOME": "/",
            "TMPDIR": str(self.locate("/data/local/tmp")),
            "TERM": "xterm-256color",
            # The default processor of qemu has vector extensions it emulates fourteen times slower.
            "QEMU_CPU": "cortex-a76",
        }

    def locate(self, path: str) -> Path:
        """Return where a path of the phone lies for the daemon."""
        return Path(self.rewrite(path)) if self._is_mapped else Path(path)

    def rewrite(self, command: str) -> str:
        """Return a command with the phone's own folders where they lie for the daemon."""
        return _MAPPED.sub(rf"{self._root}/\1", command) if self._is_mapped else command

    def renew_boot_id(self) -> None:
        """Give the phone a new boot id, and undo what a reboot undoes."""
        # Written in place: the file is mounted over the kernel's.
        (self._state / "boot_id").write_text(f"{uuid.uuid4()}\n")
        (self._state / "fixed_performance_mode").write_text("false\n")

    def jump_clock(self, offset_s: int) -> None:
        """Set ``date`` off by so many seconds. The clocks of the kernel stay as they are."""
        (self._state / "clock_offset_s").write_text(f"{offset_s}\n")

    def heat(self, *, status: int, celsius: float) -> None:
        """Set thermal status and skin temperature."""
        draft = self._state / "thermalservice.draft"
        draft.write_text(thermal_report(status=status, skin_celsius=celsius))
        draft.replace(self._state / "dumpsys" / "thermalservice")

    def ramp(self, *, status: int, start_celsius: float, end_celsius: float, duration_s: float) -> None:
        """Let the skin temperature go from one value to another; ``status`` is reached with the last."""
        if self._heating is not None:
            self._heating.cancel()
        self._heating = asyncio.create_task(
            self._ramp(status=status, start=start_celsius, end=end_celsius, duration_s=duration_s)
        )

    async def _ramp(self, *, status: int, start: float, end: float, duration_s: float) -> None:
        num_steps = max(1, round(duration_s / _STEP_S))
        for step in range(num_steps):
            self.heat(status=0, celsius=start + (end - start) * step / num_steps)
            await asyncio.sleep(_STEP_S)
        self.heat(status=status, celsius=end)

    def kill_everything(self) -> None:
        """Kill every process of the phone, where it has a process namespace of its own."""
        if not self._is_mapped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
