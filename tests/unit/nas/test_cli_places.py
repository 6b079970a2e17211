from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from device_lab.devices import AttachedPhone
from device_lab.errors import DeviceBusyError, DeviceNotFoundError
from device_lab.measurement import Backend, DeviceInfo
from nas.cli.lanes import StopSignal
from nas.cli.places import DeviceChoice, chosen_devices, device_names
from nas.cli.run_devices import open_devices
from nas.errors import SettingsError
from nas.runs import SearchRequest
from tests.fake_parts import SizeDevice

BACKENDS = {"A": Backend.DEVICE, "B": Backend.DEVICE, "VIRTUAL0": Backend.VIRTUAL_PHONE}


def attached(name: str, *, announce: object = None) -> AttachedPhone:
    """What answers under a name: its serial, or an address with its serial before the colon."""
    serial = name.partition(":")[0]
    if serial not in BACKENDS:
        raise DeviceNotFoundError(serial=serial, attached=BACKENDS)
    info = DeviceInfo(
        device_id=serial, backend=BACKENDS[serial], model="m", soc="s", os_version="o", abi="a", num_cores=8
    )
    return AttachedPhone(address=name, info=info, endpoint=None, problem=None)


@pytest.fixture(autouse=True)
def phones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.cli.places.find_phone", attached)
    monkeypatch.setattr("nas.cli.places.list_phones", lambda announce: [attached(name) for name in BACKENDS])


def chosen(device: str, *, is_for_one_run: bool = True, are_all_needed: bool = True) -> list[str]:
    choice = DeviceChoice(
        device=device,
        runtime="onnxruntime",
        num_threads=1,
        is_for_one_run=is_for_one_run,
        are_all_needed=are_all_needed,
    )
    with chosen_devices(choice, stop=StopSignal()) as openers:
        return list(openers)


def test_several_phones_are_one_choice_in_whatever_order_they_are_named() -> None:
    assert device_names("B, A") == device_names("A,B") == ["A", "B"]
    assert chosen("B,A") == ["A", "B"]


def test_phones_that_are_not_attached_here_are_left_to_others_where_that_will_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert chosen("A,C", are_all_needed=False) == ["A"]
    assert "phone C is not attached here; it is left to other workers" in capsys.readouterr().err
    with pytest.raises(DeviceNotFoundError, match="no device with serial 'C'"):
        chosen("A,C")
    with pytest.raises(DeviceNotFoundError, match="no device with serial 'C'"):
        chosen("C,D", are_all_needed=False)


def test_phones_that_another_process_has_are_left_to_it_where_that_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {"A"}

    @contextmanager
    def open_phone(phone: AttachedPhone, *_: object, **__: object) -> Iterator[SizeDevice]:
        if phone.address in held:
            raise DeviceBusyError(serial=phone.address, host="h", process_id="7", since="now")
        yield SizeDevice(name=phone.address)

    monkeypatch.setattr("nas.cli.places._open_phone", open_phone)
    request = SearchRequest(device="A,B")

    with open_devices(request, are_all_needed=False) as opened:
        assert [device.info.device_id for device in opened.devices] == ["B"]
    with pytest.raises(DeviceBusyError, match="A: held by process 7 on h"), open_devices(request):
        pass
    held.add("B")
    with pytest.raises(DeviceBusyError, match="A: held"), open_devices(request, are_all_needed=False):
        pass


@pytest.mark.parametrize("device", ["A,", ",", "A,A"])
def test_a_name_that_is_empty_or_there_twice_is_refused(device: str) -> None:
    with pytest.raises(SettingsError, match="a name is empty or there twice"):
        device_names(device)


@pytest.mark.parametrize("device", ["host,A", "A,all"])
def test_this_machine_is_never_one_of_several(device: str) -> None:
    with pytest.raises(SettingsError, match=r"this machine and `all` stand alone"):
        chosen(device)


def test_a_phone_under_two_names_is_refused() -> None:
    with pytest.raises(SettingsError, match="two of these are phone A; name each phone once"):
        chosen("A,A:5555")


@pytest.mark.parametrize("device", ["A,VIRTUAL0", "all"])
def test_a_run_never_mixes_phones_with_virtual_ones(device: str) -> None:
    with pytest.raises(SettingsError, match=r"A is a device, VIRTUAL0 a virtual-phone: one run never mixes backends"):
        chosen(device)

    # Side by side, each by itself, they may be measured.
    assert set(chosen(device, is_for_one_run=False)) >= {"A", "VIRTUAL0"}
