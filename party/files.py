"""What party.yaml says, as frozen values: `load_party`. `party.policy` has policy.yaml."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from party.address import parse_address
from party.errors import FileError, UsageError
from party.expansion import Url
from party.yamlfile import Reader, load

__all__ = [
    "NAME",
    "RESERVED",
    "Bound",
    "ColumnSpec",
    "DomainValue",
    "PartyFile",
    "PeerSpec",
    "TableSpec",
    "load_party",
    "party_name",
    "read_party",
]

V = TypeVar("V")  # what one entry of a section becomes
Bound = int | Decimal | datetime.date | datetime.datetime
DomainValue = str | int | bool | Decimal | datetime.date

NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")  # parties and tables: they are written in SQL without quotes
COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
RESERVED = ("learns", "both", "size")
NAME_RULE = "small letters, digits and _, at most 31, a letter first"
COLUMN_RULE = "letters, digits and _, at most 63, no digit first"
NORMALISE = ("text", "phone", "email", "name", "integer")
TYPES = ("string", "integer", "decimal(p,s)", "float", "bool", "date", "timestamp")
DUPLICATES = ("error", "first", "all")

_DECIMAL = re.compile(r"decimal\(\s*([0-9]{1,2})\s*,\s*([0-9]{1,2})\s*\)")
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")
_REGION = re.compile(r"[A-Z]{2}")
_PERIOD = re.compile(r"([1-9][0-9]{0,5})\s*(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TTL = 86_400
_MOST = 256  # tables or peers


@dataclass(frozen=True)
class ColumnSpec:
    """What the owner declares of one column; None is left to the table. Bounds are in the column's own unit."""

    name: str
    type: str | None = None  # as it is written: "string", "decimal(12,2)", ...
    low: Bound | None = None
    high: Bound | None = None
    domain: tuple[DomainValue, ...] | None = None
    nan_null: bool = False
    nullable: bool = True
    normalise: str = "text"
    region: str | None = None
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class TableSpec:
    """One table. `key`: keys in the order they are tried, each a tuple of columns."""

    name: str
    url: Url
    key: tuple[tuple[str, ...], ...]
    columns: Mapping[str, ColumnSpec]
    duplicates: str = "error"
    line: int = field(default=0, compare=False)

    def column(self, name: str) -> ColumnSpec:
        """The declaration of a column, an empty one when there is none."""
        return self.columns.get(name, ColumnSpec(name))


@dataclass(frozen=True)
class PeerSpec:
    """A pinned peer. `address` is None when only the peer dials."""

    name: str
    fingerprint: str
    address: str | None = None
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class PartyFile:
    """party.yaml. `address` is what our card tells peers to dial; `alignment_ttl` in seconds."""

    name: str
    listen: str | None
    address: str | None
    alignment_ttl: int
    tables: Mapping[str, TableSpec]
    peers: Mapping[str, PeerSpec]
    file: str = field(default="party.yaml", compare=False)


def load_party(path: Path) -> PartyFile:
    """Read party.yaml; FileError with file, line, reason and remedy."""
    return read_party(load(path))


def read_party(top: Reader) -> PartyFile:
    """party.yaml from its tree."""
    top.refuse_unknown(("version", "name", "listen", "address", "alignment_ttl", "tables", "peers"))
    top.version()
    name = party_name(top.required("name"))
    tables = _named(top.optional("tables"), "table", _table)
    peers = _named(top.optional("peers"), "peer", _peer)
    if name in peers:
        raise FileError(
            f"`peers.{name}` is our own name", file=top.file, line=peers[name].line, hint="a peer is another party"
        )
    return PartyFile(
        name,
        _address(top.optional("listen"), listening=True),
        _address(top.optional("address"), listening=False),
        _ttl(top.optional("alignment_ttl")),
        tables,
        peers,
        top.file,
    )


def party_name(reader: Reader) -> str:
    """A party's name."""
    value = reader.name(NAME, NAME_RULE)
    if value in RESERVED:
        raise reader.error(f"cannot be `{value}`", hint="`learns`, `both` and `size` mean something else in a job")
    return value


