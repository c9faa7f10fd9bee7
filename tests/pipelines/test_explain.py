"""EXPLAIN SELECT: the steps as rows over a connection, and nothing runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mpc.sql.near_cost import STEP
from party.errors import UsageError
from pipelines import verbs_plan
from pipelines.facade import Session
from pipelines.queries import explained
from pipelines.runs import list_runs
from pipelines.verbs_run import ask, query_text
from tests.pipelines.two_homes import TABLES, TwoHomes

KEYS = {"bank": "phone", "telco": "msisdn"}
SQL = "SELECT SUM(b.age * t.late) AS s FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.msisdn"


@pytest.fixture
def pair(tmp_path: Path) -> TwoHomes:
    made = TwoHomes(tmp_path)
    for side, column in (("bank", "age"), ("telco", "late")):
        key = KEYS[side]
        policy = "alignment: rows\nmin_size: 1\nmin_rows: 20\napprove: auto\ncolumns:\n"
        grants = f"  {TABLES[side]}.{key}: [join]\n  {TABLES[side]}.{column}: [aggregate, filter]\n"
        made.declare(side, f"key: [{key}]\ncolumns:\n  {column}: {{type: integer, range: [0, 99]}}\n", policy + grants)
        made.fill(side, {key: [f"p{n}" for n in range(40)], column: list(range(40))})
    return made


@pytest.mark.parametrize(
    ("sql", "inner"),
    [
        ("EXPLAIN SELECT 1", "        SELECT 1"),
        ("  explain\n  SELECT 1", "         \n  SELECT 1"),
        ("SELECT 1", None),
        ("EXPLAINED", None),
        ("EXPLAIN", None),
    ],
)
def test_what_explain_stands_before_keeps_its_place(sql: str, inner: str | None) -> None:
    assert explained(sql) == inner


def test_steps_with_owner_rounds_bytes_seconds_and_what_is_learnt(pair: TwoHomes) -> None:
    with pair.linked() as link:
        told = Session(link).query(f"EXPLAIN {SQL}")
        found = ask(link, f"EXPLAIN {SQL}", False)
        assert not list_runs(pair.homes["bank"] / "state" / "runs")  # nothing ran
        moved = link.channel.counters.sent + link.channel.counters.received
        ask(link, SQL, False)
        moved = link.channel.counters.sent + link.channel.counters.received - moved
    assert told.to_pylist() == found["rows"]
    assert [row["who"] for row in found["rows"] if "encrypted" in row["step"] or "product" in row["step"]]
    assert {"bank", "telco", "both"} >= {row["who"] for row in found["rows"]}
    counted = sum(row["bytes"] for row in found["rows"])
    assert counted == found["predicted"]["analyse"]["bytes"] and 0.9 * counted < moved < 1.1 * counted
    assert all(row["seconds"] >= 0 and row["rounds"] >= 0 for row in found["rows"])
    assert any("bank learns s.count, s.sum" in line for line in found["explain"])
    text = query_text(found)
    assert "encrypted column" in text and "predicted: analyse" in text


def test_what_cannot_be_planned_is_refused_at_its_place(pair: TwoHomes) -> None:
    with pair.linked() as link, pytest.raises(UsageError, match="line 1, column 16"):
        ask(link, "EXPLAIN " + SQL.replace("SUM(", "MODE("), False)


def guard_of(rows: list[dict[str, Any]]) -> list[str]:
    """The queries that are compared with what was answered before."""
    return [row["query"] for row in rows if row["step"] == STEP]


def test_what_is_compared_with_earlier_answers_is_a_step_of_its_own(pair: TwoHomes) -> None:
    other = SQL.replace("SUM(b.age", "SUM(CASE WHEN t.late > 20 THEN b.age ELSE 0 END").replace(" * t.late)", ")")
    with pair.linked() as link:
        first = ask(link, f"EXPLAIN {other}", False)
        ask(link, SQL, False)
        again, found = (ask(link, f"EXPLAIN {sql}", False) for sql in (SQL, other))
        moved = link.channel.counters.sent + link.channel.counters.received
        ask(link, other, False)
        moved = link.channel.counters.sent + link.channel.counters.received - moved
        after = ask(link, f"EXPLAIN {other}", False)
    assert guard_of(first["rows"]) == guard_of(again["rows"]) == guard_of(after["rows"]) == []
    assert not [line for line in first["explain"] if "so far" in line]
    assert guard_of(found["rows"]) == ["query"]
    assert "answered over it so far: 1" in found["explain"][-1] and "40 rows" in found["explain"][-1]
    assert found["rows"][0]["step"] == STEP and found["rows"][0]["who"] == "both" and found["rows"][0]["rounds"] > 5
    told = found["predicted"]["analyse"]["bytes"]
    once = sum(row["bytes"] for row in found["rows"] if row["step"].startswith("keys"))
    assert told - once - 25_000 < moved < 1.1 * told + 12_000, (
        told,
        moved,
    )  # base transfers were there, frames of a run
    assert found["rows"][0]["seconds"] > 0 and STEP in query_text(found)


def test_statements_of_a_job_are_the_history_of_later_ones(pair: TwoHomes) -> None:
    path = pair.homes["bank"] / "job.yaml"
    items = [SQL, SQL, SQL.replace("b.age * t.late", "b.age"), SQL.replace("SUM(b.age * t.late)", "COUNT(t.late > 3)")]
    listed = "".join(f"  - {{name: item{place}, sql: '{sql}'}}\n" for place, sql in enumerate(items))
    align = "{bank: customers, telco: subscribers, learns: both}"
    path.write_text(f"version: 1\nname: j\npeer: telco\nalign: {align}\nanalyse:\n{listed}")
    with pair.linked():
        pass  # now each knows the other's catalogue
    found = verbs_plan.plan(pair.homes["bank"], path, offline=True)
    assert guard_of(found["steps"]) == ["item3"]
    assert sum(step["bytes"] for step in found["steps"]) == found["predicted"]["analyse"]["bytes"]
    assert "compare with what was answered before" in verbs_plan.plan_text(found)
