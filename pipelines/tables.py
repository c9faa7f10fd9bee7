"""Our tables: opened by name, described for a peer, read in the order of an alignment."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from connectors import Declared, Source, open_source
from party.catalogue import Catalogue, Column, Table
from party.catalogue_wire import decode_catalogue, encode_catalogue
from party.errors import FileError, UsageError
from party.files import TableSpec
from party.home import Home, replace_file
from party.policy import visible
from party.yamlfile import nearest
from psi import KeyColumn

__all__ = [
    "catalogue",
    "content_digest",
    "keep_catalogue",
    "kept_catalogue",
    "key_columns",
    "open_table",
    "read_aligned",
    "table_spec",
    "table_stamp",
]


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
            declared[column.name] = Declared.of(column.type, bounds, column.domain, column.nan_null)
        except FileError as error:
            raise FileError(
                f"`tables.{name}.columns.{column.name}`: {error.message}",
                file=home.party.file,
                line=column.line,
                hint=error.hint,
            ) from None
    key = [column for form in spec.key for column in form]
    return open_source(spec.url.expand(home.root), home.root, declared, key)


def key_columns(spec: TableSpec) -> list[KeyColumn]:
    """The key of a table with its normalisation."""
    if len(spec.key) != 1:
        raise UsageError(
            f"table {spec.name} has several keys tried in order, which comes with a later release",
            hint="declare one key, which may have several columns: key: [phone]",
        )
    chosen = [spec.column(name) for name in spec.key[0]]
    return [KeyColumn(column.name, column.normalise, column.region) for column in chosen]


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
        tables.append(Table(name, spec.key, columns, source.rows()))
    return visible(Catalogue(home.party.name, tuple(tables)), policy)


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
    )


def read_aligned(source: Source, columns: Sequence[str], rows: np.ndarray) -> pa.Table:
    """These columns of these rows, in the order of `rows`. An empty choice of columns gives a table of rows only."""
    if not columns:
        return pa.table({"_": pa.nulls(len(rows))})
    return source.read(list(columns)).take(pa.array(rows)).combine_chunks()


def table_stamp(home: Home, name: str) -> str:
    """Tells one state of a table from another without reading it: size, time of last change, identity."""
    stamp = open_table(home, name).fingerprint()
    return f"{stamp.size}:{stamp.changed_ns}:{stamp.identity}"


def content_digest(home: Home, name: str) -> str:
    """A digest of a table's key columns under a key that never leaves this home: tells whether they have changed."""
    path = home.state / "content.key"
    if not path.exists():
        replace_file(path, secrets.token_bytes(32))
    spec = table_spec(home, name)
    return (
        open_table(home, name).content_digest([column for form in spec.key for column in form], path.read_bytes()).hex()
    )
