"""What a report says of a run on several devices, device by device, as plain values."""

from __future__ import annotations

from device_lab.statistics import heat_slope
from nas.records import Role
from reports import text
from reports.analysis import Analysis
from reports.evidence import DeviceRatio, Evidence

DEVICES_HEADER = (
    "device",
    "model",
    "processor",
    "system",
    "sessions",
    "blocks kept",
    "pauses to cool",
    "drift per block",
)


def slowest_on(item: Evidence) -> str:
    """Return the device that a trial's ratio is of; none where it is 1 by definition."""
    known = _measured(item)
    return max(known, key=_estimate).device.device_id if known else text.MISSING


def bar_sources(item: Evidence) -> str:
    """Say which devices a trial's error bar comes from, and whether it is certain which is the slowest."""
    known = _measured(item)
    if item.ratio is None or not known:
        return text.MISSING
    slowest = max(known, key=_estimate).device.device_id
    highest = max(known, key=_upper_end).device.device_id
    sources = f"{slowest}" if slowest == highest else f"{slowest}, its upper end {highest}"
    possible = [each.device.device_id for each in known if _upper_end(each) >= item.ratio.low]
    return sources if len(possible) == 1 else f"{sources}; the slowest may be any of {', '.join(possible)}"


def device_ratio_facts(item: Evidence) -> list[tuple[str, str]]:
    """Return the ratio of a trial on each device, names and values, and where its error bar comes from."""
    facts = [(f"latency ratio on {each.device.device_id}", text.ratio(each.ratio)) for each in item.on_devices]
    return [*facts, ("error bar from", bar_sources(item))] if _measured(item) else facts


def device_rows(analysis: Analysis) -> list[list[str]]:
    """Return a row for each device of a run on several, by `DEVICES_HEADER`; nothing for a run on one."""
    bench = analysis.bench
    rows = []
    for i, device in enumerate(bench.devices if bench is not None else ()):
        taken = [item.on_devices[i] for item in analysis.evidence if item.on_devices]
        sessions = [each.measurement for each in taken if each.measurement is not None]
        slopes = [heat_slope(session.blocks) for session in sessions if session.blocks]
        num_kept = sum(session.findings.num_kept for session in sessions)
        num_blocks = sum(session.num_blocks for session in sessions)
        rows.append(
            [
                device.device_id,
                device.model,
                f"{device.soc}, {device.abi}, {device.num_cores} cores",
                device.os_version,
                str(len(sessions)),
                f"{num_kept} of {num_blocks}",
                str(sum(session.num_cooldowns for session in sessions)),
                f"{100 * min(slopes):+.2f} % to {100 * max(slopes):+.2f} %" if slopes else text.MISSING,
            ]
        )
    return rows


def _measured(item: Evidence) -> list[DeviceRatio]:
    """Return the devices on which a trial was measured; none of SqueezeBERT's rule, which is 1 on all."""
    is_rule = item.trial.role is Role.SQUEEZEBERT_RULE
    return [] if is_rule else [each for each in item.on_devices if each.ratio is not None]


def _estimate(known: DeviceRatio) -> float:
    return known.ratio.estimate if known.ratio is not None else 0.0


def _upper_end(known: DeviceRatio) -> float:
    return known.ratio.high if known.ratio is not None else 0.0
