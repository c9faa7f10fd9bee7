"""Further tables that an owner joins by itself equal DuckDB's join of all tables."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from connectors import finds
from mpc.sql import Context, StatementError, apart, further_name, plans, reads_of
from party.catalogue import Column, Table
from party.request import Use
from tests.mpc.sqlkit import Pair, agree, arrow, context, oracle, tables
from tests.mpc.test_sql_nested import ask

ON = "ON b.phone = t.msisdn"
BRANCHES = (
    Column("name", "string"),
    Column("city", "string", domain=("Łódź", "York", "Bath")),
    Column("floor", "integer", low=-2, high=50),
    Column("rent", "decimal", 2, 9),
    Column("open", "bool"),
    Column("since", "date"),
    Column("region", "integer", low=0, high=9),
)
REGIONS = (
    Column("id", "integer", low=0, high=9),
    Column("label", "string"),
    Column("weight", "integer", low=0, high=7),
)
ACCOUNTS = (
    Column("holder", "string"),
    Column("age", "integer", low=0, high=120),
    Column("credit", "decimal", 2, 10),
    Column("kind", "string", domain=("gold", "iron")),
)
TARIFFS = (Column("plan", "string"), Column("price", "integer", low=0, high=100), Column("unlimited", "bool"))
FURTHER = {
    "bank.branches": BRANCHES,
    "bank.regions": REGIONS,
    "bank.accounts": ACCOUNTS,
    "telco.tariffs": TARIFFS,
}


def rows_of(keys: list[str | None]) -> dict[str, pa.Table]:
    """Branches without one that customers have and with one they have not; accounts of every second customer."""
    rng = np.random.default_rng(5)
    day, cents = datetime.date(1990, 1, 1), decimal.Decimal("0.01")
    half = keys[::2]
    many = len(half)
    values: dict[str, dict[str, list[Any]]] = {
        "bank.branches": {
            "name": ["Łódź", "b", "nowhere", None],
            "city": ["Łódź", None, "York", "Bath"],
            "floor": [3, -1, 50, None],
            "rent": [cents * 12345, None, cents * 7, cents],
            "open": [True, None, False, True],
            "since": [day, None, day, day],
            "region": [1, 2, 3, None],
        },
        "bank.regions": {"id": [1, 3, 4], "label": ["one", "three", None], "weight": [7, 1, 2]},
        "bank.accounts": {
            "holder": half,
            "age": [int(v) for v in rng.integers(0, 120, many)],
            "credit": [None if v % 7 == 0 else cents * int(v) for v in rng.integers(-9999, 9999, many)],
            "kind": ["gold" if v else "iron" for v in rng.integers(0, 2, many)],
        },
        "telco.tariffs": {"plan": ["basic", "plus", "x"], "price": [10, 20, None], "unlimited": [False, True, True]},
    }
    return {name: arrow(columns, values[name]) for name, columns in FURTHER.items()}


def full(rows: int, **options: Any) -> Context:
    planned = context(rows, **options)
    found = []
    for catalogue in planned.catalogues:
        more = [
            Table(name.partition(".")[2], ((columns[0].name,),), columns, 100)
            for name, columns in FURTHER.items()
            if name.startswith(f"{catalogue.party}.")
        ]
        found.append(replace(catalogue, tables=(*catalogue.tables, *more)))
    return replace(planned, catalogues=(found[0], found[1]))


B, T = "bank.customers b", "telco.subscribers t"
BRANCH = "JOIN bank.branches r ON b.branch = r.name"
STATEMENTS = {
    "inner": f"SELECT COUNT(*) AS n, SUM(r.floor) AS s, SUM(r.rent * t.late) AS p FROM {B} {BRANCH} JOIN {T} {ON}",
    "behind": f"SELECT COUNT(*) AS n, SUM(r.floor * t.late) AS s FROM {B} JOIN {T} {ON} {BRANCH}",
    "turned": f"SELECT COUNT(*) AS n, SUM(r.floor) AS s FROM bank.branches r JOIN {B} ON r.name = b.branch JOIN {T} {ON}",  # noqa: E501
    "left": f"SELECT COUNT(*) AS n, COUNT(r.floor) AS c, SUM(r.floor) AS s FROM {B} LEFT {BRANCH} JOIN {T} {ON}",
    "both_sides": f"SELECT COUNT(*) AS n, SUM(r.floor * f.price) AS s FROM {B} {BRANCH} JOIN {T} {ON} JOIN telco.tariffs f USING (plan)",  # noqa: E501
    "theirs_left": f"SELECT f.unlimited, COUNT(*) AS n, SUM(b.age) AS s FROM {B} JOIN {T} {ON} LEFT JOIN telco.tariffs f ON f.plan = t.plan GROUP BY f.unlimited",  # noqa: E501
    "group_by_domain": f"SELECT r.city, COUNT(*) AS n, SUM(t.late) AS s FROM {B} LEFT {BRANCH} JOIN {T} {ON} GROUP BY r.city",  # noqa: E501
    "group_by_label": f"SELECT r.since, t.plan, COUNT(*) AS n FROM {B} {BRANCH} JOIN {T} {ON} GROUP BY 1, 2",
    "conditions": f"SELECT COUNT(*) AS n, SUM(b.age) FILTER (WHERE r.floor > 0) AS s FROM {B} LEFT {BRANCH} JOIN {T} {ON} WHERE r.open OR t.late > 6",  # noqa: E501
    "chain": f"SELECT COUNT(*) AS n, SUM(g.weight * t.late) AS s FROM {B} {BRANCH} JOIN bank.regions g ON r.region = g.id JOIN {T} {ON}",  # noqa: E501
    "chain_left": f"SELECT g.label, COUNT(*) AS n, SUM(g.weight) AS s FROM {B} LEFT {BRANCH} LEFT JOIN bank.regions g ON g.id = r.region JOIN {T} {ON} GROUP BY 1",  # noqa: E501
    "same_names": f"SELECT SUM(a.age) AS x, SUM(b.age) AS y, SUM(a.age * t.late) AS z FROM {B} JOIN bank.accounts a ON a.holder = b.phone JOIN {T} {ON}",  # noqa: E501
    "two_columns": f"SELECT COUNT(*) AS n, SUM(a.credit) AS s FROM {B} JOIN bank.accounts a ON a.holder = b.phone AND a.age = b.age JOIN {T} {ON}",  # noqa: E501
    "twice": f"SELECT COUNT(*) AS n, SUM(x.weight) AS s, SUM(y.weight) AS u FROM {B} LEFT {BRANCH} LEFT JOIN bank.regions x ON x.id = r.region LEFT JOIN bank.regions y ON y.id = r.floor JOIN {T} {ON}",  # noqa: E501
    "derived_further": f"SELECT COUNT(*) AS n, SUM(a.c) AS s FROM {B} LEFT JOIN (SELECT holder AS h, credit * 2 AS c FROM bank.accounts WHERE kind = 'gold') a ON b.phone = a.h JOIN {T} {ON}",  # noqa: E501
    "derived_inner": f"WITH gold AS (SELECT * FROM bank.accounts WHERE kind = 'gold' AND age > 30) SELECT COUNT(*) AS n, AVG(g.credit) AS s FROM {B} JOIN gold g ON b.phone = g.holder JOIN {T} {ON} WHERE t.prepaid",  # noqa: E501
    "derived_join": f"SELECT x.city, COUNT(*) AS n, SUM(x.twice * t.late) AS s FROM (SELECT c.phone, r.city, r.floor * 2 AS twice FROM bank.customers c JOIN bank.branches r ON c.branch = r.name WHERE c.age > 30) x JOIN {T} ON x.phone = t.msisdn GROUP BY x.city",  # noqa: E501
    "derived_chain": f"SELECT COUNT(*) AS n, SUM(z.weight) AS s FROM {B} LEFT JOIN (SELECT r.name, g.weight FROM bank.branches r LEFT JOIN bank.regions g ON r.region = g.id) z ON z.name = b.branch JOIN {T} {ON}",  # noqa: E501
    "kept": f"SELECT COUNT(*) AS n, COUNT(f.price) AS c, SUM(r.floor) AS s FROM {B} {BRANCH} LEFT JOIN {T} {ON} LEFT JOIN telco.tariffs f ON f.plan = t.plan",  # noqa: E501
    "kept_behind": f"SELECT COUNT(*) AS n, SUM(f.price) AS c FROM {B} LEFT JOIN {T} {ON} JOIN telco.tariffs f ON f.plan = t.plan",  # noqa: E501
    "case": f"SELECT SUM(CASE WHEN r.open THEN r.rent ELSE 0 END) AS s, SUM(COALESCE(r.floor, 9) * t.late) AS c FROM {B} LEFT {BRANCH} JOIN {T} {ON}",  # noqa: E501
    "compared": f"SELECT COUNT(*) AS n FROM {B} LEFT {BRANCH} JOIN {T} {ON} WHERE r.floor < t.late",
    "grouped": f"SELECT COUNT(*) AS n, SUM(g.total) AS s, SUM(g.many * t.late) AS m FROM {B} JOIN (SELECT holder, SUM(credit) AS total, COUNT(*) AS many FROM bank.accounts GROUP BY holder) g ON g.holder = b.phone JOIN {T} {ON}",  # noqa: E501
    "grouped_left": f"SELECT COUNT(*) AS n, SUM(g.least) AS s, COUNT(g.a) AS c, SUM(COALESCE(g.many, 0)) AS m FROM {B} LEFT JOIN (SELECT age, MIN(credit) AS least, AVG(credit) AS a, COUNT(credit) AS many, MAX(holder) AS h FROM bank.accounts WHERE kind = 'gold' GROUP BY age) g ON g.age = b.age JOIN {T} {ON} WHERE g.h IS NULL OR g.a > -50",  # noqa: E501
    "grouped_many": f"WITH g AS (SELECT a.age AS k, a.kind AS l, SUM(CASE WHEN a.credit > 0 THEN a.credit ELSE 0 END) AS p FROM bank.accounts a GROUP BY a.age, a.kind) SELECT SUM(g.p * t.late) AS s, COUNT(*) AS n FROM {B} JOIN g ON g.k = b.age AND b.region = g.l JOIN {T} {ON}",  # noqa: E501
    "having": f"SELECT r.city, SUM(t.late) AS s FROM {B} {BRANCH} JOIN {T} {ON} GROUP BY 1 HAVING COUNT(*) > 5 ORDER BY s",  # noqa: E501
}


@pytest.fixture(scope="module")
def ideal() -> Iterator[Pair]:
    yield Pair.ideal()


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_statement_equals_duckdb(name: str, ideal: Pair) -> None:
    bank, telco = tables(500)
    more = rows_of(bank.column("phone").to_pylist())
    ideal.further = more | {"bank.customers": bank, "telco.subscribers": telco}
    found = ask(ideal, STATEMENTS[name], bank, telco, full(500))
    agree(found, oracle(STATEMENTS[name], bank, telco, more))


def test_a_lookup_needs_join_on_both_sides_and_the_use_of_its_columns() -> None:
    sql = f"SELECT r.city, SUM(r.rent * t.late) AS s FROM {B} {BRANCH} JOIN {T} {ON} WHERE r.open GROUP BY r.city"
    (made,) = plans(sql, full(100))
    assert {use for use in made.request.uses if use.party == "bank"} == {
        Use("bank", "customers", "phone", "join"),
        Use("bank", "customers", "branch", "join"),
        Use("bank", "branches", "name", "join"),
        Use("bank", "branches", "city", "group"),
        Use("bank", "branches", "rent", "aggregate"),
        Use("bank", "branches", "open", "filter"),
    }
    assert "bank reads all of its table branches by itself" in made.explain()
    assert any("name is not unique in bank.branches" in line for line in made.explain())


REFUSED = {
    "grouped_by_more": (
        f"SELECT COUNT(*) FROM {B} JOIN (SELECT age, kind FROM bank.accounts GROUP BY age, kind) g ON g.age = b.age JOIN {T} {ON}",  # noqa: E501
        "all columns of GROUP BY",
    ),
    "grouped_by_expression": (
        f"SELECT COUNT(*) FROM {B} JOIN (SELECT age + 1 AS a FROM bank.accounts GROUP BY age + 1) g ON g.a = b.age JOIN {T} {ON}",  # noqa: E501
        "its columns",
    ),
    "not_grouped": (
        f"SELECT COUNT(*) FROM {B} JOIN (SELECT age, kind FROM bank.accounts GROUP BY age) g ON g.age = b.age JOIN {T} {ON}",  # noqa: E501
        "GROUP BY",
    ),
    "grouped_arithmetic": (
        f"SELECT COUNT(*) FROM {B} JOIN (SELECT age, 2 * SUM(credit) AS s FROM bank.accounts GROUP BY age) g ON g.age = b.age JOIN {T} {ON}",  # noqa: E501
        "not one aggregate",
    ),
    "grouped_computed": (
        f"SELECT COUNT(*) FROM {B} LEFT {BRANCH} JOIN (SELECT age FROM bank.accounts GROUP BY age) g ON g.age = r.floor JOIN {T} {ON}",  # noqa: E501
        "computed columns",
    ),
    "grouped_aligned": (
        f"SELECT COUNT(*) FROM (SELECT phone, COUNT(*) AS n FROM bank.customers GROUP BY phone) b JOIN {T} {ON}",
        "derived table",
    ),
    "types": (f"SELECT COUNT(*) FROM {B} JOIN bank.regions g ON b.region = g.id JOIN {T} {ON}", "integer and string"),
    "floats": (
        f"SELECT COUNT(*) FROM {B} JOIN bank.branches r ON b.score = r.rent JOIN {T} {ON}",
        "decimal and float",
    ),
    "inequality": (f"SELECT COUNT(*) FROM {B} JOIN bank.branches r ON b.age > r.floor JOIN {T} {ON}", "join condition"),
    "or": (
        f"SELECT COUNT(*) FROM {B} JOIN bank.branches r ON b.branch = r.name OR b.age = r.floor JOIN {T} {ON}",
        "AND",
    ),
    "constant": (f"SELECT COUNT(*) FROM {B} JOIN bank.branches r ON r.name = 'b' JOIN {T} {ON}", "does not lead"),
    "right": (f"SELECT COUNT(*) FROM {B} RIGHT {BRANCH} JOIN {T} {ON}", "RIGHT JOIN of tables of one party"),
    "left_turned": (
        f"SELECT COUNT(*) FROM bank.branches r LEFT JOIN {B} ON b.branch = r.name JOIN {T} {ON}",
        "name the table whose rows count first",
    ),
    "before_left": (
        f"SELECT COUNT(*) FROM telco.tariffs f JOIN {T} ON f.plan = t.plan RIGHT JOIN {B} {ON}",
        "stands before the RIGHT JOIN",
    ),
    "unknown": (
        f"SELECT COUNT(*) FROM {B} JOIN bank.nothing r ON b.branch = r.name JOIN {T} {ON}",
        "no table bank.nothing",
    ),
    "without_alias": (
        f"SELECT COUNT(*) FROM {B} JOIN bank.branches r ON branch = name JOIN {T} {ON}",
        "one table of each party",
    ),
    "across": (
        f"SELECT COUNT(*) FROM {B} JOIN {T} {ON} JOIN bank.branches r ON t.plan = r.name",
        "one table of each party",
    ),
    "ambiguous": (f"SELECT SUM(age) FROM {B} JOIN bank.accounts a ON a.holder = b.phone JOIN {T} {ON}", "ambiguous"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refuses_with_place_and_hint(name: str) -> None:
    sql, word = REFUSED[name]
    with pytest.raises(StatementError) as caught:
        plans(sql, full(100))
    assert caught.value.message.startswith("line 1, column ")
    assert word.lower() in f"{caught.value.message} {caught.value.hint}".lower()


def test_a_plan_with_further_tables_is_the_same_on_both_sides() -> None:
    for sql in STATEMENTS.values():
        assert [made.canonical() for made in plans(sql, full(100))] == [
            made.canonical() for made in plans(sql, full(100))
        ]


def test_min_rows_counts_the_rows_that_enter_through_a_lookup(ideal: Pair) -> None:
    bank, telco = tables(500)
    ideal.further = rows_of(bank.column("phone").to_pylist())
    for column, shown in (("floor > 40", False), ("floor > 0", True), ("floor < 0", True)):
        inner = f"(SELECT name, CASE WHEN {column} THEN region ELSE 0 END AS x FROM bank.branches)"
        sql = f"SELECT SUM(z.x) AS s, COUNT(*) AS n FROM {B} LEFT JOIN {inner} z ON z.name = b.branch JOIN {T} {ON}"
        (row,) = ask(ideal, sql, bank, telco, full(500, min_rows=10)).rows
        assert (row["s"] is not None) == shown
        assert row["n"] == 500


def test_a_0_1_column_of_a_further_table_is_a_condition_where_it_is_multiplied(ideal: Pair) -> None:
    bank, telco = tables(500)
    ideal.further = rows_of(bank.column("phone").to_pylist())
    bit = "(SELECT name, CASE WHEN floor > 40 THEN 1 ELSE 0 END AS x, open FROM bank.branches)"
    sql = f"SELECT SUM(CAST(z.open AS INTEGER) * t.late) AS s, SUM(z.x * t.late) AS h FROM {B} LEFT JOIN {bit} z ON z.name = b.branch JOIN {T} {ON}"  # noqa: E501
    (row,) = ask(ideal, sql, bank, telco, full(500, min_rows=10)).rows
    (wanted,) = oracle(sql, bank, telco, ideal.further)
    assert row == {"s": None if count_open(bank) < 10 else wanted["s"], "h": None}


def count_open(bank: pa.Table) -> int:
    """Customers of the one branch that is open."""
    return sum(branch == "Łódź" for branch in bank.column("branch").to_pylist())


def test_a_grouped_table_is_joined_on_what_is_unique_here_and_a_plain_one_on_what_is_unique_there() -> None:
    for name, wanted in (("grouped", ("customers", ("phone",))), ("inner", ("branches", ("name",)))):
        (made,) = plans(STATEMENTS[name], full(100))
        assert [(unique.table, unique.columns) for unique in reads_of(made, "bank").unique] == [wanted]


def test_min_rows_counts_the_rows_whose_group_enters_by_an_arm(ideal: Pair) -> None:
    bank, telco = tables(500)
    ideal.further = rows_of(bank.column("phone").to_pylist()) | {"bank.customers": bank}
    keys = ideal.further["bank.accounts"].column("holder").to_pylist()
    for holders, shown in ((keys[:3], False), (keys[:60], True)):
        arm = f"CASE WHEN holder IN ({', '.join(map(repr, holders))}) THEN 6 ELSE 5 END"
        inner = f"(SELECT holder, SUM({arm}) AS x FROM bank.accounts GROUP BY holder)"
        sql = f"SELECT SUM(g.x) AS s, COUNT(*) AS n FROM {B} JOIN {inner} g ON g.holder = b.phone JOIN {T} {ON}"
        (row,) = ask(ideal, sql, bank, telco, full(500, min_rows=20)).rows
        assert row == {"s": 5 * 250 + 60 if shown else None, "n": 250}


@pytest.mark.parametrize(
    ("inner", "of_all"),
    [
        ("COUNT(CASE WHEN {few} THEN 0 END)", 0),
        ("MIN(CASE WHEN {few} THEN 0 ELSE 1 END)", 250),
        ("MAX(CASE WHEN {few} THEN 0 ELSE -1 END)", -250),
    ],
)
def test_an_arm_of_zero_is_a_way_to_enter_a_group(ideal: Pair, inner: str, of_all: int) -> None:
    bank, telco = tables(500)
    ideal.further = rows_of(bank.column("phone").to_pylist()) | {"bank.customers": bank}
    keys = ideal.further["bank.accounts"].column("holder").to_pylist()
    for holders, shown in ((keys[:3], False), (keys[:60], True)):
        text = inner.format(few=f"holder IN ({', '.join(map(repr, holders))})")
        grouped = f"(SELECT holder, {text} AS x FROM bank.accounts GROUP BY holder)"
        sql = f"SELECT SUM(g.x) AS s, COUNT(*) AS n FROM {B} JOIN {grouped} g ON g.holder = b.phone JOIN {T} {ON}"
        (row,) = ask(ideal, sql, bank, telco, full(500, min_rows=20)).rows
        wanted = of_all + (60 if of_all <= 0 else -60)
        assert row == {"s": wanted if shown else None, "n": 250}


@pytest.mark.parametrize(
    ("first", "second", "near"),
    [
        ("SUM(age) AS x FROM bank.accounts", "SUM(age) AS x FROM bank.accounts WHERE holder <> '{one}'", True),
        (
            "SUM(age) AS x FROM bank.accounts",
            "COUNT(CASE WHEN holder <> '{one}' THEN 0 END) AS x FROM bank.accounts",
            True,
        ),
        ("SUM(age) AS x FROM bank.accounts", "SUM(age) AS x FROM bank.accounts WHERE kind = 'gold'", False),
        ("SUM(age) AS x FROM bank.accounts", "SUM(credit) AS x FROM bank.accounts WHERE holder <> 'nobody'", False),
        ("SUM(age) AS x FROM bank.accounts WHERE holder = '{one}'", "COUNT(*) AS x FROM bank.accounts", False),
    ],
)
def test_sums_of_a_further_table_over_nearly_the_same_rows_of_it_are_found(first: str, second: str, near: bool) -> None:
    """The customers may be the same, and the rows of theirs that are summed up differ by one."""
    bank, _ = tables(500)
    further = rows_of(bank.column("phone").to_pylist())
    one = further["bank.accounts"].column("holder").to_pylist()[0]
    statements = []
    for inner in (first, second):
        grouped = f"(SELECT holder, {inner.format(one=one)} GROUP BY holder)"
        sql = f"SELECT SUM(g.x) AS s FROM {B} JOIN {grouped} g ON g.holder = b.phone JOIN {T} {ON}"
        statements.append(plans(sql, replace(full(500, min_rows=20), to=("telco",)))[0])
    (check,) = apart(statements[1:], statements[:1], "bank", "telco")
    held = {further_name(name.partition(".")[2]): table for name, table in further.items()}
    assert finds(held, check.select) == near
    assert apart(statements[1:], statements[:1], "telco", "bank") == ()
    assert apart(statements[:1], statements[:1], "bank", "telco") == ()
