"""SELECTs among the expressions: numbers of one party's whole tables, and IN over them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from mpc.sql import StatementError, plans, reads_of
from party.request import Use
from tests.mpc.sqlkit import JOIN, Pair, agree, oracle, tables
from tests.mpc.test_sql_lookups import full, rows_of
from tests.mpc.test_sql_nested import ask

N = f"SELECT COUNT(*) AS n, SUM(t.late) AS s {JOIN} WHERE"
STATEMENTS = {
    "average": f"{N} b.balance > (SELECT AVG(balance) FROM bank.customers)",
    "average_where": f"{N} b.age > (SELECT AVG(c.age) FROM bank.customers c WHERE c.region = 'north' AND NOT defaulted)",  # noqa: E501
    "half": f"{N} b.balance > 0.5 * (SELECT AVG(balance) FROM bank.customers)",
    "extremes": f"{N} b.opened = (SELECT MAX(opened) FROM bank.customers) OR b.age = (SELECT MIN(age) FROM bank.customers)",  # noqa: E501
    "their_own": f"{N} t.minutes >= (SELECT AVG(minutes) FROM telco.subscribers) AND b.age > (SELECT AVG(age) FROM bank.customers)",  # noqa: E501
    "further": f"{N} b.age < (SELECT SUM(floor) FROM bank.branches) OR b.age > (SELECT COUNT(*) + 0 FROM bank.accounts)",  # noqa: E501
    "count": f"{N} b.age > (SELECT COUNT(floor) FROM bank.branches WHERE open IS NULL OR open) * 20",
    "filter": f"{N} b.age > (SELECT COUNT(*) FILTER (WHERE rent > 1) FROM bank.branches) * 25",
    "none": f"{N} b.age > (SELECT MAX(floor) FROM bank.branches WHERE floor > 99)",
    "joined": f"{N} b.age > (SELECT SUM(r.floor) / 1.0 FROM bank.branches r)",
    "own_join": f"{N} b.age > 20 + (SELECT SUM(g.weight) FROM bank.branches r JOIN bank.regions g ON r.region = g.id)",
    "sum_of_difference": f"SELECT SUM((b.age - (SELECT MIN(age) FROM bank.customers)) * t.late) AS s {JOIN}",
    "case": f"SELECT SUM(CASE WHEN b.income > (SELECT AVG(income) FROM bank.customers) THEN t.late ELSE 1 END) AS s {JOIN}",  # noqa: E501
    "in": f"{N} b.phone IN (SELECT holder FROM bank.accounts)",
    "in_where": f"{N} b.phone IN (SELECT DISTINCT a.holder FROM bank.accounts a WHERE a.kind = 'gold' AND a.age > 30)",
    "not_in": f"{N} b.phone NOT IN (SELECT holder FROM bank.accounts WHERE credit < 0) AND t.prepaid",
    "not_in_null": f"{N} b.phone NOT IN (SELECT name FROM bank.branches)",
    "in_filter": f"SELECT SUM(b.age) FILTER (WHERE b.phone IN (SELECT holder FROM bank.accounts WHERE age > 60)) AS s {JOIN}",  # noqa: E501
    "in_with": f"WITH gold AS (SELECT holder FROM bank.accounts WHERE kind = 'gold') {N} b.phone IN (SELECT holder FROM gold)",  # noqa: E501
    "in_derived": "SELECT COUNT(*) AS n FROM (SELECT * FROM bank.customers WHERE phone IN (SELECT holder FROM bank.accounts)) b "  # noqa: E501
    "JOIN telco.subscribers t ON b.phone = t.msisdn WHERE b.age > (SELECT AVG(age) FROM bank.customers)",
    "group": f"SELECT b.age > (SELECT AVG(age) FROM bank.customers) AS old, COUNT(*) AS n {JOIN} GROUP BY 1",
}  # fmt: skip


@pytest.fixture(scope="module")
def ideal() -> Iterator[Pair]:
    yield Pair.ideal()


def world(ideal: Pair) -> tuple[pa.Table, pa.Table]:
    bank, telco = tables(500)
    keys: list[Any] = bank.column("phone").to_pylist()
    ideal.further = rows_of(keys) | {"bank.customers": bank, "telco.subscribers": telco}
    return bank, telco


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_statement_equals_duckdb(name: str, ideal: Pair) -> None:
    bank, telco = world(ideal)
    more = {name: table for name, table in ideal.further.items() if name not in ("bank.customers", "telco.subscribers")}
    if name in ("further", "joined"):
        with pytest.raises(StatementError, match="one aggregate"):
            plans(STATEMENTS[name], full(500))
        return
    agree(ask(ideal, STATEMENTS[name], bank, telco, full(500)), oracle(STATEMENTS[name], bank, telco, more))


def test_a_number_that_few_rows_enter_is_null(ideal: Pair) -> None:
    """Else one row's value could be searched for, every aligned row telling."""
    bank, telco = world(ideal)
    one = "WHERE phone = '+447900000007'"
    arm = "CASE WHEN phone = '+447900000007' THEN age ELSE 0 END"
    for number in (
        f"SUM(age) FROM bank.customers {one}",
        f"COUNT(*) FROM bank.customers {one}",
        f"SUM({arm}) FROM bank.customers",
    ):
        sql = f"SELECT COUNT(*) AS n {JOIN} WHERE (SELECT {number}) >= 0"
        (row,) = ask(ideal, sql, bank, telco, full(500, min_rows=20)).rows
        assert row["n"] is None
        (row,) = ask(ideal, sql, bank, telco, full(500, min_rows=1)).rows
        assert row["n"] == 500


