"""UNION ALL, WITH, derived tables and SELECTs around joint SELECTs equal DuckDB on the joined tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from mpc.sql import Context, Result, StatementError, joined, plans, tables_of
from tests.mpc.sqlkit import JOIN, Pair, agree, context, oracle, tables

ON = "ON b.phone = t.msisdn"
STATEMENTS = {
    "union": f"SELECT 1 AS part, COUNT(*) AS n {JOIN} UNION ALL SELECT 2, COUNT(*) {JOIN} WHERE b.age > 50",
    "union_groups": f"SELECT t.plan AS k, SUM(b.age) AS s {JOIN} GROUP BY 1 UNION ALL SELECT b.region, SUM(t.late) {JOIN} GROUP BY 1",  # noqa: E501
    "union_types": f"SELECT COUNT(*) AS a, SUM(b.age) AS f {JOIN} UNION ALL SELECT SUM(t.bill), AVG(b.age) {JOIN}"
    f" UNION ALL (SELECT SUM(b.age) + 0.25, 3 * COUNT(*) {JOIN})",
    "union_ranks": f"SELECT MIN(b.balance) AS m, MAX(b.opened) AS d {JOIN} UNION ALL SELECT COUNT(DISTINCT t.plan), MIN(b.opened) {JOIN}",  # noqa: E501
    "union_with": f"WITH x AS (SELECT phone, age * 2 AS twice FROM bank.customers WHERE age > 40) "
    f"SELECT COUNT(*) AS n, SUM(b.twice * t.late) AS s FROM x b JOIN telco.subscribers t {ON} "
    f"UNION ALL SELECT COUNT(*), SUM(t.late) FROM x AS b JOIN telco.subscribers t {ON} WHERE t.prepaid",
    "with": f"WITH old AS (SELECT * FROM bank.customers WHERE age > 50) SELECT COUNT(*) AS n, AVG(b.balance) AS a FROM old b JOIN telco.subscribers t {ON}",  # noqa: E501
    "with_chain": f"WITH x AS (SELECT phone, balance + 1 AS y, region FROM bank.customers), z AS (SELECT phone, y * 2 AS w, region FROM x WHERE y > 0) "  # noqa: E501
    f"SELECT b.region, SUM(b.w) AS s, COUNT(*) AS n FROM z b JOIN telco.subscribers t {ON} GROUP BY b.region",
    "with_both": "WITH x AS (SELECT phone p, age FROM bank.customers), y AS (SELECT msisdn m, minutes FROM telco.subscribers WHERE minutes > 100) "  # noqa: E501
    "SELECT SUM(x.age * y.minutes) AS s FROM x JOIN y ON x.p = y.m",
    "with_renamed_keys": "WITH x AS (SELECT phone k, age FROM bank.customers), y AS (SELECT msisdn k, late FROM telco.subscribers) "  # noqa: E501
    "SELECT COUNT(*) AS n, SUM(late) AS s FROM x JOIN y USING (k) WHERE age > 40",
    "derived": f"SELECT b.old, COUNT(*) AS n, SUM(t.bill) AS s FROM (SELECT phone, age > 60 AS old FROM bank.customers WHERE region <> 'north') b "  # noqa: E501
    f"JOIN (SELECT s.*, late * 2 AS l FROM telco.subscribers s WHERE plan IS NOT NULL) t {ON} WHERE t.l > 4 GROUP BY b.old",  # noqa: E501
    "derived_null": f"SELECT COUNT(*) AS n, COUNT(b.x) AS c FROM (SELECT phone, NULLIF(age, 30) AS x FROM bank.customers WHERE balance > 0) b JOIN telco.subscribers t {ON}",  # noqa: E501
    "left_derived": f"SELECT COUNT(*) AS n, SUM(b.twice) AS s, COUNT(t.l) AS c FROM (SELECT phone, 2 * age AS twice FROM bank.customers WHERE age > 30) b "  # noqa: E501
    f"LEFT JOIN (SELECT msisdn, late + 1 AS l FROM telco.subscribers) t {ON}",
    "around": f"SELECT plan, n FROM (SELECT t.plan, COUNT(*) AS n, SUM(b.age) AS s {JOIN} GROUP BY t.plan) q WHERE n > 100 AND q.s > 10",  # noqa: E501
    "around_key": f"SELECT n, plan AS p FROM (SELECT t.plan, COUNT(*) AS n {JOIN} GROUP BY t.plan) WHERE plan = 'pro' OR plan IS NULL",  # noqa: E501
    "around_arithmetic": f"SELECT region AS r, 100.0 * s / n AS mean, n + 1 AS m FROM (SELECT b.region, COUNT(*) AS n, SUM(t.late) AS s {JOIN} GROUP BY 1)",  # noqa: E501
    "around_having": f"SELECT * FROM (SELECT t.plan AS p, COUNT(*) AS n {JOIN} GROUP BY p HAVING n > 50) WHERE n < 300",
    "around_with": f"WITH q AS (SELECT b.region AS r, SUM(t.late) AS s, COUNT(*) AS n {JOIN} GROUP BY b.region) SELECT r, s FROM q WHERE n > 20 OR s > 5",  # noqa: E501
    "around_twice": f"SELECT m * 2 AS k FROM (SELECT n + 1 AS m FROM (SELECT COUNT(*) AS n, t.plan {JOIN} GROUP BY t.plan) WHERE n > 10) WHERE m > 100",  # noqa: E501
    "around_one_row": f"SELECT s / n AS mean FROM (SELECT COUNT(*) AS n, SUM(b.age) AS s {JOIN} WHERE t.prepaid)",
    "around_union": f"SELECT n FROM (SELECT COUNT(*) AS n {JOIN}) UNION ALL SELECT n FROM (SELECT t.plan, COUNT(*) AS n {JOIN} GROUP BY t.plan) WHERE n > 50",  # noqa: E501
    "unused_with": f"WITH x AS (SELECT 1) SELECT COUNT(*) AS n {JOIN}",
    "brackets": f"(SELECT COUNT(*) AS n {JOIN})",
}
ORDERED = {
    "around_order": f"SELECT p, n FROM (SELECT t.plan AS p, COUNT(*) AS n {JOIN} GROUP BY p) ORDER BY n DESC, 1",
    "around_limit": f"SELECT p, n FROM (SELECT t.plan AS p, COUNT(*) AS n {JOIN} GROUP BY p) ORDER BY n DESC LIMIT 2",
    "inside_limit": f"SELECT n + 1 AS m FROM (SELECT COUNT(*) AS n {JOIN} GROUP BY t.plan ORDER BY n DESC LIMIT 2)",
}


def ask(pair: Pair, sql: str, bank: pa.Table, telco: pa.Table, planned: Context | None = None) -> Result:
    """One statement, its SELECTs one after the other."""
    found = [pair.run(made, bank, telco)[0] for made in plans(sql, planned or context(bank.num_rows))]
    result = joined(found)
    if result is None:
        raise AssertionError("the bank receives")
    return result


@pytest.fixture(scope="module")
def ideal() -> Iterator[Pair]:
    yield Pair.ideal()


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_statement_equals_duckdb(name: str, ideal: Pair) -> None:
    bank, telco = tables(600)
    agree(ask(ideal, STATEMENTS[name], bank, telco), oracle(STATEMENTS[name], bank, telco))


@pytest.mark.parametrize("name", sorted(ORDERED))
def test_rows_come_in_duckdbs_order(name: str, ideal: Pair) -> None:
    bank, telco = tables(600)
    found = ask(ideal, ORDERED[name], bank, telco)
    assert [dict(row) for row in found.rows] == oracle(ORDERED[name], bank, telco)


REFUSED = {
    "union_distinct": (f"SELECT COUNT(*) {JOIN} UNION SELECT COUNT(*) {JOIN}", "UNION ALL"),
    "intersect": (f"SELECT COUNT(*) {JOIN} INTERSECT SELECT COUNT(*) {JOIN}", "Intersect"),
    "by_name": (f"SELECT COUNT(*) {JOIN} UNION ALL BY NAME SELECT COUNT(*) {JOIN}", "BY_NAME"),
    "union_order": (f"SELECT COUNT(*) {JOIN} UNION ALL SELECT COUNT(*) {JOIN} ORDER BY 1", "ORDER"),
    "union_limit": (f"SELECT COUNT(*) {JOIN} UNION ALL SELECT COUNT(*) {JOIN} LIMIT 1", "LIMIT"),
    "union_columns": (f"SELECT COUNT(*) {JOIN} UNION ALL SELECT COUNT(*), SUM(b.age) {JOIN}", "equally many"),
    "union_kinds": (f"SELECT t.plan {JOIN} GROUP BY 1 UNION ALL SELECT COUNT(*) {JOIN}", "string and integer"),
    "recursive": (f"WITH RECURSIVE x AS (SELECT 1) SELECT COUNT(*) {JOIN}", "RECURSIVE"),
    "with_columns": (f"WITH x(a) AS (SELECT phone FROM bank.customers) SELECT COUNT(*) {JOIN}", "AS"),
    "with_aggregate": (
        f"WITH b AS (SELECT phone, COUNT(*) AS n FROM bank.customers GROUP BY 1) SELECT COUNT(*) FROM b JOIN telco.subscribers t {ON}",  # noqa: E501
        "derived table",
    ),
    "with_limit": (
        f"WITH b AS (SELECT phone FROM bank.customers LIMIT 3) SELECT COUNT(*) FROM b JOIN telco.subscribers t {ON}",
        "derived table",
    ),
    "with_distinct": (
        f"SELECT COUNT(*) FROM (SELECT DISTINCT phone FROM bank.customers) b JOIN telco.subscribers t {ON}",
        "DISTINCT",
    ),
    "with_of_both": (
        f"WITH b AS (SELECT b.* {JOIN}) SELECT COUNT(*) FROM b JOIN telco.subscribers t {ON}",
        "one party",
    ),
    "no_name": (
        "SELECT COUNT(*) FROM (SELECT * FROM bank.customers) JOIN telco.subscribers t ON phone = msisdn",
        "name",
    ),
    "computed_key": (
        f"SELECT COUNT(*) FROM (SELECT lower(phone) AS phone FROM bank.customers) b JOIN telco.subscribers t {ON}",
        "declared keys",
    ),
    "no_such_inner": (
        f"SELECT COUNT(b.age) FROM (SELECT phone FROM bank.customers) b JOIN telco.subscribers t {ON}",
        "b.age",
    ),
    "left_where": (
        f"SELECT COUNT(*) FROM bank.customers b LEFT JOIN (SELECT * FROM telco.subscribers WHERE late > 3) t {ON}",
        "have a match",
    ),
    "left_constant": (
        f"SELECT COUNT(t.x) FROM bank.customers b LEFT JOIN (SELECT msisdn, COALESCE(late, 0) AS x FROM telco.subscribers) t {ON}",  # noqa: E501
        "no match",
    ),
    "around_group": (f"SELECT COUNT(*) FROM (SELECT t.plan, COUNT(*) AS n {JOIN} GROUP BY 1)", "around a joint SELECT"),
    "around_distinct": (f"SELECT DISTINCT n FROM (SELECT t.plan, COUNT(*) AS n {JOIN} GROUP BY 1)", "DISTINCT"),
    "around_one": (f"SELECT n FROM (SELECT COUNT(*) AS n {JOIN}) WHERE n > 3", "one row"),
    "around_limited": (f"SELECT n FROM (SELECT t.plan, COUNT(*) AS n {JOIN} GROUP BY 1 LIMIT 2) WHERE n > 3", "LIMIT"),
    "around_unknown": (f"SELECT m FROM (SELECT COUNT(*) AS n {JOIN})", "inner SELECT"),
    "around_deep": ("SELECT n FROM (" * 40 + f"SELECT COUNT(*) AS n {JOIN}" + ")" * 40, "deep"),
    "around_growing": (
        "SELECT n + n AS n FROM (" * 25 + f"SELECT COUNT(*) AS n {JOIN}" + ")" * 25,
        "too large",
    ),
    "many_branches": (" UNION ALL ".join([f"SELECT COUNT(*) {JOIN}"] * 40), "more than 32"),
    "many_tables": (
        "WITH x0 AS (SELECT phone, age FROM bank.customers), "
        + ", ".join(f"x{i + 1} AS (SELECT a.phone FROM x{i} a JOIN x{i} b ON a.age = b.age)" for i in range(12))
        + f" SELECT COUNT(*) FROM x12 b JOIN telco.subscribers t {ON}",
        "64 tables",
    ),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refuses_with_place_and_hint(name: str) -> None:
    sql, word = REFUSED[name]
    with pytest.raises(StatementError) as caught:
        plans(sql, context(1000))
    assert caught.value.message.startswith("line 1, column ")
    assert word.lower() in f"{caught.value.message} {caught.value.hint}".lower()


def test_the_openings_of_each_select_are_named_apart() -> None:
    made = plans(f"SELECT COUNT(*) AS n {JOIN} UNION ALL SELECT COUNT(*) AS m {JOIN} WHERE t.prepaid", context(100))
    whats: list[set[str]] = [{opening.what for opening in each.request.openings} for each in made]
    assert "query.q.1.n.count" in whats[0]
    assert "query.q.2.n.count" in whats[1]
    assert not whats[0] & whats[1]


def test_columns_of_with_need_the_grants_of_their_use() -> None:
    sql = f"WITH x AS (SELECT phone, age + free AS y FROM bank.customers WHERE income > 5) SELECT COUNT(*) FILTER (WHERE b.y > 3) AS n FROM x b JOIN telco.subscribers t {ON}"  # noqa: E501
    (made,) = plans(sql, context(100))
    assert {(use.column, use.use) for use in made.request.uses if use.party == "bank"} == {
        ("phone", "join"),
        ("age", "filter"),
        ("free", "filter"),
        ("income", "filter"),
    }


ALIGNED: dict[str, Any] = {
    f"SELECT COUNT(*) {JOIN}": ({"bank": "customers", "telco": "subscribers"}, None),
    f"WITH x AS (SELECT * FROM bank.c WHERE a > 1) SELECT COUNT(*) FROM x b LEFT JOIN telco.s t {ON}": (
        {"bank": "c", "telco": "s"},
        "bank",
    ),
    f"SELECT n FROM (SELECT COUNT(*) AS n FROM telco.s t RIGHT JOIN (SELECT * FROM bank.c) b {ON})": (
        {"telco": "s", "bank": "c"},
        "bank",
    ),
    f"SELECT COUNT(*) FROM bank.c b JOIN telco.s t {ON} UNION ALL SELECT COUNT(*) FROM bank.c b LEFT JOIN telco.s t {ON}": (  # noqa: E501
        {"bank": "c", "telco": "s"},
        "bank",
    ),
    f"SELECT COUNT(*) FROM bank.a a JOIN bank.c b ON b.id = a.customer JOIN telco.s t {ON}": (
        {"bank": "c", "telco": "s"},
        None,
    ),
}


@pytest.mark.parametrize("sql", sorted(ALIGNED))
def test_the_aligned_tables_are_read_off_the_text(sql: str) -> None:
    found = tables_of(sql)
    assert (found.tables, found.keep) == ALIGNED[sql]


def test_one_alignment_serves_a_union() -> None:
    with pytest.raises(StatementError, match="join different tables"):
        tables_of(" UNION ALL ".join(f"SELECT COUNT(*) FROM bank.{x} b JOIN telco.s t {ON}" for x in "cd"))
