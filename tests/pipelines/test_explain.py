"""EXPLAIN SELECT: the steps as rows over a connection, and nothing runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from party.errors import UsageError
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
        grants = f"  {TABLES[side]}.{key}: [join]\n  {TABLES[side]}.{column}: [aggregate]\n"
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