def _named(reader: Reader | None, what: str, read: Callable[[str, Reader], V]) -> Mapping[str, V]:
    found: dict[str, V] = {}
    items = {} if reader is None else reader.mapping()
    if reader is not None and len(items) > _MOST:
        raise reader.error(f"has more than {_MOST} entries")
    for name, item in items.items():
        if not NAME.fullmatch(name) or name in RESERVED:
            raise item.error(f"is not a name for a {what}", hint=f"{NAME_RULE}; not learns, both or size")
        found[name] = read(name, item)
    return MappingProxyType(found)


def _table(name: str, reader: Reader) -> TableSpec:
    reader.refuse_unknown(("url", "key", "columns", "duplicates"))
    written = reader.required("url")
    if not re.match(r"[a-z][a-z0-9+]*:.", written.text()):
        raise written.error("is not a url", hint="write SCHEME:PLACE, for example parquet:data/customers.parquet")
    columns: dict[str, ColumnSpec] = {}
    declared = reader.optional("columns")
    for column, item in ({} if declared is None else declared.mapping()).items():
        if not COLUMN.fullmatch(column):
            raise item.error("is not a name for a column", hint=COLUMN_RULE)
        columns[column] = _column(column, item)
    key = _key(reader.required("key"))
    for column in {column for form in key for column in form}:
        if column in columns and columns[column].type == "float":
            raise reader.required("key").error(
                f"names `{column}`, which is declared float", hint="a float never identifies a row; declare it string"
            )
    duplicates = reader.optional("duplicates")
    return TableSpec(
        name,
        Url(written.text(), reader.file, written.line),
        key,
        MappingProxyType(columns),
        "error" if duplicates is None else duplicates.choice(DUPLICATES),
        reader.line,
    )


def _key(reader: Reader) -> tuple[tuple[str, ...], ...]:
    items = reader.list(16)
    if not items:
        raise reader.error("names no column", hint="write [phone]")
    nested = [item.is_list for item in items]
    if any(nested) and not all(nested):
        raise reader.error(
            "mixes columns and lists", hint="[a, b] is one key of two columns; [[a], [b]] are two keys, tried in order"
        )
    forms = [item.list(16) for item in items] if nested[0] else [items]
    key = tuple(tuple(column.name(COLUMN, COLUMN_RULE) for column in form) for form in forms)
    if any(len(form) == 0 or len(set(form)) < len(form) for form in key) or len(set(key)) < len(key):
        raise reader.error("is empty or names something twice", hint="write each column, and each key, once")
    return key


def _column(name: str, reader: Reader) -> ColumnSpec:
    reader.refuse_unknown(("type", "normalise", "region", "range", "domain", "nan", "nullable"))
    written = reader.optional("type")
    kind = None if written is None else _type(written)
    short = None if kind is None else kind.partition("(")[0]
    low, high = _range(reader.optional("range"), short)
    domain = _domain(reader.optional("domain"), short)
    nan = reader.optional("nan")
    if nan is not None and not nan.is_null:
        raise nan.error("can only be null", hint="`nan: null` reads NaN as missing; without it NaN is an error")
    if nan is not None and short not in (None, "float", "decimal", "integer"):
        raise nan.error(f"makes no sense for type {short}", hint="remove it")
    normalise = reader.optional("normalise")
    way = "text" if normalise is None else normalise.choice(NORMALISE)
    if normalise is not None and short not in (None, "string") and not (way == "integer" and short == "integer"):
        raise normalise.error(f"makes no sense for type {short}", hint="declare the column string")
    region = reader.optional("region")
    if region is not None and way != "phone":
        raise region.error("needs `normalise: phone`", hint="a region is where numbers without +CODE belong")
    code = None if region is None else region.name(_REGION, "two capital letters, for example GB")
    nullable = reader.optional("nullable")
    missing = nullable is None or nullable.boolean()
    return ColumnSpec(name, kind, low, high, domain, nan is not None, missing, way, code, reader.line)


