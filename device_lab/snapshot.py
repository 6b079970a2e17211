"""The output of ``scripts/snapshot.sh`` as readings: what Android prints, in the words of a table.

Makers change what ``dumpsys`` prints. A format nobody here knows gives ``"?"``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from device_lab.adb_command import parse_properties
from device_lab.measurement import UNREADABLE

_SKIN = "3"  # android.os.Temperature.TYPE_SKIN
_BATTERY_STATES = {"1": "unknown", "2": "charging", "3": "discharging", "4": "not charging", "5": "full"}
_TEMPERATURE = re.compile(r"Temperature\{mValue=(-?\d+(?:\.\d+)?), mType=(-?\d+), mName=([^,}]*), mStatus=\d+\}")
_WAKEFULNESS = re.compile(r"(?:mWakefulness|mGlobalWakefulness|getWakefulness(?:Locked)?\(\))=([A-Za-z]+)")
_CORES_ONLINE = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")
_NUMBER = re.compile(r"\d+(\.\d+)?")


def parse_snapshot(text: str) -> tuple[tuple[str, str], ...]:
    """Return the readings in what the script printed, always the same names in the same order.

    Units stand in the names. Per-core readings are lists in the order of the
    cores, with a ``?`` for each core that is off or cannot be read.
    """
    lines: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, mark, value = line.rstrip("\r").partition("=")
        if mark:
            lines.setdefault(key, []).append(value)

    def only(key: str) -> str:
        return lines.get(key, [UNREADABLE])[0].strip() or UNREADABLE

    load = [word if _NUMBER.fullmatch(word) else UNREADABLE for word in (*only("loadavg").split(), "", "")[:2]]
    known = parse_properties("\n".join(lines.get("property", ())))
    uptime = only("uptime").split()[0]
    readings = (
        *_thermal("\n".join(lines.get("thermal", ()))),
        *_battery("\n".join(lines.get("battery", ()))),
        ("power_save", _power_save(only("low_power"))),
        ("governor", _distinct(_per_core(lines, "scaling_governor"))),
        ("frequencies_mhz", _megahertz(lines, "scaling_cur_freq")),
        ("min_frequencies_mhz", _megahertz(lines, "scaling_min_freq")),
        ("max_frequencies_mhz", _megahertz(lines, "scaling_max_freq")),
        ("hardware_max_frequencies_mhz", _megahertz(lines, "cpuinfo_max_freq")),
        ("cores_online", only("online") if _CORES_ONLINE.fullmatch(only("online")) else UNREADABLE),
        ("load_1min", load[0]),
        ("load_5min", load[1]),
        ("memory_available_bytes", _memory_bytes(only("memory"))),
        ("screen", _search(_WAKEFULNESS, "\n".join(lines.get("power", ()))).lower()),
        ("fixed_performance_offered", _offered(lines.get("power_help", []))),
        ("build_fingerprint", known.get("ro.build.fingerprint") or UNREADABLE),
        ("sdk", known.get("ro.build.version.sdk") or UNREADABLE),
        ("soc", _soc(known)),
        ("uptime_s", uptime.partition(".")[0] if _NUMBER.fullmatch(uptime) else UNREADABLE),
        ("boot_id", only("boot_id")),
    )
    return tuple((name, value or UNREADABLE) for name, value in readings)


def _thermal(report: str) -> tuple[tuple[str, str], ...]:
    # What the hardware says now, where it says something; what was said last otherwise.
    current = report.partition("Current temperatures from HAL")[2].partition("Current cooling devices")[0]
    found = _TEMPERATURE.findall(current) or _TEMPERATURE.findall(report)
    degrees = [float(value) for value, _, _ in found]
    skin = [float(value) for value, kind, _ in found if kind == _SKIN]
    return (
        ("thermal_status", _search(re.compile(r"^\s*Thermal Status: ([0-6])$", re.MULTILINE), report)),
        ("temperatures_celsius", " ".join(f"{name.replace(' ', '_')}={float(value):.1f}" for value, _, name in found)),
        ("max_temperature_celsius", f"{max(degrees):.1f}" if degrees else UNREADABLE),
        ("skin_temperature_celsius", f"{max(skin):.1f}" if skin else UNREADABLE),
    )


def _battery(report: str) -> tuple[tuple[str, str], ...]:
    def field(name: str) -> str:
        return _search(re.compile(rf"^\s*{name}: (-?\d+)$", re.MULTILINE), report)

    level, scale, decidegrees = field("level"), field("scale"), field("temperature")
    has_level = level.isdigit() and scale.isdigit() and int(scale) > 0
    return (
        ("battery_percent", str(100 * int(level) // int(scale)) if has_level else UNREADABLE),
        ("battery_status", _BATTERY_STATES.get(field("status"), UNREADABLE)),
        (
            "battery_temperature_celsius",
            UNREADABLE if decidegrees == UNREADABLE else f"{int(decidegrees) / 10:.1f}",
        ),
    )


def _power_save(setting: str) -> str:
    # Android takes a setting nobody ever wrote for 0.
    return {"0": "off", "null": "off", "1": "on"}.get(setting, UNREADABLE)


def _per_core(lines: dict[str, list[str]], name: str) -> list[str]:
    cores = sorted(
        (int(key.rpartition(".")[2]), values[0].strip())
        for key, values in lines.items()
        if re.fullmatch(rf"{name}\.\d+", key)
    )
    return [value for _, value in cores]


def _megahertz(lines: dict[str, list[str]], name: str) -> str:
    values = [str(int(value) // 1000) if value.isdigit() else UNREADABLE for value in _per_core(lines, name)]
    return " ".join(values) if set(values) - {UNREADABLE} else UNREADABLE


def _distinct(values: Iterable[str]) -> str:
    return " ".join(sorted(set(values) - {UNREADABLE, ""})) or UNREADABLE


def _memory_bytes(line: str) -> str:
    kibibytes = _search(re.compile(r"^MemAvailable:\s+(\d+) kB$"), line)
    return str(1024 * int(kibibytes)) if kibibytes.isdigit() else UNREADABLE


def _offered(help_lines: list[str]) -> str:
    if not help_lines:
        return UNREADABLE
    return "yes" if any("set-fixed-performance-mode-enabled" in line for line in help_lines) else "no"


def _soc(known: dict[str, str]) -> str:
    names = ("ro.soc.model", "ro.board.platform", "ro.hardware")
    return next((known[name] for name in names if known.get(name)), UNREADABLE)


def _search(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match[1] if match else UNREADABLE
