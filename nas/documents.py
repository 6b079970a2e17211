"""Frozen dataclasses to JSON documents and back, exactly.

The store keeps measurements and scores as documents: their numbers are read
whole or not at all, and a new field needs no new column.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from nas.errors import StoreError

T = TypeVar("T")

# What JSON reads as it is.
_PLAIN = (int, float, str, bool)


def to_document(value: Any) -> Any:
    """Turn a dataclass of numbers, strings, enums, tuples and dataclasses into JSON's types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_document(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [to_document(item) for item in value]
    return value


def from_document(kind: type[T], document: Any) -> T:
    """Rebuild a value of type ``kind`` from `to_document` output.

    Raises:
        StoreError: If a field is missing or unknown, or an enum has no such member: another release wrote it.
    """
    try:
        return typing.cast("T", _reader(typing.cast("Hashable", kind))(document))
    except (AttributeError, TypeError, ValueError) as error:
        raise StoreError(
            f"the store holds a {kind.__name__} this release cannot read: {error}; use the release that wrote it"
        ) from error


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """Return what rebuilds a value of type ``kind``: types are looked into once, documents by the ten thousand."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        # What JSON reads as it is needs no reader.
        readers = {name: _reader(hint) for name, hint in hints.items() if not _is_plain(hint)}
        return lambda document: None if document is None else _read_fields(kind, hints.keys(), readers, document)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda document: None if document is None else kind(document)
    if isinstance(kind, types.UnionType):
        return _reader(next(member for member in typing.get_args(kind) if member is not types.NoneType))
    if typing.get_origin(kind) is tuple:
        members = typing.get_args(kind)
        if members[-1] is not Ellipsis:
            if _plain_count(kind) is not None:
                return lambda document: None if document is None else _as_many(document, len(members))
            readers_of = tuple(_reader(member) for member in members)
            return lambda document: None if document is None else _read_each(readers_of, document)
        if members[0] in _PLAIN:
            return lambda document: None if document is None else tuple(document)
        if (count := _plain_count(members[0])) is not None:
            return lambda document: None if document is None else _as_rows(document, count)
        of_each = _reader(members[0])
        return lambda document: None if document is None else tuple(map(of_each, document))
    return lambda document: document


def _is_plain(kind: Any) -> bool:
    if isinstance(kind, types.UnionType):
        return all(member in (*_PLAIN, types.NoneType) for member in typing.get_args(kind))
    return kind in _PLAIN


def _read_fields(kind: Any, names: Set[str], readers: Mapping[str, Callable[[Any], Any]], document: Any) -> Any:
    if not document.keys() <= names:
        raise TypeError(f"{kind.__name__} has no field {min(document.keys() - names)!r}")
    values = dict(document)
    for name, read in readers.items():
        if name in values:
            values[name] = read(values[name])
    return kind(**values)


def _plain_count(kind: Any) -> int | None:
    """Return how many values a tuple of plain ones has; ``None`` of any other type."""
    members = typing.get_args(kind) if typing.get_origin(kind) is tuple else ()
    return len(members) if members and all(member in _PLAIN for member in members) else None


def _as_rows(document: Any, count: int) -> tuple[Any, ...]:
    # All at once, as the readings of ten thousand devices are half a million pairs.
    if any(len(row) != count for row in document):
        raise ValueError(f"rows of {count} values are expected, got {document}")
    return tuple(map(tuple, document))


def _as_many(document: Any, count: int) -> tuple[Any, ...]:
    if len(document) != count:
        raise ValueError(f"{count} values are expected, got {len(document)}")
    return tuple(document)


def _read_each(readers: Sequence[Callable[[Any], Any]], document: Any) -> tuple[Any, ...]:
    return tuple(read(item) for read, item in zip(readers, document, strict=True))
