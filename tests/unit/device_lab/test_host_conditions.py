from __future__ import annotations

import re
from pathlib import Path

from device_lab.host import host_conditions, host_info
from device_lab.measurement import Backend


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_everything_readable_is_read_in_its_unit(tmp_path: Path) -> None:
    _write(
        tmp_path,
        {
            "proc/loadavg": "0.42 0.17 0.05 1/123 456\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1800000\n",
            "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "2400123\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
            "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "schedutil\n",
            "sys/class/thermal/thermal_zone0/temp": "41500\n",
            "sys/class/thermal/thermal_zone1/temp": "-1000\n",
            "sys/class/thermal/thermal_zone2/temp": "unknown\n",
        },
    )

    conditions = host_conditions(tmp_path)

    assert dict(conditions.readings) == {
        "load_1min": "0.42",
        "load_5min": "0.17",
        "governor": "schedutil",
        "frequencies_mhz": "1800 2400",
        "max_temperature_celsius": "41.5",
    }


def test_what_a_system_does_not_show_is_a_question_mark_never_zero(tmp_path: Path) -> None:
    conditions = host_conditions(tmp_path)

    assert {value for _, value in conditions.readings} == {"?"}
    assert conditions["load_1min"] == "?"
    assert conditions["no such reading"] == "?"


def test_this_machine_shows_its_load() -> None:
    assert float(host_conditions()["load_1min"]) >= 0


def test_this_machine_has_a_stable_name_without_its_owners_data() -> None:
    first, second = host_info(), host_info()

    assert first == second
    assert first.backend is Backend.HOST
    assert re.fullmatch(r"host-[0-9a-f]{10}", first.device_id)
    assert first.num_cores >= 1
    assert all((first.model, first.soc, first.os_version, first.abi))
