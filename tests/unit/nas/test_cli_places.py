from __future__ import annotations

import pytest

from device_lab.devices import AttachedPhone
from device_lab.measurement import Backend, DeviceInfo
from nas.cli.lanes import StopSignal
from nas.cli.places import DeviceChoice, chosen_devices, device_names
from nas.errors import SettingsError

BACKENDS = {"A": Backend.DEVICE, "B": Backend.DEVICE, "VIRTUAL0": Backend.VIRTUAL_PHONE}


def attached(name: str, *, announce: object = None) -> AttachedPhone:
    """What answers under a name: its serial, or an address with its serial before the colon."""
    serial = name.partition(":")[0]
    info = DeviceInfo(
        device_id=serial, backend=BACKENDS[serial], model="m", soc="s", os_version="o", abi="a", num_cores=8
    )
    return AttachedPhone(address=name, info=info, endpoint=None, problem=None)


@pytest.fixture(autouse=True)
def phones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.cli.places.find_phone", attached)
    monkeypatch.setattr("nas.cli.places.list_phones", lambda announce: [attached(name) for name in BACKENDS])


def choice(device: str, *, is_for_one_run: bool = True) -> DeviceChoice:
    return DeviceChoice(device=device, runtime="onnxruntime", num_threads=1, is_for_one_run=is_for_one_run)


def chosen(device: str, *, is_for_one_run: bool = True) -> list[str]:
    with chosen_devices(choice(device, is_for_one_run=is_for_one_run), stop=StopSignal()) as openers:
        return list(openers)


def test_several_phones_are_one_choice_in_whatever_order_they_are_named() -> None:
    assert device_names("B, A") == device_names("A,B") == ["A", "B"]
    assert chosen("B,A") == ["A", "B"]


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
