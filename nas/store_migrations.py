"""Steps from each version of our tables to the next.

A step is frozen when its version is released: it says what the tables became
then, whatever `nas.tables` says later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import sqlalchemy as sa


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


_STEPS: dict[int, Callable[[sa.Connection], None]] = {1: _to_version_2}
OLDEST_VERSION = min(_STEPS)
