"""Random statements over random small tables agree with DuckDB: NULLs and logic across both owners above all."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpc.sql import plan
from tests.mpc.sqlkit import JOIN, Pair, agree, context, oracle, tables

BANK_TESTS = (
    "b.age > 50", "b.region = 'north'", "b.region IN ('east', 'south')", "b.balance IS NULL", "b.defaulted",
    "b.balance BETWEEN 0 AND 4000000", "b.branch LIKE '%a%'", "b.opened < DATE '2021-01-01'", "b.income % 3 = 1",
    "NOT b.defaulted", "b.score > 0.5", "b.region IS NOT NULL", "b.income IS DISTINCT FROM NULL",
)[:-1]  # fmt: skip
TELCO_TESTS = (
    "t.late > 6", "t.plan = 'pro'", "t.plan NOT IN ('basic', 'x')", "t.minutes IS NULL", "t.prepaid",
    "t.bill < 0", "upper(t.plan) LIKE 'P%'", "t.prepaid IS NOT TRUE", "coalesce(t.minutes, 0) < 50000",
)  # fmt: skip
BANK_NUMBERS = (
    "b.age", "b.balance", "b.income", "abs(b.balance)", "(b.age - 50)", "coalesce(b.income, 7)", "b.income // 7",
    "CASE WHEN b.region = 'north' THEN b.balance ELSE b.age END", "round(b.balance, 1)",
)  # fmt: skip
TELCO_NUMBERS = (
    "t.late", "t.bill", "t.minutes", "(t.minutes + t.late)", "CASE t.plan WHEN 'pro' THEN 3 WHEN 'x' THEN NULL ELSE 1 END",  # noqa: E501
)  # fmt: skip
KEYS = (
    "b.region",
    "b.defaulted",
    "t.plan",
    "t.late // 5",
    "t.prepaid",
    "length(b.branch)",
    "CASE WHEN b.age > 50 THEN 1 END",
)

tests = st.sampled_from(BANK_TESTS + TELCO_TESTS)
conditions = st.recursive(
    tests,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(("AND", "OR")), inner).map(lambda part: f"({part[0]} {part[1]} {part[2]})"),
        inner.map(lambda part: f"(NOT {part})"),
    ),
    max_leaves=3,
)
mixed = st.one_of(
    st.sampled_from(BANK_NUMBERS + TELCO_NUMBERS),
    st.tuples(st.sampled_from(BANK_NUMBERS), st.sampled_from("+-"), st.sampled_from(TELCO_NUMBERS)).map(" ".join),
    st.tuples(st.sampled_from(("b.age", "(b.age - 50)")), st.just("*"), st.sampled_from(TELCO_NUMBERS)).map(" ".join),
    st.tuples(tests, st.sampled_from(BANK_NUMBERS), st.sampled_from(TELCO_NUMBERS)).map(
        lambda part: f"CASE WHEN {part[0]} THEN {part[1]} ELSE {part[2]} END"
    ),
)
aggregates = st.one_of(
    st.just("COUNT(*)"),
    st.tuples(st.sampled_from(("COUNT", "SUM", "AVG", "VAR_SAMP", "STDDEV_POP")), mixed).map(
        lambda p: f"{p[0]}({p[1]})"
    ),
    st.tuples(
        st.sampled_from(("COVAR_SAMP", "COVAR_POP", "CORR")),
        st.sampled_from(BANK_NUMBERS + TELCO_NUMBERS),
        st.sampled_from(TELCO_NUMBERS),
    ).map(lambda p: f"{p[0]}({p[1]}, {p[2]})"),
    st.tuples(st.sampled_from(("t.late", "b.balance")), conditions).map(lambda p: f"SUM({p[0]}) FILTER (WHERE {p[1]})"),
)


group_numbers = st.sampled_from(
    (
        "COUNT(*)",
        "COUNT(t.minutes)",
        "SUM(t.late)",
        "SUM(b.balance * t.late)",
        "SUM(b.balance)",
        "COUNT(b.income) * 3 - 1",
    )
)
group_tests = st.one_of(
    st.tuples(group_numbers, st.sampled_from(("<", "<=", "=", "<>", ">=", ">")), st.one_of(
        group_numbers, st.integers(-10, 200).map(str), st.sampled_from(("-0.5", "100.25", "99999999.99")),
    )).map(" ".join),
    st.tuples(st.sampled_from(("AVG(b.age)", "AVG(t.bill)", "SUM(t.late) / COUNT(b.region)")), st.sampled_from("<>"),
              st.sampled_from(("57.0625", "3.33", "-12.5"))).map(" ".join),
    group_numbers.map(lambda text: f"{text} IS NOT NULL"),
    st.tuples(group_numbers, st.integers(-5, 3), st.integers(3, 99)).map(lambda p: f"{p[0]} BETWEEN {p[1]} AND {p[2]}"),
)  # fmt: skip
group_conditions = st.recursive(
    group_tests,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(("AND", "OR")), inner).map(lambda part: f"({part[0]} {part[1]} {part[2]})"),
        inner.map(lambda part: f"(NOT {part})"),
    ),
    max_leaves=3,
)


@st.composite
def statements(draw: st.DrawFn) -> str:
    keys = draw(st.lists(st.sampled_from(KEYS), max_size=2, unique=True))
    chosen = draw(st.lists(aggregates, min_size=1, max_size=2))
    listed = [f"{key} AS k{i}" for i, key in enumerate(keys)] + [f"{text} AS a{i}" for i, text in enumerate(chosen)]
    where = draw(st.one_of(st.none(), conditions))
    sql = f"SELECT {', '.join(listed)} {JOIN}" + (f" WHERE {where}" if where else "")
    having = draw(st.one_of(st.none(), group_conditions)) if keys else None
    return sql + (f" GROUP BY {', '.join(keys)}" if keys else "") + (f" HAVING {having}" if having else "")


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair.ideal()


def compare(pair: Pair, sql: str, rows: int, seed: int) -> None:
    bank, telco = tables(rows, seed)
    agree(pair.query(sql, bank, telco), oracle(sql, bank, telco))


COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None, "derandomize": True}


@settings(max_examples=15, **COMMON)  # type: ignore[arg-type]  # the settings take these names
@given(sql=statements(), rows=st.sampled_from((1, 2, 5, 40)), seed=st.integers(0, 50))
def test_random_statements_equal_duckdb(pair: Pair, sql: str, rows: int, seed: int) -> None:
    compare(pair, sql, rows, seed)


@pytest.mark.slow
@settings(max_examples=400, **COMMON)  # type: ignore[arg-type]
@given(sql=statements(), rows=st.sampled_from((0, 1, 2, 3, 5, 40, 200)), seed=st.integers(0, 1000))
def test_many_random_statements_equal_duckdb(pair: Pair, sql: str, rows: int, seed: int) -> None:
    compare(pair, sql, rows, seed)


@settings(max_examples=60, **COMMON)  # type: ignore[arg-type]
@given(sql=statements())
def test_random_plans_are_equal_on_both_sides(sql: str) -> None:
    assert plan(sql, context(1000)).canonical() == plan(sql, context(1000)).canonical()
