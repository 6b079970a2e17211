"""A big store, made up: runs with all their trials, scores, measurements and raw samples, inserted in bulk.

No number in it was measured. What a store would take weeks to gather is here in
minutes, in the documents and tables that a search would have written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, count
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from optuna.distributions import IntDistribution, distribution_to_json

from device_lab.measurement import Backend, Conditions, DeviceInfo, Interval, Measurement, Reason, RunSettings
from device_lab.statistics import PRECISIONS
from device_lab.timed import Digest
from nas import tables
from nas.cost import model_cost
from nas.documents import to_document
from nas.outcomes import pack_outcomes
from nas.records import LatencyMode, Role, Score
from nas.runs import SearchRequest, SearchSettings, open_study
from nas.store import Store, settings_key
from nas.trial_notes import NOTE_KEY, TrialNote
from search_spaces.architecture import Architecture
from search_spaces.reference import BERT_BASE, squeezebert_rule
from search_spaces.space import make_space

NUM_EXAMPLES = 872
NUM_SAMPLES = 20
NUM_READINGS = 24
REFERENCE_NS = 8e6
SCORES_ID = "scores of a made-up run"
SETTINGS = RunSettings(runtime="onnxruntime", runtime_version="1.23.0", num_threads=1, sequence_length=128)
SPACE = make_space("grouped", BERT_BASE)
REFERENCE = squeezebert_rule(BERT_BASE)
BEGIN = datetime(2026, 1, 5, tzinfo=UTC)

Row = tuple[object, ...]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How much is in a store: ``num_runs`` of ``num_trials`` each, every trial timed in ``num_blocks`` blocks."""

    num_runs: int
    num_trials: int
    num_blocks: int


def fill(store: Store, shape: Shape, *, latency: LatencyMode = LatencyMode.HYBRID, seed: int = 0) -> list[str]:
    """Fill an empty store, and return the names of its runs. They take turns on two devices."""
    generator = np.random.default_rng(seed)
    names = [f"run{i}" for i in range(shape.num_runs)]
    numbers = count(1)
    for i, name in enumerate(names):
        device = _device(i % 2)
        study = open_study(store, name, _settings(device, latency))
        archs = _architectures(shape.num_trials, generator)
        ratios = _ratios(archs, generator)
        writer = _Writer(store)
        writer.write(tables.scores, _scores(archs, generator), skips=True)
        _write_trials(writer, study._study_id, archs, ratios, generator)
        _write_measurements(writer, device, archs, ratios, shape.num_blocks, numbers, generator)
        writer.close()
    return names


def _device(number: int) -> DeviceInfo:
    return DeviceInfo(
        device_id=f"made-up-{number}",
        backend=Backend.SIMULATED,
        model="Made-up phone",
        soc="none",
        os_version="Android 14",
        abi="arm64-v8a",
        num_cores=8,
    )


def _settings(device: DeviceInfo, latency: LatencyMode) -> SearchSettings:
    return SearchSettings(
        request=SearchRequest(fidelities=("projected",), latency=latency),
        task="embedded-subj",
        task_sha256="0" * 64,
        num_labels=2,
        teacher_id="made up",
        teacher_architecture=BERT_BASE.to_json(),
        score_settings_ids=(SCORES_ID,),
        device=device,
        settings=SETTINGS,
    )


def _architectures(num_trials: int, generator: np.random.Generator) -> list[Architecture]:
    drawn = {REFERENCE: None, BERT_BASE: None}
    while len(drawn) < num_trials:
        # Several draws for one answer would be most of the work.
        answers = iter(generator.random(2 * len(SPACE.parameters)).tolist())
        drawn[SPACE.sample(lambda _, options: options[int(next(answers) * len(options))])] = None  # noqa: B023
    return list(drawn)


def _ratios(archs: Sequence[Architecture], generator: np.random.Generator) -> list[float]:
    macs = np.array([_macs(arch) for arch in archs]) / _macs(REFERENCE)
    ratios = (0.25 + 0.75 * macs) * np.exp(generator.normal(0, 0.05, len(archs)))
    ratios[0] = 1.0
    return [float(ratio) for ratio in ratios]


def _macs(arch: Architecture) -> int:
    return model_cost(arch, sequence_length=SETTINGS.sequence_length, num_labels=2).macs


