"""What the conditions of a phone mean: whether a session may start there, and what to hold against one that ended."""

from __future__ import annotations

from device_lab.measurement import UNREADABLE, Conditions

MIN_BATTERY_PERCENT = 30
LOAD_PER_CORE_LIMIT = 1.0
"""Idle phones show load averages a server would not: threads that wait for the modem count."""

THERMAL_STATES = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""Android's words for the thermal status, by its number."""

_CHANGES = {
    "governor": "the governor",
    "max_frequencies_mhz": "the highest clock allowed",
    "cores_online": "which cores are online",
    "screen": "the screen",
    "power_save": "the power saver",
    "fixed_performance": "fixed-performance mode",
    "boot_id": "the boot id (it restarted)",
    "build_fingerprint": "the build",
}


def gate(conditions: Conditions) -> list[str]:
    """Return why a session may not start now, each with what to do; nothing if it may.

    What cannot be read does not forbid it: see `unreadable`, which a report shows.
    """
    reasons = []
    percent = conditions["battery_percent"]
    if percent != UNREADABLE and int(percent) < MIN_BATTERY_PERCENT:
        reasons.append(f"battery_percent={percent}, a session needs {MIN_BATTERY_PERCENT}; charge the phone")
    status = conditions["thermal_status"]
    if status not in (UNREADABLE, "0"):
        reasons.append(f"thermal_status={status} ({THERMAL_STATES[int(status)]}), a session needs 0; let it cool")
    if conditions["power_save"] == "on":
        reasons.append("power_save=on, which lowers clocks; switch the battery saver off")
    if conditions["screen"] not in (UNREADABLE, "awake"):
        reasons.append(f"screen={conditions['screen']}, which lowers clocks; plug the phone in and wake it")
    return reasons


def flags(before: Conditions, after: Conditions) -> list[str]:
    """Return what was not as it should be at the start or the end of a session, or changed in between.

    A clock allowed only below what the hardware can do is a sign of heat, except in
    fixed-performance mode, which is meant to do that. What cannot be read is not flagged.
    """
    found = []
    for moment, conditions in (("start", before), ("end", after)):
        status = conditions["thermal_status"]
        if status not in (UNREADABLE, "0"):
            found.append(f"thermal status {status} ({THERMAL_STATES[int(status)]}) at the {moment}")
        if conditions["fixed_performance"] != "on" and _is_capped(conditions):
            found.append(
                f"clocks capped at the {moment}: {conditions['max_frequencies_mhz']} MHz of "
                f"{conditions['hardware_max_frequencies_mhz']}"
            )
    load, num_cores = before["load_1min"], len(before["frequencies_mhz"].split())
    # With clocks that cannot be read the number of cores is not known, so any load goes.
    if UNREADABLE not in (load, before["frequencies_mhz"]) and float(load) > LOAD_PER_CORE_LIMIT * num_cores:
        found.append(f"load {load} on {num_cores} cores at the start")
    for name, what in _CHANGES.items():
        if UNREADABLE not in (before[name], after[name]) and before[name] != after[name]:
            found.append(f"{what} changed: {before[name]} to {after[name]}")
    return found


def unreadable(conditions: Conditions) -> list[str]:
    """Return the names of the readings this phone does not give."""
    return [name for name, value in conditions.readings if value == UNREADABLE]


def _is_capped(conditions: Conditions) -> bool:
    allowed = conditions["max_frequencies_mhz"].split()
    possible = conditions["hardware_max_frequencies_mhz"].split()
    return any(
        have.isdigit() and can.isdigit() and int(have) < int(can)
        for have, can in zip(allowed, possible, strict=False)  # a core that came or went is flagged by itself
    )
