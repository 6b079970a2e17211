"""Find phones: those on USB, and those at addresses a person gave.

For callers::

    for phone in list_phones(["192.168.1.20:5555"]):
        print(phone.address, phone.info or phone.problem)
    phone = find_phone("8A3X1")               # ready, or an error that says what to do
    with hold_phone(phone) as held: ...       # device_lab.held_phone

One phone reached over USB and over TCP is one phone. A phone that cannot be used
is listed with the error that says why; only `find_phone` raises it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adb_shell import adb_device
from adb_shell.transport.base_transport import BaseTransport

from device_lab.adb import AdbDevice
from device_lab.adb_connection import Endpoint, log_warning
from device_lab.adb_errors import FOREIGN_ERRORS, translate_connect
from device_lab.adb_transport import tcp_transport, usb_transport
from device_lab.addresses import TcpAddress, configured_addresses
from device_lab.errors import (
    DeviceLabError,
    DeviceNotFoundError,
    DeviceNotNamedError,
    LibusbMissingError,
)
from device_lab.identity import device_info
from device_lab.keys import AdbKey, load_keys
from device_lab.measurement import DeviceInfo

_CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedPhone:
    """One phone that answered, or one place where a phone should be.

    Attributes:
        address: The serial on USB, ``host:port`` over TCP; of several, USB first.
        other_addresses: Further ways to the same phone.
        info: What it is; ``None`` unless it is ready.
        endpoint: How to open it; ``None`` for a USB phone whose serial cannot be read.
        problem: Why it cannot be used, in one line that says what to do; ``None`` if it is ready.
    """

    address: str
    other_addresses: tuple[str, ...] = ()
    info: DeviceInfo | None
    endpoint: Endpoint | None
    problem: DeviceLabError | None

    def is_called(self, name: str) -> bool:
        """Return whether ``name`` is its serial, or an address it is reached under."""
        serial = None if self.info is None else self.info.device_id
        return name in (serial, self.address, *self.other_addresses)


def list_phones(
    addresses: Sequence[str] = (),
    *,
    config: Path | None = None,
    keys: tuple[AdbKey, ...] | None = None,
    announce: Callable[[str], None] = log_warning,
    dialog_timeout_s: float = 20.0,
) -> list[AttachedPhone]:
    """Return the phones on USB, at ``addresses`` and in the file of devices, each once, in that order.

    All are asked at once, so the slowest decides how long it takes: 5 s for an
    address where nobody answers, ``dialog_timeout_s`` for a phone that shows its
    dialog. All connections are closed again.

    Args:
        addresses: ``HOST:PORT`` of phones over TCP.
        config: File of further addresses, if not the usual one. See `device_lab.addresses`.
        keys: What to show phones; by default the user's, see `device_lab.keys.load_keys`.
        announce: Called with a line for the person in front: a dialog waits on a
            phone's screen, or libusb is missing and USB was not looked at.
        dialog_timeout_s: How long a person has to accept that dialog.

    Raises:
        DeviceAddressError: If an address, or the file of devices, cannot be read.
        AdbKeyError: If a file that should hold a key does not.
    """
    given = [TcpAddress.parse(text, source="--device") for text in addresses]
    listed = configured_addresses(config, home=Path.home(), environment=os.environ)
    places = [*_usb_places(announce), *map(_tcp_place, dict.fromkeys((*given, *listed)))]
    return _probe(places, keys=keys, announce=announce, dialog_timeout_s=dialog_timeout_s)


def find_phone(
    name: str | None = None,
    *,
    addresses: Sequence[str] = (),
    config: Path | None = None,
    keys: tuple[AdbKey, ...] | None = None,
    announce: Callable[[str], None] = log_warning,
    dialog_timeout_s: float = 60.0,
) -> AttachedPhone:
    """Return one phone that is ready: its ``info`` and ``endpoint`` are not ``None``.

    Args:
        name: Its serial, or ``HOST:PORT``, which need not be listed anywhere. With
            ``None``, the phone that is ready, if there is exactly one.
        addresses: See `list_phones`, as for the other arguments.
        config: See `list_phones`.
        keys: See `list_phones`.
        announce: See `list_phones`.
        dialog_timeout_s: See `list_phones`.

    Raises:
        DeviceNotFoundError: If no phone is called ``name``; what is attached is listed.
        DeviceNotNamedError: If no name was given and not exactly one phone is ready.
        DeviceUnreachableError: If nothing answers at that address, or not adb.
        DeviceUnauthorizedError: If that phone does not accept this computer's key.
        DeviceAddressError: See `list_phones`.
        AdbKeyError: See `list_phones`.
    """
    if name is not None and ":" in name:
        place = _tcp_place(TcpAddress.parse(name, source="--device"))
        return _require_ready(
            _probe([place], keys=keys, announce=announce, dialog_timeout_s=dialog_timeout_s)[0],
        )
    phones = list_phones(addresses, config=config, keys=keys, announce=announce, dialog_timeout_s=dialog_timeout_s)
    if name is not None:
        for phone in phones:
            if phone.is_called(name):
                return _require_ready(phone)
        raise DeviceNotFoundError(serial=name, attached=[_label(phone) for phone in phones])
    ready = [phone for phone in phones if phone.problem is None]
    if len(ready) == 1:
        return ready[0]
    if not ready and len(phones) == 1:
        return _require_ready(phones[0])
    raise DeviceNotNamedError(attached=[_label(phone) for phone in ready or phones])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Somewhere a phone should be; ``problem`` if that is known to be in vain."""

    address: str
    open_transport: Callable[[], BaseTransport] | None
    problem: DeviceLabError | None = None


