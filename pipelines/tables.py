"""Our tables: opened by name, described for a peer, read in the order of an alignment."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from connectors import Declared, Source, open_source
from party.catalogue import Catalogue, Column, Table
from party.catalogue_wire import decode_catalogue, encode_catalogue
from party.errors import FileError, UsageError
from party.files import TableSpec
from party.home import Home, replace_file
from party.policy import round_rows, visible
from party.yamlfile import nearest

if TYPE_CHECKING:
    from psi import Identifiers, KeyColumn

__all__ = [
    "catalogue",
    "content_digest",
    "identifiers",
    "keep_catalogue",
    "kept_catalogue",
    "open_table",
    "read_aligned",
    "read_whole",
    "table_spec",
    "table_stamp",
    "whole_table",
]

_SETTLED = 2_000_000_000  # nanoseconds since a table's last change


def table_spec(home: Home, name: str) -> TableSpec:
    """What party.yaml says of a table; UsageError with the nearest name when it is not there."""
    found = home.party.tables.get(name)
    if found is None:
        raise UsageError(
            f"{home.party.name} has no table {name!r}",
            party=home.party.name,
            hint=nearest(name, list(home.party.tables)),
        )
    return found


def open_table(home: Home, name: str) -> Source:
    """The table of this name, ready to be read."""
    spec = table_spec(home, name)
    declared = {}
    for column in spec.columns.values():
        try:
            bounds = None if column.low is None else (column.low, column.high)
            declared[column.name] = Declared.of(column.type, bounds, column.domain, column.nan_null, column.nullable)
        except FileError as error:
            raise FileError(
                f"`tables.{name}.columns.{column.name}`: {error.message}",
                file=home.party.file,
                line=column.line,
                hint=error.hint,
            ) from None
    key = [column for form in spec.key for column in form]
    return open_source(spec.url.expand(home.root), home.root, declared, key)


def identifiers(home: Home, shown: Table, duplicates: str | None) -> list[Identifiers]:
    """What a table's rows are matched by, for each key that the peer is shown; read when needed, batch by batch.

    `duplicates`: what the job says of repeated keys; None: as party.yaml says.
    """
    from psi import KeyColumn, from_scan  # a catalogue is shown without it

    spec, source = table_spec(home, shown.name), open_table(home, shown.name)

    def scan(columns: list[KeyColumn]) -> Callable[[], Iterable[pa.RecordBatch]]:
        return lambda: source.scan([column.name for column in columns])

    columns = [[spec.column(column) for column in form] for form in shown.key]
    keys = [[KeyColumn(column.name, column.normalise, column.region) for column in form] for form in columns]
    return [from_scan(scan(key), key, duplicates=duplicates or spec.duplicates) for key in keys]


def catalogue(home: Home, peer: str) -> Catalogue:
    """Our tables as this peer may see them: granted columns, types, declared ranges, rows to two digits."""
    policy = home.policy.towards(peer)
    tables = []
    for name, spec in home.party.tables.items():
        granted = {column.partition(".")[2] for column in policy.columns if column.partition(".")[0] == name}
        if not granted:
            continue
        source = open_table(home, name)
        columns = tuple(_column(spec, found.name, found.kind) for found in source.schema() if found.name in granted)
        missing = granted - {column.name for column in columns}
        if missing:
            near = nearest(min(missing), [found.name for found in source.schema()])
            raise FileError(f"`{name}.{min(missing)}`: the table has no such column", file=home.policy.file, hint=near)
        tables.append(Table(name, spec.key, columns, source.rows(), spec.duplicates))
    return visible(Catalogue(home.party.name, tuple(tables)), policy)


def whole_table(home: Home, peer: str, name: str) -> Table:
    """One of our tables with all its columns, and what this peer is granted of each: for our own eyes."""
    spec, source, policy = table_spec(home, name), open_table(home, name), home.policy.towards(peer)
    columns = tuple(_column(spec, found.name, found.kind) for found in source.schema())
    granted = tuple(replace(column, grants=policy.grants(name, column.name)) for column in columns)
    return Table(name, spec.key, granted, round_rows(source.rows()), spec.duplicates)


def keep_catalogue(home: Home, theirs: Catalogue) -> None:
    """Remember what a peer last showed us, for plans without it."""
    folder = home.state / "catalogues"
    folder.mkdir(exist_ok=True, mode=0o700)
    replace_file(folder / f"{theirs.party}.json", encode_catalogue(theirs))


def kept_catalogue(home: Home, peer: str) -> Catalogue:
    """What a peer showed us at the last connection; UsageError when there was none."""
    path = home.state / "catalogues" / f"{peer}.json"
    if not path.exists():
        raise UsageError(f"nothing is known of the tables of {peer} yet", hint=f"connect once: `tally tables {peer}`")
    return decode_catalogue(path.read_bytes(), peer)


def _column(spec: TableSpec, name: str, kind: Declared) -> Column:
    low, high = kind.units()
    plain = tuple(value for value in kind.domain or () if isinstance(value, str | int | bool))
    whole = kind.domain is not None and len(plain) == len(kind.domain)
    return Column(
        name,
        kind.type or "string",
        scale=kind.scale,
        precision=kind.precision,
        low=low,
        high=high,
        domain=plain if whole else None,
        normalise=spec.column(name).normalise,
        nullable=kind.nullable,
    )


def read_aligned(source: Source, columns: Sequence[str], rows: np.ndarray) -> pa.Table:
    """These columns of these rows, in the order of `rows`. An empty choice of columns gives a table of rows only."""
    if not columns:
        return pa.table({"_": pa.nulls(len(rows))})
    places = pa.array(rows, mask=rows < 0)  # -1: the other side's row without a match, all NULL here
    return source.read(list(columns)).take(places).combine_chunks()


def read_whole(source: Source, columns: Sequence[str]) -> pa.Table:
    """These columns of all rows; an empty choice of columns gives a table of rows only."""
    return source.read(list(columns)) if columns else pa.table({"_": pa.nulls(source.rows())})


def table_stamp(home: Home, name: str) -> str:
    """Tells one state of a table from another without reading it: size, time of last change, identity."""
    stamp = open_table(home, name).fingerprint()
    return f"{stamp.size}:{stamp.changed_ns}:{stamp.identity}"


def content_digest(home: Home, name: str) -> str:
    """A digest of a table's key columns under a key that never leaves this home: tells whether they have changed.

    Kept in state/content with the table's stamp: while that is the same the table is not read again.
    """
    path, place = home.state / "content.key", home.state / "content" / f"{name}.json"
    columns = [column for form in table_spec(home, name).key for column in form]
    marks = {"columns": columns, "stamp": table_stamp(home, name)}
    try:
        known = json.loads(place.read_bytes())
        if {mark: known[mark] for mark in marks} == marks:
            return str(known["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    if not path.exists():
        replace_file(path, secrets.token_bytes(32))
    began, source = time.time_ns(), open_table(home, name)
    digest = source.content_digest(columns, path.read_bytes()).hex()
    settled = source.fingerprint().changed_ns < began - _SETTLED  # else it may change again within a tick of its clock
    if settled and table_stamp(home, name) == marks["stamp"]:
        place.parent.mkdir(exist_ok=True, mode=0o700)
        replace_file(place, json.dumps(marks | {"digest": digest}).encode())
    return digest
