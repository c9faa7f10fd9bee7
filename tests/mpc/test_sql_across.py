"""Comparisons of one party's columns with the other's, against DuckDB."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Any

import pytest

from connectors import evaluate
from mpc.sql import Context, plan
from mpc.sql.expr import never_null
from mpc.sql.local import compared
from party.catalogue import Catalogue, Column, Table
from party.errors import DataError, UsageError
from party.request import Use
from tests.mpc.sqlkit import BANK, JOIN, TELCO, Pair, agree, arrow, catalogues, context, oracle, tables

ROWS = 300
DAY = datetime.date(2020, 1, 1)
WHERES = [
    "b.income > t.minutes",
    "b.income <= t.minutes",
    "b.balance < t.bill",
    "b.balance >= t.bill * 1000",
    "b.age = t.late * 10",
    "b.age <> t.late * 10",
    "t.minutes < b.income - 400000",
    "b.income - t.minutes > 12 * t.late + b.age",
    "-(b.income - t.minutes) > 5",
    "b.balance - t.bill > b.age",
    "b.income > t.minutes AND t.prepaid",
    "b.income > t.minutes OR b.region = 'north'",
    "NOT (b.income > t.minutes)",
    "NOT (b.income > t.minutes AND t.prepaid)",
    "b.income > t.minutes AND b.age < t.late * 10",
    "b.income > t.minutes OR b.age < t.late * 10",
    "b.age BETWEEN t.late AND t.late * 12",
    "b.income IN (t.minutes, 7, t.late)",
    "(b.income > t.minutes) IS NOT TRUE",
    "(b.income > t.minutes) IS NULL",
    "b.defaulted = t.prepaid",
    "b.defaulted <> t.prepaid AND b.income > t.minutes",
    "b.defaulted < t.prepaid",
    "b.branch = t.plan",
    "b.branch <> t.plan",
    "b.region < t.area",
    "b.region = t.area",
    "b.region >= t.area AND t.since > b.opened",
    "b.opened < t.since",
    "b.opened = t.since",
    "b.opened BETWEEN t.since AND t.until",
    "b.moment <= t.until_moment",
    "CASE WHEN b.age > 50 THEN b.income ELSE 0 END > t.minutes",
]
SELECTS = [
    "SELECT COUNT(*) AS n, SUM(b.income) AS s, SUM(t.bill) AS u, AVG(b.age * t.late) AS a",
    "SELECT COUNT(b.balance) AS n, CORR(b.balance, t.minutes) AS r",
]


def more(rows: int) -> tuple[Any, Any, tuple[Catalogue, Catalogue]]:
    """The kit's tables, with dates, timestamps and a declared text at the telco, some equal to the bank's."""
    bank, telco = tables(rows)
    opened = bank.column("opened").to_pylist()
    regions = bank.column("region").to_pylist()
    since = [None if n % 11 == 0 else day if n % 3 == 0 else DAY + datetime.timedelta(days=3 * n % 900)
             for n, day in enumerate(opened)]  # fmt: skip
    clock = datetime.datetime(2021, 3, 4, 5, 6, 7, 890123)
    own = Column("moment", "timestamp")
    extra = (
        Column("area", "string", domain=("east", "midlands", "north", "south")),
        Column("since", "date"),
        Column("until", "date"),
        Column("until_moment", "timestamp"),
    )
    values: dict[str, list[Any]] = {
        "area": [None if n % 7 == 0 else "midlands" if n % 5 == 0 or region == "west" else region
                 for n, region in enumerate(regions)],
        "since": since,
        "until": [None if day is None else day + datetime.timedelta(days=200) for day in since],
        "until_moment": [clock + datetime.timedelta(microseconds=n % 5 - 2) for n in range(rows)],
    }  # fmt: skip
    moments = [clock if n % 4 else None for n in range(rows)]
    columns = (*BANK, own), (*TELCO, *extra)
    first = arrow(columns[0], {**bank.to_pydict(), "moment": moments})
    last = arrow(columns[1], {**telco.to_pydict(), **values})
    both = tuple(
        Catalogue(one.party, (Table(one.tables[0].name, one.tables[0].key, listed, rows),))
        for one, listed in zip(catalogues(rows), columns, strict=True)
    )
    return first, last, (both[0], both[1])


def ask(sql: str, rows: int, pair: Pair, **options: Any) -> None:
    bank, telco, both = more(rows)
    made = plan(sql, Context("q", both, ("bank",), rows, options.get("min_rows", 1)))
    answer, _ = pair.run(made, bank, telco)
    assert answer is not None
    agree(answer, oracle(sql, bank, telco))


@pytest.mark.parametrize("where", WHERES)
def test_conditions_over_both_parties_agree_with_duckdb(where: str) -> None:
    for select in SELECTS:
        ask(f"{select} {JOIN} WHERE {where}", ROWS, Pair.ideal())


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT SUM(CASE WHEN b.income > t.minutes THEN t.bill ELSE b.balance END) AS s {JOIN}",
        f"SELECT SUM(CASE WHEN b.income > t.minutes THEN 1 WHEN b.age > t.late THEN 2 END) AS s {JOIN}",
        f"SELECT COUNT(*) FILTER (WHERE b.branch = t.plan) AS n, COUNT(*) AS m {JOIN}",
        f"SELECT COUNT(b.income > t.minutes) AS n {JOIN}",
        f"SELECT SUM(abs(b.income - t.minutes)) AS s, SUM(abs(b.balance - t.bill) * t.late) AS u {JOIN}",
        f"SELECT SUM(coalesce(b.income, t.minutes)) AS s, COUNT(coalesce(t.bill, b.balance, 1)) AS n {JOIN}",
        f"SELECT SUM(coalesce(b.income - t.minutes, b.age)) AS s, AVG(nullif(b.age, t.late * 10)) AS a {JOIN}",
        f"SELECT t.plan, COUNT(*) AS n, SUM(b.income) AS s {JOIN} WHERE b.income > t.minutes GROUP BY t.plan",
        f"SELECT b.region, t.plan, COUNT(*) AS n {JOIN} WHERE b.opened < t.since GROUP BY b.region, t.plan",
        f"SELECT t.plan, COUNT(*) AS n {JOIN} WHERE b.income > t.minutes GROUP BY t.plan HAVING SUM(b.age) > 100",
        f"SELECT VAR_SAMP(b.balance) AS v, COVAR_POP(b.balance, t.bill) AS c {JOIN} WHERE b.income > t.minutes",
    ],
)
def test_joint_bits_enter_every_part_of_a_statement(sql: str) -> None:
    ask(sql, ROWS, Pair.ideal())


def test_the_real_engine_gives_the_same() -> None:
    pair = Pair.real()
    for where in WHERES[3:24:7]:
        ask(f"{SELECTS[0]} {JOIN} WHERE {where}", 200, pair)


def test_no_rows_and_one_row() -> None:
    for rows in (0, 1):
        ask(f"SELECT COUNT(*) AS n, SUM(b.income) AS s {JOIN} WHERE b.income > t.minutes", rows, Pair.ideal())


def test_too_few_rows_stay_hidden() -> None:
    bank, telco, both = more(ROWS)
    sql = f"SELECT COUNT(*) AS n, SUM(b.income) AS s {JOIN} WHERE b.age = t.late * 11"
    few = oracle(sql, bank, telco)[0]["n"]
    assert 0 < few < 50
    answer, _ = Pair.ideal().run(plan(sql, Context("q", both, ("bank",), ROWS, few + 1)), bank, telco)
    assert answer is not None and answer.rows == ({"n": None, "s": None},)


def test_the_shares_are_random_and_never_kept() -> None:
    """The same statement twice under one alignment: columns are kept, bits are made and sent anew."""
    pair = Pair.real()
    bank, telco = tables(ROWS)
    made = plan(f"SELECT SUM(t.minutes) AS s {JOIN} WHERE b.income > t.minutes", context(ROWS))
    answers = [pair.run(made, bank, telco, b"a")[0] for _ in range(2)]
    assert answers[0] == answers[1] is not None
    for engine in pair.engines:
        assert len(engine.uploads) <= 1


def test_compared_columns_need_the_compare_grant() -> None:
    made = plan(f"SELECT COUNT(*) AS n {JOIN} WHERE b.income > t.minutes AND t.late > 3", context(ROWS))
    uses = made.request.uses
    assert Use("bank", "customers", "income", "compare") in uses
    assert Use("telco", "subscribers", "minutes", "compare") in uses
    assert Use("telco", "subscribers", "late", "filter") in uses
    assert Use("bank", "customers", "income", "filter") not in uses


def test_the_plan_says_what_is_compared() -> None:
    lines = plan(f"SELECT COUNT(*) AS n {JOIN} WHERE b.income > t.minutes", context(ROWS)).explain()
    assert any("1 comparison a row" in line and "nobody learns" in line for line in lines)


def test_a_text_outside_its_domain_stops_the_run() -> None:
    _, telco, both = more(ROWS)
    area = telco.schema.get_field_index("area")
    telco = telco.set_column(area, "area", [["elsewhere", *telco.column("area").to_pylist()[1:]]])
    made = plan(f"SELECT COUNT(*) AS n {JOIN} WHERE b.region = t.area", Context("q", both, ("bank",), ROWS, 1))
    columns = evaluate(telco, made.local["telco"], "aligned")
    with pytest.raises(DataError, match="area"):
        compared(made.tests[0], 1, made.sources[1], columns)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("b.free > t.minutes", "no range is declared"),
        ("b.branch < t.plan", "compared in order"),
        ("b.score > t.minutes", "float and integer are not compared across parties"),
        ("b.income * t.late > 5", r"comparison of \* over columns of both"),
        ("CASE WHEN t.prepaid THEN b.income ELSE 1 END > t.minutes", "comparison of case over columns of both"),
        ("b.branch LIKE t.plan", "Like is not supported"),
        ("b.income = t.plan", "compared with string"),
        ("b.income * b.income * b.income * 1000 > t.minutes", "bits"),
    ],
)
def test_what_cannot_be_compared_is_refused(where: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan(f"SELECT COUNT(*) AS n {JOIN} WHERE {where}", context(ROWS))


def test_columns_without_nulls_are_compared_without_counting_them() -> None:
    first, last = (
        replace(
            one,
            tables=tuple(replace(t, columns=tuple(replace(c, nullable=False) for c in t.columns)) for t in one.tables),
        )
        for one in catalogues(ROWS)
    )
    made = plan(f"SELECT COUNT(*) AS n {JOIN} WHERE b.age > t.late", Context("q", (first, last), ("bank",), ROWS, 1))
    assert all(never_null(source.expr) for owner in (0, 1) for source in made.sources[owner])
    assert sum(len(call.uploaded) * len(call.rows) for call in made.calls) == 1
