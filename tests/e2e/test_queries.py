"""Twenty statements over both demo tables through the installed command, against DuckDB on the joined tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.demo_data import BANK, TELCO, make_tables
from tests.e2e.homes import Pair, expect, make_pair, tally
from tests.e2e.joined import Joined, blocks, same

pytestmark = [pytest.mark.alone, pytest.mark.timeout(600)]

JOIN = "FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.msisdn"
PLAIN = [
    f"SELECT COUNT(*) AS n {JOIN}",
    f"SELECT COUNT(b.balance) AS b, COUNT(t.minutes) AS m, COUNT(t.plan) AS p {JOIN}",
    f"SELECT SUM(b.balance) AS s, SUM(b.income) AS i, SUM(t.late_bills) AS l {JOIN}",
    f"SELECT SUM(b.income * t.late_bills) AS s {JOIN}",
    f"SELECT SUM(b.balance * t.minutes) AS s, AVG(b.income * t.tenure) AS a {JOIN}",
    f"SELECT AVG(b.balance) AS a, VAR_SAMP(t.minutes) AS v, STDDEV_POP(b.age) AS d {JOIN}",
    f"SELECT CORR(b.income, t.minutes) AS c, COVAR_SAMP(b.balance, t.tenure) AS v {JOIN}",
    f"SELECT t.plan, COUNT(*) AS n, SUM(b.balance) AS s {JOIN} GROUP BY t.plan",
    f"SELECT b.region, AVG(t.minutes) AS a, VAR_POP(t.tenure) AS v {JOIN} GROUP BY b.region",
    f"SELECT b.region, t.plan, COUNT(*) AS n, SUM(b.balance * t.late_bills) AS s {JOIN} GROUP BY b.region, t.plan",
    f"SELECT COUNT(*) AS n, SUM(t.minutes) AS m {JOIN} WHERE b.region = 'north' AND t.late_bills > 2",
    f"SELECT COUNT(*) AS n {JOIN} WHERE (b.age BETWEEN 30 AND 40 OR b.income IS NULL) AND NOT t.plan = 'basic'",
    f"SELECT COUNT(*) AS n, SUM(b.income) AS i {JOIN} WHERE b.region IN ('north', 'west') AND t.plan IS NOT NULL",
    f"SELECT SUM(CASE WHEN b.age > 50 THEN b.income ELSE 0 END) AS old, COUNT(*) AS n {JOIN}",
    f"SELECT SUM(b.balance + b.income) AS s, SUM(t.tenure - t.late_bills) AS d {JOIN} WHERE t.minutes IS NOT NULL",
    f"SELECT COUNT(*) AS n, SUM(b.balance) AS s, AVG(t.tenure) AS a {JOIN} WHERE b.age > 99 AND t.tenure > 599",
    f"SELECT t.plan, SUM(b.income) AS s {JOIN} WHERE b.age > 99 AND t.tenure > 599 GROUP BY t.plan",
    f"SELECT COUNT(*) FILTER (WHERE b.defaulted) AS bad, COUNT(*) AS n {JOIN} WHERE t.plan = 'family'",
    f"SELECT b.defaulted, COUNT(*) AS n, AVG(t.late_bills) AS l, CORR(b.age, t.tenure) AS c {JOIN} GROUP BY 1",
]
SQUARES = "SUM(b.balance * b.balance * t.minutes * t.minutes)"
OVERFLOW = f"SELECT t.plan, COUNT(*) AS n {JOIN} GROUP BY t.plan HAVING {SQUARES} > 0"
WIDE = f"SELECT {SQUARES} AS s, SUM(b.income * b.income * b.income * t.tenure * t.tenure) AS i {JOIN}"
OLD = f"{JOIN} WHERE b.age > 60 GROUP BY b.region, t.plan"
GROUPS = f"SELECT b.region, t.plan, COUNT(*) AS n, SUM(b.balance) AS s {OLD}"
ENTERING = f"SELECT b.region, t.plan, COUNT(*) AS n, SUM(b.balance) AS s, COUNT(b.balance) AS entering {OLD}"
FEW = f"SELECT COUNT(*) AS n, SUM(b.income) AS s {JOIN} WHERE b.age > 99 AND t.tenure > 599"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Joined]:
    folder = tmp_path_factory.mktemp("queries")
    made = make_tables(folder / "data", 4000, 6000)
    pair = make_pair(folder, blocks(BANK, made.bank, 1), blocks(TELCO, made.telco, 1))
    return pair, Joined(made.bank, made.telco)


def ask_all(pair: Pair, statements: list[str]) -> list[dict[str, Any]]:
    with pair.served():
        answer = expect(tally(pair.bank, "query", "--peer", "telco", "-", stdin=";\n".join(statements)))
    return [json.loads(line) for line in answer.stdout.splitlines()]


def test_statements_equal_duckdb_on_the_joined_tables(world: tuple[Pair, Joined]) -> None:
    pair, joined = world
    answers = ask_all(pair, PLAIN)
    wrong = [
        (sql, answer["rows"], truth)
        for sql, answer in zip(PLAIN, answers, strict=True)
        if not same(answer["rows"], truth := joined.ask(sql))
    ]
    assert not wrong
    assert set(answers[0]) >= {"run", "columns", "rows", "suppressed_groups", "timings", "bytes"}
    assert answers[0]["alignment"]["rows"] == joined.rows
    assert not answers[0]["alignment"]["reused"] and all(answer["alignment"]["reused"] for answer in answers[1:])


def test_sums_over_64_bits_are_exact_in_json_and_files(world: tuple[Pair, Joined], tmp_path: Path) -> None:
    pair, joined = world
    wider = WIDE.replace("b.balance", "CAST(b.balance AS DECIMAL(19,2))").replace(
        "b.income", "CAST(b.income AS HUGEINT)"
    )
    truth = joined.ask(wider)
    (answer,) = ask_all(pair, [WIDE])
    assert same(answer["rows"], truth)
    assert int(answer["rows"][0]["i"]) > 2**63
    with pair.served():
        for kind in ("csv", "parquet"):
            expect(tally(pair.bank, "query", "--peer", "telco", "-o", str(tmp_path / f"wide.{kind}"), WIDE))
    assert str(truth[0]["i"]) in (tmp_path / "wide.csv").read_text()
    assert pq.read_table(tmp_path / "wide.parquet")["i"].to_pylist() == [truth[0]["i"]]


def test_an_overflowing_sum_is_refused_before_running(world: tuple[Pair, Joined]) -> None:
    pair, _ = world
    with pair.served():
        answer = tally(pair.bank, "query", "--peer", "telco", "--json", OVERFLOW)
    assert answer.code == 2
    assert "64 bits" in answer.json["error"]["message"]


def test_small_groups_do_not_appear_and_large_ones_are_exact(world: tuple[Pair, Joined]) -> None:
    pair, joined = world
    for home in (pair.bank, pair.telco):
        policy = (home / "policy.yaml").read_text()
        (home / "policy.yaml").write_text(policy.replace("min_rows: 1\n", "min_rows: 20\n"))
    groups, few = ask_all(pair, [GROUPS, FEW])
    truth = sorted(joined.ask(ENTERING), key=lambda row: row["n"])
    for row in truth:
        if row.pop("entering") < 20:  # min_rows counts, per aggregate, the rows that really enter it
            row["s"] = None
    assert any(row["n"] < 20 for row in truth), "the statement must have a small group to be worth asking"
    large = []
    for region in {row["region"] for row in truth}:  # the bank receives, and knows how many rows each region has
        line = [row for row in truth if row["region"] == region]
        hidden = sum(row["n"] for row in line if row["n"] < 20)
        shown = [row for row in line if row["n"] >= 20]
        large += shown[1:] if 0 < hidden < 20 else shown  # docs/protocols/07, step 7
    assert same(groups["rows"], large)
    assert groups["suppressed_groups"] > 0
    assert few["rows"] == [{"n": None, "s": None}]


def test_the_overflowing_and_the_malformed_leave_no_file(world: tuple[Pair, Joined], tmp_path: Path) -> None:
    pair, _ = world
    target = tmp_path / "rows.csv"
    with pair.served():
        refused = tally(pair.bank, "query", "--peer", "telco", "-o", str(target), OVERFLOW)
        done = tally(pair.bank, "query", "--peer", "telco", "-o", str(target), PLAIN[7])
    assert refused.code == 2
    expect(done)
    assert target.read_text().splitlines()[0] == '"plan","n","s"'
