"""One owner's part of a query, in the clear, on the owner's own machine: DuckDB over Arrow, locked down.

The SQL is rendered by `mpc.sql` from its own syntax tree, never taken from a peer; the lock-down stands all the same:
no files, no network, no extensions, no settings, no other statement than one SELECT. Decimals stay exact in DuckDB's
arithmetic (a sum or product has the scale SQL gives it; division gives a float), so scaled 64-bit units come out exact
or are refused. Division by zero is NULL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from party.catalogue import Type
from party.errors import DataError, InternalError

__all__ = ["Column", "evaluate", "finds"]

MEMORY = "2GB"
LOCKED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
    "threads": 1,
    "preserve_insertion_order": "true",
    "error_on_division_by_zero": "false",  # as SQL has it elsewhere: NULL
    "ieee_floating_point_ops": "false",
}
VALUES = ("ConversionException", "OutOfRangeException", "InvalidInputException", "ConstraintException", "DataError")


@dataclass(frozen=True, eq=False)
class Column:
    """One result column of n rows. `valid` uint8, 1 where there is a value; `values` are 0 elsewhere.

    integer, decimal (units of 10**-scale), date (days since 1970), timestamp (microseconds): int64; bool: uint8;
    float: float64, finite; string: int64 places in `categories`, which are distinct and sorted.
    """

    type: Type
    values: np.ndarray
    valid: np.ndarray
    scale: int = 0
    categories: tuple[str, ...] | None = None


def evaluate(
    table: pa.Table, sql: str, name: str, memory: str = MEMORY, others: Mapping[str, pa.Table] | None = None
) -> dict[str, Column]:
    """Run one `SELECT expression AS name, ... FROM "name"` over our table; rows and their order stay as they are.

    others: further tables of ours, by the names under which the SELECT joins them or asks for a number of them.
    Returns the columns by name. Raises DataError when a value cannot be computed (a cast, an overflow, over 64 bits),
    without naming it; InternalError when the SQL is not such a SELECT or changes the rows.
    """
    head = re.match(r"\s*SELECT\s", sql, re.IGNORECASE)
    if head is None:
        raise InternalError("a local step is one SELECT")
    row = _unused("row", {*table.column_names, sql})
    numbered = table.append_column(row, pa.array(np.arange(table.num_rows, dtype=np.int64)))
    ordered = f' ORDER BY "{row}"' if others else ""  # a join may change the order
    result = _run({name: numbered, **(others or {})}, f'SELECT "{row}", {sql[head.end() :]}{ordered}', memory)
    places = [place for place, found in enumerate(result.column_names) if not found.startswith(row)]
    order = result.column(0).combine_chunks().to_numpy(zero_copy_only=False)
    if not result.column_names[0].startswith(row) or not np.array_equal(order, np.arange(table.num_rows)):
        raise InternalError("a local step changed the rows or their order")
    names = [result.column_names[place] for place in places]
    if len(set(names)) < len(names):
        raise InternalError("a local step names a column twice")
    return {result.column_names[place]: _column(result.column(place), result.column_names[place]) for place in places}


def _unused(stem: str, taken: set[str]) -> str:
    everything = " ".join(taken).lower()
    number = 0
    while f"__{stem}_{number}_" in everything:
        number += 1
    return f"__{stem}_{number}_"


def finds(tables: Mapping[str, pa.Table], sql: str, memory: str = MEMORY) -> bool:
    """Whether one SELECT over tables of ours, by their names, gives a row. Raises as `evaluate` does."""
    return bool(_run(tables, sql, memory).num_rows)


def _run(tables: Mapping[str, pa.Table], sql: str, memory: str) -> pa.Table:
    import duckdb  # a party that shows its catalogue needs none

    kind, text = "", ""
    try:
        with duckdb.connect(":memory:", config=LOCKED | {"memory_limit": memory}) as connection:
            for name, table in tables.items():
                connection.register(name, table)
            connection.execute("SET lock_configuration=true")
            statements = connection.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise InternalError("a local step is one SELECT")
            return connection.sql(sql).to_arrow_table()
    except duckdb.Error as error:
        kind, text = type(error).__name__, str(error)
    # raised outside the handler: DuckDB's own text may hold a value, and would travel along as the context
    if kind in VALUES:
        raise DataError("a local step cannot be computed: a value does not convert, or a result overflows")
    if kind == "OutOfMemoryException":
        raise InternalError(f"a local step needs more than {memory} of memory")
    known = ("BinderException", "CatalogException", "ParserException", "PermissionException", "SyntaxException")
    raise InternalError(f"a local step was refused: {kind}" + (f": {text.splitlines()[0]}" if kind in known else ""))


def _column(chunks: pa.ChunkedArray, name: str) -> Column:
    array = chunks.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # no chunks at all
        array = pa.array([], array.type)
    valid = np.ascontiguousarray(pc.is_valid(array).to_numpy(zero_copy_only=False), dtype=np.uint8)
    kind = array.type
    if pa.types.is_null(kind):
        return Column("integer", np.zeros(len(array), dtype=np.int64), valid)
    if pa.types.is_integer(kind):
        return Column("integer", _int64(_cast(array, pa.int64(), name)), valid)
    if pa.types.is_boolean(kind):
        return Column("bool", _int64(array.cast(pa.int64())).astype(np.uint8), valid)
    if pa.types.is_floating(kind):
        values = pc.fill_null(array.cast(pa.float64()), 0.0).to_numpy(zero_copy_only=False).copy()
        if not np.isfinite(values).all():
            raise DataError(f"row {int(np.argmin(np.isfinite(values))) + 1}, result {name!r}: not finite")
        return Column("float", values, valid)
    if pa.types.is_decimal(kind):
        return Column("decimal", _units(array.cast(pa.decimal128(38, kind.scale)), valid, name), valid, kind.scale)
    if pa.types.is_date(kind):
        return Column("date", _int64(array.cast(pa.date32()).cast(pa.int32())), valid)
    if pa.types.is_timestamp(kind):
        return Column("timestamp", _int64(_cast(array, pa.timestamp("us", kind.tz), name).cast(pa.int64())), valid)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _strings(array.cast(pa.string()), valid)
    raise InternalError(f"result {name!r} of a local step has type {kind}")


def _cast(array: pa.Array, target: pa.DataType, name: str) -> pa.Array:
    try:
        return array.cast(target)
    except pa.ArrowInvalid:
        pass
    raise DataError(f"result {name!r} does not fit 64 bits")


def _int64(array: pa.Array) -> np.ndarray:
    return np.ascontiguousarray(pc.fill_null(array, 0).to_numpy(zero_copy_only=False), dtype=np.int64)


def _units(array: pa.Array, valid: np.ndarray, name: str) -> np.ndarray:
    """decimal128 -> int64 counts of 10**-scale: the upper word must be the sign of the lower one."""
    if not len(array):
        return np.zeros(0, dtype=np.int64)
    words = np.frombuffer(array.buffers()[1], dtype="<i8").reshape(-1, 2)[array.offset : array.offset + len(array)]
    words = np.where(valid[:, None] == 1, words, 0)
    fits = words[:, 1] == words[:, 0] >> 63
    if not fits.all():
        raise DataError(f"row {int(np.argmin(fits)) + 1}, result {name!r}: does not fit 64 bits")
    return np.ascontiguousarray(words[:, 0], dtype=np.int64)


def _strings(array: pa.Array, valid: np.ndarray) -> Column:
    encoded = array.dictionary_encode()
    words = encoded.dictionary.to_pylist()
    order = sorted(range(len(words)), key=words.__getitem__)
    rank = np.zeros(max(1, len(words)), dtype=np.int64)
    rank[order] = np.arange(len(order))
    codes = rank[_int64(encoded.indices)] * valid
    return Column("string", codes, valid, categories=tuple(words[place] for place in order))
