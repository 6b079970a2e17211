"""Stores as an earlier release made them."""

from __future__ import annotations

import sqlalchemy as sa
from optuna.storages import RDBStorage

VERSION_1 = sa.MetaData()
sa.Table("nas_schema", VERSION_1, sa.Column("version", sa.Integer, primary_key=True))
sa.Table(
    "nas_scores",
    VERSION_1,
    sa.Column("settings_id", sa.String(64), primary_key=True),
    sa.Column("arch_id", sa.String(12), primary_key=True),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
)
sa.Table(
    "nas_process_runs",
    VERSION_1,
    sa.Column("run_id", sa.String(32), primary_key=True),
    sa.Column("document", sa.Text, nullable=False),
)
sa.Table(
    "nas_measurements",
    VERSION_1,
    sa.Column("measurement_id", sa.Integer, primary_key=True),
    sa.Column("device_id", sa.String(128), nullable=False),
    sa.Column("settings", sa.String(255), nullable=False),
    sa.Column("arch_id", sa.String(12), nullable=False),
    sa.Column("reference_arch_id", sa.String(12), nullable=False),
    sa.Column("precision", sa.String(16), nullable=False),
    sa.Column("document", sa.Text),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Index("nas_measurements_subject", "device_id", "settings", "reference_arch_id", "arch_id"),
)
sa.Table(
    "nas_blocks",
    VERSION_1,
    sa.Column("measurement_id", sa.ForeignKey("nas_measurements.measurement_id"), primary_key=True),
    sa.Column("index", sa.Integer, primary_key=True),
    sa.Column("reference_before", sa.ForeignKey("nas_process_runs.run_id"), nullable=False),
    sa.Column("candidate", sa.ForeignKey("nas_process_runs.run_id"), nullable=False),
    sa.Column("reference_after", sa.ForeignKey("nas_process_runs.run_id"), nullable=False),
)
sa.Table(
    "nas_qualifications",
    VERSION_1,
    sa.Column("qualification_id", sa.Integer, primary_key=True),
    sa.Column("device_id", sa.String(128), nullable=False),
    sa.Column("settings", sa.String(255), nullable=False),
    sa.Column("reference_arch_id", sa.String(12), nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Index("nas_qualifications_subject", "device_id", "settings", "reference_arch_id"),
)


def make_version_1(url: str) -> sa.Engine:
    """Make an empty store of version 1, and return an engine for it."""
    storage = RDBStorage(url)
    storage.remove_session()
    storage.engine.dispose()
    engine = sa.create_engine(url)
    VERSION_1.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(VERSION_1.tables["nas_schema"]), [{"version": 1}])
    return engine
