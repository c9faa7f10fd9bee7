"""Joint SQL equals DuckDB on the joined tables: on an ideal linear engine, and on the real one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mpc.sqlkit import JOIN, Pair, agree, oracle, tables

STATEMENTS = {
    "count": f"SELECT COUNT(*) AS n {JOIN}",
    "own_sums": f"SELECT SUM(b.income) AS s, SUM(b.balance) AS d, AVG(b.balance) AS a, COUNT(b.balance) AS n {JOIN}",
    "product": f"SELECT SUM(b.balance * t.late) AS s, AVG(b.income * t.minutes) AS a {JOIN}",
    "product_plus": f"SELECT SUM(b.age * (t.minutes + 1)) AS s, SUM((b.age - 20) * (t.bill * 2)) AS u {JOIN}",
    "sum_across": f"SELECT SUM(b.balance + t.bill) AS s, SUM(b.balance - t.late) AS d {JOIN}",
    "two_filters": f"SELECT COUNT(*) AS n, SUM(t.bill) AS s {JOIN} WHERE b.age > 40 AND t.minutes < 50000",
    "or_across": f"SELECT COUNT(*) AS n, SUM(b.income) AS s {JOIN} WHERE b.age > 80 OR t.minutes < 9000",
    "not_across": f"SELECT COUNT(*) AS n {JOIN} WHERE NOT (b.defaulted AND t.prepaid)",
    "not_or_across": f"SELECT COUNT(*) AS n {JOIN} WHERE NOT (b.defaulted OR t.prepaid) AND b.age < 90",
    "own_group": f"SELECT b.region, COUNT(*) AS n, SUM(t.minutes) AS s {JOIN} GROUP BY b.region",
    "their_group": f"SELECT t.plan, COUNT(*) AS n, AVG(b.balance) AS m {JOIN} WHERE b.region = 'north' GROUP BY t.plan",
    "both_groups": f"SELECT b.region, t.plan, COUNT(*) AS n, SUM(b.balance) AS s {JOIN} GROUP BY b.region, t.plan",
    "both_groups_order": f"SELECT t.plan AS p, b.branch, SUM(b.age * t.late) AS s {JOIN} GROUP BY 1, 2",
    "expression_group": f"SELECT b.age // 10 AS decade, t.prepaid, COUNT(*) AS n {JOIN} GROUP BY b.age // 10, t.prepaid",
    "case_group": f"SELECT CASE WHEN b.age > 50 THEN 'old' ELSE 'young' END AS g, AVG(t.bill) AS a {JOIN} GROUP BY g",
    "case_sum": f"SELECT SUM(CASE WHEN b.region = 'north' THEN b.balance ELSE 0 END) AS s {JOIN}",
    "case_across": f"SELECT SUM(CASE WHEN t.plan = 'pro' THEN b.balance WHEN t.late > 6 THEN t.bill END) AS s {JOIN}",
    "simple_case": f"SELECT COUNT(CASE t.plan WHEN 'pro' THEN 1 WHEN 'plus' THEN 2 END) AS n {JOIN}",
    "in": f"SELECT COUNT(*) AS n {JOIN} WHERE t.plan IN ('pro', 'plus') AND b.age NOT IN (20, 30, 40)",
    "in_null": f"SELECT COUNT(*) AS n {JOIN} WHERE t.plan NOT IN ('pro', NULL)",
    "between": f"SELECT COUNT(*) AS n {JOIN} WHERE b.balance BETWEEN 0 AND 1000000.50 AND t.late NOT BETWEEN 3 AND 5",
    "is_null": f"SELECT COUNT(*) AS n, SUM(t.minutes) AS s {JOIN} WHERE b.balance IS NULL OR t.plan IS NULL",
    "is_not_null": f"SELECT COUNT(*) AS n {JOIN} WHERE b.region IS NOT NULL AND t.prepaid IS NOT TRUE",
    "like": f"SELECT COUNT(*) AS n {JOIN} WHERE b.branch LIKE 'O''H%' AND t.plan NOT ILIKE 'P%'",
    "filter": f"SELECT COUNT(*) FILTER (WHERE b.age > 40) AS a, SUM(t.bill) FILTER (WHERE b.defaulted AND t.prepaid) AS s {JOIN}",
    "spread": f"SELECT VAR_SAMP(b.balance) AS v, STDDEV(b.income) AS s, VAR_POP(t.bill) AS p, STDDEV_POP(t.late) AS q {JOIN}",
    "variance_filtered": f"SELECT VARIANCE(b.balance) AS v, STDDEV_SAMP(t.bill) AS s {JOIN} WHERE t.late > 4 AND b.age > 30",
    "covariance": f"SELECT COVAR_SAMP(b.balance, t.minutes) AS c, COVAR_POP(t.bill, b.income) AS p {JOIN}",
    "correlation": f"SELECT CORR(b.balance, t.minutes) AS r, CORR(b.balance, b.income) AS q, CORR(b.age, b.age) AS o {JOIN}",
    "grouped_correlation": f"SELECT t.plan, CORR(b.balance, t.bill) AS r {JOIN} GROUP BY t.plan",
    "correlation_of_sum": f"SELECT CORR(b.age + t.late, t.minutes) AS r, VAR_POP(b.age * t.late) AS v {JOIN}",
    "arithmetic": f"SELECT SUM(b.income) / COUNT(*) AS a, 1.0 * SUM(b.income) AS d, -SUM(t.bill) + 2 AS m {JOIN}",
    "functions": f"SELECT SUM(abs(b.balance)) AS a, SUM(round(b.balance, 1)) AS r, SUM(floor(t.bill)) AS f, "
    f"SUM(ceil(t.bill)) AS c, SUM(coalesce(b.income, 5)) AS k, SUM(b.age % 7) AS m {JOIN}",
    "texts": f"SELECT COUNT(*) AS n {JOIN} WHERE upper(b.branch) = 'B' AND length(t.plan) > 3 OR substr(t.plan, 1, 1) = 'x'",
    "dates": f"SELECT extract(year FROM b.opened) AS y, COUNT(*) AS n {JOIN} WHERE b.opened >= DATE '2020-06-01' GROUP BY y",
    "months": f"SELECT date_trunc('month', b.opened) AS m, SUM(t.bill) AS s {JOIN} GROUP BY 1",
    "booleans": f"SELECT b.defaulted, SUM(CAST(t.prepaid AS INTEGER)) AS s, AVG(CAST(b.defaulted AS INTEGER)) AS a {JOIN} GROUP BY b.defaulted",
    "floats": f"SELECT COUNT(*) AS n, COUNT(b.score) AS c {JOIN} WHERE b.score > 0.25 OR b.score IS NULL",
    "wide_predicate": f"SELECT COUNT(*) AS n {JOIN} WHERE b.free * 2 + 1 > 5000000000",
    "empty": f"SELECT COUNT(*) AS n, SUM(b.income * t.late) AS s, AVG(t.bill) AS a, CORR(b.age, t.late) AS r {JOIN} WHERE b.age > 98 AND t.late > 99",
    "empty_groups": f"SELECT t.plan, b.region, COUNT(*) AS n {JOIN} WHERE b.age > 98 AND t.late > 99 GROUP BY t.plan, b.region",
    "constant": f"SELECT CORR(b.age, t.late) AS r, VAR_POP(t.late) AS v {JOIN} WHERE t.late = 3",
    "using": "SELECT COUNT(*) AS n, SUM(x.late) AS s FROM telco.subscribers x INNER JOIN bank.customers ON customers.phone = x.msisdn",
}
REFUSED_HERE: set[str] = set()


@pytest.fixture(scope="module")
def ideal() -> Iterator[Pair]:
    yield Pair.ideal()


@pytest.mark.parametrize("name", sorted(set(STATEMENTS) - REFUSED_HERE))
def test_statement_equals_duckdb(name: str, ideal: Pair) -> None:
    bank, telco = tables(700)
    agree(ideal.query(STATEMENTS[name], bank, telco), oracle(STATEMENTS[name], bank, telco))
