"""One user at a time per phone: a lock on this machine, and a lease on the phone for all others.

The lease is kept by ``scripts/hold.sh`` on the phone. It ends when it is released,
when it expires, when the phone reboots, or when its process on the same machine is
gone; the next to ask then takes it. Time is what passed since the phone started,
so no clock that somebody sets matters.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from device_lab.adb import LAB_FOLDER, AdbDevice
from device_lab.adb_connection import log_warning
from device_lab.errors import DeviceBusyError, DeviceLabError, DeviceLostError
from device_lab.host_lock import host_lock, lock_folder
from device_lab.interrupts import deferred_interrupts
from device_lab.lease_state import LeaseState, is_alive, this_host_id
from device_lab.phone_scripts import parse_pairs, run_script

DURATION_S = 120
"""How long a lease lasts if nobody renews it."""

LEASE_FOLDER = str(LAB_FOLDER / "leases")
"""Where leases lie on a phone."""

_RENEWALS_PER_DURATION = 4
# A lease whose holder is not written down yet is being taken, which is a matter of milliseconds.
_NUM_LOOKS = 3
_LOOK_INTERVAL_S = 0.5
_LOSSES = {
    "taken": "its lease was removed from it",
    "rebooted": "it rebooted, and the lease ended with that",
    "expired": "the lease on it ran out",
}


class Lease:
    """A lease on one phone. Made and given back by `lease`."""

    def __init__(self, adb: AdbDevice, *, device_id: str, duration_s: int, announce: Callable[[str], None]) -> None:
        self.device_id = device_id
        self.nonce = secrets.token_hex(16)
        self._adb = adb
        self._duration_s = duration_s
        self._announce = announce
        self._may_hold = False
        self._loss: DeviceLabError | None = None
        self._ended = threading.Event()
        self._renewer = threading.Thread(target=self._keep_renewing, name=f"lease of {device_id}", daemon=True)

    def take(self) -> None:
        """Take the phone and renew the lease from now on.

        Raises:
            DeviceBusyError: If somebody holds it.
            DeviceLabError: See `device_lab.adb.AdbDevice.run`.
        """
        state = self._look()
        if not state.is_free(host_id=this_host_id(), is_alive=is_alive):
            raise self._busy(state)
        self._may_hold = True
        # Not twice: a second attempt would find the phone held, by the first.
        answer = self._ask("take", str(state.number + 1), state.expires, str(self._duration_s), *self._holder())
        if parse_pairs(answer).get("taken") != "yes":
            self._may_hold = False
            raise self._busy(self._look())
        self._report_left(answer)
        self._renewer.start()

    def renew(self, *, duration_s: float = 0.0) -> None:
        """Let the lease last ``duration_s`` longer from now than it does without.

        Raises:
            DeviceBusyError: If somebody else holds the phone by now.
            DeviceLostError: If the phone rebooted, or the lease ran out or was removed.
            DeviceLabError: See `device_lab.adb.AdbDevice.run`.
        """
        if self._loss is not None:
            raise self._loss
        wanted_s = self._duration_s + round(duration_s)
        lost = parse_pairs(self._ask("renew", self.nonce, str(wanted_s))).get("lost")
        if lost is None:
            return
        state = self._look()
        if lost == "taken" and state.number and not state.is_released:
            self._loss = self._busy(state)
        else:
            self._loss = DeviceLostError(serial=self.device_id, command="renew the lease", seen=_LOSSES[lost])
        raise self._loss

    def release(self) -> None:
        """Give the phone back, as far as it can be reached; otherwise the lease runs out."""
        self._ended.set()
        if self._renewer.is_alive():
            self._renewer.join()
        if not self._may_hold:
            return
        try:
            self._report_left(self._ask("release", self.nonce, retry=True))
        except DeviceLabError as error:
            self._announce(f"{error}; its lease runs out and its settings are restored within {self._duration_s} s")

    def _keep_renewing(self) -> None:
        while not self._ended.wait(self._duration_s / _RENEWALS_PER_DURATION):
            # Waits while a command runs, and so asks nothing of a phone that is being timed. A lost
            # connection may come back before the lease runs out; a lost lease is told at the next use.
            with contextlib.suppress(DeviceLabError):
                self.renew()

    def _ask(self, action: str, *arguments: str, retry: bool = False) -> str:
        return run_script(self._adb, "hold", action, LEASE_FOLDER, *arguments, retry=retry)

    def _look(self) -> LeaseState:
        state = LeaseState.from_text(self._ask("look", retry=True))
        for _ in range(_NUM_LOOKS - 1):
            if state.is_complete:
                break
            time.sleep(_LOOK_INTERVAL_S)
            state = LeaseState.from_text(self._ask("look", retry=True))
        return state

    def _holder(self) -> tuple[str, ...]:
        host = re.sub(r"[^\w.-]", "_", os.uname().nodename)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        fields = {"nonce": self.nonce, "host": host, "host_id": this_host_id(), "process_id": os.getpid()}
        return tuple(f"{key}={value}" for key, value in {**fields, "since": since}.items())

    def _busy(self, state: LeaseState) -> DeviceBusyError:
        return DeviceBusyError(serial=self.device_id, host=state.host, process_id=state.process_id, since=state.since)

    def _report_left(self, answer: str) -> None:
        left = parse_pairs(answer).get("left")
        if left is not None:
            self._announce(
                f"{self.device_id}: could not restore its settings: {left or 'no reason given'}; "
                "restart the phone, and check `Stay awake` in its developer options"
            )


@contextmanager
def lease(
    adb: AdbDevice,
    *,
    device_id: str,
    duration_s: int = DURATION_S,
    announce: Callable[[str], None] = log_warning,
    home: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Generator[Lease]:
    """Hold a phone against every other process, on this machine or another.

    Args:
        adb: The phone.
        device_id: ``ro.serialno``, under which it is one phone however it is reached.
        duration_s: How long it stays held if this process can no longer renew it.
        announce: Called with a line when something could not be undone.
        home: The user's home folder, below which the lock files lie.
        environment: Where ``XDG_CACHE_HOME`` is looked up.

    Raises:
        DeviceBusyError: If somebody holds it; host, process and time are named.
        DeviceLabError: See `device_lab.adb.AdbDevice.run`.
    """
    folder = lock_folder(home=home or Path.home(), environment=os.environ if environment is None else environment)
    with host_lock(device_id, folder=folder):
        held = Lease(adb, device_id=device_id, duration_s=duration_s, announce=announce)
        try:
            held.take()
            yield held
        finally:
            with deferred_interrupts():
                held.release()
