"""Statements that a peer may send: small texts that grow when they are read are refused soon, and by UsageError."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from mpc.sql import plan, plans, tables_of
from party.errors import TallyError, UsageError
from tests.mpc.sqlkit import JOIN, context

SECONDS = 20.0  # generous: a busy machine; without bounds these take hours


def _nested(form: str, depth: int, inner: str = "b.age") -> str:
    for _ in range(depth):
        inner = form % inner
    return inner


GROWING: dict[str, Callable[[int], str]] = {
    "nullif": lambda n: f"SELECT SUM({_nested('NULLIF(%s,1)', n)}) AS x {JOIN}",
    "round": lambda n: f"SELECT SUM({_nested('ROUND(%s*0.1)', n)}) AS x {JOIN}",
    "simple case": lambda n: f"SELECT SUM({_nested('CASE %s WHEN 1 THEN 1 WHEN 2 THEN 2 ELSE 5 END', n)}) AS x {JOIN}",
    "case": lambda n: f"SELECT SUM({_nested('CASE WHEN %s > 1 THEN 1 ELSE 2 END', n)}) AS x {JOIN}",
    "brackets": lambda n: f"SELECT SUM({'(' * n}b.age{')' * n}) AS x {JOIN}",
    "open brackets": lambda n: "SELECT " + "(" * n,
    "not": lambda n: f"SELECT COUNT(*) AS x {JOIN} WHERE {'NOT ' * n} b.defaulted",
    "minus": lambda n: f"SELECT SUM({'- ' * n} b.age) AS x {JOIN}",
    "or": lambda n: f"SELECT COUNT(*) AS x {JOIN} WHERE {' OR '.join(['b.age=1'] * n)}",
    "plus": lambda n: f"SELECT SUM({'+'.join(['b.age'] * n)}) AS x {JOIN}",
    "in": lambda n: f"SELECT COUNT(*) AS x {JOIN} WHERE b.age IN ({','.join(map(str, range(n)))})",
    "in of a domain": lambda n: f"SELECT COUNT(*) AS x {JOIN} WHERE b.region IN ({','.join(['b.region'] * n)})",
    "names": lambda n: f"SELECT COUNT(*) AS {'a' * n} {JOIN}",
    "columns": lambda n: f"SELECT {','.join(f'SUM(b.age*{i}) AS x{i}' for i in range(n))} {JOIN}",
    "arrays": lambda n: "SELECT " + "[" * n + "1" + "]" * n,
    "types": lambda n: "SELECT CAST(1 AS " + "LIST(" * n + "INT" + ")" * n + ")",
    "subqueries": lambda n: _nested("SELECT * FROM (%s)", n, "SELECT 1"),
    "numbers of tables": lambda n: (
        f"SELECT COUNT(*) AS x {JOIN} WHERE "
        + " AND ".join(f"b.age>(SELECT AVG(age)+{i} FROM bank.customers)" for i in range(n))
    ),
    "sets": lambda n: (
        f"SELECT COUNT(*) AS x {JOIN} WHERE "
        + " OR ".join(["b.phone IN (SELECT phone FROM bank.customers WHERE age>2)"] * n)
    ),
    "sets in sets": lambda n: (
        f"SELECT COUNT(*) AS x {JOIN} WHERE "
        + _nested("phone IN (SELECT phone FROM bank.customers WHERE %s)", n, "age>2")
    ),
    "around": lambda n: _nested("SELECT n+n AS n FROM (%s)", n, f"SELECT COUNT(*) AS n {JOIN}"),
    "with": lambda n: (
        "WITH x0 AS (SELECT * FROM bank.customers), "
        + ", ".join(f"x{i + 1} AS (SELECT phone, age+age AS age FROM x{i})" for i in range(n))
        + f" SELECT SUM(b.age) AS s FROM x{n} b JOIN telco.subscribers t ON b.phone=t.msisdn"
    ),
    "replace": lambda n: (
        f"SELECT COUNT(*) AS x {JOIN} WHERE {_nested('replace(%s,chr,chr)', n, 'b.region')} = 'x'".replace(
            "chr,chr", "'a','aaaaaaaaaa'"
        )
    ),
    "union": lambda n: " UNION ALL ".join([f"SELECT COUNT(*) AS x {JOIN}"] * n),
    "comments": lambda n: "SELECT " + "/*" * n,
}


@pytest.mark.parametrize("name", sorted(GROWING))
@pytest.mark.parametrize("count", [25, 120, 700, 3000])
def test_a_growing_statement_is_planned_or_refused_soon(name: str, count: int) -> None:
    sql = GROWING[name](count)
    began = time.monotonic()
    for read in (lambda: plans(sql, context(1000, min_rows=20)), lambda: tables_of(sql)):
        try:
            read()
        except TallyError as error:
            assert isinstance(error, UsageError)
    assert time.monotonic() - began < SECONDS


def test_a_statement_that_writes_out_too_large_says_so() -> None:
    with pytest.raises(UsageError, match="too large when it is written out"):
        plan(GROWING["nullif"](25), context(10))
    many = ",".join(f"SUM({_nested('NULLIF(%s,1)', 12)}+{i}) AS x{i}" for i in range(100))
    with pytest.raises(UsageError, match="too large when it is written out"):
        plan(f"SELECT {many} {JOIN}", context(10))


def test_a_statement_that_would_fill_the_memory_is_refused_before_it_runs() -> None:
    sums = "SUM(t.late) AS s, SUM(t.minutes) AS m, COUNT(*) AS n"
    sql = f"SELECT b.age // 2 AS a, {sums} {JOIN} GROUP BY b.age // 2, b.region, b.defaulted"
    assert plan(sql, context(1000)).grouped
    with pytest.raises(UsageError, match=r"would hold \d+ GB"):
        plan(sql, context(1_000_000))


def test_a_long_statement_is_refused_before_it_is_read() -> None:
    with pytest.raises(UsageError, match="more than 20000 characters"):
        plan("(" * 1_000_000, context(10))
