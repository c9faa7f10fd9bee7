"""A catalogue as canonical JSON, and the strict way back: names, types, ranges and counts are checked, all capped.

The party's name is not in it: the peer is who its certificate says.
"""

from __future__ import annotations

from typing import Any, cast, get_args

from party.canonical import canonical, parse_canonical
from party.catalogue import Catalogue, Column, Table, Type
from party.errors import PeerError
from party.files import COLUMN, DUPLICATES, NAME, NORMALISE, RESERVED
from party.request import GRANTS

__all__ = ["decode_catalogue", "encode_catalogue"]

_TYPES = get_args(Type)
_TABLES, _COLUMNS, _KEYS, _DOMAIN, _TEXT = 256, 4096, 16, 10_000, 4096
_UNITS = 10**38
_ROWS = 2**40


def encode_catalogue(catalogue: Catalogue) -> bytes:
    """The canonical bytes of what a peer may see (`policy.visible`)."""
    return canonical(
        {
            "tables": [
                {
                    "name": table.name,
                    "key": table.key,
                    "rows": table.rows,
                    "duplicates": table.duplicates,
                    "columns": [_column_out(column) for column in table.columns],
                }
                for table in catalogue.tables
            ],
            "min_rows": catalogue.min_rows,
            "min_size": catalogue.min_size,
            "normalisation": catalogue.normalisation,
        }
    )


def decode_catalogue(content: bytes, party: str) -> Catalogue:
    """The catalogue of this party; PeerError unless every part of it is what one may be."""
    top = _mapping(parse_canonical(content, "a catalogue"), ("tables", "min_rows", "min_size", "normalisation"))
    tables = tuple(_table(item) for item in _list(top["tables"], _TABLES))
    _distinct([table.name for table in tables])
    return Catalogue(
        party,
        tables,
        _integer(top["min_rows"], 1, 2**31),
        _integer(top["min_size"], 0, 2**31),
        _integer(top["normalisation"], 1, 65535),
    )


def _column_out(column: Column) -> dict[str, object]:
    return {
        "name": column.name,
        "type": column.type,
        "scale": column.scale,
        "precision": column.precision,
        "low": column.low,
        "high": column.high,
        "domain": column.domain,
        "normalise": column.normalise,
        "grants": sorted(column.grants),
        "nullable": column.nullable,
    }


def _table(value: object) -> Table:
    item = _mapping(value, ("name", "key", "rows", "duplicates", "columns"))
    columns = tuple(_column(column) for column in _list(item["columns"], _COLUMNS))
    names = [column.name for column in columns]
    _distinct(names)
    key = tuple(tuple(_text(name) for name in _list(form, _KEYS)) for form in _list(item["key"], _KEYS))
    name = _text(item["name"])
    if not columns or not NAME.fullmatch(name) or name in RESERVED:
        raise _wrong("a table has no column or no proper name")
    for form in key:
        _distinct(list(form))
        if not form or not set(form) <= set(names):
            raise _wrong("a key names columns that it does not list")
    duplicates = _text(item["duplicates"])
    if duplicates not in DUPLICATES:
        raise _wrong("what a repeated key means is none of the words for it")
    return Table(name, key, columns, _integer(item["rows"], 0, _ROWS), duplicates)


def _column(value: object) -> Column:
    item = _mapping(
        value,
        ("name", "type", "scale", "precision", "low", "high", "domain", "normalise", "grants", "nullable"),
    )
    name, kind, normalise = _text(item["name"]), _text(item["type"]), _text(item["normalise"])
    grants = [_text(grant) for grant in _list(item["grants"], len(GRANTS))]
    if not COLUMN.fullmatch(name) or kind not in _TYPES or normalise not in NORMALISE:
        raise _wrong("a column's name, type or normalisation is none")
    _distinct(grants)
    if not grants or not set(grants) <= set(GRANTS):
        raise _wrong("a column has no grant, or one that does not exist")
    precision, scale = _integer(item["precision"], 1, 38), _integer(item["scale"], 0, 38)
    if scale > precision or (scale and kind not in ("decimal", "float")):
        raise _wrong("a column's scale does not fit its type")
    low = None if item["low"] is None else _integer(item["low"], -_UNITS, _UNITS)
    high = None if item["high"] is None else _integer(item["high"], -_UNITS, _UNITS)
    if low is not None and high is not None and low > high:
        raise _wrong("a column's range is empty")
    domain, nullable = _domain(item["domain"]), item["nullable"]
    if not isinstance(nullable, bool):
        raise _wrong("whether a column may be null is neither true nor false")
    kind = cast(Type, kind)
    return Column(name, kind, scale, precision, low, high, domain, normalise, frozenset(grants), nullable)


def _domain(value: object) -> tuple[str | int | bool, ...] | None:
    if value is None:
        return None
    values: list[str | int | bool] = []
    for item in _list(value, _DOMAIN):
        values.append(item if isinstance(item, bool) else _integer(item, -_UNITS, _UNITS) if isinstance(item, int)
                      else _text(item))  # fmt: skip
    if not values or len({type(item) for item in values}) > 1:
        raise _wrong("a domain is empty or mixes types")
    _distinct(values)
    return tuple(values)


def _mapping(value: object, keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != set(keys):
        raise _wrong("it has other keys than it should")
    return value


def _list(value: object, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise _wrong("a list is none, or too long")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _TEXT or not value.isprintable():
        raise _wrong("a text is none, too long, or cannot be shown")
    return value


def _integer(value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _wrong("a number is none, or out of bounds")
    return value


def _distinct(values: list[Any]) -> None:
    if len(set(values)) < len(values):
        raise _wrong("a name or value is given twice")


def _wrong(reason: str) -> PeerError:
    return PeerError(f"the peer's catalogue is malformed: {reason}")
