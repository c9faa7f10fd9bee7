"""Attacks on min_rows through the aggregated expression: no single row's value comes out of a sum, count or CORR."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from mpc.sql import plan
from mpc.sql.entering import WAYS
from mpc.statistics import plan as statistics
from party.errors import UsageError
from party.request import Use
from tests.mpc.sqlkit import JOIN, Pair, agree, context, oracle, same, tables

ROWS, LEAST, ONE = 400, 20, "b.phone = '+447900000007'"  # the condition names one customer
FEW = f"({ONE} OR b.phone = '+447900000008')"
MOST = f"({ONE}) IS NOT TRUE"

ATTACKS = {
    "case_else_zero": f"SUM(CASE WHEN {ONE} THEN t.late ELSE 0 END)",
    "case_else_null": f"SUM(CASE WHEN {ONE} THEN t.late END)",
    "case_then_zero": f"SUM(CASE WHEN {MOST} THEN 0 ELSE t.late END)",
    "case_of_ours_else": f"SUM(CASE WHEN {ONE} THEN t.late ELSE b.age END)",
    "case_else_constant": f"SUM(CASE WHEN {ONE} THEN t.late ELSE 7 END)",
    "case_in_case": f"SUM(CASE WHEN b.age > 0 THEN CASE WHEN {ONE} THEN t.late ELSE 0 END ELSE 0 END)",
    "case_by_the_value": "SUM(CASE b.phone WHEN '+447900000007' THEN t.late ELSE 0 END)",
    "second_arm": f"SUM(CASE WHEN b.age < 0 THEN 0 WHEN {FEW} THEN t.late ELSE 0 END)",
    "average_by_a_heavy_weight": f"AVG(CASE WHEN {ONE} THEN 1000000 * t.late ELSE t.late END)",
    "sum_by_a_heavy_weight": f"SUM(t.late * CASE WHEN {ONE} THEN 100000 ELSE 1 END)",
    "times_zero_plus": f"SUM(t.late * 0 + CASE WHEN {ONE} THEN t.late ELSE 0 END)",
    "plus_a_column": f"SUM(b.age + CASE WHEN {ONE} THEN t.late ELSE 0 END)",
    "minus": f"SUM(b.age - CASE WHEN {ONE} THEN t.late ELSE 0 END)",
    "condition_as_a_number": f"SUM(t.late * CAST({ONE} AS INTEGER))",
    "condition_as_a_number_of_both": f"SUM(t.late * CAST({ONE} AND t.late >= 0 AS INTEGER))",
    "count_by_case": f"SUM(CASE WHEN {ONE} THEN 1 ELSE 0 END)",
    "count_by_case_of_two_constants": f"SUM(CASE WHEN {ONE} THEN 1 ELSE 2 END)",
    "count_by_a_condition": f"SUM({ONE})",
    "count_of_case": f"COUNT(CASE WHEN {ONE} THEN t.late END)",
    "count_filter": f"COUNT(*) FILTER (WHERE {ONE})",
    "null_mask": f"SUM(t.late + NULLIF(CAST({ONE} AS INTEGER), 0))",
    "coalesced_null_mask": f"SUM(COALESCE(NULLIF(CAST({ONE} AS INTEGER), 0), 0) * t.late)",
    "threshold_by_division": "SUM((b.age // 97) * t.late)",
    "threshold_by_floor": "SUM(FLOOR(b.age * 0.0102) * t.late)",
    "filter_and_case": f"SUM(CASE WHEN {ONE} THEN t.late ELSE 0 END) FILTER (WHERE b.age > 0)",
    "average_else_zero": f"AVG(CASE WHEN {ONE} THEN t.late ELSE 0 END)",
    "variance_else_zero": f"VAR_POP(CASE WHEN {ONE} THEN t.late ELSE 0 END)",
    "correlation_with_one_row": f"CORR(CAST({ONE} AS INTEGER), t.late)",
    "covariance_with_one_row": f"COVAR_POP(CASE WHEN {ONE} THEN 1 ELSE 0 END, t.late)",
    "covariance_with_all_but_one": f"COVAR_POP(CAST({MOST} AS INTEGER), t.late)",
    "covariance_with_all_but_one_by_case": f"COVAR_POP(CASE WHEN {MOST} THEN 1 ELSE 0 END, t.late)",
    "correlation_with_a_condition_turned": f"CORR(1 - CAST({ONE} AS INTEGER), t.late)",
    "all_less_the_others": f"SUM(t.late * (1 - CASE WHEN {MOST} THEN 1 ELSE 0 END))",
    "all_less_the_others_by_a_condition": f"SUM((1 - CAST({MOST} AS INTEGER)) * t.late)",
    "count_less_the_others": f"SUM(1 - CASE WHEN {MOST} THEN 1 ELSE 0 END)",
    "days_after_a_day": f"SUM((DATE '2000-01-01' + CASE WHEN {ONE} THEN 0 ELSE 1 END) - DATE '2000-01-01')",
    "hours_to_a_moment": "SUM(date_diff('hour', TIMESTAMP '2000-01-01 00:00:00',"
    f" CASE WHEN {ONE} THEN TIMESTAMP '2000-01-01 02:00:00' ELSE TIMESTAMP '2000-01-01 01:00:00' END))",
    "least_of_zero": f"MIN(CASE WHEN {ONE} THEN 0 ELSE b.age END)",
    "largest_of_zero": f"MAX(CASE WHEN {ONE} THEN 0 ELSE -b.age END)",
    "least_of_a_product": f"MIN(b.age * CASE WHEN {ONE} THEN 0 ELSE 1 END)",
    "least_of_a_sum": f"MIN(b.age - CASE WHEN {ONE} THEN 99 ELSE 0 END)",
    "least_day": f"MIN(DATE '2000-01-01' + CASE WHEN {ONE} THEN 0 ELSE 1 END)",
    "least_condition": f"MIN({MOST})",
    "place_in_a_text": f"MIN(strpos('ab', CASE WHEN {ONE} THEN 'a' ELSE 'b' END))",
    "counted_by_a_quantile": f"QUANTILE_DISC(CASE WHEN {ONE} THEN 0 ELSE b.age END, 0.0025)",
    "median_of_zero": f"MEDIAN(CASE WHEN {ONE} THEN 0 ELSE b.age END)",
    "distinct_zero": f"COUNT(DISTINCT CASE WHEN {ONE} THEN 0 ELSE b.age END)",
    "distinct_condition": f"COUNT(DISTINCT {MOST})",
    "distinct_texts": f"COUNT(DISTINCT concat('x', CASE WHEN {ONE} THEN 'a' ELSE b.branch END))",
}  # fmt: skip

RARE = {  # of a column of zeros and ones, 1 in one row
    "times": "SUM(b.defaulted * t.late)",
    "twice": "SUM(2 * CAST(b.defaulted AS INTEGER) * t.late)",
    "doubled": "SUM((CAST(b.defaulted AS INTEGER) * 2) * t.late)",
    "turned": "SUM(-CAST(b.defaulted AS INTEGER) * t.late)",
    "one_more": "SUM((1 + CAST(b.defaulted AS INTEGER)) * t.late)",
    "correlation": "CORR(2 * CAST(b.defaulted AS INTEGER) - 1, t.late)",
}
HONEST = {
    "case": "SUM(CASE WHEN b.region = 'north' THEN t.late ELSE 0 END)",
    "case_of_both": "SUM(CASE WHEN b.age > 40 AND t.minutes > 40000 THEN b.balance ELSE t.bill END)",
    "count_by_case": "SUM(CASE WHEN b.defaulted THEN 1 ELSE 0 END)",
    "rate": "AVG(CAST(t.prepaid AS INTEGER))",
    "weights": "SUM(CASE WHEN b.region = 'north' THEN 3 ELSE 1 END * t.late)",
    "flag_times": "SUM(CAST(t.prepaid AS INTEGER) * b.balance)",
    "rounded": "SUM(ROUND(b.balance, 1))",
    "nulls_as_zero": "SUM(COALESCE(b.income, 0) * t.late)",
    "correlation_with_a_flag": "CORR(CAST(t.prepaid AS INTEGER), b.balance)",
    "least_of_two_arms": "MIN(CASE WHEN b.region = 'north' THEN 0 ELSE b.age END)",
    "median_by_case": "MEDIAN(CASE WHEN t.prepaid THEN t.minutes END)",
    "not_the_flag": "SUM((1 - CAST(t.prepaid AS INTEGER)) * b.balance)",
    "tenure": "AVG(DATE '2024-01-01' - b.opened)",
    "distinct_months": "COUNT(DISTINCT date_trunc('month', b.opened))",
    "variance": "VAR_POP(CASE WHEN t.prepaid THEN t.minutes ELSE 0 END)",
}


@pytest.fixture(scope="module")
def ideal() -> Iterator[Pair]:
    yield Pair.ideal()


@pytest.fixture(scope="module")
def both() -> tuple[pa.Table, pa.Table]:
    bank, telco = tables(ROWS, seed=12)
    ages = bank["age"].to_pylist()
    ages = [99 if n == 7 else min(age, 96) for n, age in enumerate(ages)]  # one row above a threshold
    return bank.set_column(bank.column_names.index("age"), "age", pa.array(ages, pa.int64())), telco


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_an_aggregate_that_one_row_can_be_read_from_is_null(
    name: str, ideal: Pair, both: tuple[pa.Table, pa.Table]
) -> None:
    sql = f"SELECT {ATTACKS[name]} AS x, COUNT(*) AS n {JOIN}"
    (plain,) = oracle(sql, *both)
    assert plain["x"] is not None  # there is something to steal
    (row,) = ideal.query(sql, *both, min_rows=LEAST).rows
    assert row == {"x": None, "n": ROWS}
    (row,) = ideal.query(sql, *both, min_rows=1).rows  # min_rows: 1 answers as SQL does
    assert same(row["x"], plain["x"])


@pytest.mark.parametrize("rare", [True, False])
@pytest.mark.parametrize("name", sorted(RARE))
def test_a_column_of_zeros_and_ones_is_a_condition_in_a_product(
    name: str, rare: bool, ideal: Pair, both: tuple[pa.Table, pa.Table]
) -> None:
    bank, telco = both
    flags = pa.array([n == 7 if rare else n % 3 == 0 for n in range(ROWS)], pa.bool_())
    bank = bank.set_column(bank.column_names.index("defaulted"), "defaulted", flags)
    sql = f"SELECT {RARE[name].replace('b.defaulted *', 'CAST(b.defaulted AS INTEGER) *')} AS x, COUNT(*) AS n {JOIN}"
    (plain,) = oracle(sql, bank, telco)
    (row,) = ideal.query(sql, bank, telco, min_rows=LEAST).rows
    assert plain["x"] is not None
    assert row["n"] == ROWS
    assert row["x"] is None if rare else same(row["x"], plain["x"])


@pytest.mark.parametrize("name", sorted(HONEST))
def test_an_aggregate_of_enough_rows_is_answered(name: str, ideal: Pair, both: tuple[pa.Table, pa.Table]) -> None:
    sql = f"SELECT {HONEST[name]} AS x, COUNT(*) AS n {JOIN}"
    agree(ideal.query(sql, *both, min_rows=LEAST), oracle(sql, *both))


@pytest.mark.parametrize("name", ["case_else_zero", "case_of_ours_else", "correlation_with_one_row"])
def test_the_same_by_group(name: str, ideal: Pair, both: tuple[pa.Table, pa.Table]) -> None:
    sql = f"SELECT t.prepaid, {ATTACKS[name]} AS x, SUM(t.late) AS s {JOIN} GROUP BY t.prepaid"
    rows = ideal.query(sql, *both, min_rows=LEAST).rows
    assert len(rows) == 3
    assert all(row["x"] is None and row["s"] is not None for row in rows)


def test_a_hidden_number_and_its_count_are_opened_as_zeros(both: tuple[pa.Table, pa.Table]) -> None:
    made = plan(f"SELECT AVG(CASE WHEN {ONE} THEN t.late ELSE 0 END) AS x {JOIN}", context(ROWS, min_rows=LEAST))
    assert {opened.what for opened in made.opened} == {"query.q.x.count", "query.q.x.sum"}
    assert all(len(opened.gates) == 2 for opened in made.opened)
    assert any("one arm of CASE" in line for line in made.explain())


def test_the_correlation_of_a_rare_flag_is_hidden(ideal: Pair, both: tuple[pa.Table, pa.Table]) -> None:
    bank, telco = both
    for rare in (True, False):
        flags = pa.array([(n == 7) is rare for n in range(ROWS)], pa.bool_())
        table = bank.set_column(bank.column_names.index("defaulted"), "defaulted", flags)
        names = {"correlation": ["bank.defaulted", "telco.late"], "mean": ["bank.defaulted", "telco.late"]}
        made = statistics.plan(names, {"bank": "customers", "telco": "subscribers"}, context(ROWS, min_rows=LEAST))
        answer, _ = ideal.run(made.plans[0], table, telco)
        assert answer is not None
        (row,) = answer.rows
        assert row["correlation(bank.defaulted, telco.late)"] is None
        assert row["correlation(telco.late, telco.late)"] == pytest.approx(1.0)
        assert row["mean(telco.late)"] is not None


def test_conditions_inside_case_need_the_filter_grant() -> None:
    made = plan(f"SELECT SUM(CASE WHEN b.age > 30 THEN t.late ELSE 0 END) AS x {JOIN}", context(9, min_rows=5))
    assert Use("bank", "customers", "age", "filter") in made.request.uses
    assert Use("bank", "customers", "age", "aggregate") not in made.request.uses


def test_too_many_ways_are_refused() -> None:
    case = "CASE b.age " + " ".join(f"WHEN {n} THEN 1" for n in range(WAYS + 1)) + " END"
    with pytest.raises(UsageError, match="ways to take in a row"):
        plan(f"SELECT SUM({case}) AS x {JOIN}", context(9, min_rows=5))