def test_a_number_that_enough_rows_enter_is_there(ideal: Pair) -> None:
    bank, telco = world(ideal)
    sql = f"SELECT COUNT(*) AS n {JOIN} WHERE b.age > (SELECT AVG(age) FROM bank.customers WHERE region = 'north')"
    (row,) = ask(ideal, sql, bank, telco, full(500, min_rows=20)).rows
    assert [row] == oracle(sql, bank, telco)


def test_the_grants_are_those_of_the_columns_read_and_the_plan_says_so() -> None:
    sql = (
        f"SELECT COUNT(*) AS n {JOIN} WHERE b.age > (SELECT AVG(rent) FROM bank.branches WHERE open)"
        " AND b.opened < (SELECT MAX(since) FROM bank.branches) AND b.phone IN (SELECT holder FROM bank.accounts WHERE kind = 'gold')"  # noqa: E501
    )
    (made,) = plans(sql, full(100))
    assert {use for use in made.request.uses if use.party == "bank"} == {
        Use("bank", "customers", "phone", "join"),
        Use("bank", "customers", "age", "filter"),
        Use("bank", "customers", "opened", "filter"),
        Use("bank", "branches", "rent", "aggregate"),
        Use("bank", "branches", "open", "filter"),
        Use("bank", "branches", "since", "rank"),
        Use("bank", "accounts", "holder", "join"),
        Use("bank", "accounts", "kind", "filter"),
    }
    assert "bank reads all of its table branches by itself" in made.explain()
    assert "bank reads all of its table accounts by itself" in made.explain()
    assert [(unique.table, unique.columns) for unique in reads_of(made, "bank").unique] == [("customers", ("phone",))]


SAME = "FROM bank.customers c JOIN telco.subscribers u ON c.phone = u.msisdn"
APART = {
    "share": f"SELECT COUNT(*) / (SELECT COUNT(*) {JOIN}) AS share {JOIN} WHERE b.age > 40 AND t.prepaid",
    "shares": f"SELECT 100.0 * SUM(t.late) / (SELECT SUM(u.late) {SAME}) AS s, COUNT(*) AS n, (SELECT COUNT(*) {SAME} WHERE c.age > 30) - COUNT(*) AS rest {JOIN} WHERE b.region = 'north'",  # noqa: E501
    "filter": f"SELECT SUM(b.age) FILTER (WHERE t.prepaid) / (SELECT SUM(c.age * u.late) FILTER (WHERE u.late > 3) {SAME}) AS x {JOIN} WHERE t.late > 5",  # noqa: E501
    "of_own": f"SELECT SUM(t.late) / (SELECT SUM(u.late) {SAME} WHERE c.age > (SELECT AVG(age) FROM bank.customers)) AS s {JOIN}",  # noqa: E501
    "without_where": f"SELECT (SELECT COUNT(*) {SAME} WHERE c.age > 50 OR u.prepaid) * 1.5 AS n, COUNT(*) AS m {JOIN}",
}


@pytest.mark.parametrize("name", sorted(APART))
def test_a_select_over_the_same_join_has_its_own_condition(name: str, ideal: Pair) -> None:
    bank, telco = world(ideal)
    agree(ask(ideal, APART[name], bank, telco, full(500)), oracle(APART[name], bank, telco))


