from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

import pytest

from nas.documents import from_document, to_document
from nas.errors import StoreError


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    text: str | None
    colour: Colour
    many: tuple[Inner, ...]
    pair: tuple[str, float]
    maybe: Inner | None
    default: int = 7


FULL = Outer(text=None, colour=Colour.RED, many=(Inner(number=1), Inner(number=2)), pair=("a", 0.1), maybe=None)


def test_a_value_survives_json() -> None:
    assert from_document(Outer, json.loads(json.dumps(to_document(FULL)))) == FULL


def test_a_field_that_was_added_later_takes_its_default() -> None:
    document = to_document(FULL)
    del document["default"]

    assert from_document(Outer, document) == FULL


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(StoreError, match="cannot read: Outer has no field 'extra'"):
        from_document(Outer, to_document(FULL) | {"extra": 1})


def test_an_unknown_member_of_an_enum_is_refused() -> None:
    with pytest.raises(StoreError, match=r"holds a Outer this release cannot read: .*blue"):
        from_document(Outer, to_document(FULL) | {"colour": "blue"})


def test_rows_of_another_length_are_refused() -> None:
    assert from_document(tuple[tuple[str, str], ...], [["a", "1"], ["b", "2"]]) == (("a", "1"), ("b", "2"))
    with pytest.raises(StoreError, match=r"rows of 2 values are expected"):
        from_document(tuple[tuple[str, str], ...], [["a", "1"], ["b"]])
