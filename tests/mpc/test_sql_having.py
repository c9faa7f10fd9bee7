"""HAVING, ORDER BY, LIMIT equal DuckDB; nothing of a group that they hide is opened; the rest is refused."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mpc.sql import plan
from party.errors import UsageError
from tests.mpc.sqlkit import JOIN, Pair, agree, context, oracle, same, tables

BY_PLAN = f"{JOIN} GROUP BY t.plan"
BOTH = f"{JOIN} GROUP BY b.region, t.plan"
HAVING = {
    "count": f"SELECT t.plan, COUNT(*) AS n {BY_PLAN} HAVING COUNT(*) > 150",
    "alias": f"SELECT t.plan, COUNT(*) AS n {BY_PLAN} HAVING n <= 150",
    "sum_not_shown": f"SELECT b.region, t.plan {BOTH} HAVING SUM(b.balance) >= 100000000.50",
    "product_sum": f"SELECT t.plan, b.region {BOTH} HAVING SUM(b.age * t.late) > 9000 AND COUNT(*) < 120",
    "average": f"SELECT t.plan, b.region, AVG(t.bill) AS a {BOTH} HAVING AVG(t.bill) > -12.25",
    "average_other_side": f"SELECT t.plan, b.region {BOTH} HAVING 57.5 < AVG(b.age)",
    "two_sums": f"SELECT t.plan, b.region {BOTH} HAVING SUM(t.late) * 1000 > SUM(t.minutes)",
    "sum_of_sums": f"SELECT t.plan, b.region {BOTH} HAVING SUM(b.income) / 1000 - SUM(t.late) > COUNT(*) * 480",
    "ratio": f"SELECT t.plan, b.region {BOTH} HAVING SUM(b.income) / COUNT(t.minutes) > 500000",
    "two_counts": f"SELECT t.plan, b.region {BOTH} HAVING COUNT(t.minutes) = COUNT(*) OR COUNT(b.balance) <> COUNT(*)",
    "between": f"SELECT t.plan, b.region {BOTH} HAVING COUNT(*) BETWEEN 20 AND 90",
    "not_between": f"SELECT t.plan, b.region {BOTH} HAVING COUNT(*) NOT BETWEEN 20 AND 90",
    "in": f"SELECT t.plan, b.region, COUNT(*) AS n {BOTH} HAVING COUNT(*) IN (1, 2, 3, 50, 97)",
    "null_is_unknown": f"SELECT b.region, t.plan {BOTH} HAVING SUM(t.bill) FILTER (WHERE b.age > 97) > -99999999",
    "not_of_null_is_unknown": f"SELECT b.region, t.plan {BOTH} HAVING NOT SUM(t.bill) FILTER (WHERE b.age > 97) > 5",
    "or_of_null": f"SELECT b.region, t.plan {BOTH} HAVING SUM(t.bill) FILTER (WHERE b.age > 97) > 5 OR COUNT(*) > 40",
    "is_null": f"SELECT b.region, t.plan {BOTH} HAVING SUM(t.bill) FILTER (WHERE b.age > 97) IS NULL",
    "is_not_null": f"SELECT b.region, t.plan {BOTH} HAVING AVG(t.bill) FILTER (WHERE b.age > 97) IS NOT NULL",
    "counts_of_none": f"SELECT b.region, t.plan {BOTH} HAVING COUNT(*) FILTER (WHERE b.age > 97) = 0",
    "no_group_left": f"SELECT t.plan, COUNT(*) AS n {BY_PLAN} HAVING COUNT(*) > 100000",
    "labels": f"SELECT b.branch, t.plan, COUNT(*) AS n {JOIN} GROUP BY b.branch, t.plan HAVING COUNT(*) > 6",
    "negative": f"SELECT t.plan, b.region {BOTH} HAVING -SUM(b.balance) < -500 AND SUM(t.bill) > -20000",
}
ORDERED = {
    "by_count": f"SELECT t.plan, COUNT(*) AS n {BY_PLAN} ORDER BY n DESC, t.plan",
    "by_position": f"SELECT b.region, COUNT(*) AS n {JOIN} GROUP BY b.region ORDER BY 1",
    "descending": f"SELECT b.region, COUNT(*) AS n {JOIN} GROUP BY b.region ORDER BY b.region DESC",
    "nulls_first": f"SELECT b.region, COUNT(*) AS n {JOIN} GROUP BY b.region ORDER BY b.region NULLS FIRST",
    "decimal": f"SELECT t.plan, b.region, SUM(b.balance) AS s {BOTH} ORDER BY s, 1, 2",
    "average": f"SELECT t.plan, b.region, AVG(t.bill) AS a {BOTH} ORDER BY a DESC",
    "not_shown": f"SELECT t.plan, b.region {BOTH} ORDER BY SUM(t.late) DESC, b.region, t.plan DESC",
    "expression": f"SELECT t.plan, b.region {BOTH} ORDER BY SUM(t.late) - COUNT(*) * 6, 2, 1",
    "boolean": f"SELECT b.defaulted, t.plan, COUNT(*) AS n {JOIN} GROUP BY 1, 2 ORDER BY b.defaulted DESC, n, t.plan",
    "numbers": f"SELECT b.age // 20 AS decade, COUNT(*) AS n {JOIN} GROUP BY decade ORDER BY decade DESC",
    "date": f"SELECT date_trunc('month', b.opened) AS m, COUNT(*) AS n {JOIN} GROUP BY m ORDER BY m DESC NULLS LAST",
    "null_sums": f"SELECT t.plan, b.region, SUM(t.bill) FILTER (WHERE b.age > 97) AS s {BOTH} ORDER BY s NULLS FIRST, 1, 2",  # noqa: E501
    "with_having": f"SELECT t.plan, b.region, COUNT(*) AS n {BOTH} HAVING COUNT(*) > 20 ORDER BY n DESC, 1, 2",
    "one_row": f"SELECT COUNT(*) AS n {JOIN} ORDER BY n DESC",
}


LIMITED = {
    "by_count": f"SELECT t.plan, COUNT(*) AS n {BY_PLAN} ORDER BY n DESC, t.plan LIMIT 2",
    "offset": f"SELECT t.plan, b.region, COUNT(*) AS n {BOTH} ORDER BY n DESC, 1, 2 LIMIT 5 OFFSET 3",
    "by_sum": f"SELECT t.plan, b.region, SUM(b.balance) AS s {BOTH} ORDER BY s LIMIT 4",
    "product_sum": f"SELECT t.plan, b.region {BOTH} ORDER BY SUM(b.age * t.late) DESC LIMIT 3",
    "difference": f"SELECT t.plan, b.region {BOTH} ORDER BY SUM(t.late) - 6 * COUNT(*), 1, 2 LIMIT 7",
    "by_key": f"SELECT b.region, COUNT(*) AS n {JOIN} GROUP BY b.region ORDER BY b.region DESC LIMIT 2",
    "nulls_first": f"SELECT b.region, COUNT(*) AS n {JOIN} GROUP BY b.region ORDER BY b.region NULLS FIRST LIMIT 2",
    "null_sums": f"SELECT t.plan, b.region, SUM(t.bill) FILTER (WHERE b.age > 96) AS s {BOTH} ORDER BY s DESC, 1, 2 LIMIT 9",  # noqa: E501
    "null_sums_first": f"SELECT t.plan, b.region, SUM(t.bill) FILTER (WHERE b.age > 96) AS s {BOTH} ORDER BY s NULLS FIRST, 2 DESC, 1 LIMIT 9",  # noqa: E501
    "boolean": f"SELECT b.defaulted, t.plan, COUNT(*) AS n {JOIN} GROUP BY 1, 2 ORDER BY b.defaulted DESC, t.plan LIMIT 6",  # noqa: E501
    "labels": f"SELECT b.branch, t.prepaid, COUNT(*) AS n {JOIN} GROUP BY 1, 2 ORDER BY b.branch DESC, n, 2 LIMIT 4",
    "having": f"SELECT t.plan, b.region, COUNT(*) AS n {BOTH} HAVING SUM(t.late) > 100 ORDER BY n, 1, 2 LIMIT 3 OFFSET 1",  # noqa: E501
    "having_of_empty_groups": f"SELECT t.plan, t.late, COUNT(*) AS n {JOIN} WHERE b.age > 90 GROUP BY t.plan, t.late HAVING COUNT(*) < 3 ORDER BY n, 2, 1 LIMIT 5 OFFSET 2",  # noqa: E501
    "more_than_there_are": f"SELECT t.plan, COUNT(*) AS n {BY_PLAN} ORDER BY 2, 1 LIMIT 500 OFFSET 2",
    "past_the_end": f"SELECT t.plan, COUNT(*) AS n {BY_PLAN} ORDER BY 2, 1 LIMIT 5 OFFSET 100",
    "none": f"SELECT t.plan, COUNT(*) AS n {BY_PLAN} ORDER BY 2 LIMIT 0",
    "one_row": f"SELECT COUNT(*) AS n {JOIN} LIMIT 3",
    "not_even_one_row": f"SELECT COUNT(*) AS n {JOIN} LIMIT 3 OFFSET 1",
    "empty_table": f"SELECT t.plan, COUNT(*) AS n {JOIN} WHERE b.age > 98 AND t.late > 99 GROUP BY 1 ORDER BY 2 LIMIT 2",  # noqa: E501
}


@pytest.fixture(scope="module")
def ideal() -> Iterator[Pair]:
    yield Pair.ideal()


@pytest.mark.parametrize("name", sorted(HAVING))
def test_groups_that_fulfil_a_condition_equal_duckdb(name: str, ideal: Pair) -> None:
    bank, telco = tables(700)
    wanted = oracle(HAVING[name], bank, telco)
    everything = oracle(HAVING[name].partition(" HAVING ")[0], bank, telco)
    assert len(wanted) < len(everything) or name in ("is_null", "counts_of_none")  # it does hide some
    agree(ideal.query(HAVING[name], bank, telco), wanted)


@pytest.mark.parametrize("name", sorted(ORDERED))
def test_rows_come_in_the_order_that_is_asked_for(name: str, ideal: Pair) -> None:
    bank, telco = tables(700)
    result, wanted = ideal.query(ORDERED[name], bank, telco), oracle(ORDERED[name], bank, telco)
    assert len(result.rows) == len(wanted) > 0
    for row, other in zip(result.rows, wanted, strict=True):
        assert all(same(row[column], other[column]) for column in row), (result.rows, wanted)


@pytest.mark.parametrize("name", sorted(LIMITED))
def test_the_first_groups_are_those_of_duckdb(name: str, ideal: Pair) -> None:
    bank, telco = tables(700)
    result, wanted = ideal.query(LIMITED[name], bank, telco), oracle(LIMITED[name], bank, telco)
    assert len(result.rows) == len(wanted)
    for row, other in zip(result.rows, wanted, strict=True):
        assert all(same(row[column], other[column]) for column in row), (result.rows, wanted)


def test_limit_counts_shown_groups_only(ideal: Pair) -> None:
    bank, telco = tables(700)
    sql = f"SELECT t.plan, b.region, COUNT(*) AS n {BOTH} ORDER BY n, 1, 2"
    whole = ideal.query(sql, bank, telco, min_rows=30)
    assert 4 < len(whole.rows) < len(oracle(sql, bank, telco))
    some = ideal.query(f"{sql} LIMIT 3 OFFSET 1", bank, telco, min_rows=30)
    assert some.rows == whole.rows[1:4]


def test_both_receivers_and_a_blind_owner_see_the_same_first_groups(ideal: Pair) -> None:
    bank, telco = tables(400, seed=7)
    sql = LIMITED["labels"]
    for to in (("telco",), ("bank", "telco"), ("bank",)):
        for answer in ideal.run(plan(sql, context(400, to)), bank, telco):
            if answer is not None:
                assert [list(row.values()) for row in answer.rows] == [
                    list(row.values()) for row in oracle(sql, bank, telco)
                ]


def test_of_the_groups_that_limit_leaves_out_nothing_is_opened(ideal: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spied(monkeypatch)
    bank, telco = tables(700)
    ideal.query(LIMITED["by_sum"], bank, telco)
    assert seen and all(np.count_nonzero(words) <= 4 for _, words in seen)


def spied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, np.ndarray]]:
    """What is opened from here on."""
    seen: list[tuple[str, np.ndarray]] = []
    execution = importlib.import_module("mpc.sql.execute")
    real = execution.open_long

    def watched(engine: Any, share: np.ndarray, what: str, to: Any) -> Any:
        words = real(engine, share, what, to)
        if words is not None:
            seen.append((what, words))
        return words

    monkeypatch.setattr(execution, "open_long", watched)
    return seen


def test_a_hidden_group_opens_as_zeros_and_what_only_having_reads_not_at_all(
    ideal: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spied(monkeypatch)
    bank, telco = tables(700)
    sql = f"SELECT b.region, t.prepaid, SUM(t.late) AS s {JOIN} GROUP BY 1, 2 HAVING SUM(b.balance) > 400000000"
    result = ideal.query(sql, bank, telco)
    whole = oracle(sql.partition(" HAVING ")[0], bank, telco)
    assert 0 < len(result.rows) < len(whole)
    assert {what for what, _ in seen} <= {"query.q.rows", "query.q.s.count", "query.q.s.sum"}
    for _, words in seen:
        assert np.count_nonzero(words) <= len(result.rows)


@pytest.mark.parametrize("min_rows", [10, 60])
def test_min_rows_holds_inside_a_condition(min_rows: int, ideal: Pair) -> None:
    """A condition over an aggregate of too few rows is unknown, so that it tells nothing of them."""
    bank, telco = tables(700)
    few = "COUNT(*) FILTER (WHERE b.age > 90 AND t.late > 10)"
    for text in (f"{few} < 3", f"{few} >= 0", f"NOT {few} > 1", "SUM(t.bill) FILTER (WHERE b.age > 97) < 99999999"):
        sql = f"SELECT t.plan, COUNT(*) AS n {BY_PLAN} HAVING {text}"
        counts = {row["plan"]: row["k"] for row in oracle(f"SELECT t.plan, {few} AS k {BY_PLAN}", bank, telco)}
        assert max(counts.values()) < 10
        assert ideal.query(sql, bank, telco, min_rows=min_rows).rows == ()
    sql = f"SELECT t.plan, COUNT(*) AS n {BY_PLAN} HAVING SUM(t.late) > 300"
    wanted = [row for row in oracle(sql, bank, telco) if row["n"] >= min_rows]
    found = ideal.query(sql, bank, telco, min_rows=min_rows)
    assert {row["plan"] for row in found.rows} <= {row["plan"] for row in wanted}
    assert len(found.rows) >= len(wanted) - 1  # one more may go, for the total's sake


def test_both_receivers_and_a_blind_owner_see_the_same_groups(ideal: Pair) -> None:
    bank, telco = tables(400, seed=7)
    sql = f"SELECT b.branch, t.plan, COUNT(*) AS n {JOIN} GROUP BY 1, 2 HAVING AVG(b.age) > 57"
    for to in (("telco",), ("bank", "telco"), ("bank",)):
        for answer in ideal.run(plan(sql, context(400, to)), bank, telco):
            if answer is not None:
                agree(answer, oracle(sql, bank, telco))


def test_having_on_the_lattice_engine() -> None:
    pair = Pair.real()
    bank, telco = tables(300, seed=3)
    for name in ("product_sum", "average", "or_of_null"):
        agree(pair.query(HAVING[name], bank, telco), oracle(HAVING[name], bank, telco))


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        (f"SELECT COUNT(*) AS n {JOIN} HAVING COUNT(*) > 1", "HAVING without GROUP BY"),
        (f"SELECT t.plan {BY_PLAN} HAVING t.plan = 'pro'", "conditions on keys go into WHERE"),
        (f"SELECT t.plan {BY_PLAN} HAVING STDDEV(b.age) > 2", "HAVING compares STDDEV_SAMP"),
        (f"SELECT t.plan {BY_PLAN} HAVING SUM(b.age) * COUNT(*) > 2", "multiply two aggregates"),
        (f"SELECT t.plan {BY_PLAN} HAVING AVG(b.age) > AVG(t.late)", "multiply two aggregates"),
        (f"SELECT t.plan {BY_PLAN} HAVING SUM(b.age) / SUM(t.late) > 2", "divides by numbers other than 0"),
        (f"SELECT t.plan {BY_PLAN} HAVING SUM(b.age) / 0 > 2", "divides by numbers other than 0"),
        (f"SELECT t.plan {BY_PLAN} HAVING COUNT(*)", "Count is not supported"),
        (f"SELECT t.plan {BY_PLAN} HAVING b.age > 3", "neither aggregated nor in GROUP BY"),
        (f"SELECT t.plan {BY_PLAN} HAVING COUNT(*) > (SELECT 1)", "SELECT without FROM"),
        (f"SELECT t.plan {BY_PLAN} HAVING SUM(b.balance) * 100000000000 > 1", "bits"),
        (f"SELECT t.plan, SUM(t.late) AS age {BY_PLAN} HAVING age > 3", "a column of a table and of the answer"),
        (
            f"SELECT t.plan {BY_PLAN} HAVING COUNT(*) BETWEEN SYMMETRIC 90 AND 20",
            "its part 'symmetric' is not supported",
        ),
        (
            f"SELECT b.region {JOIN} GROUP BY b.region, t.late HAVING COUNT(*) IN ({', '.join(map(str, range(1000)))})",
            "140,000 comparisons",
        ),
        (f'SELECT t.plan, COUNT(*) AS n, SUM(t.late) AS "N" {BY_PLAN} HAVING n > 5', "two columns of the answer"),
        (f"SELECT t.plan {BY_PLAN} ORDER BY -1", "ORDER BY -1 is a constant"),
        (f"SELECT t.plan {BY_PLAN} ORDER BY 'plan'", "no such column in the answer"),
        (f"SELECT t.plan {BY_PLAN} ORDER BY 3", "no such column in the answer"),
        (f"SELECT t.plan {BY_PLAN} ORDER BY b.age", "neither aggregated nor in GROUP BY"),
        (f"SELECT t.plan {BY_PLAN} ORDER BY AVG(t.bill) LIMIT 3", "LIMIT by an AVG"),
        (f"SELECT t.plan {BY_PLAN} ORDER BY VAR_POP(t.bill) LIMIT 3", "LIMIT compares VAR_POP"),
        (f"SELECT t.plan {BY_PLAN} LIMIT 1.5", "LIMIT takes a whole number of rows"),
        (f"SELECT t.plan {BY_PLAN} LIMIT -1", "LIMIT takes a whole number of rows"),
        (f"SELECT t.plan {BY_PLAN} LIMIT 50%", "LIMIT takes a whole number of rows"),
        (f"SELECT t.plan {BY_PLAN} LIMIT COUNT(*)", "LIMIT takes a whole number of rows"),
        (f"SELECT t.plan {BY_PLAN} OFFSET 2", "OFFSET without LIMIT"),
        (f"SELECT t.late, b.age // 2 AS a {JOIN} GROUP BY 1, 2 LIMIT 5", "possible groups, at most 128"),
    ],
)
def test_what_cannot_be_decided_is_refused(sql: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        plan(sql, context(700))
    assert text in f"{caught.value.message} {caught.value.hint}"


def test_a_long_chain_of_conditions_is_one_level_deep(ideal: Pair) -> None:
    sql = f"SELECT b.region, COUNT(*) AS n {JOIN} GROUP BY 1 HAVING {' AND '.join(['COUNT(*) > 5'] * 300)}"
    made = plan(sql, context(700))
    assert made.having is not None and len(made.having.args) == 300 and len(made.canonical()) < 200_000


def test_what_a_condition_shows_is_agreed_and_written_down(ideal: Pair) -> None:
    made = plan(LIMITED["having"], context(700, ("bank",)))
    assert {(o.what, o.to) for o in made.request.openings} >= {("query.q.having", "bank"), ("query.q.limit", "bank")}
    bank, telco = tables(700)
    ideal.run(made, bank, telco)
    written = [fields["what"] for _, fields in ideal.ledgers[1].events]
    assert "query.q.having" in written and "query.q.limit" in written
    assert written.index("query.q.having") < written.index("query.q.rows")


def test_the_plan_says_that_having_opens_nothing() -> None:
    made = plan(HAVING["product_sum"], context(700))
    assert any("HAVING (2 comparisons a group) is decided on shares" in line for line in made.explain())
    assert made.canonical() == plan(HAVING["product_sum"], context(700)).canonical()
    assert made.canonical() != plan(HAVING["product_sum"].replace("9000", "9001"), context(700)).canonical()
    assert ("bank", "age", "aggregate") in {(use.party, use.column, use.use) for use in made.request.uses}
