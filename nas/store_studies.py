"""Runs as they move between stores: Optuna's studies with all attributes and trials, free of the numbers of rows.

Optuna's own copy of a study writes trial after trial, so that one that was
stopped leaves half a study under the full name; it gives the trials new
numbers of rows without changing the attributes in which the genetic samplers
keep such numbers; and it leaves heartbeats out. Here a study is one
transaction, whole, and those attributes name trials by their place in the study.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from nas.errors import StoreError
from nas.store_kinds import Key, Record

# Where a connection keeps what it learned of the tables.
_TABLES = "nas:optuna_tables"
_STUDIES = "studies"
_TRIALS = "trials"
_STUDY_ID = "study_id"
_TRIAL_ID = "trial_id"
# The study's attribute in which a genetic sampler keeps the trials of a generation.
_PARENTS = re.compile(r".+:parent:\d+")


class RunKind:
    """Runs; their parts are trials. See `nas.store_kinds.Kind`."""

    name = "runs"
    part_name = "trials"
    num_at_once = 1

    def keys(self, connection: sa.Connection) -> list[Key]:
        """See `nas.store_kinds.Kind`."""
        query = sa.select(_optuna_tables(connection)[_STUDIES].c.study_name)
        return sorted((name,) for name in connection.execute(query).scalars())

    def read(self, connection: sa.Connection, keys: Sequence[Key]) -> dict[Key, Record]:
        """See `nas.store_kinds.Kind`."""
        found = _optuna_tables(connection)
        studies = found[_STUDIES]
        query = sa.select(studies.c.study_id, studies.c.study_name)
        query = query.where(studies.c.study_name.in_([key[0] for key in keys]))
        return {(row.study_name,): _read_study(connection, found, row.study_id) for row in connection.execute(query)}

    def write(self, connection: sa.Connection, records: Mapping[Key, Record]) -> None:
        """See `nas.store_kinds.Kind`."""
        there = self.read_names(connection)
        for (name,), record in records.items():
            if name not in there:
                _write_study(connection, _optuna_tables(connection), name, record)

    def read_names(self, connection: sa.Connection) -> set[str]:
        """Return the names of all runs."""
        return {name for (name,) in self.keys(connection)}

    def content(self, record: Record) -> Any:
        """See `nas.store_kinds.Kind`."""
        return record

    def num_parts(self, record: Record) -> int:
        """See `nas.store_kinds.Kind`."""
        return len(record["trials"])


def _optuna_tables(connection: sa.Connection) -> dict[str, sa.Table]:
    """Return Optuna's tables that hold studies, as the database has them, those that are referred to first.

    Raises:
        StoreError: If one refers to something else than studies and trials.
    """
    known: dict[str, sa.Table] | None = connection.info.get(_TABLES)
    if known is not None:
        return known
    metadata = sa.MetaData()
    metadata.reflect(connection, only=lambda name, _: not name.startswith("nas_"))
    found = {_STUDIES: metadata.tables[_STUDIES]}
    for table in metadata.sorted_tables:
        referred = {key.column.table.name for key in table.foreign_keys}
        if referred & found.keys():
            if not referred <= {_STUDIES, _TRIALS}:
                raise StoreError(f"table {table.name!r} of Optuna is not known here; update pocketbert")
            found[table.name] = table
    connection.info[_TABLES] = found
    return found


def _read_study(connection: sa.Connection, found: Mapping[str, sa.Table], study_id: int) -> Record:
    trials = found[_TRIALS]
    of_study = sa.select(trials).where(trials.c.study_id == study_id).order_by(trials.c.number)
    rows = connection.execute(of_study).mappings().all()
    numbers = {row[_TRIAL_ID]: row["number"] for row in rows}
    record: Record = {"trials": [_without_ids(trials, row) for row in rows]}
    for name, table in found.items():
        if name in (_STUDIES, _TRIALS):
            continue
        order = list(table.primary_key.columns)
        if _TRIAL_ID in table.c:
            query = sa.select(trials.c.number.label("of"), table).join(trials, table.c.trial_id == trials.c.trial_id)
            query = query.where(trials.c.study_id == study_id).order_by(trials.c.number, *order)
        else:
            query = sa.select(table).where(table.c.study_id == study_id).order_by(*order)
        record[name] = [
            ({"of": row["of"]} if _TRIAL_ID in table.c else {}) | _without_ids(table, row)
            for row in connection.execute(query).mappings()
        ]
    for row in record["study_system_attributes"]:
        if _PARENTS.fullmatch(row["key"]):
            row["value_json"] = json.dumps([numbers.get(trial_id) for trial_id in json.loads(row["value_json"])])
    return record


def _write_study(connection: sa.Connection, found: Mapping[str, sa.Table], name: str, record: Record) -> None:
    inserted = connection.execute(sa.insert(found[_STUDIES]).values(study_name=name))
    study_id = (inserted.inserted_primary_key or (0,))[0]
    trials = found[_TRIALS]
    rows = [row | {_STUDY_ID: study_id} for row in record["trials"]]
    ids: dict[int, int] = {}
    if rows:
        # In order, so that what is sorted by the numbers of rows stays as it was.
        returning = sa.insert(trials).returning(trials.c.number, trials.c.trial_id, sort_by_parameter_order=True)
        ids = {row.number: row.trial_id for row in connection.execute(returning, rows)}
    for table_name, table in found.items():
        if table_name in (_STUDIES, _TRIALS) or not record[table_name]:
            continue
        written = []
        for row in record[table_name]:
            values = {column: value for column, value in row.items() if column != "of"}
            values |= {_TRIAL_ID: ids[row["of"]]} if _TRIAL_ID in table.c else {_STUDY_ID: study_id}
            if table_name == "study_system_attributes" and _PARENTS.fullmatch(row["key"]):
                values["value_json"] = json.dumps([ids.get(number) for number in json.loads(row["value_json"])])
            written.append(values)
        connection.execute(sa.insert(table), written)


def _without_ids(table: sa.Table, row: sa.RowMapping) -> dict[str, Any]:
    """Return a row without its own number and those of its study and trial."""
    left_out = {column.name for column in table.primary_key.columns} | {_STUDY_ID, _TRIAL_ID}
    return {column.name: row[column.name] for column in table.c if column.name not in left_out}