def _scores(archs: Sequence[Architecture], generator: np.random.Generator) -> Iterator[Row]:
    for i, arch in enumerate(archs):
        relative = _macs(arch) / _macs(REFERENCE)
        is_right = generator.random(NUM_EXAMPLES) < 0.93 - 0.06 / (0.4 + relative)
        value = float(is_right.mean())
        half = 1.96 * math.sqrt(value * (1 - value) / NUM_EXAMPLES)
        score = Score(
            task="embedded-subj",
            metric="accuracy",
            evaluator="projected",
            interval=Interval(estimate=value, low=value - half, high=value + half),
            metrics=(("accuracy", value),),
            num_examples=NUM_EXAMPLES,
            duration_s=1.5,
            weights_sha256=None,
            teacher_divergence=0.25,
            outcomes=pack_outcomes(is_right),
        )
        yield SCORES_ID, arch.arch_id, json.dumps(to_document(score)), _when(i).isoformat()


def _when(number: int) -> datetime:
    return BEGIN + timedelta(minutes=number)


def _write_trials(
    writer: _Writer,
    study_id: int,
    archs: Sequence[Architecture],
    ratios: Sequence[float],
    generator: np.random.Generator,
) -> None:
    """Write Optuna's rows of complete trials; only a few, to begin with, are of references."""
    first = writer.next_id("trials", "trial_id")
    roles = {0: Role.SQUEEZEBERT_RULE, 1: Role.DENSE_TEACHER}
    ids = range(first, first + len(archs))
    begun = [_when(i).replace(tzinfo=None) for i in range(len(archs) + 1)]
    states = ((id_, n, study_id, "COMPLETE", begun[n], begun[n + 1]) for n, id_ in enumerate(ids))
    writer.write(_optuna("trials", "trial_id number study_id state datetime_start datetime_complete"), states)
    accuracies = generator.uniform(0.7, 0.95, len(archs)).tolist()
    values = chain.from_iterable(
        ((id_, 0, accuracy, "FINITE"), (id_, 1, ratio, "FINITE"))
        for id_, accuracy, ratio in zip(ids, accuracies, ratios, strict=True)
    )
    writer.write(_optuna("trial_values", "trial_id objective value value_type"), values)
    notes = (
        (id_, NOTE_KEY, json.dumps(to_document(TrialNote(architecture=arch.to_json(), role=role))))
        for id_, arch, role in zip(ids, archs, (roles.get(n, Role.CANDIDATE) for n in count()), strict=False)
    )
    writer.write(_optuna("trial_user_attributes", "trial_id key value_json"), notes)
    kinds = {
        name: distribution_to_json(IntDistribution(0, len(options) - 1)) for name, options in SPACE.parameters.items()
    }
    params = (
        (id_, name, float(SPACE.parameters[name].index(answer)), kinds[name])
        for id_, arch in zip(ids, archs, strict=True)
        for name, answer in SPACE.answers_for(arch).items()
    )
    writer.write(_optuna("trial_params", "trial_id param_name param_value distribution_json"), params)
    writer.advance("trials", "trial_id")


def _write_measurements(
    writer: _Writer,
    device: DeviceInfo,
    archs: Sequence[Architecture],
    ratios: Sequence[float],
    num_blocks: int,
    numbers: Iterator[int],
    generator: np.random.Generator,
) -> None:
    subject = settings_key(SETTINGS)
    of_measurements: list[Row] = []
    blocks: list[Row] = []
    for i, (arch, ratio) in enumerate(zip(archs, ratios, strict=True)):
        number = next(numbers)
        stem = f"{number:08x}"
        reference_ids = [f"{stem}{n:012x}r" for n in range(num_blocks + 1)]
        candidate_ids = [f"{stem}{n:012x}c" for n in range(num_blocks)]
        references = _samples(REFERENCE_NS, num_blocks + 1, generator)
        candidates = _samples(REFERENCE_NS * ratio, num_blocks, generator)
        writer.write(
            tables.process_runs,
            chain(_processes(reference_ids, references), _processes(candidate_ids, candidates)),
        )
        medians = np.median(references, axis=1)
        digest = Digest(
            medians_ns=np.column_stack([medians[:-1], np.median(candidates, axis=1), medians[1:]]).tobytes(),
            percentiles_ms=_percentiles_ms(candidates),
        )
        document = to_document(_measurement(device, i))
        del document["blocks"]
        when = _when(i).isoformat()
        of_measurements.append((number, tables.new_key(), device.device_id, subject, arch.arch_id, REFERENCE.arch_id,
                                "fine", json.dumps(document), when, digest.to_json()))  # fmt: skip
        blocks += [(number, n, reference_ids[n], candidate_ids[n], reference_ids[n + 1]) for n in range(num_blocks)]
    writer.write(tables.measurements, of_measurements)
    writer.write(tables.blocks, blocks)
    writer.advance("nas_measurements", "measurement_id")


