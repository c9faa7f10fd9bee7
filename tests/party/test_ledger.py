"""The ledger: a chain that any change breaks, many writers, nothing lost."""

from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from party.errors import InternalError
from party.guard import Guard
from party.ledger import Ledger
from party.request import Opening


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def filled(path: Path, count: int = 5) -> Ledger:
    ledger = Ledger.open(path)
    for number in range(count):
        ledger.append("disclosure", run=f"run-{number % 2}", what="sum", to="bank", rows=number)
    return ledger


def test_events_come_back_in_order_and_by_run(path: Path) -> None:
    ledger = filled(path)
    ledger.append("note", text="é")
    events = ledger.events()
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5, 6]
    assert events[0].event == "disclosure" and events[3].fields == {
        "run": "run-1",
        "what": "sum",
        "to": "bank",
        "rows": 3,
    }
    assert [event.sequence for event in ledger.events("run-0")] == [1, 3, 5] and ledger.events("run-9") == []
    assert all(after.previous == before.hash for before, after in itertools.pairwise(events))
    assert events[0].time.endswith("+00:00") and ledger.verify() == 6
    ledger.close()
    assert Ledger.open(path).verify() == 6


def test_an_empty_ledger_verifies(path: Path) -> None:
    assert Ledger.open(path).verify() == 0


def test_it_is_closed_to_others_and_syncs_fully(path: Path) -> None:
    ledger = filled(path, 1)
    assert {entry.name for entry in path.parent.iterdir()} >= {"ledger.db", "ledger.head"}
    assert all(entry.stat().st_mode & 0o077 == 0 for entry in path.parent.iterdir())
    assert ledger._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (2,)


@pytest.mark.parametrize("statement", ["UPDATE events SET event = 'x'", "DELETE FROM events WHERE sequence = 2"])
def test_the_database_itself_refuses_changes(path: Path, statement: str) -> None:
    filled(path).close()
    with sqlite3.connect(path) as other, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        other.execute(statement)


@pytest.mark.parametrize(
    ("tampering", "reason"),
    [
        ("UPDATE events SET event = 'agreement' WHERE sequence = 3", "event 3 was changed"),
        ("UPDATE events SET time = '2026-01-01T00:00:00.000+00:00' WHERE sequence = 1", "event 1 was changed"),
        ("UPDATE events SET fields = replace(fields, 'bank', 'shop') WHERE sequence = 5", "event 5 was changed"),
        ("UPDATE events SET hash = zeroblob(32) WHERE sequence = 2", "event 2 was changed"),
        ("UPDATE events SET previous = zeroblob(32) WHERE sequence = 2", "event 2 does not follow"),
        ("DELETE FROM events WHERE sequence = 1", "event 1 is missing"),
        ("DELETE FROM events WHERE sequence = 3", "event 3 is missing"),
        ("DELETE FROM events WHERE sequence = 5", "ends at event 4, but 5 were written"),
        ("DELETE FROM events", "ends at event 0, but 5 were written"),
        ("DELETE FROM events WHERE sequence = 3; UPDATE events SET sequence = sequence - 1 WHERE sequence > 3",
         "event 3 does not follow"),
        ("UPDATE events SET sequence = 9 WHERE sequence = 2; UPDATE events SET sequence = 2 WHERE sequence = 3;"
         "UPDATE events SET sequence = 3 WHERE sequence = 9", "event 2 does not follow"),
        ("INSERT INTO events SELECT 6, time, event, fields, previous, hash FROM events WHERE sequence = 5",
         "event 6 does not follow"),
    ],
)  # fmt: skip
def test_verify_finds_every_change(path: Path, tampering: str, reason: str) -> None:
    filled(path).close()
    with sqlite3.connect(path) as other:
        other.executescript("DROP TRIGGER no_update; DROP TRIGGER no_delete;" + tampering)
    with pytest.raises(InternalError, match=reason):
        Ledger.open(path).verify()


def test_the_remembered_head_finds_an_end_that_was_cut_and_written_anew(path: Path) -> None:
    ledger = filled(path)
    head = (path.parent / "ledger.head").read_bytes()
    ledger.close()
    with sqlite3.connect(path) as other:
        other.executescript("DROP TRIGGER no_delete; DELETE FROM events WHERE sequence > 3;")
    again = Ledger.open(path)
    again.append("disclosure", rows=1)
    again.append("disclosure", rows=2)
    assert again.verify() == 5  # as the page says: the head was rewritten too
    (path.parent / "ledger.head").write_bytes(head)  # the copy that was kept elsewhere
    with pytest.raises(InternalError, match="event 5 is not the one that was written"):
        again.verify()
    (path.parent / "ledger.head").write_bytes(b"garbage")
    with pytest.raises(InternalError, match=r"ledger\.head cannot be read"):
        again.verify()


def bad_event(ledger: Ledger) -> None:
    ledger.append("Not A Word", run="x")


def bad_field(ledger: Ledger) -> None:
    ledger.append("note", value=1.5)  # type: ignore[arg-type]


def huge(ledger: Ledger) -> None:
    ledger.append("note", text="x" * 70_000)


def closed(ledger: Ledger) -> None:
    ledger.close()
    ledger.append("note")


@pytest.mark.parametrize("attempt", [bad_event, bad_field, huge, closed])
def test_what_cannot_be_written_is_an_error_and_leaves_no_trace(path: Path, attempt: Callable[[Ledger], None]) -> None:
    ledger = filled(path, 1)
    with pytest.raises(InternalError):
        attempt(ledger)
    assert Ledger.open(path).verify() == 1


def test_a_file_that_is_no_ledger_is_refused(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(InternalError, match="cannot be opened"):
        Ledger.open(path)
    with pytest.raises(InternalError, match="cannot be opened"):
        Ledger.open(path.parent / "nowhere" / "ledger.db")


WRITER = """
import sys
from party.ledger import Ledger
ledger = Ledger.open(sys.argv[1])
for number in range(int(sys.argv[3])):
    ledger.append("note", run=sys.argv[2], number=number)
"""


def test_processes_append_at_once_without_loss(path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    environment = dict(os.environ, PYTHONPATH=str(root))
    words = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*words, f"run-{i}", "15"], env=environment) for i in range(4)]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0, 0]
    ledger = Ledger.open(path)
    assert ledger.verify() == 60
    for i in range(4):
        assert [event.fields["number"] for event in ledger.events(f"run-{i}")] == list(range(15))


def test_threads_share_one_ledger(path: Path) -> None:
    ledger = Ledger.open(path)
    threads = [threading.Thread(target=lambda: [ledger.append("note", n=n) for n in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.verify() == 40


def test_it_is_what_the_guard_writes_to(path: Path) -> None:
    ledger = Ledger.open(path)
    Guard("run-1", "telco", [Opening("query.x", "telco")], ledger).disclose("query.x", "telco", 3)
    (event,) = ledger.events("run-1")
    assert (event.event, event.fields["what"], event.fields["rows"]) == ("disclosure", "query.x", 3)
