"""Random statements over random small tables agree with an exact oracle, or are refused because they must be.

NULLs, range ends, numbers of 62 bits and decimals of 18 digits, no rows, one row; logic across both owners above all;
order statistics and counts of distinct values among the sums.
"""

from __future__ import annotations

import datetime
import decimal
from collections import Counter
from functools import cache
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpc.sql import Context, Plan, Result, joined, plans
from party.catalogue import Catalogue, Column, Table
from party.errors import UsageError
from tests.mpc import grammar
from tests.mpc.grammar import Statement, Union, statements, unions
from tests.mpc.sqlkit import Pair, agree, arrow
from tests.mpc.surface import agree_in_order

BANK = (
    Column("phone", "string"), Column("balance", "decimal", 2, 12, -(10**8), 10**9),
    Column("income", "integer", low=0, high=10**6), Column("debt", "integer", low=-(10**6), high=0),
    Column("age", "integer", low=18, high=99, nullable=False),
    Column("wide", "integer", low=-grammar.WIDE, high=grammar.WIDE), Column("big", "decimal", 2, 18),
    Column("free", "integer"), Column("region", "string", domain=("north", "south", "east", "west")),
    Column("branch", "string"), Column("defaulted", "bool"), Column("opened", "date"), Column("score", "float"),
)  # fmt: skip
TELCO = (
    Column("msisdn", "string"), Column("minutes", "integer", low=0, high=10**5), Column("bill", "decimal", 2, 8),
    Column("late", "integer", low=0, high=12, nullable=False), Column("shift", "integer", low=-7, high=7),
    Column("huge", "integer", low=-(2**61), high=2**61), Column("cents", "decimal", 4, 18), Column("plan", "string"),
    Column("prepaid", "bool"),
)  # fmt: skip
# share of NULLs, share of values at an end of the range
FLAVOURS = {"plain": (0.1, 0.05), "ends": (0.15, 0.8), "sparse": (0.7, 0.3), "full": (0.0, 0.3)}


def _whole(rng: np.random.Generator, low: int, high: int, rows: int, ends: float) -> list[int]:
    inside = [int(value) for value in rng.integers(low, high, rows, endpoint=True)]
    edges = (low, high, max(low, min(high, 0)))
    return [edges[rng.integers(3)] if rng.random() < ends else value for value in inside]


def _column(rng: np.random.Generator, column: Column, rows: int, ends: float) -> list[Any]:
    if column.type == "bool":
        return [bool(value) for value in rng.integers(0, 2, rows)]
    if column.type == "date":
        return [datetime.date(2020, 1, 1) + datetime.timedelta(days=int(day)) for day in rng.integers(0, 900, rows)]
    if column.type == "float":
        return [float(value) for value in rng.random(rows)]
    if column.type == "string":
        words = {"region": ("north", "south", "east"), "branch": ("Łódź", "O'Hara", "b"), "plan": ("basic", "pro", "x")}
        return [words[column.name][place] for place in rng.integers(0, 3, rows)]
    limit = 10**column.precision - 1 if column.type == "decimal" else 2**62
    low, high = -limit if column.low is None else column.low, limit if column.high is None else column.high
    units = _whole(rng, low, high, rows, ends)
    if column.type == "integer":
        return units
    return [decimal.Decimal(value).scaleb(-column.scale, decimal.Context(40)) for value in units]


