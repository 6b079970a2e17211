"""The devices of one run: found, checked to belong on one axis, opened and held."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from device_lab.device import Device, ProfilingDevice
from device_lab.errors import DeviceBusyError, DeviceNotFoundError
from nas.cli.certificates import Shelf, Subject, cold_baseline_ns
from nas.cli.lanes import StopSignal
from nas.cli.places import DeviceChoice, announce, chosen_devices
from nas.runs import SearchRequest
from nas.teacher_plans import teacher_plan
from search_spaces.reference import squeezebert_rule


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDevices:
    """The devices of a run in the order of their ids, open and held. ``stop`` ends what they are doing."""

    devices: tuple[ProfilingDevice, ...]
    stop: Callable[[], None]


@contextmanager
def open_devices(
    request: SearchRequest, *, runner: Path | None = None, only: str | None = None, are_all_needed: bool = True
) -> Iterator[RunDevices]:
    """Open the devices of a run with its runtime or a program of the user's own, for as long as the block runs.

    Args:
        request: What the run was asked for.
        runner: The user's own program.
        only: The id of the one device to open, instead of all.
        are_all_needed: Refuse to go on without some of them; else those are opened that are attached here, and free.

    Raises:
        SettingsError: If one is named twice, or they are of different backends.
        DeviceNotFoundError: If there is no such device, or none of those that need not all be here.
        UnknownRuntimeError: If there is no such runtime.
        DeviceLabError: If a phone cannot be used.
    """
    choice = DeviceChoice(
        device=request.device,
        runtime=request.runtime,
        num_threads=request.num_threads,
        runner=runner,
        is_for_one_run=True,
        are_all_needed=are_all_needed,
    )
    stop = StopSignal()
    with ExitStack() as stack:
        openers = stack.enter_context(chosen_devices(choice, stop=stop))
        if only is not None:
            if only not in openers:
                raise DeviceNotFoundError(serial=only, attached=openers)
            openers = {only: openers[only]}
        devices, busy = [], []
        for name, opener in openers.items():
            try:
                devices.append(stack.enter_context(opener(announce)))
            except DeviceBusyError as error:
                if are_all_needed:
                    raise
                announce(f"phone {name} is another process's; it is left to that")
                busy.append(error)
        if not devices:
            raise busy[0]
        yield RunDevices(devices=tuple(sorted(devices, key=lambda each: each.info.device_id)), stop=stop.request)


def find_cold_baselines_ns(
    devices: Sequence[Device], request: SearchRequest, *, shelf: Shelf, is_required: bool, runner: Path | None = None
) -> list[float | None]:
    """Return the cold baseline of the run's reference on each device, or ``None`` where there is none.

    Raises:
        DeviceNotQualifiedError: If ``is_required`` and a phone has no good certificate.
        SettingsError: If the teacher is unknown.
        StoreError: If the store cannot be read.
    """
    subject = Subject(
        reference_id=squeezebert_rule(teacher_plan(request.teacher).arch).arch_id,
        words=("--teacher", request.teacher),
        num_threads=request.num_threads,
        sequence_length=request.sequence_length,
        runner=runner,
    )
    return [cold_baseline_ns(device, subject, shelf=shelf, is_required=is_required) for device in devices]
