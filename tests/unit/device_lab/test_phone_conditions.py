from __future__ import annotations

import pytest

from device_lab.conditions import flags, gate, unreadable
from device_lab.measurement import Conditions

CALM = {
    "thermal_status": "0",
    "battery_percent": "30",
    "power_save": "off",
    "governor": "schedutil",
    "frequencies_mhz": "300 300",
    "max_frequencies_mhz": "1800 2850",
    "hardware_max_frequencies_mhz": "1800 2850",
    "cores_online": "0-1",
    "load_1min": "2.00",
    "screen": "awake",
    "build_fingerprint": "a/b:13/c",
    "boot_id": "first",
}


def conditions(**changes: str) -> Conditions:
    return Conditions(taken_at="now", readings=tuple({**CALM, **changes}.items()))


def test_a_calm_phone_may_start_and_has_no_flags() -> None:
    assert gate(conditions()) == []
    assert flags(conditions(), conditions()) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"battery_percent": "29"}, "battery_percent=29, a session needs 30; charge the phone"),
        ({"thermal_status": "2"}, "thermal_status=2 (moderate), a session needs 0; let it cool"),
        ({"power_save": "on"}, "power_save=on, which lowers clocks; switch the battery saver off"),
        ({"screen": "dozing"}, "screen=dozing, which lowers clocks; plug the phone in and wake it"),
    ],
)
def test_a_phone_that_may_not_start_says_what_to_do(change: dict[str, str], reason: str) -> None:
    assert gate(conditions(**change)) == [reason]


def test_what_cannot_be_read_neither_blocks_nor_is_flagged_but_is_disclosed() -> None:
    blind = conditions(**dict.fromkeys(CALM, "?"))

    assert gate(blind) == []
    assert flags(blind, blind) == []
    assert flags(conditions(), blind) == []
    assert unreadable(blind) == list(CALM)


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"governor": "powersave"}, "the governor changed: schedutil to powersave"),
        ({"cores_online": "0"}, "which cores are online changed: 0-1 to 0"),
        ({"screen": "asleep"}, "the screen changed: awake to asleep"),
        ({"boot_id": "second"}, "the boot id (it restarted) changed: first to second"),
        ({"thermal_status": "1"}, "thermal status 1 (light) at the end"),
    ],
)
def test_a_change_during_a_session_is_flagged(change: dict[str, str], flag: str) -> None:
    assert flags(conditions(), conditions(**change)) == [flag]


def test_heat_at_the_start_is_flagged_too() -> None:
    assert flags(conditions(thermal_status="3"), conditions()) == ["thermal status 3 (severe) at the start"]


def test_a_clock_allowed_below_the_hardware_is_flagged_unless_the_phone_was_told_so() -> None:
    capped = conditions(max_frequencies_mhz="1800 2200")
    told = conditions(max_frequencies_mhz="1800 2200", fixed_performance="on")

    assert flags(capped, capped) == [
        "clocks capped at the start: 1800 2200 MHz of 1800 2850",
        "clocks capped at the end: 1800 2200 MHz of 1800 2850",
    ]
    assert flags(told, told) == []


def test_a_clock_that_cannot_be_read_hides_no_other() -> None:
    capped = conditions(max_frequencies_mhz="? 2200", hardware_max_frequencies_mhz="1800 2850")

    assert len(flags(capped, capped)) == 2


def test_load_is_held_against_the_start_only() -> None:
    assert flags(conditions(load_1min="2.01"), conditions()) == ["load 2.01 on 2 cores at the start"]
    assert flags(conditions(), conditions(load_1min="2.01")) == []
