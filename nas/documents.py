"""Frozen dataclasses to JSON documents and back, exactly.

The store keeps measurements and scores as documents: their numbers are read
whole or not at all, and a new field needs no new column.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Hashable, Mapping, Sequence
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
        readers = {name: _reader(hint) for name, hint in typing.get_type_hints(kind).items()}
        return lambda document: None if document is None else _read_fields(kind, readers, document)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda document: None if document is None else kind(document)
    if isinstance(kind, types.UnionType):
        return _reader(next(member for member in typing.get_args(kind) if member is not types.NoneType))
    if typing.get_origin(kind) is tuple:
        members = typing.get_args(kind)
        if members[-1] is not Ellipsis:
            if all(member in _PLAIN for member in members):
                return lambda document: None if document is None else _as_many(document, len(members))
            readers_of = tuple(_reader(member) for member in members)
            return lambda document: None if document is None else _read_each(readers_of, document)
        if members[0] in _PLAIN:
            return lambda document: None if document is None else tuple(document)
        of_each = _reader(members[0])
        return lambda document: None if document is None else tuple(map(of_each, document))
    return lambda document: document


def _read_fields(kind: Any, readers: Mapping[str, Callable[[Any], Any]], document: Any) -> Any:
    if not document.keys() <= readers.keys():
        raise TypeError(f"{kind.__name__} has no field {min(document.keys() - readers.keys())!r}")
    return kind(**{name: readers[name](item) for name, item in document.items()})


def _as_many(document: Any, count: int) -> tuple[Any, ...]:
    if len(document) != count:
        raise ValueError(f"{count} values are expected, got {len(document)}")
    return tuple(document)


def _read_each(readers: Sequence[Callable[[Any], Any]], document: Any) -> tuple[Any, ...]:
    return tuple(read(item) for read, item in zip(readers, document, strict=True))
