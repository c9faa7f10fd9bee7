"""Budgets: counted from the ledger over processes and restarts, taken once, refused when used up, fresh each day."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from party import ledger as ledgers
from party.budget import DebitedLedger, take_queries, take_refused
from party.errors import PolicyRefused
from party.guard import Guard
from party.ledger import Ledger, Spending
from party.policy import Budget
from party.request import Opening

QUERIES = Spending("debit", "queries", "peer", "bank")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def guard(ledger: Ledger, budget: Budget, run: str = "r1") -> Guard:
    openings = [Opening(what, to) for what in ("query.q.n", "alignment.rows") for to in ("bank", "telco")]
    return Guard(run, "bank", openings, DebitedLedger(ledger, "bank", budget))


def test_queries_are_taken_until_none_is_left_and_the_refusal_is_taken_too(path: Path) -> None:
    ledger = Ledger.open(path)
    assert [take_queries(ledger, f"r{n}", "bank", Budget(queries=3), 1) for n in range(3)] == [(), (), ()]
    (reason,) = take_queries(ledger, "r3", "bank", Budget(queries=3), 1)
    assert "3 queries a day for bank" in reason and "00:00 UTC" in reason
    assert ledger.spent(QUERIES) == 4
    assert take_queries(ledger, "r4", "telco", Budget(queries=3), 3) == ()


def test_a_restart_forgets_nothing(path: Path) -> None:
    for n in range(3):
        ledger = Ledger.open(path)
        assert bool(take_queries(ledger, f"r{n}", "bank", Budget(queries=2), 1)) is (n == 2)
        ledger.close()


def test_a_job_takes_all_its_queries_or_none(path: Path) -> None:
    ledger = Ledger.open(path)
    assert take_queries(ledger, "r1", "bank", Budget(queries=5), 6)
    assert ledger.spent(QUERIES) == 1  # the refusal
    assert take_queries(ledger, "r2", "bank", Budget(queries=5), 4) == ()
    assert ledger.spent(QUERIES) == 5


def test_a_resumed_run_has_paid(path: Path) -> None:
    ledger = Ledger.open(path)
    assert take_queries(ledger, "r1", "bank", Budget(queries=1), 1) == ()
    assert take_queries(ledger, "r1", "bank", Budget(queries=1), 1) == ()
    assert ledger.spent(QUERIES) == 1


def test_refusals_take_a_query_whatever_is_left(path: Path) -> None:
    ledger = Ledger.open(path)
    for n in range(3):
        take_refused(ledger, f"r{n}", "bank")
    assert take_queries(ledger, "r9", "bank", Budget(queries=3), 1)
    assert ledger.spent(QUERIES) == 4


def test_the_day_is_one_of_utc_and_the_next_one_is_fresh(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger.open(path)
    for now, left in (
        ("2026-03-01T23:59:59.999+00:00", True),
        ("2026-03-01T23:59:59.999+00:00", False),
        ("2026-03-02T00:00:00.000+00:00", True),
        ("2026-03-02T12:00:00.000+00:00", False),
    ):
        monkeypatch.setattr(ledgers, "_now", lambda now=now: now)
        assert ledger.spend(QUERIES, 1, "debit", run=now, peer="bank", queries=1) is left


def test_rows_count_before_they_leave_and_the_alignment_does_not(path: Path) -> None:
    ledger = Ledger.open(path)
    ours = guard(ledger, Budget(rows=10))
    ours.disclose("alignment.rows", "bank", 1000)
    ours.disclose("query.q.n", "bank", 7)
    with pytest.raises(PolicyRefused, match="10 rows a day for bank") as met:
        ours.disclose("query.q.n", "bank", 4)
    assert "raise `budget`" in (met.value.hint or "")
    ours.disclose("query.q.n", "bank", 3)
    told = [(event.event, event.fields.get("rows")) for event in ledger.events()]
    assert told == [("disclosure", 1000), ("disclosure", 7), ("refused", None), ("disclosure", 3)]
    ledger.verify()


def test_another_process_s_entries_count(path: Path) -> None:
    first, second = Ledger.open(path), Ledger.open(path)
    assert first.spend(QUERIES, 2, "debit", run="a", peer="bank", queries=1)
    assert second.spend(QUERIES, 2, "debit", run="b", peer="bank", queries=1)
    assert not first.spend(QUERIES, 2, "debit", run="c", peer="bank", queries=1)
    assert first.spent(QUERIES) == second.spent(QUERIES) == 2


TAKER = """
import sys
from party.budget import take_queries
from party.ledger import Ledger
from party.policy import Budget
ledger = Ledger.open(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(sum(take_queries(ledger, f"{sys.argv[2]}-{n}", "bank", Budget(queries=25), 1) == () for n in range(20)))
"""


def test_processes_at_once_take_no_more_than_there_is(path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    environment = dict(os.environ, PYTHONPATH=str(root))
    words = [sys.executable, "-c", TAKER, str(path)]
    takers = [
        subprocess.Popen([*words, str(n)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in range(3)
    ]
    for taker in takers:
        assert taker.stdout is not None and taker.stdout.readline() == "ready\n"
    for taker in takers:
        assert taker.stdin is not None
        taker.stdin.write("go\n")
        taker.stdin.flush()
    taken = [int(taker.communicate(timeout=120)[0]) for taker in takers]
    assert sum(taken) <= 25  # refusals are debited as well, so it may be fewer
    ledger = Ledger.open(path)
    assert ledger.verify() == 60 and ledger.spent(QUERIES) == 60
    assert sum(taken) >= 13


def test_a_ledger_of_the_version_before_is_taken_over(path: Path) -> None:
    ledger = Ledger.open(path)
    ledger.append("debit", run="r", peer="bank", queries=5)
    ledger._connection.executescript("DROP INDEX events_by_time; PRAGMA user_version = 1;")
    ledger.close()
    again = Ledger.open(path)
    assert again.spent(QUERIES) == 5 and again.verify() == 1
    assert again._connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_scores_of_a_day_are_counted_by_themselves_and_with_the_rows(path: Path) -> None:
    score, test = (
        "score: logits to 1/512, the score to 3 decimals",
        "train: logits of test rows to 1/512, for the metrics",
    )
    ledger = Ledger.open(path)
    openings = [Opening(what, "bank") for what in (score, test, "query.q.n")]

    def guarded(budget: Budget, most: int | None) -> Guard:
        return Guard("r1", "bank", openings, DebitedLedger(ledger, "bank", budget, most))

    guarded(Budget(), 10).disclose("query.q.n", "bank", 1000)  # not a score
    guarded(Budget(), 10).disclose(test, "bank", 4)
    guarded(Budget(), 10).disclose(score, "bank", 6)
    with pytest.raises(PolicyRefused, match="left of the 10 scores a day for bank") as met:
        guarded(Budget(), 10).disclose(score, "bank", 1)
    assert "`scores.per_day`" in (met.value.hint or "")
    with pytest.raises(PolicyRefused, match="left of the 1010 rows a day"):
        guarded(Budget(rows=1010), 100).disclose(score, "bank", 1)  # no more rows, whatever is left of the scores
    guarded(Budget(), None).disclose(score, "bank", 1000)
    assert [event.event for event in ledger.events()].count("disclosure") == 4  # what was refused was not written
