"""A run as one JSON document, raw blocks included, so that every number can be recomputed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from device_lab.measurement import Backend, Interval, ProcessRun
from device_lab.statistics import INTERVAL_FACTOR, LEVEL, MAX_REFERENCE_CHANGE
from device_lab.timed import Timed
from nas.records import ModelProfile, Score
from reports.analysis import KNEE_RULE, SHIP_RULE, Analysis
from reports.evidence import Bench, Evidence
from reports.profiles import profile_of
from reports.regret import regret
from reports.resampling import NUM_RESAMPLES

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SCHEMA_VERSION = 1


def to_json(analysis: Analysis) -> str:
    """Return settings, answers, trials and all raw samples of a run as JSON.

    ``processes`` maps the id of each process to its samples in nanoseconds;
    the blocks of a measurement name the ids of its three processes, and are
    ``null`` where the samples were left in the store, under the measurement's
    ``key``. Times from an emulated processor are left out.
    """
    run = analysis.run
    document = {
        "schema_version": SCHEMA_VERSION,
        "run": {
            "name": run.name,
            "space": run.space,
            "task": run.task,
            "objectives": run.objectives,
            "sampler": run.sampler,
            "evaluator": run.evaluator,
            "seed": run.seed,
            "teacher": run.teacher,
            "created_at": run.created_at,
            "versions": dict(run.versions),
        },
        "bench": _bench(analysis.bench) if analysis.bench else None,
        "method": {
            "level": LEVEL,
            "max_reference_change": MAX_REFERENCE_CHANGE,
            "interval_factor": INTERVAL_FACTOR,
            "num_resamples": NUM_RESAMPLES,
            "knee_rule": KNEE_RULE,
            "ship_rule": SHIP_RULE,
        },
        "answers": {
            "objectives": analysis.objectives,
            "notices": analysis.notices,
            "front": [item.trial.number for item in analysis.front],
            "knee": analysis.knee.trial.number if analysis.knee else None,
            "ship": analysis.ship.trial.number if analysis.ship else None,
        },
        "regret": _regret(analysis),
        "hypervolume": {
            "reference_losses": dict(zip(analysis.objectives, analysis.reference_losses.tolist(), strict=True)),
            "history": [
                [item.trial.number, share]
                for item, share in zip(analysis.compared, analysis.hypervolume.tolist(), strict=True)
            ],
        },
    }
    trials = ",".join(_trial(item, analysis) for item in analysis.evidence)
    by_id = {run_id: _process(process) for run_id, process in processes(analysis).items()}
    return _with_members(_dumps(document), trials=f"[{trials}]", processes=_dumps(by_id))


def _dumps(value: object) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _with_members(text: str, **members: str) -> str:
    """Return a JSON object, given as text, with more members, whose values are JSON texts, too.

    So thousands of trials are never all objects at once, and networks, which are most of them, need no second writing.
    """
    return ",".join([text.removesuffix("}"), *(f'"{name}":{value}' for name, value in members.items())]) + "}"


def _regret(analysis: Analysis) -> dict[str, object] | None:
    found = regret(analysis)
    if found is None:
        return None
    rows = [
        {
            "best_for": row.best_for,
            "trial": row.network.trial.number,
            "regret_on": {
                device.device_id: _interval(cell) for device, cell in zip(found.devices, row.cells, strict=True)
            },
        }
        for row in found.rows
    ]
    return {"rule": found.rule, "rows": rows}


def shown_measurements(item: Evidence) -> tuple[Timed, ...]:
    """Return the measurements of a trial a report may show: all but those on an emulated processor."""
    return tuple(m for m in item.trial.all_measurements if m.device.backend is not Backend.QEMU)


def processes(analysis: Analysis) -> dict[str, ProcessRun]:
    """Return every process of the shown measurements by its id, each once though blocks share references."""
    return {process.run_id: process for item in analysis.evidence for process in _processes_of(item)}


def _processes_of(item: Evidence) -> Iterator[ProcessRun]:
    blocks = chain.from_iterable(measurement.blocks or () for measurement in shown_measurements(item))
    for block in blocks:
        yield from (block.reference_before, block.candidate, block.reference_after)


def _bench(bench: Bench) -> dict[str, object]:
    return {
        "label": bench.label,
        "device": _flat(bench.device),
        "settings": _flat(bench.settings),
        "reference_sha256": bench.reference_sha256,
        "devices": [_flat(device) for device in bench.devices],
    }


def _trial(item: Evidence, analysis: Analysis) -> str:
    trial = item.trial
    percentiles = analysis.milliseconds.get(trial.number)
    document = {
        "number": trial.number,
        "state": trial.state,
        "role": trial.role,
        "arch_id": trial.architecture.arch_id,
        "cost": _flat(trial.cost),
        "accuracy": _interval(item.accuracy),
        "ratio": _interval(item.ratio),
        "ratios_on_devices": {each.device.device_id: _interval(each.ratio) for each in item.on_devices},
        # Bounds are drawn for the front and the references only; elsewhere they would be noise.
        "estimates_ms": {name: interval.estimate for name, interval in _flat(percentiles).items()}
        if percentiles
        else None,
        "probability": analysis.probabilities.get(trial.number),
        "left_out": item.left_out,
        "same_as": trial.same_as,
        "failure": trial.failure,
        "duration_s": trial.duration_s,
        "score": _score(trial.score) if trial.score else None,
        "measurements": [_measurement(measurement) for measurement in shown_measurements(item)],
        "profile": _profile(profile_of(analysis.run, trial.architecture.arch_id)),
    }
    return _with_members(_dumps(document), architecture=trial.architecture.to_json())


def _measurement(measurement: Timed) -> dict[str, object]:
    if measurement.blocks is None:
        return {
            "key": measurement.key,
            "precision": measurement.precision.name,
            "reason": measurement.reason,
            "num_blocks": measurement.num_blocks,
            "num_kept": measurement.findings.num_kept,
            "blocks": None,
        }
    return {
        "device": _flat(measurement.device),
        "settings": _flat(measurement.settings),
        "precision": _flat(measurement.precision),
        "model_sha256": measurement.model_sha256,
        "reference_sha256": measurement.reference_sha256,
        "reason": measurement.reason,
        "num_cooldowns": measurement.num_cooldowns,
        "conditions_before": _flat(measurement.conditions_before),
        "conditions_after": _flat(measurement.conditions_after),
        "num_blocks": measurement.num_blocks,
        "num_kept": measurement.findings.num_kept,
        "blocks": [
            {
                "index": block.index,
                "reference_before": block.reference_before.run_id,
                "candidate": block.candidate.run_id,
                "reference_after": block.reference_after.run_id,
            }
            for block in measurement.blocks
        ],
    }


def _profile(profile: ModelProfile | None) -> dict[str, object] | None:
    if profile is None:
        return None
    return _flat(profile) | {
        "device": _flat(profile.device),
        "settings": _flat(profile.settings),
        "operators": [_flat(cost) for cost in profile.operators],
        "is_latency": False,
    }


def _process(process: ProcessRun) -> dict[str, object]:
    return {
        "samples_ns": process.samples_ns,
        "num_warmup_runs": process.num_warmup_runs,
        "num_threads": process.num_threads,
        "wall_ns": process.wall_ns,
        "cpu_ns": process.cpu_ns,
        "peak_rss_bytes": process.peak_rss_bytes,
    }


def _score(score: Score) -> dict[str, Any]:
    return _flat(score) | {"interval": _flat(score.interval), "metrics": dict(score.metrics)}


def _interval(interval: Interval | None) -> dict[str, Any] | None:
    return _flat(interval) if interval else None


def _flat(value: DataclassInstance) -> dict[str, Any]:
    """Return the fields of a dataclass without copying what they hold, as `dataclasses.asdict` does at length."""
    return {name: getattr(value, name) for name in _names(type(value))}


@cache
def _names(kind: type[DataclassInstance]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))
