"""Columns declared without NULLs: the same answers with fewer products; a missing value stops the run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from connectors import evaluate
from mpc.sql import TABLE, plan
from mpc.sql.local import feature, groups
from mpc.sql.types import Context
from mpc.statistics import plan as statistics
from party.catalogue import Catalogue
from party.errors import DataError
from tests.mpc.sqlkit import JOIN, Pair, agree, context, oracle, tables

FULL = ("age", "free", "branch", "late")  # without NULLs in the test's tables
STATEMENTS = {
    "product": f"SELECT SUM(b.age * t.late) AS s, AVG(b.age) AS a, COUNT(t.late) AS n {JOIN}",
    "mixed": f"SELECT SUM(b.age * t.minutes) AS s, COUNT(b.balance) AS n, SUM(b.age + t.late) AS d {JOIN}",
    "spread": f"SELECT CORR(b.age, t.late) AS r, VAR_SAMP(t.late) AS v, COVAR_POP(b.age, t.minutes) AS c {JOIN}",
    "conditions": f"SELECT COUNT(*) AS n, SUM(t.late) AS s {JOIN} WHERE b.age > 40 AND NOT (t.late > 6 OR b.age < 50)",
    "case": f"SELECT SUM(CASE WHEN b.age > 50 THEN t.late ELSE b.age END) AS s {JOIN}",
    "case_of_null": f"SELECT SUM(CASE WHEN t.minutes > 50000 THEN b.age ELSE 0 END) AS s, AVG(t.minutes) AS a {JOIN}",
    "functions": f"SELECT SUM(abs(b.age - 50) * t.late) AS s, SUM(coalesce(t.minutes, 1) + b.age % 7) AS c {JOIN}",
    "groups": f"SELECT b.age // 20 AS d, t.late // 5 AS l, COUNT(*) AS n, SUM(b.age) AS s {JOIN} GROUP BY d, l",
    "case_group": f"SELECT CASE WHEN b.age > 50 THEN 'old' ELSE 'young' END AS g, SUM(t.late) AS s {JOIN} GROUP BY g",
    "label_group": f"SELECT b.branch, t.plan, COUNT(*) AS n {JOIN} GROUP BY b.branch, t.plan HAVING SUM(t.late) > 30",
}


def full(made: Context) -> Context:
    """The same catalogues, with what the tables keep of their word."""
    parts = []
    for catalogue in made.catalogues:
        (table,) = catalogue.tables
        columns = tuple(replace(column, nullable=column.name not in FULL) for column in table.columns)
        parts.append(Catalogue(catalogue.party, (replace(table, columns=columns),)))
    return replace(made, catalogues=(parts[0], parts[1]))


@pytest.fixture(scope="module")
def ideal() -> Iterator[Pair]:
    yield Pair.ideal()


@pytest.mark.parametrize("min_rows", [1, 10])
@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_the_answer_is_the_same(name: str, min_rows: int, ideal: Pair) -> None:
    bank, telco = tables(400)
    made = plan(STATEMENTS[name], full(context(400, min_rows=min_rows)))
    answer, _ = ideal.run(made, bank, telco)
    assert answer is not None
    if min_rows == 1:
        agree(answer, oracle(STATEMENTS[name], bank, telco))
    else:
        plain = plan(STATEMENTS[name], context(400, min_rows=min_rows))
        assert answer.rows == ideal.run(plain, bank, telco)[0].rows  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["product", "mixed", "spread", "conditions", "groups"])
def test_it_needs_fewer_products(name: str) -> None:
    columns = [
        sum(len(call.uploaded) * len(call.rows) for call in plan(STATEMENTS[name], made).calls)
        for made in (context(400), full(context(400)))
    ]
    assert columns[1] < columns[0] or (name == "conditions" and columns[1] <= columns[0])


def test_a_dot_product_is_one_column_up_and_one_answer_back() -> None:
    (call,) = plan(f"SELECT SUM(b.age * t.late) AS s {JOIN}", full(context(400))).calls
    assert len(call.uploaded) == len(call.rows) == 1


@pytest.mark.parametrize("sql", ["SUM(b.age * t.late)", "COUNT(t.late)", "SUM(CASE WHEN b.age > 3 THEN t.late END)"])
def test_rows_without_a_match_are_null_whatever_is_declared(sql: str) -> None:
    left = f"SELECT {sql} AS s {JOIN.replace('JOIN', 'LEFT JOIN')}"
    made, plain = plan(left, full(context(400))), plan(left, context(400))
    factors = {op for feature in made.features[1] for op, _ in feature.factors}
    assert made.keep == "bank" and "n" in factors
    assert len(made.features[1]) == len(plain.features[1])


def test_statistics_over_kept_rows_know_whose_columns_are_null() -> None:
    tables_of = {"bank": "customers", "telco": "subscribers"}
    wanted = {"mean": ["telco.late", "bank.age"], "correlation": ["telco.late", "bank.age"]}
    for unmatched in (None, "telco", "bank"):
        made = statistics.plan(wanted, tables_of, replace(full(context(400)), unmatched=unmatched)).plans[0]
        nullable = [
            party
            for party, features in zip(made.parties, made.features, strict=True)
            if any(op == "n" for one in features for op, _ in one.factors)
        ]
        assert nullable == ([] if unmatched is None else [unmatched])


def telcos_step(select: str) -> None:
    """What the telco computes of a statement over a table that breaks its word, before it sends anything."""
    _, telco = tables(100)
    late = telco["late"].to_pylist()
    broken = telco.set_column(telco.schema.get_field_index("late"), "late", pa.array([None, *late[1:]], pa.int64()))
    made = plan(select, full(context(100)))
    columns = evaluate(broken, made.local["telco"], TABLE)
    groups(made, 1, columns, 100)
    for one in made.features[1]:
        feature(one, made.sources[1], columns, [], np.zeros(100, dtype=np.int64))


@pytest.mark.parametrize(
    "select",
    [
        f"SELECT SUM(b.age * t.late) AS s {JOIN}",
        f"SELECT COUNT(*) FILTER (WHERE t.late > 3 AND b.age > 1) AS n {JOIN}",
        f"SELECT t.late, COUNT(*) AS n {JOIN} GROUP BY t.late",
    ],
)
def test_a_missing_value_stops_its_owner(select: str) -> None:
    with pytest.raises(DataError, match="a value of late is missing"):
        telcos_step(select)
