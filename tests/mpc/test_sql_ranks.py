"""MIN, MAX, MEDIAN, quantiles and COUNT(DISTINCT) against DuckDB, and what they may tell."""

from __future__ import annotations

import decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from connectors import evaluate
from mpc.opening import Stream
from mpc.sql import Context, plan
from mpc.sql.distinct import distinct_counts
from mpc.sql.joint import Joint
from mpc.sql.local import groups
from party.errors import DataError, UsageError
from party.request import Opening, Use
from tests.mpc.sqlkit import JOIN, Pair, agree, catalogues, context, oracle, tables
from tests.mpc.test_sql_across import more

ROWS = 240

RANKS = [
    "SELECT MIN(b.income) AS a, MAX(b.income) AS z, MIN(b.balance) AS c, MAX(t.bill) AS d, MIN(t.late) AS e",
    "SELECT MEDIAN(b.income) AS m, MEDIAN(t.minutes) AS n",
    "SELECT PERCENTILE_CONT(0.25) WITHIN GROUP (ORDER BY b.income) AS p, QUANTILE_CONT(t.late, 0.9) AS q",
    "SELECT PERCENTILE_CONT(0.1) WITHIN GROUP (ORDER BY b.age DESC) AS p, QUANTILE_CONT(t.late, 1) AS q",
    "SELECT PERCENTILE_DISC(0.75) WITHIN GROUP (ORDER BY t.bill) AS p, QUANTILE_DISC(b.balance, 0.5) AS q",
    "SELECT QUANTILE_DISC(b.age, 0) AS p, QUANTILE_DISC(b.age, 1) AS q, QUANTILE(b.age, 0.333) AS r",
    "SELECT MIN(b.opened) AS a, MAX(b.opened) AS z, QUANTILE_DISC(b.opened, 0.5) AS m",
    "SELECT MIN(b.region) AS a, MAX(b.region) AS z, MIN(b.defaulted) AS f, MAX(t.prepaid) AS u",
    "SELECT MIN(b.income - 500000) AS a, MAX(b.age * 3) AS z, MAX(CASE WHEN b.age > 50 THEN b.income END) AS c",
    "SELECT MAX(b.income) - MIN(b.income) AS spread, COUNT(*) AS n, SUM(b.income) AS s",
    "SELECT COUNT(DISTINCT b.region) AS r, COUNT(DISTINCT t.plan) AS p, COUNT(DISTINCT b.age) AS a",
    "SELECT COUNT(DISTINCT b.phone) AS k, COUNT(DISTINCT b.income // 100000) AS i, COUNT(DISTINCT t.prepaid) AS u",
    "SELECT COUNT(DISTINCT b.opened) FILTER (WHERE b.age > 50) AS d, COUNT(DISTINCT t.bill) AS w",
]
WHERES = ["", " WHERE b.region = 'north'", " WHERE t.prepaid AND b.age > 30", " WHERE t.prepaid OR b.age > 60"]


@pytest.mark.parametrize(("select", "where"), [(select, WHERES[n % 4]) for n, select in enumerate(RANKS * 2)])
def test_order_statistics_agree_with_duckdb(select: str, where: str) -> None:
    if where and "b.phone" in select:
        where = " WHERE b.age > 50"  # more values than are counted across both parties
    if "t.prepaid" in where and ("b.opened" in select and "DISTINCT" in select):
        where = ""
    sql = f"{select} {JOIN}{where}"
    bank, telco = tables(ROWS)
    agree(Pair.ideal().query(sql, bank, telco), oracle(sql, bank, telco))


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT t.plan, MIN(b.income) AS a, MAX(b.balance) AS z {JOIN} GROUP BY t.plan",
        f"SELECT b.region, t.plan, MEDIAN(b.age) AS m, COUNT(*) AS n {JOIN} GROUP BY b.region, t.plan",
        f"SELECT b.branch, MAX(t.minutes) AS m {JOIN} WHERE b.age > 40 GROUP BY b.branch ORDER BY m DESC",
        f"SELECT b.region, COUNT(DISTINCT b.age) AS d, COUNT(DISTINCT t.plan) AS p {JOIN} GROUP BY b.region",
        f"SELECT t.plan, COUNT(DISTINCT b.region) AS d, COUNT(DISTINCT t.late) AS p {JOIN} GROUP BY t.plan",
        f"SELECT b.region, COUNT(DISTINCT b.region) AS d {JOIN} WHERE t.prepaid GROUP BY b.region",
        f"SELECT t.plan, MIN(b.income) AS a {JOIN} GROUP BY t.plan HAVING COUNT(*) > 40",
        f"SELECT t.plan, MIN(b.income) AS a, SUM(t.late) AS s {JOIN} GROUP BY t.plan ORDER BY s DESC LIMIT 2",
        f"SELECT MIN(b.income) AS a, COUNT(DISTINCT b.region) AS d {JOIN} WHERE b.income > t.minutes",
        f"SELECT REGR_SLOPE(b.balance, t.minutes) AS s, REGR_INTERCEPT(b.balance, t.minutes) AS i {JOIN}",
        f"SELECT REGR_R2(t.bill, b.income) AS r, REGR_SLOPE(b.age, b.income) AS s {JOIN} WHERE t.prepaid",
        f"SELECT REGR_R2(b.income * 0, t.bill) AS r, REGR_SLOPE(t.bill, t.late * 0) AS s {JOIN}",
    ],
)
def test_order_statistics_of_groups(sql: str) -> None:
    bank, telco = tables(ROWS)
    agree(Pair.ideal().query(sql, bank, telco), oracle(sql, bank, telco))


