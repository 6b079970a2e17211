"""The store: our tables beside Optuna's, behind one SQLAlchemy URL.

Optuna's tables hold the trials and their values; ours hold what may be shared
by several runs: scores, keyed by what defines them, and measurements with
every raw sample. Nothing is scored or measured twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import RDBStorage

from device_lab.measurement import Block, Measurement, ProcessRun, RunSettings
from nas.documents import from_document, to_document
from nas.errors import StoreError
from nas.records import Score

SCHEMA_VERSION = 1

_tables = sa.MetaData()
_schema = sa.Table("nas_schema", _tables, sa.Column("version", sa.Integer, primary_key=True))
_scores = sa.Table(
    "nas_scores",
    _tables,
    sa.Column("settings_id", sa.String(64), primary_key=True),
    sa.Column("arch_id", sa.String(12), primary_key=True),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
)
_process_runs = sa.Table(
    "nas_process_runs",
    _tables,
    sa.Column("run_id", sa.String(32), primary_key=True),
    sa.Column("document", sa.Text, nullable=False),
)
_measurements = sa.Table(
    "nas_measurements",
    _tables,
    sa.Column("measurement_id", sa.Integer, primary_key=True),
    sa.Column("device_id", sa.String(128), nullable=False),
    sa.Column("settings", sa.String(255), nullable=False),
    sa.Column("arch_id", sa.String(12), nullable=False),
    sa.Column("reference_arch_id", sa.String(12), nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Index("nas_measurements_subject", "device_id", "settings", "reference_arch_id", "arch_id"),
)
_blocks = sa.Table(
    "nas_blocks",
    _tables,
    sa.Column("measurement_id", sa.ForeignKey("nas_measurements.measurement_id"), primary_key=True),
    sa.Column("index", sa.Integer, primary_key=True),
    sa.Column("reference_before", sa.ForeignKey("nas_process_runs.run_id"), nullable=False),
    sa.Column("candidate", sa.ForeignKey("nas_process_runs.run_id"), nullable=False),
    sa.Column("reference_after", sa.ForeignKey("nas_process_runs.run_id"), nullable=False),
)
# Optuna's own table, as far as we write it.
_trial_params = sa.table(
    "trial_params",
    sa.column("trial_id"),
    sa.column("param_name"),
    sa.column("param_value"),
    sa.column("distribution_json"),
)
_RUN_PARTS = ("reference_before", "candidate", "reference_after")


class Store:
    """One database with Optuna's tables and ours.

    Raises:
        StoreError: If the database cannot be opened, is not a store, or was
            written by a newer release.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        with self._errors():
            self.optuna_storage = _OptunaStorage(url)
            self._engine = self.optuna_storage.engine
            _tables.create_all(self._engine)
            with self._engine.begin() as connection:
                version = connection.execute(sa.select(_schema.c.version)).scalar()
                if version is None:
                    connection.execute(sa.insert(_schema).values(version=SCHEMA_VERSION))
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
        with self._errors():
            return [study.study_name for study in optuna.get_all_study_summaries(self.optuna_storage)]

    def find_score(self, settings_id: str, arch_id: str) -> Score | None:
        """Return the score of an architecture under evaluator settings, if there is one."""
        query = sa.select(_scores.c.document).filter_by(settings_id=settings_id, arch_id=arch_id)
        with self._connection() as connection:
            document = connection.execute(query).scalar()
        return None if document is None else from_document(Score, json.loads(document))

    def save_score(self, score: Score, *, settings_id: str, arch_id: str) -> None:
        """Keep a score. A score that is already there stays: it is the same, or was told first."""
        row = {
            "settings_id": settings_id,
            "arch_id": arch_id,
            "document": json.dumps(to_document(score)),
            "created_at": _now(),
        }
        with self._connection() as connection:
            if not connection.execute(
                sa.select(_scores.c.arch_id).filter_by(settings_id=settings_id, arch_id=arch_id)
            ).first():
                connection.execute(sa.insert(_scores).values(row))

    def find_measurements(
        self, *, device_id: str, settings: RunSettings, reference_arch_id: str
    ) -> dict[str, tuple[Measurement, ...]]:
        """Return all measurements against a reference under the same settings, from coarse to fine.

        Returns:
            ``arch_id`` to its measurements.
        """
        query = sa.select(_measurements).filter_by(
            device_id=device_id, settings=_settings_key(settings), reference_arch_id=reference_arch_id
        )
        found: dict[str, list[Measurement]] = {}
        with self._connection() as connection:
            rows = connection.execute(query.order_by(_measurements.c.measurement_id)).all()
            for row in rows:
                document = json.loads(row.document) | {"blocks": self._read_blocks(connection, row.measurement_id)}
                found.setdefault(row.arch_id, []).append(from_document(Measurement, document))
        return {
            arch_id: tuple(sorted(measurements, key=lambda measurement: -measurement.precision.goal))
            for arch_id, measurements in found.items()
        }

    def save_measurement(self, measurement: Measurement, *, arch_id: str, reference_arch_id: str) -> None:
        """Keep a measurement with all its samples, in one transaction."""
        document = to_document(measurement)
        blocks = document.pop("blocks")
        with self._connection() as connection:
            result = connection.execute(
                sa.insert(_measurements).values(
                    device_id=measurement.device.device_id,
                    settings=_settings_key(measurement.settings),
                    arch_id=arch_id,
                    reference_arch_id=reference_arch_id,
                    document=json.dumps(document),
                    created_at=_now(),
                )
            )
            (measurement_id,) = result.inserted_primary_key or (None,)
            _insert_process_runs(connection, measurement.blocks)
            if blocks:
                connection.execute(
                    sa.insert(_blocks),
                    [
                        {"measurement_id": measurement_id, "index": block["index"]}
                        | {part: block[part]["run_id"] for part in _RUN_PARTS}
                        for block in blocks
                    ],
                )

    def _read_blocks(self, connection: sa.Connection, measurement_id: int) -> list[dict[str, Any]]:
        blocks = connection.execute(
            sa.select(_blocks).filter_by(measurement_id=measurement_id).order_by(_blocks.c.index)
        ).all()
        used = {run_id for block in blocks for run_id in block[2:]}
        query = sa.select(_process_runs).where(_process_runs.c.run_id.in_(used))
        runs = {row.run_id: json.loads(row.document) for row in connection.execute(query)}
        return [{"index": block.index} | {part: runs[getattr(block, part)] for part in _RUN_PARTS} for block in blocks]

    @contextmanager
    def _connection(self) -> Iterator[sa.Connection]:
        with self._errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            cause = getattr(error, "orig", None) or error.__cause__ or error
            reason = str(cause).strip().splitlines()[0]
            raise StoreError(
                f"store {self._name} cannot be used: {reason}; check the path, its permissions and the free disk space"
            ) from error


