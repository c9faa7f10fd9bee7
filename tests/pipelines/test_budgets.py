"""Budgets of a day in real runs: debited on both sides before anything leaves, refused on both sides, told to both."""

from __future__ import annotations

from pathlib import Path

import pytest

from party.errors import PeerRefused, PolicyRefused
from tests.pipelines.two_homes import TABLES, TwoHomes

KEYS = {"bank": "phone", "telco": "msisdn"}
COUNT = "SELECT COUNT(*) AS n FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.msisdn"
JOB = f"""\
version: 1
name: three
peer: telco
align: {{bank: customers, telco: subscribers, learns: both}}
analyse:
  - {{name: one, sql: "{COUNT}"}}
  - {{name: two, sql: "{COUNT}", to: [telco]}}
  - {{name: three, sql: "{COUNT}", to: [bank, telco]}}
"""


def declare(pair: TwoHomes, side: str, budget: str = "", grant: str = "join") -> None:
    key = KEYS[side]
    policy = f"alignment: rows\nmin_size: 1\nmin_rows: 1\napprove: auto\n{budget}\ncolumns:\n"
    pair.declare(side, f"key: [{key}]\n", f"{policy}  {TABLES[side]}.{key}: [{grant}]\n")


@pytest.fixture
def pair(tmp_path: Path) -> TwoHomes:
    made = TwoHomes(tmp_path)
    for side, key in KEYS.items():
        declare(made, side)
        made.fill(side, {key: [f"p{n}" for n in range(40)]})
    return made


def queries(pair: TwoHomes, side: str) -> list[int]:
    return [event["queries"] for event in pair.events(side, "debit")]


def test_the_peer_s_budget_ends_the_next_query_on_both_sides(pair: TwoHomes) -> None:
    declare(pair, "telco", "budget: {queries: 2}")
    assert [answer["rows"] for answer in pair.ask(COUNT, COUNT)] == [[{"n": 40}]] * 2
    with pytest.raises(PeerRefused, match=r"telco does not allow it: .*2 queries a day for bank .* 00:00 UTC") as met:
        pair.ask(COUNT)  # another connection, another process in earnest
    assert met.value.exit_code == 4
    (at_telco,) = pair.met
    assert isinstance(at_telco, PolicyRefused) and at_telco.exit_code == 3
    assert "`budget`" in (at_telco.hint or "")
    assert queries(pair, "telco") == [1, 1, 1]  # the refusal, too
    assert queries(pair, "bank") == []  # the telco was answered nothing
    refused = pair.events("telco", "refused")[-1]
    assert refused["by"] == "telco" and "queries a day" in refused["reasons"]


def test_our_own_budget_for_the_peer_ends_our_job(pair: TwoHomes) -> None:
    declare(pair, "bank", "budget: {queries: 1}")
    with pytest.raises(PolicyRefused, match="1 queries a day for telco"):
        pair.run(JOB)
    declare(pair, "bank", "budget: {queries: 3}")  # the refusal took one
    pair.met.clear()
    pair.run(JOB, new=True)
    assert queries(pair, "bank") == [1, 2] and sum(queries(pair, "telco")) == 4


def test_a_debit_stands_in_the_ledger_before_the_first_disclosure(pair: TwoHomes) -> None:
    pair.ask(COUNT)
    kinds = []
    from party.ledger import Ledger

    ledger = Ledger.open(pair.homes["telco"] / "state" / "ledger.db")
    try:
        kinds = [event.event for event in ledger.events()]
    finally:
        ledger.close()
    assert kinds.index("debit") < kinds.index("agreement") < kinds.index("disclosure")


def test_rows_of_a_day_end_the_run_that_would_show_more(pair: TwoHomes) -> None:
    declare(pair, "telco", "budget: {rows: 1}")
    pair.ask(COUNT)  # one number: the 40 rows of the alignment do not count
    with pytest.raises(PeerRefused, match="1 rows a day for bank"):
        pair.ask(COUNT)
    assert isinstance(pair.met[0], PolicyRefused)
    assert [event["what"] for event in pair.events("telco", "disclosure")].count("query.query.n.count") == 1
    assert pair.events("telco", "refused")[-1]["by"] == "budget"


def test_a_job_that_policy_refuses_takes_a_query_of_who_asked(pair: TwoHomes) -> None:
    declare(pair, "telco", "budget: {queries: 2}", grant="join")
    asked = COUNT + " WHERE t.msisdn = 'p1'"
    for _ in range(2):
        with pytest.raises(PeerRefused, match="needs `filter`"):
            pair.ask(asked)
    with pytest.raises(PeerRefused, match="queries a day"):
        pair.ask(COUNT)
    assert queries(pair, "telco") == [1, 1, 1] and queries(pair, "bank") == []