def _samples(median_ns: float, count: int, generator: np.random.Generator) -> Ints:
    """Return times of processes (count, samples), each with an offset of its own and a tail of slow inferences."""
    is_slow = generator.random((count, NUM_SAMPLES)) < 0.04
    noise = generator.normal(0, 0.006, (count, 1)) + generator.normal(0, 0.01, (count, NUM_SAMPLES)) + 0.3 * is_slow
    return np.asarray(median_ns * np.exp(noise), dtype=np.int64)


def _percentiles_ms(samples: Ints) -> tuple[float, float, float]:
    p50, p90, p99 = np.quantile(samples, [0.50, 0.90, 0.99], method="inverted_cdf") / 1e6
    return float(p50), float(p90), float(p99)


def _processes(ids: Sequence[str], samples: Ints) -> Iterator[Row]:
    for run_id, each in zip(ids, samples.tolist(), strict=True):
        wall_ns = sum(each)
        document = (
            f'{{"run_id": "{run_id}", "samples_ns": {each}, "num_warmup_runs": 30, "num_threads": 1, '
            f'"wall_ns": {wall_ns}, "cpu_ns": {wall_ns - 1000}, "summary": null, "output_checked_here": false, '
            '"peak_rss_bytes": 181403648}'
        )
        yield run_id, document


def _measurement(device: DeviceInfo, number: int) -> Measurement:
    readings = tuple((f"reading_{i}", f"{i * 101} {i * 101} {i * 103}") for i in range(NUM_READINGS))
    before = Conditions(taken_at=_when(number).isoformat(timespec="seconds"), readings=readings)
    return Measurement(
        device=device,
        settings=SETTINGS,
        precision=PRECISIONS["fine"],
        model_sha256=f"{number:064x}",
        reference_sha256="f" * 64,
        blocks=(),
        reason=Reason.GOAL_MET,
        num_cooldowns=0,
        conditions_before=before,
        conditions_after=replace(before, taken_at=_when(number + 1).isoformat(timespec="seconds")),
    )


def _optuna(name: str, columns: str) -> sa.TableClause:
    return sa.table(name, *(sa.column(column) for column in columns.split()))


class _Writer:
    """One transaction of bulk inserts, by the quickest way each driver has."""

    def __init__(self, store: Store) -> None:
        self._engine = store.optuna_storage.engine
        self._is_sqlite = self._engine.dialect.name == "sqlite"
        self._connection: Any = self._engine.raw_connection()
        self._cursor: Any = self._connection.cursor()

    def write(self, table: sa.TableClause, rows: Iterable[Row], *, skips: bool = False) -> None:
        """Insert rows of all columns of ``table``; with ``skips`` those whose key is there are left out."""
        names = [column.name for column in table.columns]
        quoted = ", ".join(f'"{name}"' for name in names)
        if self._is_sqlite:
            verb = "INSERT OR IGNORE" if skips else "INSERT"
            marks = ", ".join("?" * len(names))
            text = f"{verb} INTO {table.name} ({quoted}) VALUES ({marks})"
            self._cursor.executemany(text, (tuple(map(_plain, row)) for row in rows))
            return
        target = "pending_rows" if skips else table.name
        if skips:
            self._cursor.execute(f"CREATE TEMP TABLE {target} (LIKE {table.name}) ON COMMIT DROP")
        with self._cursor.copy(f"COPY {target} ({quoted}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        if skips:
            self._cursor.execute(f"INSERT INTO {table.name} SELECT * FROM {target} ON CONFLICT DO NOTHING")

    def next_id(self, table: str, column: str) -> int:
        """Return the number after the greatest that a table has."""
        self._cursor.execute(f"SELECT COALESCE(MAX({column}), 0) + 1 FROM {table}")
        return int(self._cursor.fetchone()[0])

    def advance(self, table: str, column: str) -> None:
        """Let the database number its own rows after those that were inserted with numbers."""
        if not self._is_sqlite:
            self._cursor.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), MAX({column})) FROM {table}"
            )

    def close(self) -> None:
        """Commit."""
        self._connection.commit()
        self._connection.close()


def _plain(value: object) -> object:
    return value.isoformat(sep=" ") if isinstance(value, datetime) else value