class _OptunaStorage(RDBStorage):
    """Optuna's storage, able to write all parameters of a trial in one transaction.

    Optuna writes each parameter in a transaction of its own. A 12-layer space
    with free widths and groups has about a hundred, which would cost more than
    drawing them.
    """

    def __init__(self, url: str) -> None:
        kwargs: dict[str, Any] = {"pool_pre_ping": True}
        if url.startswith("sqlite"):
            kwargs = {"connect_args": {"timeout": 60}}
            _make_folder(url)
        super().__init__(url, engine_kwargs=kwargs)
        self._held: dict[int, list[dict[str, object]]] | None = None
        if url.startswith("sqlite"):
            # Optuna connects before a listener can be set; start the connections again with it.
            sa.event.listen(self.engine, "connect", _set_pragmas)
            self.engine.dispose()

    @contextmanager
    def one_write_per_trial(self) -> Iterator[None]:
        """Hold the parameters suggested inside the block, and write them together at its end."""
        self._held = {}
        try:
            yield
            rows = [row for rows in self._held.values() for row in rows]
            if rows:
                with self.engine.begin() as connection:
                    connection.execute(sa.insert(_trial_params), rows)
        finally:
            self._held = None

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        if self._held is None:
            super()._set_trial_param(trial_id, param_name, param_value_internal, distribution, previous_distribution)
            return
        self._held.setdefault(trial_id, []).append(
            {
                "trial_id": trial_id,
                "param_name": param_name,
                "param_value": param_value_internal,
                "distribution_json": distribution_to_json(distribution),
            }
        )


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite store at ``path``."""
    return f"sqlite:///{path}"


def _make_folder(url: str) -> None:
    database = sa.make_url(url).database
    if database and database != ":memory:":
        Path(database).parent.mkdir(parents=True, exist_ok=True)


def _set_pragmas(connection: Any, _record: object) -> None:
    # Write-ahead logging survives a killed process at any point and needs no disk flush per commit.
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _settings_key(settings: RunSettings) -> str:
    return json.dumps(to_document(settings), sort_keys=True)


def _insert_process_runs(connection: sa.Connection, blocks: tuple[Block, ...]) -> None:
    runs: dict[str, ProcessRun] = {}
    for block in blocks:
        runs |= {run.run_id: run for run in (block.reference_before, block.candidate, block.reference_after)}
    # Candidates of one session share the references between them, so some runs are there already.
    present = set(
        connection.execute(sa.select(_process_runs.c.run_id).where(_process_runs.c.run_id.in_(runs))).scalars()
    )
    rows = [
        {"run_id": run_id, "document": json.dumps(to_document(run))}
        for run_id, run in runs.items()
        if run_id not in present
    ]
    if rows:
        connection.execute(sa.insert(_process_runs), rows)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
