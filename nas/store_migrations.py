"""Steps from each version of our tables to the next.

A step is frozen when its version is released: it says what the tables became
then, whatever `nas.tables` says later.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import sqlalchemy as sa

from device_lab.measurement import Block
from device_lab.timed import digest
from nas.documents import from_document


def migrate(connection: sa.Connection, *, version: int) -> int:
    """Bring our tables one version further, inside the caller's transaction.

    Returns:
        The version they have then.
    """
    _STEPS[version](connection)
    connection.execute(sa.text("UPDATE nas_schema SET version = :new"), {"new": version + 1})
    return version + 1


def _to_version_2(connection: sa.Connection) -> None:
    """Name measurements and certificates across stores; add claims and profiles."""
    _add_key(connection, "nas_measurements", number="measurement_id", subject=("device_id", "settings", "arch_id"))
    _add_key(connection, "nas_qualifications", number="qualification_id", subject=("device_id", "settings"))
    if connection.dialect.name == "postgresql":  # SQLite keeps no limit of length.
        for table in ("nas_measurements", "nas_qualifications"):
            connection.execute(sa.text(f"ALTER TABLE {table} ALTER COLUMN settings TYPE TEXT"))
    _version_2_tables().create_all(connection)


def _add_key(connection: sa.Connection, table: str, *, number: str, subject: tuple[str, ...]) -> None:
    """Add a column with a name made of what a row is, so that copies of one file get the same names."""
    connection.execute(sa.text(f"ALTER TABLE {table} ADD COLUMN key VARCHAR(32) NOT NULL DEFAULT ''"))
    rows = connection.execute(sa.text(f"SELECT {number}, created_at, {', '.join(subject)} FROM {table}")).all()
    for row in rows:
        key = hashlib.sha256(repr((table, *row)).encode()).hexdigest()[:32]
        connection.execute(
            sa.text(f"UPDATE {table} SET key = :key WHERE {number} = :number"), {"key": key, "number": row[0]}
        )
    connection.execute(sa.text(f"CREATE UNIQUE INDEX ix_{table}_key ON {table} (key)"))


def _version_2_tables() -> sa.MetaData:
    metadata = sa.MetaData()
    sa.Table(
        "nas_profiles",
        metadata,
        sa.Column("profile_id", sa.Integer, primary_key=True),
        sa.Column("key", sa.String(32), nullable=False, index=True, unique=True),
        sa.Column("device_id", sa.String(128), nullable=False),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("arch_id", sa.String(12), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Index("nas_profiles_subject", "device_id", "settings", "arch_id"),
    )
    sa.Table(
        "nas_claims",
        metadata,
        sa.Column("subject", sa.String(255), primary_key=True),
        sa.Column("holder", sa.String(64)),
        sa.Column("expires_at_s", sa.Double, nullable=False),
        sa.Column("num_deaths", sa.Integer, nullable=False),
    )
    return metadata


def _to_version_3(connection: sa.Connection) -> None:
    """Keep the medians of a measurement's blocks beside it; find the newest ones."""
    connection.execute(sa.text("ALTER TABLE nas_measurements ADD COLUMN digest TEXT"))
    connection.execute(sa.text("CREATE INDEX nas_measurements_newest ON nas_measurements (created_at, device_id)"))
    finished = connection.execute(sa.text("SELECT measurement_id FROM nas_measurements WHERE document IS NOT NULL"))
    for number in finished.scalars().all():
        rows = connection.execute(_BLOCKS_OF_VERSION_2, {"number": number}).all()
        blocks = [
            {"index": row[0], "reference_before": row[1], "candidate": row[2], "reference_after": row[3]}
            for row in ((index, *map(json.loads, documents)) for index, *documents in rows)
        ]
        connection.execute(
            sa.text("UPDATE nas_measurements SET digest = :digest WHERE measurement_id = :number"),
            {"digest": digest(from_document(tuple[Block, ...], blocks)).to_json(), "number": number},
        )


_BLOCKS_OF_VERSION_2 = sa.text(
    'SELECT b."index", r.document, c.document, a.document FROM nas_blocks b '
    "JOIN nas_process_runs r ON r.run_id = b.reference_before "
    "JOIN nas_process_runs c ON c.run_id = b.candidate "
    "JOIN nas_process_runs a ON a.run_id = b.reference_after "
    'WHERE b.measurement_id = :number ORDER BY b."index"'
)
_STEPS: dict[int, Callable[[sa.Connection], None]] = {1: _to_version_2, 2: _to_version_3}
OLDEST_VERSION = min(_STEPS)
