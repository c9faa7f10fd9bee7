"""Declarations: the words of party.yaml, and the ranges a catalogue tells."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest

from connectors import Declared
from party.errors import FileError


@pytest.mark.parametrize(
    ("kind", "limits", "units"),
    [
        ("decimal(12,2)", [-1000000, 10000000], (-100000000, 1000000000)),
        ("decimal(12,2)", [0.005, 1.001], (0, 101)),
        ("integer", [0, 5], (0, 5)),
        ("float", [-0.5, 0.5], (-1, 1)),
        ("date", ["1970-01-02", datetime.date(1970, 1, 11)], (1, 10)),
        ("timestamp", ["1970-01-01 00:00:01", "1970-01-01T00:00:02.5"], (1_000_000, 2_500_000)),
    ],
)
def test_ranges_in_units_never_shrink(kind: str, limits: list[Any], units: tuple[int, int]) -> None:
    assert Declared.of(kind, limits).units() == units


def test_nothing_declared_is_nothing_known() -> None:
    assert Declared.of() == Declared()
    assert Declared.of("decimal(12,2)").units() == (None, None)
    assert Declared.of("decimal( 12 , 2 )").text() == "decimal(12,2)"


def test_domains_are_of_the_columns_type() -> None:
    assert Declared.of("decimal(5,2)", domain=[1, 2.5]).domain == (Decimal(1), Decimal("2.5"))
    assert Declared.of("date", domain=["2020-01-01"]).domain == (datetime.date(2020, 1, 1),)


@pytest.mark.parametrize(
    "words",
    [
        {"type": "number"},
        {"type": "decimal"},
        {"type": "decimal(39,2)"},
        {"type": "decimal(4,5)"},
        {"type": "decimal(0,0)"},
        {"type": "integer", "range": [5, 1]},
        {"type": "integer", "range": [5]},
        {"type": "integer", "range": [True, 5]},
        {"type": "integer", "range": ["a", 5]},
        {"type": "float", "range": ["nan", 5]},
        {"type": "integer", "range": [1, float("inf")]},
        {"type": "string", "range": ["a", "b"]},
        {"type": "date", "range": ["2020-01-01", "2020-02-31"]},
        {"type": "bool", "range": [0, 1]},
        {"type": "string", "domain": ["a", "a"]},
        {"type": "string", "domain": []},
        {"type": "string", "domain": ["a", 1]},
        {"type": "integer", "domain": [True]},
        {"type": "float", "domain": [0.5]},
        {"type": "string", "nan_null": True},
    ],
)
def test_declarations_that_make_no_sense_are_refused(words: dict[str, Any]) -> None:
    with pytest.raises(FileError) as caught:
        Declared.of(**words)
    assert caught.value.exit_code == 2