def _type(reader: Reader) -> str:
    text = reader.text()
    found = _DECIMAL.fullmatch(text)
    if found is not None:
        precision, scale = int(found[1]), int(found[2])
        if not 1 <= precision <= 38 or scale > precision:
            raise reader.error(f"cannot be {text}", hint="1 to 38 digits, of them at most all after the point")
        return f"decimal({precision},{scale})"
    if text.startswith("decimal"):
        raise reader.error("needs its digits", hint="decimal(12,2): 12 digits, 2 of them after the point, in quotes")
    return reader.choice([word for word in TYPES if "(" not in word] + ["decimal(p,s)"])


def _range(reader: Reader | None, kind: str | None) -> tuple[Bound | None, Bound | None]:
    if reader is None:
        return None, None
    if kind in ("string", "bool"):
        raise reader.error(f"makes no sense for type {kind}", hint="a text has a `domain`")
    items = reader.list()
    if len(items) != 2:
        raise reader.error("must be two values", hint="[lowest, highest]")
    low, high = (_bound(item, kind) for item in items)
    if low > high:  # type: ignore[operator]  # both bounds are of the one type that `kind` gives
        raise reader.error("has its highest value first", hint="[lowest, highest]")
    return low, high


def _bound(reader: Reader, kind: str | None) -> Bound:
    try:
        if kind == "date":
            return datetime.date.fromisoformat(reader.text())
        if kind == "timestamp":
            found = datetime.datetime.fromisoformat(reader.text())
            return found if found.tzinfo is None else found.astimezone(datetime.UTC).replace(tzinfo=None)
    except ValueError:
        raise reader.error(f"is not a {kind}", hint="2026-01-31, or 2026-01-31T12:00:00") from None
    number = reader.decimal()
    if isinstance(reader.node.value, int):
        return reader.node.value
    if kind == "integer":
        raise reader.error("must be an integer")
    return number


def _domain(reader: Reader | None, kind: str | None) -> tuple[DomainValue, ...] | None:
    if reader is None:
        return None
    if kind in ("float", "timestamp"):
        raise reader.error(f"makes no sense for type {kind}", hint="give a range")
    items = reader.list()
    values = tuple(_domain_value(item, kind) for item in items)
    if not values or len({(type(value), value) for value in values}) < len(values):
        raise reader.error("is empty or names a value twice", hint="write each value that may occur, once")
    if kind is None and len({type(value) for value in values}) > 1:
        raise reader.error("mixes types", hint="put all values that are text in quotes, or declare the type")
    return values


def _domain_value(reader: Reader, kind: str | None) -> DomainValue:
    if kind == "date":
        bound = _bound(reader, kind)
        return bound if isinstance(bound, datetime.date) else str(bound)
    if kind == "string":
        return reader.text()
    if kind == "bool":
        return reader.boolean()
    if kind == "integer":
        return reader.integer(-(2**63) + 1, 2**63 - 1)
    if kind == "decimal":
        return reader.decimal()
    value = reader.scalar()
    if value is None or isinstance(value, float):
        raise reader.error("must be text, an integer or a boolean", hint="declare the column's type")
    return value


def _peer(name: str, reader: Reader) -> PeerSpec:
    reader.refuse_unknown(("address", "fingerprint"))
    fingerprint = reader.required("fingerprint").name(_FINGERPRINT, "`tally trust CARD` writes it")
    return PeerSpec(name, fingerprint, _address(reader.optional("address"), listening=False), reader.line)


def _address(reader: Reader | None, *, listening: bool) -> str | None:
    if reader is None:
        return None
    text = reader.text()
    try:
        port = parse_address(text)[1]
    except UsageError:
        raise reader.error("is not an address", hint="write HOST:PORT, for example 127.0.0.1:7101") from None
    if port == 0 and not listening:
        raise reader.error("has no port", hint="write the port that the party really listens on")
    return text


def _ttl(reader: Reader | None) -> int:
    if reader is None:
        return _TTL
    if isinstance(reader.node.value, str):
        found = _PERIOD.fullmatch(reader.node.value)
        if found is None:
            raise reader.error("is not a time", hint="write 1d, 12h, 30m or a number of seconds; 0 keeps nothing")
        return int(found[1]) * _SECONDS[found[2]]
    return reader.integer(0, 366 * 86_400)
