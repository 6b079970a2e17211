"""The store: our tables beside Optuna's, behind one SQLAlchemy URL.

Optuna's tables hold the trials and their values; ours hold what may be shared
by several runs: scores, keyed by what defines them, and measurements with
every raw sample. Nothing is scored or measured twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from device_lab.measurement import Block, Measurement, Reason, RunSettings
from device_lab.statistics import decide
from device_lab.timed import Digest, Timed, digest
from nas import tables
from nas.documents import from_document, to_document
from nas.errors import StoreError
from nas.optuna_rows import study_names
from nas.records import Score
from nas.store_engine import insert_new, transact
from nas.store_errors import store_errors
from nas.store_schema import open_storage
from nas.store_url import parse_store_url

T = TypeVar("T")
M = TypeVar("M", Measurement, Timed)

_MOMENTARY_REASONS = (Reason.BUDGET, Reason.DISCONNECTED, Reason.THERMAL)
_RUN_PARTS = ("reference_before", "candidate", "reference_after")


class Store:
    """One database with Optuna's tables and ours.

    Args:
        url: ``sqlite:///PATH`` or ``postgresql+psycopg://USER@HOST/DATABASE``.

    Raises:
        StoreError: If the database cannot be opened, is not a store, or was
            written by another release.
        MissingExtraError: If the driver of the database is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._place = parse_store_url(url)
        self.optuna_storage = open_storage(self._place)
        self._engine = self.optuna_storage.engine

    def close(self) -> None:
        """Close all connections."""
        self.optuna_storage.close()

    def run_names(self) -> list[str]:
        """Return the names of the runs in the store, in order of creation."""
        return self.transaction(study_names)

    def find_score(self, settings_id: str, arch_id: str) -> Score | None:
        """Return the score of an architecture under evaluator settings, if there is one."""
        query = sa.select(tables.scores.c.document).filter_by(settings_id=settings_id, arch_id=arch_id)
        document = self.transaction(lambda connection: connection.execute(query).scalar())
        return None if document is None else from_document(Score, json.loads(document))

    def find_scores(self, settings_id: str) -> dict[str, Score]:
        """Return all scores under evaluator settings, by ``arch_id``."""
        query = sa.select(tables.scores.c.arch_id, tables.scores.c.document).filter_by(settings_id=settings_id)
        rows = self.transaction(lambda connection: connection.execute(query).all())
        return {row.arch_id: from_document(Score, json.loads(row.document)) for row in rows}

    def save_score(self, score: Score, *, settings_id: str, arch_id: str) -> None:
        """Keep a score. A score that is already there stays: it is the same, or was told first."""
        row = {
            "settings_id": settings_id,
            "arch_id": arch_id,
            "document": json.dumps(to_document(score)),
            "created_at": now(),
        }
        self.transaction(lambda connection: insert_new(connection, tables.scores, [row]))

    def find_timed(
        self,
        *,
        device_id: str,
        settings: RunSettings,
        reference_arch_id: str,
        arch_ids: Collection[str] | None = None,
    ) -> dict[str, tuple[Timed, ...]]:
        """Return the measurements of some architectures, or of all, from coarse to fine, without samples.

        Returns:
            ``arch_id`` to its measurements.
        """
        query = _finished(device_id, settings, reference_arch_id, arch_ids)
        rows = self.transaction(lambda connection: connection.execute(query).all())
        found: dict[str, list[Timed]] = {}
        for row in rows:
            found.setdefault(row.arch_id, []).append(_timed(row))
        return _from_coarse_to_fine(found)

    def read_blocks(self, keys: Sequence[str]) -> dict[str, tuple[Block, ...]]:
        """Return the blocks of measurements with all their samples, by the measurement's key."""
        columns = tables.measurements.c
        query = sa.select(columns.measurement_id, columns.key).where(columns.key.in_(keys))

        def read(connection: sa.Connection) -> dict[str, list[dict[str, Any]]]:
            names = {row.measurement_id: row.key for row in connection.execute(query)}
            return {names[number]: blocks for number, blocks in self._read_blocks(connection, list(names)).items()}

        found = self.transaction(read)
        return {key: from_document(tuple[Block, ...], documents) for key, documents in found.items()}

    def find_measurements(
        self, *, device_id: str, settings: RunSettings, reference_arch_id: str, arch_ids: Collection[str] | None = None
    ) -> dict[str, tuple[Measurement, ...]]:
        """Return the measurements of some architectures, or of all, from coarse to fine, with all their samples.

        Returns:
            ``arch_id`` to its measurements.
        """
        query = _finished(device_id, settings, reference_arch_id, arch_ids)

        def read(connection: sa.Connection) -> tuple[Sequence[Any], dict[int, list[dict[str, Any]]]]:
            rows = connection.execute(query).all()
            return rows, self._read_blocks(connection, [row.measurement_id for row in rows])

        rows, blocks = self.transaction(read)
        found: dict[str, list[Measurement]] = {}
        for row in rows:
            document = json.loads(row.document) | {"blocks": blocks[row.measurement_id]}
            found.setdefault(row.arch_id, []).append(from_document(Measurement, document))
        return _from_coarse_to_fine(found)

    def begin_measurement(
        self, *, device_id: str, settings: RunSettings, precision: str, arch_id: str, reference_arch_id: str
    ) -> tuple[int, tuple[Block, ...]]:
        """Open a measurement, or go on with one that was interrupted or ended for a reason of the moment.

        Returns:
            Its id for `save_block` and `finish_measurement`, and the blocks it already has.
        """
        subject = {
            "device_id": device_id,
            "settings": settings_key(settings),
            "arch_id": arch_id,
            "reference_arch_id": reference_arch_id,
            "precision": precision,
        }
        newest = sa.select(tables.measurements).filter_by(**subject)
        newest = newest.order_by(sa.desc("created_at"), sa.desc("measurement_id")).limit(1)

        def begin(connection: sa.Connection) -> tuple[int, tuple[Block, ...]]:
            row = connection.execute(newest).first()
            if row is not None:
                documents = self._read_blocks(connection, [row.measurement_id])[row.measurement_id]
                if row.document is None or _may_go_on(row.document, documents):
                    _set_verdict(connection, row.measurement_id, document=None, digest=None)
                    return row.measurement_id, tuple(from_document(Block, document) for document in documents)
            own = subject | {"key": tables.new_key(), "created_at": now()}
            result = connection.execute(sa.insert(tables.measurements).values(own))
            return int((result.inserted_primary_key or (0,))[0]), ()

        return self.transaction(begin)

    def save_block(self, measurement_id: int, block: Block) -> None:
        """Keep one finished block with all its samples, in one transaction.

        Raises:
            StoreError: If the measurement has another block of this number: two processes work on it.
        """
        runs = [getattr(block, part) for part in _RUN_PARTS]
        row = {"measurement_id": measurement_id, "index": block.index}
        parts = {part: run.run_id for part, run in zip(_RUN_PARTS, runs, strict=True)}
        query = sa.select(*(tables.blocks.c[part] for part in _RUN_PARTS)).filter_by(**row)

        def save(connection: sa.Connection) -> tuple[str, ...]:
            # Candidates of one session share the references between them, so some runs are there already.
            documents = [{"run_id": run.run_id, "document": json.dumps(to_document(run))} for run in runs]
            insert_new(connection, tables.process_runs, documents)
            insert_new(connection, tables.blocks, [row | parts])
            return tuple(connection.execute(query).one())

        if self.transaction(save) != tuple(parts.values()):
            raise StoreError(
                f"block {block.index} of measurement {measurement_id} is there with other runs: another process "
                "measures the same; end one of the two"
            )

    def finish_measurement(self, measurement_id: int, measurement: Measurement) -> None:
        """Keep the verdict of a measurement whose blocks are saved."""
        document = to_document(measurement)
        del document["blocks"]
        text, medians = json.dumps(document), digest(measurement.blocks).to_json()
        self.transaction(lambda connection: _set_verdict(connection, measurement_id, document=text, digest=medians))

    def _read_blocks(
        self, connection: sa.Connection, measurement_ids: Sequence[int]
    ) -> dict[int, list[dict[str, Any]]]:
        """Read the documents of the blocks of some measurements, by measurement, in order."""
        of_these = tables.blocks.c.measurement_id.in_(measurement_ids)
        blocks = connection.execute(sa.select(tables.blocks).where(of_these).order_by(tables.blocks.c.index)).all()
        used = sa.union(*(sa.select(tables.blocks.c[part]).where(of_these) for part in _RUN_PARTS))
        query = sa.select(tables.process_runs).where(tables.process_runs.c.run_id.in_(used))
        runs = {row.run_id: json.loads(row.document) for row in connection.execute(query)}
        documents: dict[int, list[dict[str, Any]]] = {measurement_id: [] for measurement_id in measurement_ids}
        for block in blocks:
            parts = {part: runs[getattr(block, part)] for part in _RUN_PARTS}
            documents[block.measurement_id].append({"index": block.index} | parts)
        return documents

    def transaction(self, work: Callable[[sa.Connection], T]) -> T:
        """Return what ``work`` gives in a transaction of its own; see `nas.store_engine.transact`.

        Raises:
            StoreError: If the database cannot be read or written.
        """
        with self.errors():
            return transact(self._engine, work)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the database's own errors inside the block into `StoreError`."""
        with store_errors(self._place):
            yield


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite store at ``path``."""
    return f"sqlite:///{path}"


def is_unfinished(measurement: Measurement) -> bool:
    """Return whether a measurement ended for a reason of the moment, so that more blocks would belong to it."""
    has_verdict = decide(measurement.blocks, precision=measurement.precision) is not None
    return measurement.reason in _MOMENTARY_REASONS and not has_verdict


def settings_key(settings: RunSettings) -> str:
    """Return the one form of run settings that rows are found by."""
    return json.dumps(to_document(settings), sort_keys=True)


def _may_go_on(document: str, blocks: list[dict[str, Any]]) -> bool:
    return is_unfinished(from_document(Measurement, json.loads(document) | {"blocks": blocks}))


def _set_verdict(connection: sa.Connection, measurement_id: int, **columns: str | None) -> None:
    of_this = tables.measurements.c.measurement_id == measurement_id
    connection.execute(sa.update(tables.measurements).where(of_this).values(columns))


def _finished(
    device_id: str, settings: RunSettings, reference_arch_id: str, arch_ids: Collection[str] | None
) -> sa.Select[Any]:
    query = sa.select(tables.measurements).filter_by(
        device_id=device_id, settings=settings_key(settings), reference_arch_id=reference_arch_id
    )
    if arch_ids is not None:
        query = query.where(tables.measurements.c.arch_id.in_(arch_ids))
    return query.where(tables.measurements.c.document.is_not(None)).order_by("created_at", "measurement_id")


def _timed(row: Any) -> Timed:
    measurement = from_document(Measurement, json.loads(row.document) | {"blocks": []})
    without_blocks = {field.name: getattr(measurement, field.name) for field in fields(Measurement)}
    del without_blocks["blocks"]
    return Timed(**without_blocks, digest=Digest.from_json(row.digest), key=row.key)


def _from_coarse_to_fine(found: Mapping[str, Sequence[M]]) -> dict[str, tuple[M, ...]]:
    return {arch_id: tuple(sorted(each, key=lambda one: -one.precision.goal)) for arch_id, each in found.items()}


def now() -> str:
    """Return the time of a row, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