def _usb_places(announce: Callable[[str], None]) -> list[_Place]:
    if adb_device.UsbTransport is None:
        announce(str(LibusbMissingError(serial="usb")))
        return []
    places = []
    try:
        for transport in adb_device.UsbTransport.find_all_adb_devices():
            places.append(_usb_place(transport))
    except FOREIGN_ERRORS as error:
        announce(str(translate_connect(error, serial="usb", dialog_shown=False)))
    return places


def _usb_place(transport: Any) -> _Place:
    port = "usb:" + "-".join(map(str, transport.port_path))
    try:
        serial = transport.serial_number
    except FOREIGN_ERRORS as error:
        problem = translate_connect(error, serial=port, dialog_shown=False)
        return _Place(address=port, open_transport=None, problem=problem)
    return _Place(address=serial, open_transport=usb_transport(serial))


def _tcp_place(address: TcpAddress) -> _Place:
    return _Place(address=str(address), open_transport=tcp_transport(address.host, address.port))


def _probe(
    places: list[_Place],
    *,
    keys: tuple[AdbKey, ...] | None,
    announce: Callable[[str], None],
    dialog_timeout_s: float,
) -> list[AttachedPhone]:
    """Ask at all places at once, and merge those where the same phone answers."""
    if not places:
        return []
    shown = load_keys(home=Path.home(), environment=os.environ) if keys is None else keys

    def ask(place: _Place) -> AttachedPhone:
        if place.open_transport is None:
            return AttachedPhone(address=place.address, info=None, endpoint=None, problem=place.problem)
        endpoint = Endpoint(
            serial=place.address,
            open_transport=place.open_transport,
            keys=shown,
            announce=announce,
            connect_timeout_s=_CONNECT_TIMEOUT_S,
            dialog_timeout_s=dialog_timeout_s,
        )
        try:
            with AdbDevice(endpoint) as device:
                info = device_info(device)
        except DeviceLabError as error:
            return AttachedPhone(address=place.address, info=None, endpoint=endpoint, problem=error)
        return AttachedPhone(address=place.address, info=info, endpoint=endpoint, problem=None)

    with ThreadPoolExecutor(max_workers=len(places)) as pool:
        return _merge(list(pool.map(ask, places)))


def _merge(answers: list[AttachedPhone]) -> list[AttachedPhone]:
    merged: dict[str, AttachedPhone] = {}
    for answer in answers:
        key = answer.address if answer.info is None else answer.info.device_id
        first = merged.get(key)
        if first is None:
            merged[key] = answer
        elif first.problem is None:
            merged[key] = replace(first, other_addresses=(*first.other_addresses, answer.address))
        else:  # on USB another program holds it, over TCP it answers
            merged[key] = replace(answer, other_addresses=(first.address,))
    return list(merged.values())


def _require_ready(phone: AttachedPhone) -> AttachedPhone:
    if phone.problem is not None:
        raise phone.problem
    return phone


def _label(phone: AttachedPhone) -> str:
    if phone.info is None:
        return f"{phone.address} (not ready)"
    if phone.info.device_id == phone.address:
        return phone.address
    return f"{phone.info.device_id} at {phone.address}"
