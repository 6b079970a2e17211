from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from device_lab.phone_scripts import script_path
from device_lab.snapshot import parse_snapshot

# Written for these tests after the forms Android and its makers are known to print; no phone printed them.
AOSP_13 = """\
IsStatusOverride: false
ThermalEventListeners:
Thermal Status: 2
Cached temperatures:
\tTemperature{mValue=30.0, mType=3, mName=skin, mStatus=0}
HAL Ready: true
Current temperatures from HAL:
\tTemperature{mValue=61.5, mType=0, mName=CPU0, mStatus=0}
\tTemperature{mValue=41.2, mType=3, mName=skin, mStatus=2}
\tTemperature{mValue=NaN, mType=9, mName=npu, mStatus=0}
Current cooling devices from HAL:
\tCoolingDevice{mValue=3, mType=2, mName=thermal-cpufreq-0}
"""
# A maker whose thermal service has no hardware layer, with names in capitals and a blank in one.
WITHOUT_HAL = """\
IsStatusOverride: false
Thermal Status: 0
Cached temperatures:
 Temperature{mValue=33.1, mType=0, mName=AP, mStatus=0}
 Temperature{mValue=29.9, mType=3, mName=SUBBAT SKIN, mStatus=0}
HAL Ready: false
"""
BELOW_ZERO = "Thermal Status: 0\nTemperature{mValue=-4.5, mType=3, mName=skin, mStatus=0}\n"
UNKNOWN_FORMS = {
    "denied": "Permission Denial: can't dump thermalservice from pid=1, uid=2000\n",
    "no service": "Can't find service: thermalservice\n",
    "another form": '{"status": "NONE", "sensors": [{"skin": 31.0}]}\n',
    "a word": "Thermal Status: NONE\nTemperature{value=31.0, type=SKIN}\n",
    "beyond the known": "Thermal Status: 17\n",
    "nothing": "",
}
AOSP_BATTERY = (
    "Current Battery Service state:\n  AC powered: false\n  status: 3\n  level: 42\n  scale: 100\n  temperature: 305\n"
)
# A maker that counts in fiftieths and appends a history with the same words.
LONG_BATTERY = "  status: 5\n  level: 25\n  scale: 50\n  temperature: -15\nHistory:\n  level: 99\n  temperature: 999\n"


def thermal(report: str) -> dict[str, str]:
    return read("".join(f"thermal={line}\n" for line in report.splitlines()))


def battery(report: str) -> dict[str, str]:
    return read("".join(f"battery={line}\n" for line in report.splitlines()))


def read(text: str) -> dict[str, str]:
    return dict(parse_snapshot(text))


def test_what_the_hardware_says_now_wins_over_what_was_said_last() -> None:
    readings = thermal(AOSP_13)

    assert readings["thermal_status"] == "2"
    assert readings["temperatures_celsius"] == "CPU0=61.5 skin=41.2"
    assert readings["max_temperature_celsius"] == "61.5"
    assert readings["skin_temperature_celsius"] == "41.2"


def test_cached_temperatures_are_taken_where_the_hardware_says_nothing() -> None:
    readings = thermal(WITHOUT_HAL)

    assert readings["temperatures_celsius"] == "AP=33.1 SUBBAT_SKIN=29.9"
    assert readings["skin_temperature_celsius"] == "29.9"


def test_a_temperature_may_be_below_zero() -> None:
    assert thermal(BELOW_ZERO)["skin_temperature_celsius"] == "-4.5"


@pytest.mark.parametrize("form", UNKNOWN_FORMS)
def test_a_thermal_report_nobody_knows_is_unreadable_and_not_zero(form: str) -> None:
    readings = thermal(UNKNOWN_FORMS[form])

    assert readings["thermal_status"] == "?"
    assert readings["max_temperature_celsius"] == "?"
    assert readings["temperatures_celsius"] == "?"


def test_the_battery_is_read_in_per_cent_of_its_own_scale() -> None:
    assert battery(AOSP_BATTERY)["battery_percent"] == "42"
    assert battery(AOSP_BATTERY)["battery_status"] == "discharging"
    assert battery(AOSP_BATTERY)["battery_temperature_celsius"] == "30.5"
    assert battery(LONG_BATTERY)["battery_percent"] == "50"
    assert battery(LONG_BATTERY)["battery_status"] == "full"
    assert battery(LONG_BATTERY)["battery_temperature_celsius"] == "-1.5"


@pytest.mark.parametrize("report", ["", "level: full\nscale: 100", "  level: 50\n", "  level: 5\n  scale: 0\n"])
def test_a_battery_level_nobody_knows_is_unreadable(report: str) -> None:
    assert battery(report)["battery_percent"] == "?"


@pytest.mark.parametrize(
    ("setting", "power_save"), [("0", "off"), ("1", "on"), ("null", "off"), ("yes", "?"), ("", "?")]
)
def test_the_battery_saver_is_off_where_nobody_ever_set_it(setting: str, power_save: str) -> None:
    assert read(f"low_power={setting}\n")["power_save"] == power_save


@pytest.mark.parametrize(
    ("line", "screen"),
    [
        ("  mWakefulness=Awake", "awake"),
        ("getWakefulnessLocked()=Asleep", "asleep"),
        ("  mGlobalWakefulness=Dozing\r", "dozing"),
        ("  mWakefulnessChanging=false", "?"),
    ],
)
def test_the_screen_is_read_from_every_form_of_wakefulness(line: str, screen: str) -> None:
    assert read(f"power={line}\n")["screen"] == screen


def test_clocks_are_listed_by_core_and_a_core_that_is_off_is_marked() -> None:
    text = "".join(f"scaling_cur_freq.{n}={v}\n" for n, v in ((10, "2850000"), (0, "300000"), (2, "?")))

    assert read(text)["frequencies_mhz"] == "300 ? 2850"


def test_every_name_is_there_and_unreadable_when_nothing_was_printed() -> None:
    readings = read("")

    assert set(readings.values()) == {"?"}
    assert list(readings) == list(read("loadavg=0.5 0.4 0.3 1/2 3\n"))


def test_the_script_leaves_out_what_this_machine_does_not_have(tmp_path: Path) -> None:
    cpu = tmp_path / "sys/devices/system/cpu"
    (cpu / "cpu0/cpufreq").mkdir(parents=True)
    (cpu / "cpu1").mkdir()  # switched off: it has no clocks
    (cpu / "cpu0/cpufreq/scaling_max_freq").write_text("1800000\n")
    (cpu / "cpu0/cpufreq/scaling_governor").write_text("walt")
    (cpu / "online").write_text("0,2-3\n")
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "loadavg").write_text("7.25 6.00 5.00 2/900 12345\n")
    (proc / "meminfo").write_text("MemTotal:  100 kB\nMemAvailable:    2048 kB\n")
    (proc / "uptime").write_text("5440.57 4166.14\n")
    command = ["/bin/sh", str(script_path("snapshot")), str(tmp_path / "sys"), str(proc)]

    printed = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"})
    readings = read(printed.stdout)

    assert printed.stderr == ""
    assert readings["max_frequencies_mhz"] == "1800 ?"
    assert readings["governor"] == "walt"
    assert readings["cores_online"] == "0,2-3"
    assert (readings["load_1min"], readings["load_5min"]) == ("7.25", "6.00")
    assert readings["memory_available_bytes"] == str(2048 * 1024)
    assert readings["uptime_s"] == "5440"
    for name in ("thermal_status", "battery_percent", "power_save", "screen", "fixed_performance_offered", "boot_id"):
        assert readings[name] == "?"
