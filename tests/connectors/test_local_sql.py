"""The local step: exact results with null masks, rows kept, and a door that is locked."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from connectors import evaluate
from party.errors import DataError, InternalError, TallyError

TABLE = pa.table(
    {
        "n": pa.array([3, None, -1, 2**40], pa.int64()),
        "amount": pa.array([Decimal("1.50"), Decimal("-2.25"), None, Decimal("99.99")], pa.decimal128(12, 2)),
        "x": pa.array([0.5, 2.0, None, -1.0]),
        "flag": pa.array([True, None, False, True]),
        "day": pa.array([datetime.date(2020, 1, 2), None, datetime.date(1969, 12, 31), datetime.date(1970, 1, 1)]),
        "at": pa.array([datetime.datetime(1970, 1, 1, 0, 0, 1), None, None, None], pa.timestamp("us")),
        "word": pa.array(["south", None, "north", "south"]),
    }
)


def one(expression: str, table: pa.Table = TABLE) -> tuple[list[object], list[int]]:
    column = evaluate(table, f'SELECT {expression} AS out FROM "t"', "t")["out"]
    return column.values.tolist(), column.valid.tolist()


@pytest.mark.parametrize(
    ("expression", "kind", "scale", "values", "valid"),
    [
        ("n + 1", "integer", 0, [4, 0, 0, 2**40 + 1], [1, 0, 1, 1]),
        ("amount", "decimal", 2, [150, -225, 0, 9999], [1, 1, 0, 1]),
        ("amount * amount", "decimal", 4, [22500, 50625, 0, 99980001], [1, 1, 0, 1]),
        ("x * 2", "float", 0, [1.0, 4.0, 0.0, -2.0], [1, 1, 0, 1]),
        ("flag", "bool", 0, [1, 0, 0, 1], [1, 0, 1, 1]),
        ("n > 0 AND flag", "bool", 0, [1, 0, 0, 1], [1, 0, 1, 1]),
        ("day", "date", 0, [18263, 0, -1, 0], [1, 0, 1, 1]),
        ('"at"', "timestamp", 0, [1_000_000, 0, 0, 0], [1, 0, 0, 0]),
        ("NULL", "integer", 0, [0, 0, 0, 0], [0, 0, 0, 0]),
        ("CASE WHEN n > 0 THEN 1 ELSE 0 END", "integer", 0, [1, 0, 0, 1], [1, 1, 1, 1]),
        ("n / 0", "float", 0, [0.0] * 4, [0, 0, 0, 0]),
        ("n % 0", "integer", 0, [0] * 4, [0, 0, 0, 0]),
        ("CAST(1 AS HUGEINT)", "decimal", 0, [1] * 4, [1] * 4),
    ],
)
def test_results_are_exact_with_null_masks(
    expression: str, kind: str, scale: int, values: list[object], valid: list[int]
) -> None:
    column = evaluate(TABLE, f'SELECT {expression} AS out FROM "t"', "t")["out"]
    assert (column.type, column.scale) == (kind, scale)
    assert column.values.tolist() == values
    assert column.valid.tolist() == valid
    wide = {"float": np.float64, "bool": np.uint8}.get(kind, np.int64)
    assert column.values.dtype == wide
    assert column.valid.dtype == np.uint8


def test_texts_come_as_codes_of_sorted_categories() -> None:
    column = evaluate(TABLE, 'SELECT upper(word) AS w FROM "t"', "t")["w"]
    assert column.categories == ("NORTH", "SOUTH")
    assert column.values.tolist() == [1, 0, 0, 1]
    assert column.valid.tolist() == [1, 0, 1, 1]


def test_many_rows_in_many_chunks_keep_their_order() -> None:
    numbers = np.random.default_rng(3).integers(-(10**12), 10**12, 300_000)
    table = pa.concat_tables([pa.table({"n": part}) for part in np.array_split(numbers, 7)])
    sql = "SELECT n * 3 AS a, CASE WHEN n % 2 = 0 THEN 'even' ELSE 'odd' END AS b FROM t"
    columns = evaluate(table, sql, "t")
    assert np.array_equal(columns["a"].values, numbers * 3)
    words = np.array(columns["b"].categories)[columns["b"].values]
    assert np.array_equal(words == "even", numbers % 2 == 0)


def test_no_rows_give_no_rows() -> None:
    columns = evaluate(TABLE.slice(0, 0), 'SELECT n, amount, word, x, flag, day FROM "t"', "t")
    assert [len(column.values) for column in columns.values()] == [0] * 6
    assert [column.type for column in columns.values()] == ["integer", "decimal", "string", "float", "bool", "date"]


@pytest.mark.parametrize(
    ("expression"),
    [
        "CAST(word AS INTEGER)",
        "n * 9223372036854775807",
        "amount * 1000000000000000000000000000000",
        "ln(n - n)",
        "CAST('2020-13-01' AS DATE)",
        "n::HUGEINT * 100000000000",
        "x * 1e308 * 10",
    ],
)
def test_what_cannot_be_computed_is_a_data_error_without_values(expression: str) -> None:
    with pytest.raises(DataError) as caught:
        one(expression)
    text = f"{caught.value} {caught.value.hint} {caught.value.__context__} {caught.value.__cause__}"
    assert not any(value in text for value in ("south", "north", "9223372036854775807", "1099511627776", "2020-13"))


@pytest.mark.parametrize(
    "sql",
    [
        'SELECT n FROM "t" WHERE n > 0',
        'SELECT n FROM "t" LIMIT 2',
        'SELECT n FROM "t" ORDER BY n',
        'SELECT sum(n) FROM "t"',
        'SELECT DISTINCT n FROM "t"',
        'SELECT n FROM "t" UNION ALL SELECT n FROM "t"',
        'SELECT a.n FROM "t" a CROSS JOIN "t" b',
        'SELECT unnest([1, 2]) FROM "t"',
        'SELECT n, n FROM "t"',
        "SELECT range FROM range(4)",
        "SELECT 1",
        'SELECT missing FROM "t"',
        "SELECT",
        "",
    ],
)
def test_sql_that_changes_the_rows_is_our_own_fault(sql: str) -> None:
    with pytest.raises(InternalError):
        evaluate(TABLE, sql, "t")


def attacks(file: Path) -> list[str]:
    return [
        f"SELECT (SELECT content FROM read_text('{file}')) AS a FROM t",
        f"SELECT (SELECT count(*) FROM read_csv('{file}')) AS a FROM t",
        f"SELECT (SELECT count(*) FROM read_parquet('{file}')) AS a FROM t",
        f"SELECT (SELECT count(*) FROM read_json('{file}')) AS a FROM t",
        f"SELECT (SELECT count(*) FROM glob('{file.parent}/*')) AS a FROM t",
        f"SELECT (SELECT count(*) FROM '{file}') AS a FROM t",
        f"SELECT n FROM t; COPY t TO '{file}.out'",
        f"COPY t TO '{file}.out'",
        f"ATTACH '{file}.db' AS other",
        f"EXPORT DATABASE '{file.parent}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET threads = 8",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "PRAGMA enable_external_access",
        "PRAGMA database_list",
        "CREATE TABLE copy AS SELECT * FROM t",
        "DELETE FROM t",
        "CALL pragma_version()",
        "SELECT getenv('HOME') AS a FROM t",
        "SELECT (SELECT count(*) FROM file) AS a FROM t",
        "SELECT n FROM t; SET threads = 8; SELECT n FROM t",
        "SELECT n INTO OUTFILE 'x' FROM t",
        "SELECT (SELECT count(*) FROM read_csv('http://127.0.0.1:1/x')) AS a FROM t",
        "SELECT (SELECT count(*) FROM sqlite_scan('x', 'y')) AS a FROM t",
    ]


def test_the_door_is_locked(tmp_path: Path) -> None:
    file = tmp_path / "secret.csv"
    file.write_text("a\nsecret-content\n")
    for sql in attacks(file):
        with pytest.raises(TallyError) as caught:
            evaluate(TABLE, sql, "t")
        assert "secret-content" not in str(caught.value), sql
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_the_first_attacks_work_where_nothing_is_locked(tmp_path: Path) -> None:
    """Otherwise the test above would prove nothing."""
    file = tmp_path / "secret.csv"
    file.write_text("a\nsecret-content\n")
    with duckdb.connect(":memory:") as connection:
        connection.register("t", TABLE)
        for sql in attacks(file)[:2]:
            assert connection.execute(sql).fetchone() is not None


def test_python_variables_around_are_not_tables() -> None:
    hidden = pa.table({"n": [1]})
    with pytest.raises(InternalError, match="hidden"):
        evaluate(TABLE, "SELECT (SELECT n FROM hidden) AS a FROM t", "t")
    assert hidden.num_rows == 1


def test_too_little_memory_is_said_so() -> None:
    table = pa.table({"word": [f"{i:030}" for i in range(200_000)]})
    with pytest.raises(InternalError, match="memory"):
        evaluate(table, "SELECT row_number() OVER (ORDER BY word DESC) AS r FROM t", "t", memory="4MB")
