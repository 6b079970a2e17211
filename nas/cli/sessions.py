"""A session on every chosen device at once, with a store and a line of progress for each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import typer

from device_lab.device import Device
from nas.cli.certificates import Shelf
from nas.cli.console import stderr
from nas.cli.lanes import StopSignal, run_lanes
from nas.cli.places import DeviceChoice, Opener, chosen_devices
from nas.cli.progress import LaneProgress, show_progress
from nas.cli.stores import STORE_NAME, open_store
from nas.store import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One device, open and held, with what the work on it needs. ``clock`` ends every wait on Ctrl-C."""

    device: Device
    store: Store
    progress: LaneProgress
    clock: StopSignal


def on_every_device(
    choice: DeviceChoice, *, shelf: Shelf, num_blocks: int, work: Callable[[Session], T]
) -> dict[str, T | Exception]:
    """Open the chosen devices, do ``work`` on all of them at once, and return what came of each, by name.

    Args:
        choice: The devices.
        shelf: Where measurements and certificates are kept.
        num_blocks: How many blocks make a line of progress full.
        work: Called for each device in a thread of its own, if there are several.

    Raises:
        typer.Exit: With 130 on Ctrl-C, after settings are restored and phones given back.
        DeviceLabError: If the devices cannot be found.
        StoreError: If the store cannot be opened.
    """
    stop = StopSignal()

    def work_on(name: str, opener: Opener) -> T:
        lane = LaneProgress(progress, name, total=num_blocks)
        with opener(lane.tell) as device:
            return work(Session(device=device, store=store, progress=lane, clock=stop))

    try:
        with ExitStack() as stack:
            openers = stack.enter_context(chosen_devices(choice, stop=stop))
            store = stack.enter_context(open_store(STORE_NAME, runs_folder=shelf.runs_folder, storage=shelf.storage))
            progress = stack.enter_context(show_progress())
            return run_lanes({name: partial(work_on, name, opener) for name, opener in openers.items()}, stop=stop)
    except KeyboardInterrupt:
        stderr.print("stopped; finished blocks are kept. To go on: the same command", markup=False, soft_wrap=True)
        raise typer.Exit(130) from None
