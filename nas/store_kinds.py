"""What a store holds beside its runs, kind by kind, in a form that is the same in every database.

A record is named by a key that means the same in every store; the numbers that
a database gives its rows are not in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import sqlalchemy as sa

from nas import tables
from nas.store_engine import insert_new

Key = tuple[str, ...]
Record = dict[str, Any]


class Kind(Protocol):
    """Records of one kind: found, read and written by their keys. ``part_name`` says what they consist of, if of parts.

    ``num_at_once`` is how many are read or written together.
    """

    @property
    def name(self) -> str:
        """What they are called, in the plural."""
        ...

    @property
    def part_name(self) -> str:
        """What their parts are called, in the plural; "" if they have none."""
        ...

    @property
    def num_at_once(self) -> int:
        """How many of them are moved together."""
        ...

    def keys(self, connection: sa.Connection) -> list[Key]:
        """Return the keys of all records: in the order they were made, where that is known, or else sorted."""
        ...

    def read(self, connection: sa.Connection, keys: Sequence[Key]) -> dict[Key, Record]:
        """Return those records that are there, in the order of their keys."""
        ...

    def write(self, connection: sa.Connection, records: Mapping[Key, Record]) -> None:
        """Insert records; one whose key is there stays as it is."""
        ...

    def content(self, record: Record) -> Any:
        """Return what of a record has to be the same in two stores, as JSON's types and dates."""
        ...

    def num_parts(self, record: Record) -> int:
        """Return how many parts a record has."""
        ...


class RowKind:
    """A kind whose record is one row.

    Args:
        name: What they are called.
        table: Where they are.
        key: The columns that name a row in every store.
        number: The column with the store's own number, if there is one.
    """

    part_name = ""
    num_at_once = 500

    def __init__(self, name: str, table: sa.Table, *, key: Sequence[str], number: str | None = None) -> None:
        self.name = name
        self.table = table
        self._key = tuple(table.c[column] for column in key)
        self._number = None if number is None else table.c[number]
        self._columns = [column for column in table.c if column.name != number]

    def keys(self, connection: sa.Connection) -> list[Key]:
        """See `Kind`."""
        query = sa.select(*self._key).order_by(self._number)
        keys = [tuple(row) for row in connection.execute(query)]
        # Databases sort text each in their own way.
        return sorted(keys) if self._number is None else keys

    def read(self, connection: sa.Connection, keys: Sequence[Key]) -> dict[Key, Record]:
        """See `Kind`."""
        query = sa.select(*self._columns).where(self.are(keys))
        rows = [dict(row) for row in connection.execute(query).mappings()]
        found = {tuple(row[column.name] for column in self._key): row for row in rows}
        return {key: found[key] for key in keys if key in found}

    def write(self, connection: sa.Connection, records: Mapping[Key, Record]) -> None:
        """See `Kind`."""
        insert_new(connection, self.table, list(records.values()))

    def content(self, record: Record) -> Any:
        """See `Kind`."""
        return record

    def num_parts(self, _record: Record) -> int:
        """See `Kind`."""
        return 0

    def are(self, keys: Sequence[Key]) -> sa.ColumnElement[bool]:
        """Return the condition that a row has one of these keys."""
        if len(self._key) == 1:
            return self._key[0].in_([key[0] for key in keys])
        return sa.tuple_(*self._key).in_(keys)


class ScoreKind(RowKind):
    """Scores. How long one took, and when, differs wherever the same was scored twice."""

    def content(self, record: Record) -> Any:
        """See `Kind`."""
        document = json.loads(record["document"])
        document.pop("duration_s", None)
        return [record["settings_id"], record["arch_id"], document]


class MeasurementKind(RowKind):
    """Measurements with their blocks. The runs of processes that blocks name have to be there before."""

    part_name = "blocks"
    num_at_once = 100
    _parts = tuple(column for column in tables.blocks.c if column.name != "measurement_id")

    def read(self, connection: sa.Connection, keys: Sequence[Key]) -> dict[Key, Record]:
        """See `Kind`."""
        records = super().read(connection, keys)
        for record in records.values():
            record["blocks"] = []
        query = sa.select(tables.measurements.c.key.label("of"), *self._parts)
        query = query.select_from(tables.measurements.join(tables.blocks))
        for row in connection.execute(query.where(self.are(keys)).order_by("of", tables.blocks.c.index)).mappings():
            block = dict(row)
            records[(block.pop("of"),)]["blocks"].append(block)
        return records

    def write(self, connection: sa.Connection, records: Mapping[Key, Record]) -> None:
        """See `Kind`."""
        rows = [{name: value for name, value in record.items() if name != "blocks"} for record in records.values()]
        insert_new(connection, self.table, rows)
        query = sa.select(tables.measurements.c.key, tables.measurements.c.measurement_id)
        numbers = {row.key: row.measurement_id for row in connection.execute(query.where(self.are(list(records))))}
        blocks = [
            {"measurement_id": numbers[key], **block}
            for (key,), record in records.items()
            for block in record["blocks"]
        ]
        if blocks:
            insert_new(connection, tables.blocks, blocks)

    def num_parts(self, record: Record) -> int:
        """See `Kind`."""
        return len(record["blocks"])


# Claims are left out: they are of processes that work on this store and on no other.
ROW_KINDS: tuple[Kind, ...] = (
    RowKind("process runs", tables.process_runs, key=("run_id",)),
    ScoreKind("scores", tables.scores, key=("settings_id", "arch_id")),
    MeasurementKind("measurements", tables.measurements, key=("key",), number="measurement_id"),
    RowKind("certificates", tables.qualifications, key=("key",), number="qualification_id"),
    RowKind("profiles", tables.profiles, key=("key",), number="profile_id"),
)
