"""Devices as the command line names them: this machine, phones, and virtual phones for the time of a command."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from device_lab.conditions import gate
from device_lab.device import ProfilingDevice
from device_lab.devices import AttachedPhone, find_phone, list_phones
from device_lab.errors import DeviceNotFoundError, DeviceUnfitError, DeviceUnreachableError
from device_lab.held_phone import HeldPhone, hold_phone
from device_lab.host import HostDevice, host_info
from device_lab.keys import load_keys
from device_lab.phone import PhoneDevice
from device_lab.runner.benchmark_model import RUNTIME as LITERT
from device_lab.runner.bundle import Bundle, build_bundle, default_cache_folder, wrap_program
from device_lab.runtimes import Runtime, find_runtime
from device_lab.runtimes.own_program import OwnProgram
from device_lab.virtual_phone.auth import Dialog
from device_lab.virtual_phone.launch import VirtualPhone, start_virtual_phone
from device_lab.virtual_phone.options import PhoneOptions
from nas.cli.console import stderr
from nas.cli.lanes import StopSignal
from nas.errors import SettingsError

HOST, ALL = "host", "all"
# A phone that was just used needs minutes to cool down.
MAX_WAIT_S = 900.0
_WAIT_STEP_S = 15.0
# Two phones of one kind want the same bundle at the same moment.
_building = threading.Lock()

Tell = Callable[[str], None]
Opener = Callable[[Tell], AbstractContextManager[ProfilingDevice]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceChoice:
    """Where a command shall time, and what executes the models there.

    ``device`` is ``host``, ``all``, a phone's serial or its ``HOST:PORT``, or
    several of these phones with commas; ``num_virtual`` virtual phones take its
    place. ``runner`` is a program of the user's own that takes the place of a
    bundle, or of this machine's runner. ``is_for_one_run``: one number is to be
    made of what they measure, so all have to be of one backend. With ``are_all_needed``
    false, phones that are not attached here are left out, as long as one is.
    """

    device: str
    runtime: str
    num_threads: int
    num_virtual: int = 0
    runner: Path | None = None
    is_for_one_run: bool = False
    are_all_needed: bool = True


@contextmanager
def chosen_devices(choice: DeviceChoice, *, stop: StopSignal) -> Iterator[dict[str, Opener]]:
    """Find the devices of a choice; virtual ones live as long as the block runs.

    Yields:
        How to open each device, by its name in the output. Opening a phone holds it,
        and waits until it is fit to be timed; what it waits for is told.

    Raises:
        DeviceNotFoundError: If there is no such device.
        SettingsError: If two ways of choosing are given, one device twice, or different backends for one run.
        UnknownRuntimeError: If this machine is chosen and has no such runtime.
        DeviceLabError: If the one phone that was named cannot be used.
    """
    if choice.num_virtual and choice.device != HOST:
        raise SettingsError(f"--virtual and --device {choice.device} choose twice; leave one out")
    if not choice.num_virtual and choice.device == HOST:
        host = HostDevice(_host_runtime(choice))
        yield {HOST: lambda _tell: _opened(host)}
        return
    with ExitStack() as stack:
        if choice.num_virtual:
            started = stack.enter_context(virtual_phones(choice.num_virtual, num_threads=choice.num_threads))
            phones = [find_phone(phone.address) for phone in started]
        elif choice.device == ALL:
            phones = list_phones(announce=announce)
            if not phones:
                raise DeviceNotFoundError(serial=ALL, attached=())
        else:
            phones = _named_phones(choice)
            _require_different(phones, choice)
        if choice.is_for_one_run:
            _require_one_backend(phones)
        yield {phone_name(phone): _opener(phone, choice, stop=stop) for phone in phones}


def device_names(device: str) -> list[str]:
    """Return the devices that ``--device`` names, with commas between them, in the order of their names.

    Raises:
        SettingsError: If a name is empty or there twice, or this machine stands beside a phone.
    """
    names = sorted(name.strip() for name in device.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise SettingsError(f"--device {device}: a name is empty or there twice; give each device once")
    if len(names) > 1 and {HOST, ALL} & set(names):
        raise SettingsError(
            f"--device {device}: this machine and `all` stand alone; name phones, as times of this machine and of "
            "phones are never made one number"
        )
    return names


def _named_phones(choice: DeviceChoice) -> list[AttachedPhone]:
    """Find the phones that a choice names: all of them, or those that are here."""
    phones, absent = [], []
    for name in device_names(choice.device):
        try:
            phones.append(find_phone(name, announce=announce))
        except (DeviceNotFoundError, DeviceUnreachableError) as error:
            if choice.are_all_needed:
                raise
            announce(f"phone {name} is not attached here; it is left to other workers")
            absent.append(error)
    if not phones:
        raise absent[0]
    return phones


def _require_different(phones: Sequence[AttachedPhone], choice: DeviceChoice) -> None:
    names = [phone_name(phone) for phone in phones]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"--device {choice.device}: two of these are phone {name}; name each phone once")


def _require_one_backend(phones: Sequence[AttachedPhone]) -> None:
    """Refuse phones whose times never make one number."""
    infos = [phone.info for phone in phones if phone.info is not None]
    for info in infos[1:]:
        if info.backend is not infos[0].backend:
            raise SettingsError(
                f"{infos[0].device_id} is a {infos[0].backend.value}, {info.device_id} a {info.backend.value}: one run "
                "never mixes backends; name devices of one kind"
            )


@contextmanager
def virtual_phones(count: int, *, num_threads: int = 1) -> Iterator[list[VirtualPhone]]:
    """Start virtual phones that let in this user alone, and stop them in the end.

    Their serials name this machine too, for what they measure is its speed. Each
    has cores of its own where there are enough for ``num_threads`` on every phone.
    """
    machine = host_info().device_id.removeprefix("host-")[:6]
    keys = load_keys(home=Path.home(), environment=os.environ)
    known = tuple(key.GetPublicKey().decode() for key in keys)
    with ExitStack() as stack:
        phones = []
        for i in range(count):
            options = PhoneOptions(serial=f"VIRTUAL{i}-{machine}", dialog=Dialog.NEVER, known_keys=known)
            with _only_cores(_cores_of(i, count=count, num_threads=num_threads)):
                phones.append(stack.enter_context(start_virtual_phone(options)))
        yield phones


def _cores_of(position: int, *, count: int, num_threads: int) -> list[int]:
    """Return the cores of one of several virtual phones, the last ones first; nothing where they must share."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0), reverse=True)
    return cores[position * num_threads : (position + 1) * num_threads] if count * num_threads <= len(cores) else []


