"""What nobody could compute in earnest: both demo tables joined in the clear, by rules written a second time here."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import phonenumbers
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from pipelines.demo_data import DemoTable

TEXT = pa.string()


def blocks(table: DemoTable, path: Path, min_rows: int = 20, min_size: int = 100) -> tuple[str, str]:
    """(tables block, policy block) of a demo table lying at this path."""
    scheme = table.url.partition(":")[0]
    columns = "".join(f"    {name}: {json.dumps(spec)}\n" for name, spec in table.columns.items())
    tables = f"{table.name}:\n  url: {scheme}:{path}\n  key: [{', '.join(table.key)}]\n  duplicates: first\n"
    grants = "".join(f"  {table.name}.{name}: [{', '.join(words)}]\n" for name, words in table.grants.items())
    policy = f"alignment: rows\nmin_size: {min_size}\nmin_rows: {min_rows}\napprove: auto\ncolumns:\n{grants}"
    return f"{tables}  columns:\n{columns}", policy


class Joined:
    """DuckDB over bank.customers and telco.subscribers, each with a common `person` column in the place of the key."""

    def __init__(self, bank: Path, telco: Path) -> None:
        customers = pyarrow.parquet.read_table(bank)
        types = {"msisdn": TEXT, "minutes": pa.decimal128(8, 1), "plan": TEXT}
        options = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True)
        subscribers = pyarrow.csv.read_csv(telco, convert_options=options)
        self.connection = duckdb.connect(":memory:")
        self.connection.execute("CREATE SCHEMA bank; CREATE SCHEMA telco")
        left, right = first_rows(customers, "phone"), first_rows(subscribers, "msisdn")
        self.connection.register("left_rows", left)
        self.connection.register("right_rows", right)
        self.connection.execute("CREATE TABLE bank.customers AS FROM left_rows")
        self.connection.execute("CREATE TABLE telco.subscribers AS FROM right_rows")
        (self.rows,) = self.connection.execute(
            "SELECT COUNT(*) FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.msisdn"
        ).fetchone() or (0,)

    def ask(self, sql: str) -> list[dict[str, Any]]:
        cursor = self.connection.execute(sql)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, map(plain, row), strict=True)) for row in cursor.fetchall()]


def first_rows(table: pa.Table, key: str) -> pa.Table:
    """The first row of each person, its key in E.164; rows without a readable key go."""
    seen: dict[str, int] = {}
    for row, value in enumerate(table.column(key).to_pylist()):
        if value is None:
            continue
        number = phonenumbers.parse(value, "GB")
        seen.setdefault(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164), row)
    rows = table.take(pa.array(list(seen.values())))
    return rows.set_column(rows.column_names.index(key), key, pa.array(list(seen)))


def plain(value: Any) -> Any:
    return str(value) if isinstance(value, Decimal) else value


def same(ours: list[dict[str, Any]], truth: list[dict[str, Any]]) -> bool:
    """Integers, decimals, texts and NULLs identical, floats to 1e-9 relative; the order of rows is not compared."""

    def key(row: dict[str, Any]) -> str:
        return json.dumps([str(value) for value in row.values() if not isinstance(value, float)])

    if len(ours) != len(truth):
        return False
    for a, b in zip(sorted(ours, key=key), sorted(truth, key=key), strict=True):
        if list(a) != list(b):
            return False
        for x, y in zip(a.values(), b.values(), strict=True):
            if isinstance(x, float) or isinstance(y, float):
                if x is None or y is None or abs(x - y) > 1e-9 * max(1e-12, abs(y)):
                    return False
            elif x != y or type(x) is not type(y):
                return False
    return True
