"""The store: our tables beside Optuna's, behind one SQLAlchemy URL.

Optuna's tables hold the trials and their values; ours hold what may be shared
by several runs: scores, keyed by what defines them, and measurements with
every raw sample. Nothing is scored or measured twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from device_lab.measurement import Block, Measurement, Reason, RunSettings
from device_lab.statistics import decide
from nas import tables
from nas.documents import from_document, to_document
from nas.errors import StoreError
from nas.optuna_storage import OptunaStorage
from nas.records import Score

SCHEMA_VERSION = 1

_MOMENTARY_REASONS = (Reason.BUDGET, Reason.DISCONNECTED, Reason.THERMAL)
_RUN_PARTS = ("reference_before", "candidate", "reference_after")


class Store:
    """One database with Optuna's tables and ours.

    Raises:
        StoreError: If the database cannot be opened, is not a store, or was
            written by a newer release.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        with self.errors():
            self.optuna_storage = OptunaStorage(url)
            self._engine = self.optuna_storage.engine
            _create_tables(self._engine)
            with self._engine.begin() as connection:
                version = connection.execute(sa.select(tables.schema.c.version)).scalar()
                if version is None:
                    _insert_new(connection, tables.schema, [{"version": SCHEMA_VERSION}])
        if version not in (None, SCHEMA_VERSION):
            raise StoreError(
                f"store {self._name} has schema version {version}, this release reads {SCHEMA_VERSION}; "
                "use the release that wrote it"
            )

    @property
    def _name(self) -> str:
        # The rendered URL hides a password.
        return sa.make_url(self.url).render_as_string()

    def close(self) -> None:
        """Close all connections."""
        self.optuna_storage.remove_session()
        self._engine.dispose()

    def run_names(self) -> list[str]:
        """Return the names of the runs in the store, in order of creation."""
        with self.errors():
            return [study.study_name for study in optuna.get_all_study_summaries(self.optuna_storage)]

    def find_score(self, settings_id: str, arch_id: str) -> Score | None:
        """Return the score of an architecture under evaluator settings, if there is one."""
        query = sa.select(tables.scores.c.document).filter_by(settings_id=settings_id, arch_id=arch_id)
        with self.connection() as connection:
            document = connection.execute(query).scalar()
        return None if document is None else from_document(Score, json.loads(document))

    def find_scores(self, settings_id: str) -> dict[str, Score]:
        """Return all scores under evaluator settings, by ``arch_id``."""
        query = sa.select(tables.scores.c.arch_id, tables.scores.c.document).filter_by(settings_id=settings_id)
        with self.connection() as connection:
            rows = connection.execute(query).all()
        return {row.arch_id: from_document(Score, json.loads(row.document)) for row in rows}

    def save_score(self, score: Score, *, settings_id: str, arch_id: str) -> None:
        """Keep a score. A score that is already there stays: it is the same, or was told first."""
        row = {
            "settings_id": settings_id,
            "arch_id": arch_id,
            "document": json.dumps(to_document(score)),
            "created_at": now(),
        }
        with self.connection() as connection:
            _insert_new(connection, tables.scores, [row])

    def find_measurements(
        self, *, device_id: str, settings: RunSettings, reference_arch_id: str
    ) -> dict[str, tuple[Measurement, ...]]:
        """Return all measurements against a reference under the same settings, from coarse to fine.

        Returns:
            ``arch_id`` to its measurements.
        """
        query = sa.select(tables.measurements).filter_by(
            device_id=device_id, settings=settings_key(settings), reference_arch_id=reference_arch_id
        )
        query = query.where(tables.measurements.c.document.is_not(None)).order_by(tables.measurements.c.measurement_id)
        found: dict[str, list[Measurement]] = {}
        with self.connection() as connection:
            rows = connection.execute(query).all()
            blocks = self._read_blocks(connection, [row.measurement_id for row in rows])
        for row in rows:
            document = json.loads(row.document) | {"blocks": blocks[row.measurement_id]}
            found.setdefault(row.arch_id, []).append(from_document(Measurement, document))
        return {
            arch_id: tuple(sorted(measurements, key=lambda measurement: -measurement.precision.goal))
            for arch_id, measurements in found.items()
        }

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
        newest = sa.select(tables.measurements).filter_by(**subject).order_by(sa.desc("measurement_id")).limit(1)
        with self.connection() as connection:
            row = connection.execute(newest).first()
            if row is not None:
                documents = self._read_blocks(connection, [row.measurement_id])[row.measurement_id]
                if row.document is None or _may_go_on(row.document, documents):
                    _set_document(connection, row.measurement_id, None)
                    return row.measurement_id, tuple(from_document(Block, document) for document in documents)
            result = connection.execute(sa.insert(tables.measurements).values(**subject, created_at=now()))
            return int((result.inserted_primary_key or (0,))[0]), ()

    def save_block(self, measurement_id: int, block: Block) -> None:
        """Keep one finished block with all its samples, in one transaction."""
        with self.connection() as connection:
            # Candidates of one session share the references between them, so some runs are there already.
            runs = (getattr(block, part) for part in _RUN_PARTS)
            rows = [{"run_id": run.run_id, "document": json.dumps(to_document(run))} for run in runs]
            _insert_new(connection, tables.process_runs, rows)
            connection.execute(
                sa.insert(tables.blocks).values(
                    measurement_id=measurement_id,
                    index=block.index,
                    **{part: getattr(block, part).run_id for part in _RUN_PARTS},
                )
            )

    def finish_measurement(self, measurement_id: int, measurement: Measurement) -> None:
        """Keep the verdict of a measurement whose blocks are saved."""
        document = to_document(measurement)
        del document["blocks"]
        with self.connection() as connection:
            _set_document(connection, measurement_id, json.dumps(document))

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

    @contextmanager
    def connection(self) -> Iterator[sa.Connection]:
        """Give a connection in a transaction, which ends with the block.

        Raises:
            StoreError: If the database cannot be read or written.
        """
        with self.errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the database's own errors inside the block into `StoreError`."""
        try:
            yield
        except (sa.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            cause = getattr(error, "orig", None) or error.__cause__ or error
            reason = str(cause).strip().splitlines()[0]
            raise StoreError(
                f"store {self._name} cannot be used: {reason}; check the path, its permissions and the free disk space"
            ) from error


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


def _create_tables(engine: sa.Engine) -> None:
    """Make the tables that are missing; another process that opens the same new store may be faster with some."""
    num_tries = 1 + len(tables.METADATA.tables)
    for attempt in range(num_tries):
        try:
            tables.METADATA.create_all(engine)
        except (sa.exc.OperationalError, sa.exc.ProgrammingError) as error:
            if "already exists" not in str(error) or attempt == num_tries - 1:
                raise
        else:
            break


def _may_go_on(document: str, blocks: list[dict[str, Any]]) -> bool:
    return is_unfinished(from_document(Measurement, json.loads(document) | {"blocks": blocks}))


def _set_document(connection: sa.Connection, measurement_id: int, document: str | None) -> None:
    of_this = tables.measurements.c.measurement_id == measurement_id
    connection.execute(sa.update(tables.measurements).where(of_this).values(document=document))


def _insert_new(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows; one whose key is there already stays as it is, whoever wrote it."""
    if connection.dialect.name == "sqlite":
        connection.execute(sqlite.insert(table).on_conflict_do_nothing(), rows)
    else:
        connection.execute(postgresql.insert(table).on_conflict_do_nothing(), rows)


def now() -> str:
    """Return the time of a row, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
