"""The tables beside Optuna's, all of them here, so that a store has one schema wherever it is opened first."""

from __future__ import annotations

import uuid

import sqlalchemy as sa

METADATA = sa.MetaData()


def new_key() -> str:
    """Return a name for a row that no other row has, in this store or another."""
    return uuid.uuid4().hex


def _key() -> sa.Column[str]:
    """Return the column that names a row in every store it is copied to; its number is its own store's."""
    return sa.Column("key", sa.String(32), nullable=False, index=True, unique=True)


schema = sa.Table("nas_schema", METADATA, sa.Column("version", sa.Integer, primary_key=True))
scores = sa.Table(
    "nas_scores",
    METADATA,
    sa.Column("settings_id", sa.String(64), primary_key=True),
    sa.Column("arch_id", sa.String(12), primary_key=True),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
)
process_runs = sa.Table(
    "nas_process_runs",
    METADATA,
    sa.Column("run_id", sa.String(32), primary_key=True),
    sa.Column("document", sa.Text, nullable=False),
)
measurements = sa.Table(
    "nas_measurements",
    METADATA,
    sa.Column("measurement_id", sa.Integer, primary_key=True),
    _key(),
    sa.Column("device_id", sa.String(128), nullable=False),
    sa.Column("settings", sa.Text, nullable=False),
    sa.Column("arch_id", sa.String(12), nullable=False),
    sa.Column("reference_arch_id", sa.String(12), nullable=False),
    sa.Column("precision", sa.String(16), nullable=False),
    # Empty until the measurement is finished; its blocks are kept as they come.
    sa.Column("document", sa.Text),
    sa.Column("created_at", sa.String(32), nullable=False),
    # The medians of its blocks, once it is finished: what most readers need of a hundred times as many samples.
    sa.Column("digest", sa.Text),
    sa.Index("nas_measurements_subject", "device_id", "settings", "reference_arch_id", "arch_id"),
    sa.Index("nas_measurements_newest", "created_at", "device_id"),
)
blocks = sa.Table(
    "nas_blocks",
    METADATA,
    sa.Column("measurement_id", sa.ForeignKey("nas_measurements.measurement_id"), primary_key=True),
    sa.Column("index", sa.Integer, primary_key=True),
    sa.Column("reference_before", sa.ForeignKey("nas_process_runs.run_id"), nullable=False),
    sa.Column("candidate", sa.ForeignKey("nas_process_runs.run_id"), nullable=False),
    sa.Column("reference_after", sa.ForeignKey("nas_process_runs.run_id"), nullable=False),
)
qualifications = sa.Table(
    "nas_qualifications",
    METADATA,
    sa.Column("qualification_id", sa.Integer, primary_key=True),
    _key(),
    sa.Column("device_id", sa.String(128), nullable=False),
    sa.Column("settings", sa.Text, nullable=False),
    sa.Column("reference_arch_id", sa.String(12), nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Index("nas_qualifications_subject", "device_id", "settings", "reference_arch_id"),
)
profiles = sa.Table(
    "nas_profiles",
    METADATA,
    sa.Column("profile_id", sa.Integer, primary_key=True),
    _key(),
    sa.Column("device_id", sa.String(128), nullable=False),
    sa.Column("settings", sa.Text, nullable=False),
    sa.Column("arch_id", sa.String(12), nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Index("nas_profiles_subject", "device_id", "settings", "arch_id"),
)
# Who works on what: a row whose holder has not renewed its lease by ``expires_at_s`` is anybody's.
claims = sa.Table(
    "nas_claims",
    METADATA,
    sa.Column("subject", sa.String(255), primary_key=True),
    # Empty while nobody holds it; the count of deaths stays.
    sa.Column("holder", sa.String(64)),
    # Seconds since 1970 by the clock of the database, the one clock all workers share.
    sa.Column("expires_at_s", sa.Double, nullable=False),
    sa.Column("num_deaths", sa.Integer, nullable=False),
)
