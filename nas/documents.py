"""Frozen dataclasses to JSON documents and back, exactly.

The store keeps measurements and scores as documents: their numbers are read
whole or not at all, and a new field needs no new column.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from nas.errors import StoreError

T = TypeVar("T")


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
        return typing.cast("T", _read(kind, document))
    except (AttributeError, TypeError, ValueError) as error:
        raise StoreError(
            f"the store holds a {kind.__name__} this release cannot read: {error}; use the release that wrote it"
        ) from error


def _read(kind: Any, document: Any) -> Any:
    if document is None:
        return None
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = _hints(kind)
        unknown = sorted(set(document) - set(hints))
        if unknown:
            raise TypeError(f"{kind.__name__} has no field {unknown[0]!r}")
        return kind(**{name: _read(hints[name], item) for name, item in document.items()})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(document)
    if isinstance(kind, types.UnionType):
        return _read(next(member for member in typing.get_args(kind) if member is not types.NoneType), document)
    if typing.get_origin(kind) is tuple:
        members = typing.get_args(kind)
        if members[-1] is Ellipsis:
            return tuple(_read(members[0], item) for item in document)
        return tuple(_read(member, item) for member, item in zip(members, document, strict=True))
    return document


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)