def test_timestamps_and_everybody_as_receiver() -> None:
    bank, telco, both = more(ROWS)
    sql = f"SELECT MIN(t.until_moment) AS a, MAX(b.moment) AS z, MAX(t.since) AS s {JOIN}"
    for to in (("bank",), ("telco",), ("bank", "telco")):
        made = plan(sql, Context("q", both, to, ROWS, 1))
        answers = Pair.ideal().run(made, bank, telco)
        for party, answer in zip(made.parties, answers, strict=True):
            assert (answer is not None) == (party in to)
            if answer is not None:
                agree(answer, oracle(sql, bank, telco))


def test_the_real_engine_gives_the_same() -> None:
    pair = Pair.real()
    bank, telco = tables(ROWS)
    for sql in (
        f"SELECT MEDIAN(b.age) AS m, MAX(t.bill) AS z {JOIN} WHERE t.prepaid",
        f"SELECT t.plan, MIN(b.age) AS a, COUNT(DISTINCT b.region) AS d {JOIN} GROUP BY t.plan",
    ):
        agree(pair.query(sql, bank, telco, to=("telco",)), oracle(sql, bank, telco))


def test_no_rows_and_one_row() -> None:
    for rows in (0, 1):
        bank, telco = tables(rows)
        sql = f"SELECT MIN(b.age) AS a, MEDIAN(t.late) AS m, COUNT(DISTINCT b.age) AS d {JOIN} WHERE t.late >= 0"
        agree(Pair.ideal().query(sql, bank, telco), oracle(sql, bank, telco))


@pytest.mark.parametrize("p", ["0", "0.01", "0.29", "0.5", "0.7", "0.999", "1"])
def test_quantiles_of_many_sizes(p: str) -> None:
    for rows in (2, 3, 10, 101):
        bank, telco = tables(rows, seed=rows)
        sql = f"SELECT QUANTILE_CONT(b.age, {p}) AS c, QUANTILE_DISC(t.late, {p}) AS d {JOIN}"
        agree(Pair.ideal().query(sql, bank, telco), oracle(sql, bank, telco))


def test_a_quantile_of_decimals_is_exact_where_duckdb_cuts_it() -> None:
    bank, telco = tables(2)
    column = bank.schema.get_field_index("balance")
    cents = pa.array([decimal.Decimal("1.01"), decimal.Decimal("1.02")], pa.decimal128(12, 2))
    bank = bank.set_column(column, "balance", cents)
    answer = Pair.ideal().query(f"SELECT MEDIAN(b.balance) AS m, MAX(b.balance) AS z {JOIN}", bank, telco)
    assert answer.rows == ({"m": "1.015", "z": "1.02"},)


# --- what is told -----------------------------------------------------------------------------------------------------


def test_too_few_rows_give_null_and_open_nothing_of_them() -> None:
    bank, telco = tables(ROWS)
    sql = f"SELECT t.plan, MIN(b.income) AS a, COUNT(DISTINCT b.age) AS d {JOIN} GROUP BY t.plan"
    made = plan(sql, context(ROWS, min_rows=20))
    answer, _ = Pair.ideal().run(made, bank, telco)
    assert answer is not None
    shown = {row["t.plan" if "t.plan" in row else "plan"] for row in answer.rows}
    assert "x" not in shown and shown
    whole = {row["plan"]: row for row in oracle(sql, bank, telco)}
    assert all(row["a"] == whole[row["plan"]]["a"] and row["d"] == whole[row["plan"]]["d"] for row in answer.rows)


def test_every_bit_of_a_hidden_cell_opens_as_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[np.ndarray] = []
    whole = Stream.open

    def spy(self: Any, bits: Any) -> Any:
        found = whole(self, bits)
        if found is not None:
            opened.append(found)
        return found

    monkeypatch.setattr(Stream, "open", spy)
    bank, telco = tables(ROWS)
    few = oracle(f"SELECT COUNT(*) AS n {JOIN} WHERE b.age > 95 AND t.prepaid", bank, telco)[0]["n"]
    sql = f"SELECT MAX(b.income) AS a {JOIN} WHERE b.age > 95 AND t.prepaid"
    answer, _ = Pair.ideal().run(plan(sql, context(ROWS, min_rows=few + 1)), bank, telco)
    assert answer is not None and answer.rows == ({"a": None},)
    assert len(opened) == 20 and not any(bits.any() for bits in opened)


