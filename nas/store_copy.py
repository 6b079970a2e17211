"""A store copied into another, of either database: everything, checked before and afterwards, nothing overwritten.

The copy goes in pieces that are each whole: a piece that is there already is
compared and left alone, so a copy that was stopped goes on when it is started
again. Runs come last: one that is there has all it needs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa

from nas.errors import StoreError
from nas.store import Store
from nas.store_errors import store_errors
from nas.store_kinds import ROW_KINDS, Key, Kind
from nas.store_schema import require_store
from nas.store_studies import RunKind
from nas.store_url import parse_store_url, show_url, sqlite_path

T = TypeVar("T")

KINDS: tuple[Kind, ...] = (*ROW_KINDS, RunKind())


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedKind:
    """What came of the records of one kind.

    ``num_copied`` of ``num_records`` were not there before. The hashes are over
    the content of the records in FROM and of those of the same keys in TO, each
    read from its own database after the copy.
    """

    name: str
    num_records: int
    num_copied: int
    part_name: str
    num_parts: int
    from_sha256: str
    to_sha256: str


def copy_store(from_url: str, to_url: str, *, on_progress: Callable[[str, int, int], None]) -> tuple[CopiedKind, ...]:
    """Copy all that a store holds into another one, which is made if it is not there.

    Args:
        from_url: The store to read. What is written to it meanwhile is not copied.
        to_url: The store to copy into. What it holds besides stays.
        on_progress: Called with a kind's name, how many of its records are copied, and how many are to be.

    Raises:
        StoreError: If there is no store to copy, one of the two cannot be used, or the other holds
            one of the records with other content: then nothing is written.
    """
    source_place, target_place = parse_store_url(from_url), parse_store_url(to_url)
    if _place(source_place) == _place(target_place):
        raise StoreError(f"{show_url(source_place)} cannot be copied to itself")
    require_store(source_place)
    source, target = Store(from_url), Store(to_url)
    try:
        with store_errors(source_place), _snapshot(source) as reading:
            missing = {kind.name: _find_missing(kind, reading, target, where=show_url(target_place)) for kind in KINDS}
            for kind in KINDS:
                keys = missing[kind.name]
                for start in range(0, len(keys), kind.num_at_once):
                    records = kind.read(reading, keys[start : start + kind.num_at_once])
                    target.transaction(partial(kind.write, records=records))
                    on_progress(kind.name, start + len(records), len(keys))
            return tuple(_verify(kind, reading, target, num_copied=len(missing[kind.name])) for kind in KINDS)
    finally:
        source.close()
        target.close()


def _find_missing(kind: Kind, reading: sa.Connection, target: Store, *, where: str) -> list[Key]:
    """Return the keys of the records that are not in the target.

    Raises:
        StoreError: If the target has one with other content.
    """
    missing = []
    for keys in _pieces(kind, reading):
        there = target.transaction(partial(kind.read, keys=keys))
        here = kind.read(reading, [key for key in keys if key in there])
        for key in keys:
            if key not in there:
                missing.append(key)
            elif _line(kind.content(here[key])) != _line(kind.content(there[key])):
                raise StoreError(
                    f"store {where} holds other content under {kind.name} {'/'.join(key)}: nothing was copied; "
                    "copy into an empty database"
                )
    return missing


def _verify(kind: Kind, reading: sa.Connection, target: Store, *, num_copied: int) -> CopiedKind:
    here_hash, there_hash = hashlib.sha256(), hashlib.sha256()
    num_records = num_parts = 0
    for keys in _pieces(kind, reading):
        here = kind.read(reading, keys)
        there = target.transaction(partial(kind.read, keys=keys))
        for key in keys:
            num_records += 1
            num_parts += kind.num_parts(here[key])
            here_hash.update(_line(kind.content(here[key])))
            there_hash.update(_line(kind.content(there[key]) if key in there else None))
    if here_hash.digest() != there_hash.digest():
        raise StoreError(
            f"the {kind.name} of the copy are not those of the original: somebody changes it; "
            "end what uses it, and give the same command again"
        )
    return CopiedKind(
        name=kind.name,
        num_records=num_records,
        num_copied=num_copied,
        part_name=kind.part_name,
        num_parts=num_parts,
        from_sha256=here_hash.hexdigest(),
        to_sha256=there_hash.hexdigest(),
    )


@contextmanager
def _snapshot(store: Store) -> Iterator[sa.Connection]:
    """Give a connection that sees the store as it is now until the block ends."""
    with store.optuna_storage.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            # The driver itself begins no transaction before it only reads.
            connection.exec_driver_sql("BEGIN")
        else:
            connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection


def _pieces(kind: Kind, reading: sa.Connection) -> Iterator[Sequence[Key]]:
    keys = kind.keys(reading)
    for start in range(0, len(keys), kind.num_at_once):
        yield keys[start : start + kind.num_at_once]


def _line(content: Any) -> bytes:
    return json.dumps(content, sort_keys=True, default=_date).encode() + b"\n"


def _date(value: datetime) -> str:
    return value.isoformat()


def _place(url: sa.URL) -> tuple[object, ...]:
    path = sqlite_path(url)
    return (path.resolve(),) if path is not None else (url.host, url.port, url.database)