class World:
    """Aligned tables of one flavour, and DuckDB over them."""

    def __init__(self, rows: int, flavour: str, seed: int) -> None:
        rng, (nulls, ends) = np.random.default_rng([rows, seed, len(flavour)]), FLAVOURS[flavour]
        keys, tables = [f"+44790{number:07d}" for number in range(rows)], []
        for columns in (BANK, TELCO):
            values: dict[str, list[Any]] = {columns[0].name: list(keys)}
            for column in columns[1:]:
                full = _column(rng, column, rows, ends)
                missing = rng.random(rows) < (nulls if column.nullable else 0)
                values[column.name] = [None if miss else value for value, miss in zip(full, missing, strict=True)]
            tables.append(arrow(columns, values))
        self.bank, self.telco = tables
        self.database = duckdb.connect(":memory:", config={"threads": 1})
        self.database.execute("CREATE SCHEMA bank; CREATE SCHEMA telco")
        for name, table in (("bank.customers", self.bank), ("telco.subscribers", self.telco)):
            self.database.register("raw", table)
            whole = [
                name for name, kind in zip(table.schema.names, table.schema.types, strict=True) if kind == pa.int64()
            ]
            casts = ", ".join(f"CAST({column} AS HUGEINT) AS {column}" for column in whole)  # products over 64 bits
            self.database.execute(f"CREATE TABLE {name} AS SELECT * REPLACE ({casts}) FROM raw")
            self.database.unregister("raw")

    def answer(self, statement: Statement) -> list[dict[str, Any]]:
        """DuckDB's rows, averages and spreads in exact arithmetic."""
        cursor = self.database.execute(statement.oracle)
        names = [part[0] for part in cursor.description or []]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        for name, aggregate in statement.aggregates.items():
            for row in rows:
                row[name] = grammar.exact(aggregate.function, row[name])
        return rows


@cache
def world(rows: int, flavour: str, seed: int) -> World:
    return World(rows, flavour, seed)


def planned(sql: str, rows: int) -> Plan:
    (made,) = all_planned(sql, rows)
    return made


def all_planned(sql: str, rows: int) -> tuple[Plan, ...]:
    catalogues = (
        Catalogue("bank", (Table("customers", (("phone",),), BANK, rows),)),
        Catalogue("telco", (Table("subscribers", (("msisdn",),), TELCO, rows),)),
    )
    return plans(sql, Context("q", catalogues, ("bank",), rows, 1))


class Engines:
    """Both engines; new ones after a run that failed, so that a failure can be found again and made small."""

    def __init__(self) -> None:
        self.pair = Pair.ideal()

    def run(self, made: Plan, tables: World) -> Result:
        self.pair.further = {"bank.customers": tables.bank, "telco.subscribers": tables.telco}
        try:
            found, _ = self.pair.run(made, tables.bank, tables.telco)
        except Exception:
            self.pair = Pair.ideal()
            raise
        assert found is not None
        return found


@pytest.fixture(scope="module")
def engines() -> Engines:
    return Engines()


def compare(engines: Engines, statement: Statement, tables: World) -> str:
    """`equal`, or where a sum may really need more than 64 bits `wide`, `refused`, or `beyond` what DuckDB can do."""
    rows = tables.bank.num_rows
    due = statement.may_be_refused(rows)
    try:
        made = planned(statement.sql, rows)
    except UsageError as error:
        reasons = ("overflow", "bits, 62 are possible", "products, at most 64")
        assert any(reason in error.message for reason in reasons), (statement.sql, error.message)
        assert due, (statement.sql, rows, error.message)
        return "refused"
    found = engines.run(made, tables)
    try:
        wanted = tables.answer(statement)
    except (duckdb.OutOfRangeException, duckdb.ConversionException):
        assert due, statement.sql
        return "beyond"
    (agree_in_order if statement.ordered else agree)(found, wanted)
    return "wide" if statement.may_be_wide(rows) else "equal"


def compare_union(engines: Engines, union: Union, tables: World) -> str:
    """The same of SELECTs under UNION ALL."""
    rows = tables.bank.num_rows
    due = any(arm.may_be_refused(rows) for arm in union.arms)
    try:
        made = all_planned(union.sql, rows)
    except UsageError as error:
        reasons = ("overflow", "bits, 62 are possible", "products, at most 64")
        assert due and any(reason in error.message for reason in reasons), (union.sql, error.message)
        return "refused"
    found = joined([engines.run(one, tables) for one in made])
    assert found is not None
    try:
        each = [tables.answer(arm) for arm in union.arms]
    except (duckdb.OutOfRangeException, duckdb.ConversionException):
        assert due, union.sql
        return "beyond"
    agree(found, [{name: union.brought(name, value) for name, value in row.items()} for arm in each for row in arm])
    return "wide" if any(arm.may_be_wide(rows) for arm in union.arms) else "equal"


COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None, "derandomize": True}


