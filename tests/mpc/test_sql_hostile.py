"""Hostile statements: grants that a construct slips past, errors and sizes that one row decides, small differences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from connectors import evaluate
from mpc.sql import TABLE, plan
from mpc.sql.local import groups
from party.errors import UsageError
from party.request import Use
from tests.mpc.near_twin import Session
from tests.mpc.sqlkit import JOIN, Pair, agree, context, oracle, tables
from tests.mpc.test_opening_lines import plain_crossed

ROWS, LEAST, ONE = 100, 20, "b.phone = '+447900000007'"  # the condition names one customer


@pytest.fixture(scope="module")
def ideal() -> Iterator[Pair]:
    yield Pair.ideal()


@pytest.fixture(scope="module")
def both() -> tuple[pa.Table, pa.Table]:
    return tables(ROWS, seed=5)


# --- grants -----------------------------------------------------------------------------------------------------------

NEEDS = {  # what is NULL by a value of a column, or tells which column is larger, is a condition on it
    "logarithm": ("COUNT(ln(b.score - 0.99))", "score", "filter"),
    "root": ("COUNT(sqrt(b.score - 0.5))", "score", "filter"),
    "quotient": ("COUNT(b.score / (b.age - 50))", "age", "filter"),
    "day_beyond_the_years": ("COUNT(DATE '9999-12-01' + b.age)", "age", "filter"),
    "days_beyond_the_years": ("SUM((DATE '9999-12-01' + b.age) - DATE '2000-01-01')", "age", "filter"),
    "moment_beyond_the_years": ("COUNT(b.opened + INTERVAL 7979 YEARS)", "opened", "filter"),
    "text_that_converts": ("MIN(TRY_CAST(b.branch AS INTEGER))", "branch", "filter"),
    "distance": ("SUM(abs(b.age - t.late))", "age", "compare"),
    "distance_of_sums": ("AVG(abs(b.age + t.late - b.income))", "income", "compare"),
}


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_a_hidden_condition_needs_the_grant_of_one(name: str) -> None:
    sql, column, use = NEEDS[name]
    made = plan(f"SELECT {sql} AS x {JOIN}", context(ROWS, min_rows=LEAST))
    assert Use("bank", "customers", column, use) in made.request.uses


def test_arithmetic_that_is_never_null_needs_no_filter() -> None:
    for sql in ("COUNT(b.score * 2)", "COUNT(CAST(b.age AS DOUBLE))", "SUM(abs(b.age - 50))"):
        made = plan(f"SELECT {sql} AS x {JOIN}", context(ROWS, min_rows=LEAST))
        assert {use.use for use in made.request.uses} == {"join", "aggregate"}


# --- errors that a row decides on -------------------------------------------------------------------------------------

REFUSED = {  # each would end the run where the one row is there, and be answered where it is not
    "empty_filling": f"COUNT(*) FILTER (WHERE lpad('a', 2, CASE WHEN {ONE} THEN '' ELSE 'x' END) = 'ax')",
    "empty_constant_filling": f"COUNT(*) FILTER (WHERE rpad(CASE WHEN {ONE} THEN 'a' ELSE 'xyz' END, 2, '') = 'xy')",
    "a_group_that_is_not_there": f"COUNT(regexp_replace(CASE WHEN {ONE} THEN 'a' END, 'a', '\\9'))",
    "a_group_in_a_class": f"COUNT(regexp_replace(CASE WHEN {ONE} THEN 'a' END, '[(]a[)]', '\\1'))",
    "a_group_for_one_reader": f"COUNT(regexp_replace(CASE WHEN {ONE} THEN 'a' END, '[[:alpha:](][[:alpha:])]', '\\1'))",
    "a_backslash_at_the_end": f"COUNT(regexp_replace(CASE WHEN {ONE} THEN 'a' END, 'a', '\\'))",
    "a_row_that_grows_beyond_memory": "COUNT(replace(concat(lpad(b.phone, 1000, 'a'), lpad(b.phone, 1000, 'a')), 'a',"
    f" '{'b' * 60}')) FILTER (WHERE {ONE})",
    "distinct_beyond_a_word": f"COUNT(DISTINCT CASE WHEN {ONE} THEN b.balance * b.balance * 10000 ELSE 0 END)",
    "least_beyond_a_word": f"MIN(CASE WHEN {ONE} THEN b.age + 1000000000000000000000000 END)",
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_could_fail_for_one_row_is_refused_when_it_is_planned(name: str) -> None:
    with pytest.raises(UsageError, match=r"not supported|overflow|searches"):
        plan(f"SELECT {REFUSED[name]} AS x {JOIN}", context(ROWS, min_rows=LEAST))


def test_groups_that_the_pattern_has_may_be_named(ideal: Pair, both: tuple[pa.Table, pa.Table]) -> None:
    text = r"regexp_replace(b.phone, '([0-9])(?:[0-9]+)([0-9])', '\2\\\1\0')"
    sql = f"SELECT COUNT(*) FILTER (WHERE {text} <> '+0') AS n, COUNT(*) FILTER (WHERE {text} LIKE '+9%') AS m {JOIN}"
    agree(ideal.query(sql, *both), oracle(sql, *both))


def test_a_float_converts_to_a_decimal_or_is_null_whatever_it_is(both: tuple[pa.Table, pa.Table]) -> None:
    bank, _ = both
    for scale, factor in ((6, "100000000000"), (9, "900000000"), (18, "1")):
        made = plan(
            f"SELECT COUNT(TRY_CAST(b.score * {factor} AS DECIMAL(18,{scale}))) AS n {JOIN}", context(ROWS, min_rows=1)
        )
        (found,) = evaluate(bank, made.local["bank"], TABLE).values()  # no overflow in a row
        fits = [v is not None and v * int(factor) < 10 ** (18 - scale) for v in bank["score"].to_pylist()]
        assert found.valid.tolist() == [int(fit) for fit in fits]


# --- answers that differ by few ---------------------------------------------------------------------------------------

FEW = "b.phone < '+447900000003'"  # three customers
DIFFERENCES = {
    "all_and_most_of_them": f"SUM(t.late + CASE WHEN NOT {FEW} THEN t.late ELSE 0 END)",
    "all_less_most_of_them": f"SUM(t.late - CASE WHEN NOT {FEW} THEN t.late ELSE 0 END)",
    "heavier_by_a_column": f"SUM(t.late * b.age + CASE WHEN NOT {FEW} THEN t.late * b.age ELSE 0 END)",
}


@pytest.mark.parametrize("name", sorted(DIFFERENCES))
def test_a_sum_of_all_rows_and_of_all_but_few_is_refused(name: str, both: tuple[pa.Table, pa.Table]) -> None:
    session = Session(Pair.ideal(), *both, LEAST)
    assert session.ask(f"SELECT {DIFFERENCES[name]} AS x {JOIN}") is None


def test_a_sum_of_all_rows_and_of_enough_others_is_answered(both: tuple[pa.Table, pa.Table]) -> None:
    session = Session(Pair.ideal(), *both, LEAST)
    answer = session.ask(f"SELECT SUM(t.late + CASE WHEN b.age > 50 THEN t.late ELSE 0 END) AS x {JOIN}")
    assert answer is not None
    agree(answer, oracle(f"SELECT SUM(t.late + CASE WHEN b.age > 50 THEN t.late ELSE 0 END) AS x {JOIN}", *both))


# --- how many groups there are ----------------------------------------------------------------------------------------


def test_the_number_of_groups_does_not_tell_of_one_row(both: tuple[pa.Table, pa.Table]) -> None:
    """A key that makes one group more, and so crosses a power of 4, where one customer is there."""
    bank, _ = both
    ages = "".join(f"WHEN b.age < {limit} THEN '{limit}' " for limit in (38, 58, 78))
    counts = set()
    for one in (ONE, "b.phone = 'nobody'"):
        key = f"concat(CASE WHEN {one} THEN 'here' {ages} ELSE 'x' END)"
        made = plan(f"SELECT {key} AS k, COUNT(*) AS n {JOIN} GROUP BY k", context(ROWS, ("telco",), 5))
        columns = evaluate(bank, made.local["bank"], TABLE)
        counts.add(groups(made, 0, columns, ROWS).count)
        assert groups(replace(made, min_rows=1), 0, columns, ROWS).count == 4 + (one == ONE)
    assert counts == {5}


def along_lines(rows: list[dict[str, Any]], to: tuple[str, ...]) -> list[dict[str, Any]]:
    """What is shown of the telco's k0 and the bank's k1: along each receiver's own groups few hidden rows take one with
    them."""
    ours, theirs = sorted({row["k1"] for row in rows}), sorted({row["k0"] for row in rows}, key=str)
    places = [(ours.index(row["k1"]), theirs.index(row["k0"])) for row in rows]
    counts = np.zeros((len(ours), len(theirs)), dtype=np.int64)
    for place, row in zip(places, rows, strict=True):
        counts[place] = row["n"]
    shown = plain_crossed(counts, 4, tuple(n for n, party in enumerate(("bank", "telco")) if party in to))
    return [row for place, row in zip(places, rows, strict=True) if shown[place]]


TENS = "concat(substr(b.phone, 12, 1), CASE WHEN b.age > 80 THEN ' and older' ELSE '' END)"
KEYS = {
    "text": (TENS,),
    "texts": ("substr(b.phone, 12, 1)", TENS, "b.age > 80"),
    "both": ("t.prepaid", TENS),
    "customers": ("b.phone",),
}


@pytest.mark.parametrize("to", [("bank",), ("telco",), ("bank", "telco")])
@pytest.mark.parametrize("name", sorted(KEYS))
def test_groups_that_are_too_small_are_put_together_and_not_shown(
    name: str, to: tuple[str, ...], ideal: Pair, both: tuple[pa.Table, pa.Table]
) -> None:
    keys = ", ".join(f"{key} AS k{place}" for place, key in enumerate(KEYS[name]))
    sql = f"SELECT {keys}, COUNT(*) AS n, SUM(t.late) AS s {JOIN} GROUP BY {', '.join(KEYS[name])}"
    answer = ideal.query(sql, *both, to=to, min_rows=4)
    rows = oracle(sql, *both)
    wanted = [row for row in rows if row["n"] >= 4]
    if name == "both":
        wanted = along_lines(rows, to)
    assert ROWS - sum(row["n"] for row in wanted) >= 4  # else the smallest shown group goes, too
    assert len(wanted) < len(rows)
    agree(answer, wanted)


@pytest.mark.parametrize("order", ["", "DESC"])
def test_the_first_groups_are_of_those_of_enough_rows(order: str, ideal: Pair, both: tuple[pa.Table, pa.Table]) -> None:
    sql = f"SELECT {TENS} AS k, COUNT(*) AS n {JOIN} GROUP BY k ORDER BY k {order}"
    rows = ideal.query(f"{sql} LIMIT 3", *both, min_rows=4).rows
    assert [dict(row) for row in rows] == [row for row in oracle(sql, *both) if row["n"] >= 4][:3]


def test_customers_of_small_groups_are_not_compared_as_if_they_were_one(both: tuple[pa.Table, pa.Table]) -> None:
    """The rows of all small groups together are no answer: two sets that differ by few there are not refused."""
    session = Session(Pair.ideal(), *both, LEAST)
    assert session.ask(f"SELECT b.phone, COUNT(*) AS n {JOIN} GROUP BY b.phone") is not None
    assert session.ask(f"SELECT COUNT(*) AS n {JOIN} WHERE b.phone <> '+447900000007'") is not None


@pytest.mark.parametrize(
    "values",
    [
        f"concat(CASE WHEN {ONE} THEN 'here' ELSE b.branch END)",
        f"CASE WHEN {ONE} THEN 'here' ELSE b.branch END",
        "NULLIF(b.income, 7)",
        "TRY_CAST(b.branch AS INTEGER)",
        "b.opened + CASE WHEN b.age > 98 THEN 1 ELSE 0 END",
    ],
)
def test_how_many_values_there_are_is_told_of_columns_not_of_what_conditions_make(values: str) -> None:
    """The other party is told how many, rounded: one value more, for one row, would cross a power of 4."""
    with pytest.raises(UsageError, match="that conditions choose"):
        plan(f"SELECT COUNT(DISTINCT {values}) AS n {JOIN} WHERE t.late > 3", context(ROWS, min_rows=LEAST))
    plan(f"SELECT COUNT(DISTINCT {values}) AS n {JOIN} WHERE b.age > 3", context(ROWS, min_rows=LEAST))  # told nobody


def test_how_many_values_a_part_of_a_column_has_is_counted(ideal: Pair, both: tuple[pa.Table, pa.Table]) -> None:
    sql = (
        "SELECT COUNT(DISTINCT substr(b.phone, 12, 1)) AS n, COUNT(DISTINCT date_trunc('year', b.opened)) AS y,"
        f" COUNT(DISTINCT b.branch) FILTER (WHERE b.age > 40) AS b, COUNT(DISTINCT b.income // 100000) AS i {JOIN}"
        " WHERE t.late > 3"
    )
    agree(ideal.query(sql, *both, min_rows=LEAST), oracle(sql, *both))
