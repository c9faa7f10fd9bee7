"""The planner: what it refuses and how it says so, what it asks of policy, what it opens, and that it is a function."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mpc.sql import Context, plan
from party.catalogue import Catalogue, Column, Table
from party.errors import UsageError
from party.request import Opening, Use
from tests.mpc.sqlkit import JOIN, context
from tests.mpc.test_sql_execute import STATEMENTS

REFUSED = {
    # construct: (statement, words that the message or the hint must hold)
    "two_statements": (f"SELECT COUNT(*) {JOIN}; SELECT COUNT(*) {JOIN}", "one SELECT"),
    "nothing": ("", "one SELECT"),
    "not_sql": ("SELECT FROM WHERE", "SQL"),
    "insert": ("INSERT INTO bank.customers VALUES (1)", "Insert"),
    "attach": ("ATTACH 'x.db'", "Attach"),
    "copy": (f"COPY (SELECT COUNT(*) {JOIN}) TO 'x'", "Copy"),
    "union": (f"SELECT COUNT(*) {JOIN} UNION SELECT COUNT(*) {JOIN}", "Union"),
    "with": (f"WITH RECURSIVE x AS (SELECT 1) SELECT COUNT(*) {JOIN}", "WITH RECURSIVE"),
    "distinct": (f"SELECT DISTINCT COUNT(*) {JOIN}", "DISTINCT"),
    "offset": (f"SELECT COUNT(*) {JOIN} OFFSET 1", "OFFSET"),
    "qualify": (f"SELECT COUNT(*) {JOIN} QUALIFY TRUE", "QUALIFY"),
    "one_table": ("SELECT COUNT(*) FROM bank.customers b", "one table of each"),
    "comma": ("SELECT COUNT(*) FROM bank.customers b, telco.subscribers t WHERE b.phone = t.msisdn", "JOIN"),
    "full": (f"SELECT COUNT(*) {JOIN.replace('JOIN', 'FULL JOIN')}", "FULL"),
    "natural": ("SELECT COUNT(*) FROM bank.customers b NATURAL JOIN telco.subscribers t", "NATURAL"),
    "cross": ("SELECT COUNT(*) FROM bank.customers b CROSS JOIN telco.subscribers t", "CROSS"),
    "three": (f"SELECT COUNT(*) {JOIN} JOIN telco.subscribers u ON b.phone = u.msisdn", "one table of each"),
    "self_join": ("SELECT COUNT(*) FROM bank.customers a JOIN bank.customers b ON a.phone = b.phone", "each party"),
    "subquery": ("SELECT COUNT(*) FROM (SELECT 1) b JOIN telco.subscribers t ON b.phone = t.msisdn", "FROM"),
    "function": ("SELECT COUNT(*) FROM read_csv('/etc/passwd') b JOIN telco.subscribers t ON b.x = t.msisdn", "Table"),
    "sample": (
        "SELECT COUNT(*) FROM bank.customers b TABLESAMPLE 10% JOIN telco.subscribers t ON b.phone = t.msisdn",
        "sample",
    ),
    "no_table": ("SELECT COUNT(*) FROM bank.nothing b JOIN telco.subscribers t ON b.phone = t.msisdn", "bank.nothing"),
    "wrong_key": (
        "SELECT COUNT(*) FROM bank.customers b JOIN telco.subscribers t ON b.branch = t.plan",
        "declared keys",
    ),
    "more_than_keys": (f"SELECT COUNT(*) {JOIN} AND b.age = t.late", "declared keys"),
    "condition_in_on": (f"SELECT COUNT(*) {JOIN} AND b.age > 3", "join condition"),
    "inequality_join": (
        "SELECT COUNT(*) FROM bank.customers b JOIN telco.subscribers t ON b.phone < t.msisdn",
        "join condition",
    ),
    "rows": (f"SELECT b.age {JOIN}", "GROUP BY"),
    "star": (f"SELECT * {JOIN}", "rows are never shown"),
    "not_grouped": (f"SELECT b.age, COUNT(*) {JOIN} GROUP BY b.region", "GROUP BY"),
    "mode": (f"SELECT MODE(b.age) {JOIN}", "Mode"),
    "any_value": (f"SELECT ANY_VALUE(b.age) {JOIN}", "any_value"),
    "list": (f"SELECT LIST(b.age) {JOIN}", "array_agg"),
    "string_agg": (f"SELECT STRING_AGG(b.region, ',') {JOIN}", "GroupConcat"),
    "sum_distinct": (f"SELECT SUM(DISTINCT b.age) {JOIN}", "DISTINCT"),
    "window": (f"SELECT SUM(b.age) OVER () {JOIN}", "Window"),
    "ordered_aggregate": (f"SELECT SUM(b.age ORDER BY b.income) {JOIN}", "Order"),
    "nested_aggregate": (f"SELECT SUM(COUNT(*)) {JOIN}", "aggregate"),
    "where_aggregate": (f"SELECT COUNT(*) {JOIN} WHERE COUNT(*) > 1", "Count"),
    "product_compared_across": (f"SELECT COUNT(*) {JOIN} WHERE b.age * t.late > 5", "both parties"),
    "division_across": (f"SELECT SUM((b.age - t.late) // 3) {JOIN}", "//"),
    "round_across": (f"SELECT SUM(round(b.balance - t.bill)) {JOIN}", "round"),
    "group_across": (f"SELECT COUNT(*) {JOIN} GROUP BY b.age + t.late", "one party"),
    "rollup": (f"SELECT COUNT(*) {JOIN} GROUP BY ROLLUP (b.region)", "ROLLUP"),
    "group_by_decimal": (f"SELECT COUNT(*) {JOIN} GROUP BY b.balance", "decimal"),
    "division": (f"SELECT SUM(b.age / 2) {JOIN}", "division"),
    "float_sum": (f"SELECT AVG(b.score) {JOIN}", "decimal(p,s)"),
    "text_sum": (f"SELECT SUM(b.region) {JOIN}", "string"),
    "text_number": (f"SELECT COUNT(*) {JOIN} WHERE b.region = 3", "string compared"),
    "exists": (f"SELECT COUNT(*) {JOIN} WHERE EXISTS (SELECT 1)", "Exists"),
    "in_subquery": (f"SELECT COUNT(*) {JOIN} WHERE b.age IN (SELECT 1)", "FROM"),
    "cast": (f"SELECT COUNT(*) {JOIN} WHERE CAST(b.opened AS INTEGER) = 1", "Cast"),
    "macro": (f"SELECT COUNT(*) {JOIN} WHERE getenv('HOME') = 'x'", "getenv"),
    "file_text": (f"SELECT COUNT(*) {JOIN} WHERE (SELECT content FROM read_text('x')) = 'x'", "party.table"),
    "bad_date": (f"SELECT COUNT(*) {JOIN} WHERE b.opened > '2020-13-01'", "not a date"),
    "parameter": (f"SELECT COUNT(*) {JOIN} WHERE b.age = ?", "Placeholder"),
    "pattern_column": (f"SELECT COUNT(*) {JOIN} WHERE b.region LIKE b.branch", "constant pattern"),
    "unknown_column": (f"SELECT SUM(b.nothing) {JOIN}", "b.nothing"),
    "foreign_schema": (f"SELECT SUM(main.b.age) {JOIN}", "main.b.age"),
    "same_name": (f"SELECT COUNT(*) AS n, SUM(b.age) AS n {JOIN}", "'n'"),
    "no_range": (f"SELECT SUM(b.free) {JOIN}", "would overflow 64 bits"),
    "overflow": (f"SELECT SUM({' * '.join(['b.balance * t.minutes'] * 12)}) AS s {JOIN}", "would overflow 64 bits"),
    "overflow_by_rows": (
        f"SELECT b.region {JOIN} GROUP BY b.region HAVING SUM(b.balance * t.bill) > 0",
        "would overflow 64 bits",
    ),
    "too_many_groups": (f"SELECT COUNT(*) {JOIN} GROUP BY b.age % 60, t.late, b.region", "4096"),
    "too_deep": (f"SELECT COUNT(*) {JOIN} WHERE {'NOT (' * 900}b.defaulted{')' * 900}", "deep"),
    "too_long": (f"SELECT COUNT(*) {JOIN} WHERE b.age IN ({', '.join(['1'] * 9000)})", "20000"),
    "exponent": (f"SELECT COUNT(*) {JOIN} WHERE b.age > 1e3", "1e3"),
    "huge_number": (f"SELECT COUNT(*) {JOIN} WHERE b.age > {'9' * 60}", "number"),
    "too_many_terms": (
        f"SELECT COUNT(*) {JOIN} WHERE {' AND '.join(f'(b.age > {i} OR t.late > {i})' for i in range(4))}",
        "products",
    ),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refuses_by_name_with_exit_code_2(name: str) -> None:
    sql, word = REFUSED[name]
    rows = 100_000 if name == "overflow_by_rows" else 1000
    with pytest.raises(UsageError) as caught:
        plan(sql, context(rows))
    assert caught.value.exit_code == 2
    assert word.lower() in f"{caught.value.message} {caught.value.hint}".lower()


def test_the_row_bound_decides_about_digits() -> None:
    sql = f"SELECT SUM(b.balance * t.bill) AS s {JOIN}"

    def most_limbs(rows: int) -> int:
        return max(len(quantity.limbs) for quantity in plan(sql, context(rows)).quantities)

    assert most_limbs(92) == 1  # 2^63 / (10^9 * 10^8)
    assert most_limbs(93) == 2


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_a_plan_is_the_same_on_both_sides(name: str) -> None:
    first = plan(STATEMENTS[name], context(1000))
    assert first.canonical() == plan(STATEMENTS[name], context(1000)).canonical()
    assert first == plan(STATEMENTS[name], context(1000))
    assert first.canonical() != plan(STATEMENTS[name], context(999)).canonical()


def test_a_plan_does_not_depend_on_the_process() -> None:
    """Hash randomisation must not order anything: two more interpreters give the same bytes."""
    code = (
        "import hashlib\nfrom mpc.sql import plan\nfrom tests.mpc.sqlkit import context\n"
        "from tests.mpc.test_sql_execute import STATEMENTS\n"
        "print(hashlib.sha256(b''.join(plan(s, context(1000)).canonical() for s in STATEMENTS.values())).hexdigest())"
    )
    root = Path(__file__).resolve().parents[2]
    ours = hashlib.sha256(b"".join(plan(s, context(1000)).canonical() for s in STATEMENTS.values())).hexdigest()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=root,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.strip() == ours


def test_the_request_names_every_column_with_its_use() -> None:
    sql = f"""SELECT t.plan, AVG(b.balance) AS m, SUM(CASE WHEN b.age > 30 THEN t.bill END) AS s,
              COUNT(*) FILTER (WHERE t.prepaid) AS p {JOIN} WHERE b.region = 'north' GROUP BY t.plan"""
    assert plan(sql, context(1000)).request.uses == {
        Use("bank", "customers", "phone", "join"),
        Use("telco", "subscribers", "msisdn", "join"),
        Use("telco", "subscribers", "plan", "group"),
        Use("bank", "customers", "balance", "aggregate"),
        Use("bank", "customers", "age", "filter"),
        Use("telco", "subscribers", "bill", "aggregate"),
        Use("telco", "subscribers", "prepaid", "filter"),
        Use("bank", "customers", "region", "filter"),
    }


def test_the_openings_name_what_each_aggregate_shows() -> None:
    made = plan(f"SELECT AVG(b.balance) AS m, CORR(b.age, t.late) AS r {JOIN}", context(1000, ("telco",)))
    names = ["m.count", "m.sum", "r.count", "r.sum_x", "r.sum_y", "r.sum_xy", "r.sum_xx", "r.sum_yy"]
    shown = {opening for opening in made.request.openings if opening.what != "query.q.changed"}
    assert shown <= {Opening(f"query.q.{name}", "telco") for name in names}
    assert Opening("query.q.r.sum_xy", "telco") in made.request.openings
    assert any("count, sum_x, sum_y, sum_xy, sum_xx, sum_yy of r" in line for line in made.explain())


def test_undeclared_groups_are_listed_as_leakage() -> None:
    made = plan(f"SELECT t.plan, COUNT(*) AS n {JOIN} GROUP BY t.plan", context(1000))
    assert made.request.openings == {
        Opening("query.q.rows", "bank"),
        Opening("query.q.groups", "bank"),
        Opening("query.q.labels", "bank"),
        Opening("query.q.shown", "telco"),
    }
    assert any("power of 4" in line for line in made.explain())
    declared = plan(f"SELECT b.region, COUNT(*) AS n {JOIN} GROUP BY b.region", context(1000))
    assert declared.request.openings == {Opening("query.q.rows", "bank")}


def test_a_peers_text_never_reaches_the_local_step() -> None:
    sql = f"SELECT COUNT(*) /* c; DROP */ AS n {JOIN} WHERE b.branch = 'a'' OR 1=1; --' -- trailing"
    made = plan(sql, context(1000))
    assert made.local["bank"] == "SELECT CAST((\"branch\" = 'a'' OR 1=1; --') AS BIGINT) AS c0 FROM aligned"
    assert made.local["telco"] == "SELECT CAST(1 AS BIGINT) AS c0 FROM aligned"


def test_names_with_quotes_are_quoted() -> None:
    base = context(10)
    odd = Column('a"b', "integer", low=0, high=9)
    bank = Catalogue("bank", (Table("customers", (("phone",),), (Column("phone", "string"), odd), 10),))
    made = plan(f'SELECT SUM(b."a""b") AS s {JOIN}', Context("q", (bank, base.catalogues[1]), ("bank",), 10, 1))
    assert '"a""b"' in made.local["bank"]


def test_composite_keys_are_joined_column_by_column() -> None:
    base = context(10)
    bank = replace(base.catalogues[0].tables[0], key=(("phone", "branch"),))
    telco = replace(base.catalogues[1].tables[0], key=(("msisdn", "plan"),))
    both = (replace(base.catalogues[0], tables=(bank,)), replace(base.catalogues[1], tables=(telco,)))
    composite = replace(base, catalogues=both)
    made = plan(f"SELECT COUNT(*) AS n {JOIN} AND t.plan = b.branch", composite)
    assert Use("telco", "subscribers", "plan", "join") in made.request.uses
    with pytest.raises(UsageError, match="declared keys"):
        plan(f"SELECT COUNT(*) AS n {JOIN}", composite)


def test_a_condition_is_uploaded_once_for_count_and_sum() -> None:
    made = plan(f"SELECT SUM(b.balance) AS s {JOIN} WHERE t.late > 3", context(1_000_000))
    assert {call.owner for call in made.calls} == {1}
    assert {call.uploaded for call in made.calls} == {made.calls[0].uploaded}
    assert len(made.calls[0].uploaded) == 1


def test_the_smaller_number_of_columns_is_uploaded() -> None:
    made = plan(f"SELECT b.region, SUM(t.bill) AS s, COUNT(t.bill) AS c {JOIN} GROUP BY b.region", context(1_000_000))
    assert {call.owner for call in made.calls} == {1}