def sweep(engines: Engines, examples: int) -> Counter[str]:
    """Run so many examples; what came of the distinct ones."""
    told: dict[tuple[str, World], str] = {}

    @settings(max_examples=examples, **COMMON)  # type: ignore[arg-type]  # the settings take these names
    @given(
        statement=statements(),
        rows=st.sampled_from((0, 1, 1, 2, 3, 5, 8, 40)),
        flavour=st.sampled_from(sorted(FLAVOURS)),
        seed=st.integers(0, 2),
    )
    def each(statement: Statement, rows: int, flavour: str, seed: int) -> None:
        tables = world(rows, flavour, seed)
        told[statement.sql, tables] = compare(engines, statement, tables)

    each()
    found = Counter(told.values())
    assert (found["refused"] + found["beyond"]) * 3 < sum(found.values()), found
    return found


def test_random_statements_equal_the_oracle_or_are_refused_with_reason(engines: Engines) -> None:
    assert sweep(engines, 60)["equal"] >= 30


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_thousand_random_statements(engines: Engines) -> None:
    found = sweep(engines, 2400)
    assert sum(found.values()) >= 2000, found
    assert found["wide"] >= 50, found  # else the extremes are not met


def unite(engines: Engines, examples: int) -> Counter[str]:
    """Run so many examples under UNION ALL."""
    told: Counter[str] = Counter()

    @settings(max_examples=examples, **COMMON)  # type: ignore[arg-type]  # the settings take these names
    @given(union=unions(), rows=st.sampled_from((0, 1, 3, 8, 40)), flavour=st.sampled_from(sorted(FLAVOURS)))
    def each(union: Union, rows: int, flavour: str) -> None:
        told[compare_union(engines, union, world(rows, flavour, 0))] += 1

    each()
    return told


def test_random_unions_equal_the_oracle(engines: Engines) -> None:
    assert unite(engines, 20)["equal"] >= 6


@pytest.mark.slow
def test_three_hundred_random_unions(engines: Engines) -> None:
    assert unite(engines, 300)["equal"] >= 100


FOUND = {
    # what the sweep has found: each was an error of the local step on good values
    "18 digits times their power of ten need more than 64 bits": "SELECT SUM(t.cents) AS a0, COUNT(b.big) AS a1 ",
    "a count asks only whether it is NULL": "SELECT COUNT(b.balance + t.huge) AS a0, COUNT(b.free * 4) AS a1 ",
}


@pytest.mark.parametrize("what", sorted(FOUND))
def test_what_the_sweep_has_found(what: str, engines: Engines) -> None:
    tables = world(5, "ends", 0)
    sql = FOUND[what] + grammar.JOIN
    found = engines.run(planned(sql, 5), tables)
    agree(found, tables.answer(Statement(sql, sql.replace("b.free *", "CAST(b.free AS HUGEINT) *"), {})))


def test_the_oracle_of_a_refusal_can_say_no(engines: Engines) -> None:
    """A plan refused without need would be found: the bound says what is due, not the refusal."""
    small = grammar.Aggregate("SUM(b.age)", "SUM(b.age)", "sum", (grammar.Number("b.age", 18, 99),))
    assert not small.may_be_refused(10**6)
    wide = grammar.Aggregate(
        "SUM(b.wide)", "SUM(b.wide)", "sum", (grammar.Number("b.wide", -grammar.WIDE, grammar.WIDE),)
    )
    assert wide.may_be_refused(3)
    with pytest.raises(AssertionError):
        compare(engines, Statement("SELECT SUM(b.free) AS a0 " + grammar.JOIN, "", {"a0": small}), world(3, "plain", 0))
    with pytest.raises(AssertionError):
        wrong = Statement(
            "SELECT SUM(b.age) AS a0 " + grammar.JOIN, "SELECT SUM(b.age) + 1 AS a0 " + grammar.JOIN, {"a0": small}
        )
        compare(engines, wrong, world(3, "plain", 0))


@settings(max_examples=60, **COMMON)  # type: ignore[arg-type]
@given(statement=statements())
def test_random_plans_are_equal_on_both_sides(statement: Statement) -> None:
    try:
        first = planned(statement.sql, 5)
    except UsageError:
        return
    assert first.canonical() == planned(statement.sql, 5).canonical()
