from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from adb_shell import adb_device
from adb_shell.transport.base_transport import BaseTransport

from device_lab.adb_transport import CompleteTcpTransport
from device_lab.devices import find_phone, list_phones
from device_lab.errors import (
    DeviceNotFoundError,
    DeviceNotNamedError,
    DeviceUnauthorizedError,
    DeviceUnreachableError,
    LibusbMissingError,
)
from device_lab.keys import AdbKey
from device_lab.measurement import Backend
from device_lab.virtual_phone.auth import Dialog
from device_lab.virtual_phone.launch import VirtualPhone, start_virtual_phone
from device_lab.virtual_phone.options import PhoneOptions


@pytest.fixture(scope="module")
def phones() -> Iterator[list[VirtualPhone]]:
    with ExitStack() as stack:
        yield [stack.enter_context(start_virtual_phone(PhoneOptions(serial=f"VIRTUAL{n}"))) for n in range(3)]


@pytest.fixture(autouse=True)
def no_usb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine shows: no USB, no file of devices."""
    plug_in(monkeypatch, {})
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("POCKETBERT_DEVICES", raising=False)


class UsbPhone:
    """What adb-shell finds on USB: here, a way to a virtual phone."""

    port_path = (1, 2)

    def __init__(self, serial: str | None) -> None:
        self._serial = serial

    @property
    def serial_number(self) -> str:
        if self._serial is None:
            raise PermissionError(13, "Permission denied")
        return self._serial


def plug_in(monkeypatch: pytest.MonkeyPatch, attached: dict[str | None, VirtualPhone | None]) -> None:
    class UsbTransport:
        @classmethod
        def find_all_adb_devices(cls) -> Iterator[UsbPhone]:
            yield from map(UsbPhone, attached)

        @classmethod
        def find_adb(cls, *, serial: str) -> BaseTransport:
            phone = attached[serial]
            if phone is None:
                raise BrokenPipeError(32, "Broken pipe")
            return CompleteTcpTransport(phone.host, phone.port)

    monkeypatch.setattr(adb_device, "UsbTransport", UsbTransport)


def closed_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def no_keys(**more: Any) -> dict[str, Any]:
    return {"keys": (), "dialog_timeout_s": 0.3, **more}


def test_three_phones_a_stranger_and_a_closed_port_are_listed_in_order(phones: list[VirtualPhone]) -> None:
    closed = closed_address()
    said: list[str] = []
    with start_virtual_phone(PhoneOptions(serial="STRANGER", dialog=Dialog.NEVER)) as stranger:
        places = [*(phone.address for phone in phones), stranger.address, closed]
        found = list_phones(places, keys=(AdbKey.generate(),), dialog_timeout_s=0.3, announce=said.append)

    assert [phone.address for phone in found] == places
    assert [phone.info.device_id for phone in found if phone.info] == ["VIRTUAL0", "VIRTUAL1", "VIRTUAL2"]
    assert isinstance(found[3].problem, DeviceUnauthorizedError)
    assert "accept the dialog `Allow USB debugging?`" in str(found[3].problem)
    assert isinstance(found[4].problem, DeviceUnreachableError)
    assert str(found[4].problem).endswith("nothing listens there; check the cable or the address")
    assert len(said) == 1
    assert said[0].startswith(f"{places[3]}: unlock the phone")


def test_a_phone_says_what_it_is(phones: list[VirtualPhone]) -> None:
    info = find_phone(phones[1].address, **no_keys()).info

    assert info is not None
    assert (info.device_id, info.backend, info.abi) == ("VIRTUAL1", Backend.VIRTUAL_PHONE, "x86_64")
    assert (info.model, info.soc, info.os_version) == ("Virtual phone", "virtual-x86_64", "Android 13, SDK 33")
    assert info.num_cores >= 1


def test_one_phone_at_two_addresses_is_one_phone(phones: list[VirtualPhone]) -> None:
    again = f"localhost:{phones[0].port}"

    found = list_phones([phones[0].address, again, phones[0].address], **no_keys())

    assert [(phone.address, phone.other_addresses) for phone in found] == [(phones[0].address, (again,))]
    assert found[0].is_called("VIRTUAL0")
    assert found[0].is_called(again)


def test_one_phone_on_usb_and_over_tcp_is_one_phone_on_usb(
    phones: list[VirtualPhone], monkeypatch: pytest.MonkeyPatch
) -> None:
    plug_in(monkeypatch, {"VIRTUAL0": phones[0]})

    found = list_phones([phones[0].address], **no_keys())

    assert [(phone.address, phone.other_addresses) for phone in found] == [("VIRTUAL0", (phones[0].address,))]


def test_a_usb_phone_that_cannot_be_opened_is_listed_with_its_reason(
    phones: list[VirtualPhone], monkeypatch: pytest.MonkeyPatch
) -> None:
    plug_in(monkeypatch, {None: None, "GONE": None, "VIRTUAL2": phones[2]})

    found = list_phones(**no_keys())

    assert [phone.address for phone in found] == ["usb:1-2", "GONE", "VIRTUAL2"]
    assert [str(phone.problem) for phone in found[:2]] == [
        "usb:1-2: cannot connect: permission denied; check the cable or the address",
        "GONE: cannot connect: broken pipe; check the cable or the address",
    ]


def test_without_libusb_phones_over_tcp_are_found_and_a_line_says_so(
    phones: list[VirtualPhone], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adb_device, "UsbTransport", None)
    said: list[str] = []

    found = list_phones([phones[0].address], **no_keys(announce=said.append))

    assert [phone.problem for phone in found] == [None]
    assert said == [str(LibusbMissingError(serial="usb"))]


def test_phones_are_read_from_the_file_of_devices(phones: list[VirtualPhone], tmp_path: Path) -> None:
    config = tmp_path / "phones.toml"
    config.write_text(f'addresses = ["{phones[2].address}"]\n')

    assert find_phone("VIRTUAL2", config=config, **no_keys()).address == phones[2].address
    assert find_phone(config=config, **no_keys()).address == phones[2].address


def test_an_unknown_serial_lists_what_is_attached(phones: list[VirtualPhone]) -> None:
    closed = closed_address()

    with pytest.raises(DeviceNotFoundError) as caught:
        find_phone("8A3X1", addresses=[phones[0].address, closed], **no_keys())

    attached = ", ".join(sorted([f"VIRTUAL0 at {phones[0].address}", f"{closed} (not ready)"]))
    assert str(caught.value) == f"no device with serial '8A3X1' (attached: {attached}); run `nas devices`"


def test_two_phones_and_no_name_is_an_error_that_lists_them(phones: list[VirtualPhone]) -> None:
    with pytest.raises(DeviceNotNamedError, match=r"name one of VIRTUAL0 at 127.*, VIRTUAL1 at 127.* with `--device`"):
        find_phone(addresses=[phones[0].address, phones[1].address], **no_keys())


def test_nothing_attached_and_no_name_says_how_to_attach() -> None:
    with pytest.raises(DeviceNotNamedError, match=r"attach one, or give `--device HOST:PORT`"):
        find_phone(**no_keys())


def test_the_one_phone_that_is_ready_is_taken_beside_one_that_is_off(phones: list[VirtualPhone]) -> None:
    found = find_phone(addresses=[closed_address(), phones[1].address], **no_keys())

    assert found.is_called("VIRTUAL1")


def test_a_phone_that_was_named_and_is_off_raises_its_own_reason() -> None:
    closed = closed_address()

    with pytest.raises(DeviceUnreachableError, match=f"^{closed}: cannot connect: nothing listens there"):
        find_phone(closed, **no_keys())
    with pytest.raises(DeviceUnreachableError, match=f"^{closed}: "):
        find_phone(addresses=[closed], **no_keys())


def test_what_a_phone_does_not_say_is_unreadable_and_its_cores_are_counted_all_the_same() -> None:
    with start_virtual_phone(PhoneOptions(serial="VIRTUAL9")) as phone:
        present = phone.on_host("/sys/devices/system/cpu/present")
        present.write_text("0-3,6\n")
        properties = phone.on_host("/state/properties")
        properties.write_text("ro.serialno=unknown\nro.board.platform=kona\n")
        mute = find_phone(phone.address, **no_keys()).info
        present.write_text("")
        counted = find_phone(phone.address, **no_keys()).info

    assert mute is not None
    assert (mute.device_id, mute.backend, mute.num_cores) == (phone.address, Backend.DEVICE, 5)
    assert (mute.model, mute.soc, mute.os_version, mute.abi) == ("?", "kona", "Android ?, SDK ?", "?")
    assert counted is not None
    assert counted.num_cores >= 1