def test_min_rows_counts_the_rows_of_each_select_by_itself(ideal: Pair) -> None:
    bank, telco = world(ideal)
    sql = f"SELECT COUNT(*) AS n, (SELECT COUNT(*) {SAME} WHERE c.age = 30) + 0 AS few {JOIN} WHERE b.age > 40"
    (row,) = ask(ideal, sql, bank, telco, full(500, min_rows=50)).rows
    assert row["few"] is None
    assert [row["n"]] == [found["n"] for found in oracle(f"SELECT COUNT(*) AS n {JOIN} WHERE b.age > 40", bank, telco)]


REFUSED = {
    "apart_grouped": (
        f"SELECT t.plan, COUNT(*) / (SELECT COUNT(*) {SAME}) AS s {JOIN} GROUP BY t.plan",
        "without GROUP BY",
    ),
    "apart_of_one": (f"SELECT COUNT(*) / (SELECT COUNT(*) FROM bank.customers) AS s {JOIN}", "not shown"),
    "apart_other": (
        f"SELECT COUNT(*) / (SELECT COUNT(*) {SAME.replace('JOIN', 'LEFT JOIN')}) AS s {JOIN}",
        "another join",
    ),
    "apart_groups": (f"SELECT COUNT(*) / (SELECT COUNT(*) {SAME} GROUP BY u.plan) AS s {JOIN}", "GROUP"),
    "apart_two": (f"SELECT COUNT(*) / (SELECT COUNT(*), 1 {SAME}) AS s {JOIN}", "one column"),
    "apart_outer": (f"SELECT COUNT(*) / (SELECT COUNT(*) {SAME} WHERE b.age > 3) AS s {JOIN}", "no column b.age"),
    "of_both": (f"{N} b.age > (SELECT COUNT(*) {JOIN})", "both parties"),
    "correlated": (
        f"{N} b.age > (SELECT AVG(floor) FROM bank.branches r WHERE r.name = b.branch)",
        "no column b.branch",
    ),
    "rows": (f"{N} b.age > (SELECT floor FROM bank.branches)", "one aggregate"),
    "two_columns": (f"{N} b.age > (SELECT MIN(floor), MAX(floor) FROM bank.branches)", "one column"),
    "grouped": (f"{N} b.age > (SELECT MIN(floor) FROM bank.branches GROUP BY city)", "GROUP"),
    "limited": (f"{N} b.age > (SELECT MIN(floor) FROM bank.branches LIMIT 1)", "LIMIT"),
    "distinct": (f"{N} b.age > (SELECT COUNT(DISTINCT city) FROM bank.branches)", "one aggregate"),
    "median": (f"{N} b.age > (SELECT MEDIAN(floor) FROM bank.branches)", "one aggregate"),
    "of_text": (f"{N} b.age > (SELECT SUM(city) FROM bank.branches)", "SUM of a string"),
    "of_constant": (f"{N} b.age > (SELECT SUM(1) FROM bank.branches)", "constant"),
    "exists": (f"{N} EXISTS (SELECT 1 FROM bank.branches)", "Exists"),
    "in_expression": (f"{N} b.age + 0 IN (SELECT floor FROM bank.branches)", "IN (SELECT"),
    "in_constant": (f"{N} 5 IN (SELECT floor FROM bank.branches)", "IN (SELECT"),
    "in_theirs": (f"{N} b.phone IN (SELECT msisdn FROM telco.subscribers)", "other party"),
    "in_types": (f"{N} b.phone IN (SELECT floor FROM bank.branches)", "one type"),
    "in_union": (
        f"{N} b.phone IN (SELECT holder FROM bank.accounts UNION ALL SELECT name FROM bank.branches)",
        "among",
    ),
    "across": (f"{N} b.age < t.late + (SELECT AVG(minutes) FROM telco.subscribers)", "not compared across parties"),
    "any": (f"{N} b.age > ANY (SELECT floor FROM bank.branches)", "Any"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refuses_with_place_and_hint(name: str) -> None:
    sql, word = REFUSED[name]
    with pytest.raises(StatementError) as caught:
        plans(sql, full(100))
    assert caught.value.message.startswith("line 1, column ")
    assert word.lower() in f"{caught.value.message} {caught.value.hint}".lower()