def test_the_owner_of_the_column_learns_the_value_and_the_plan_says_so() -> None:
    made = plan(f"SELECT MAX(t.minutes) AS m {JOIN} WHERE b.age > 40", context(ROWS, to=("bank",)))
    assert Opening("query.q.m.value", "telco") in made.request.openings
    assert Opening("query.q.m.value", "bank") in made.request.openings
    assert any("telco learns m.value too" in line for line in made.explain())
    both = plan(f"SELECT MEDIAN(t.minutes) AS m {JOIN}", context(ROWS, to=("telco",)))
    assert {o.what for o in both.request.openings if o.to == "telco"} >= {"query.q.m.lower", "query.q.m.upper"}


def test_the_ledger_has_one_entry_a_value_before_its_first_bit() -> None:
    pair = Pair.ideal()
    bank, telco = tables(ROWS)
    pair.run(plan(f"SELECT MAX(b.age) AS m {JOIN}", context(ROWS, to=("telco",))), bank, telco)
    told = [str(fields["what"]) for _, fields in pair.ledgers[0].events]
    assert [what for what in told if "value" in what] == ["query.q.m.value"]


def test_grants() -> None:
    made = plan(f"SELECT MAX(b.age) AS m, COUNT(DISTINCT t.plan) AS d {JOIN}", context(ROWS))
    assert Use("bank", "customers", "age", "rank") in made.request.uses
    assert Use("telco", "subscribers", "plan", "aggregate") in made.request.uses
    assert not any(use.column == "age" and use.use == "aggregate" for use in made.request.uses)


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ("MIN(b.income - t.minutes)", "not of one party"),
        ("MAX(b.branch)", "without a declared domain"),
        ("MAX(b.free)", "without a declared range"),
        ("MIN(b.score)", "float"),
        ("MEDIAN(b.opened)", "PERCENTILE_CONT of a date"),
        ("MEDIAN(b.region)", "PERCENTILE_CONT of a string"),
        ("QUANTILE_CONT(b.age, 1.5)", "fraction of 1.5"),
        ("QUANTILE_CONT(b.age, t.late)", "not supported"),
        ("QUANTILE_CONT(b.age, [0.1, 0.2])", "not supported"),
        ("PERCENTILE_DISC(0.5) WITHIN GROUP (ORDER BY b.age DESC)", "descending"),
        ("COUNT(DISTINCT b.age, t.late)", "not supported"),
        ("SUM(DISTINCT b.age)", "not supported"),
        ("COUNT(DISTINCT b.age + t.late)", "not of one party"),
        ("COUNT(DISTINCT b.score)", "float"),
        ("MIN(b.opened) + 1", "arithmetic on MIN of a date"),
        ("QUANTILE_CONT(b.age, 0.123456789012345678)", "too many digits"),
        ("MAX(b.income * b.income * b.income * b.income)", "bits"),
    ],
)
def test_what_cannot_be_searched_is_refused(select: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan(f"SELECT {select} AS x {JOIN}", context(ROWS))


def test_conditions_on_order_statistics_are_refused() -> None:
    for tail in ("HAVING MIN(b.age) > 3", "ORDER BY MAX(b.age) LIMIT 1"):
        with pytest.raises(UsageError, match=r"compares (MIN|MAX)"):
            plan(f"SELECT t.plan, COUNT(*) AS n {JOIN} GROUP BY t.plan {tail}", context(ROWS))


def test_too_many_products_are_refused() -> None:
    selected = ", ".join(f"QUANTILE_CONT(b.balance, 0.{place}) AS q{place}" for place in range(11, 40))
    with pytest.raises(UsageError, match="products"):
        plan(f"SELECT b.region, t.late, {selected} {JOIN} GROUP BY b.region, t.late", context(ROWS))


def test_too_many_distinct_values_stop_the_run_with_a_hint() -> None:
    rows = 5000
    bank, _ = tables(rows)
    made = plan(f"SELECT COUNT(DISTINCT b.income) AS d {JOIN} WHERE t.prepaid", context(rows))
    columns = evaluate(bank, made.local["bank"], "aligned")
    joint = Joint(Pair.ideal().engines[0], made, columns, groups(made, 0, columns, rows), (1, 1), None)
    with pytest.raises(DataError, match="at most 4096"):
        distinct_counts(joint)


def test_catalogue_domains_bound_the_values() -> None:
    made = plan(f"SELECT COUNT(DISTINCT b.region) AS d {JOIN} WHERE t.prepaid", context(ROWS))
    assert [one.values for one in made.distincts] == [4]
    assert not any("values" in opening.what for opening in made.request.openings)
    other = plan(f"SELECT COUNT(DISTINCT b.branch) AS d {JOIN} WHERE t.prepaid", context(ROWS))
    assert Opening("query.q.values", "telco") in other.request.openings
    assert catalogues(ROWS)[0].party == "bank"
