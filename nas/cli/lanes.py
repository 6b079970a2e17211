"""Several devices at once: a thread for each, and one Ctrl-C that ends them all in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from device_lab.errors import DeviceLabError
from nas.cli.console import stderr
from nas.errors import NasError
from search_spaces.errors import SearchSpaceError

LANE_ERRORS = (DeviceLabError, NasError, SearchSpaceError, OSError)
"""What ends the work on one device and leaves the others alone."""

_PATIENCE_S = 0.2

T = TypeVar("T")


class Stoppable(Protocol):
    """A device whose run another thread can end."""

    def stop(self) -> None:
        """End the run that is under way, and refuse further ones."""
        ...


class StopSignal:
    """Carries a Ctrl-C to the threads that work on devices. Also the clock they wait by."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._devices: list[Stoppable] = []

    def watch(self, device: Stoppable) -> None:
        """Have a device stopped with the others.

        Raises:
            KeyboardInterrupt: If they are being stopped already.
        """
        self._devices.append(device)
        if self._event.is_set():
            raise KeyboardInterrupt

    def request(self) -> None:
        """Stop every device."""
        self._event.set()
        for device in self._devices:
            device.stop()

    def monotonic_s(self) -> float:
        """Return seconds since some fixed moment. See `device_lab.device.Clock`."""
        return time.monotonic()

    def sleep(self, duration_s: float) -> None:
        """Wait, or not any longer.

        Raises:
            KeyboardInterrupt: If everything is to stop.
        """
        if self._event.wait(duration_s):
            raise KeyboardInterrupt


def run_lanes(works: Mapping[str, Callable[[], T]], *, stop: StopSignal) -> dict[str, T | Exception]:
    """Do the work for every device at once and return what came of each, an expected error included.

    A single one is worked on in this thread.

    Raises:
        KeyboardInterrupt: On Ctrl-C, after every device has ended what it did; on a second one at once.
    """
    outcomes: dict[str, T | Exception] = {}
    bugs: list[BaseException] = []

    def work_on(name: str) -> None:
        try:
            outcomes[name] = works[name]()
        except LANE_ERRORS as error:
            outcomes[name] = error

    def work_in_thread(name: str) -> None:
        try:
            work_on(name)
        except KeyboardInterrupt:
            pass  # the main thread has it too
        except BaseException as error:  # noqa: BLE001 - a bug: raised again below, where it is seen
            bugs.append(error)

    if len(works) == 1:
        work_on(*works)
        return outcomes
    # Daemons, so that a second Ctrl-C ends the program whatever they wait for.
    threads = [threading.Thread(target=work_in_thread, args=(name,), name=name, daemon=True) for name in works]
    for thread in threads:
        thread.start()
    try:
        _join(threads)
    except KeyboardInterrupt:
        stderr.print("stopping: restoring settings and giving the phones back", markup=False, soft_wrap=True)
        stop.request()
        _join(threads)
        raise
    if bugs:
        raise bugs[0]
    return {name: outcomes[name] for name in works}


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        while thread.is_alive():
            thread.join(_PATIENCE_S)