@contextmanager
def _only_cores(cores: list[int]) -> Iterator[None]:
    """Have processes started in the block inherit these cores, if there are any."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def phone_name(phone: AttachedPhone) -> str:
    """Return what a phone is called in the output: its serial, or where it should be."""
    return phone.address if phone.info is None else phone.info.device_id


def announce(line: str) -> None:
    """Show a line to the person in front."""
    stderr.print(line, markup=False, soft_wrap=True)


def _opener(phone: AttachedPhone, choice: DeviceChoice, *, stop: StopSignal) -> Opener:
    return lambda tell: _open_phone(phone, choice, stop=stop, tell=tell)


@contextmanager
def _opened(device: ProfilingDevice) -> Iterator[ProfilingDevice]:
    yield device


@contextmanager
def _open_phone(
    phone: AttachedPhone, choice: DeviceChoice, *, stop: StopSignal, tell: Tell
) -> Iterator[ProfilingDevice]:
    if phone.problem is not None:
        raise phone.problem
    abi = "?" if phone.info is None else phone.info.abi
    tell("getting its runner ready")
    bundle = _bundle(choice, abi=abi)
    with hold_phone(phone, announce=announce) as held:
        device = PhoneDevice(held, bundle, num_threads=choice.num_threads)
        stop.watch(device)
        _wait_until_fit(held, stop=stop, tell=tell)
        yield device


def _host_runtime(choice: DeviceChoice) -> Runtime:
    runtime = find_runtime(choice.runtime)
    if choice.runner is None:
        return runtime
    return OwnProgram(choice.runner, runtime=runtime.name, cache_folder=default_cache_folder())


def _bundle(choice: DeviceChoice, *, abi: str) -> Bundle:
    cache_folder = default_cache_folder()
    if choice.runner is not None:
        runtime = find_runtime(choice.runtime).name
        return wrap_program(choice.runner, runtime=runtime, abi=abi, cache_folder=cache_folder)
    if choice.runtime == LITERT:
        raise SettingsError(
            "runtime litert has no runner of ours for phones; give LiteRT's benchmark_model for the phone's "
            "processor by --runner"
        )
    with _building:
        return build_bundle(choice.runtime, abi=abi, cache_folder=cache_folder)


def _wait_until_fit(held: HeldPhone, *, stop: StopSignal, tell: Tell) -> None:
    """Wait for a warm phone to cool; for anything else a person has to do something.

    Raises:
        DeviceUnfitError: If it is unfit for another reason than heat, or is not cool in time.
    """
    ends_s = stop.monotonic_s() + MAX_WAIT_S
    while reasons := gate(held.conditions()):
        is_only_warm = all(reason.startswith("thermal_status=") for reason in reasons)
        if not is_only_warm or stop.monotonic_s() >= ends_s:
            raise DeviceUnfitError(serial=held.info.device_id, reasons=reasons)
        tell(f"waiting: {reasons[0]}")
        stop.sleep(_WAIT_STEP_S)
