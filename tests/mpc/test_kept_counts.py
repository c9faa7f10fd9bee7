"""Shares of counts that are used again: only under the same alignment, of unchanged columns, the same at both sides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from connectors import evaluate
from mpc import kept_counts
from mpc.kept_counts import KeptCounts
from mpc.sql import TABLE, Plan, differ_by_few, plan, probes
from mpc.uploads import Changed
from party.errors import PeerError, PolicyRefused
from party.guard import Guard
from tests.mpc.near_twin import Asked, Truth
from tests.mpc.sqlkit import Pair, context, tables
from tests.support import Ledger, channels, open_guard, run_pair

ROWS, LEAST = 120, 20
Tables = tuple[pa.Table, pa.Table]


class Guarded:
    """A session under an alignment; what is asked is compared with all that was answered."""

    def __init__(self, sides: Tables, alignment: bytes = b"one") -> None:
        self.pair, self.sides, self.alignment = Pair.ideal(), sides, alignment
        self.answered: list[Plan] = []
        self.moved = 0

    def near(self, made: Plan) -> bool:
        found, what = probes(made, self.answered), f"query.{made.name}.history"
        if not found:
            return False
        halves = []
        self.ledgers = [Ledger(), Ledger()]
        for engine, table in zip(self.pair.engines, self.sides, strict=True):
            guard = Guard("r", engine.channel.peer, made.request.openings, self.ledgers[engine.index], LEAST)
            columns = [evaluate(table, probe.plan.local[engine.channel.us], TABLE) for probe in found]
            halves.append((replace(engine, guard=guard), what, found, columns, self.alignment))
        before = sum(channel.counters.sent for channel in self.pair.channels)
        ours, theirs = run_pair(
            lambda: differ_by_few(*halves[0]), lambda: differ_by_few(*halves[1]), *self.pair.channels
        )
        self.moved = sum(channel.counters.sent for channel in self.pair.channels) - before
        counts = [engine.counts for engine in self.pair.engines]
        assert ours == theirs and counts[0]._kept.keys() == counts[1]._kept.keys()
        return ours

    def ask(self, one: Asked) -> bool:
        made = plan(one.sql, context(ROWS, one.to, LEAST))
        said = self.near(made)
        self.answered += [] if said else [made]
        return said


def of_one_value(sides: Tables, change: int) -> Tables:
    """The tables with one owner's condition true, or false, in every row."""
    column, value = (("age", 60), ("late", 0))[change]
    table = sides[change]
    flat = table.set_column(table.column_names.index(column), column, pa.array([value] * ROWS, pa.int64()))
    return (flat, sides[1]) if change == 0 else (sides[0], flat)


@pytest.mark.parametrize("change", [0, 1])
@pytest.mark.parametrize("alignment", [b"one", b"two"])
def test_rows_that_have_changed_are_counted_again(change: int, alignment: bytes) -> None:
    """The first statement's set is empty when it is counted; later it differs from the third's by a few rows."""
    after = of_one_value(tables(ROWS), 0)
    bank = after[0].set_column(3, "age", pa.array([18] * ROWS, pa.int64()))
    session = Guarded(of_one_value(after, 1) if change == 1 else (bank, after[1]))
    first, second, third = (
        Asked((f"b.age > {age} AND t.late > {late}",)) for age, late in ((50, 3), (20, 11), (40, 2))
    )
    assert not session.ask(first) and not session.ask(second)
    assert not Truth(*session.sides).near(third, [first, second], LEAST)
    session.sides, session.alignment = after, alignment
    assert Truth(*session.sides).near(third, [first, second], LEAST)
    assert session.ask(third)


FIRST, SECOND, THIRD = (Asked((f"b.age > {age} AND t.late > {late}",)) for age, late in ((50, 3), (20, 8), (70, 5)))


def asked_third(session: Guarded, change: int | None = None, alignment: bytes | None = None) -> int:
    """What the third statement moves after the others; a side's table may change before it, or the alignment."""
    session.ask(FIRST)
    session.ask(SECOND)
    if change is not None:
        sides = list(session.sides)
        sides[change] = tables(ROWS, 99)[change]
        session.sides = sides[0], sides[1]
    session.alignment = alignment or session.alignment
    session.ask(THIRD)
    return session.moved


def test_counts_of_unchanged_columns_are_made_once() -> None:
    kept = asked_third(Guarded(tables(ROWS)))
    anew = [asked_third(Guarded(tables(ROWS)), change, name) for change, name in ((0, None), (1, None), (None, b"two"))]
    assert min(anew) > kept + 2 * 6 * ROWS - 200  # the counts of two sets, but for frames
    session = Guarded(tables(ROWS))
    asked_third(session)
    told = [fields["what"] for ledger in session.ledgers for _, fields in ledger.events]
    assert told.count("query.q.history.changed") == 2  # each side tells of its own columns, and has written it down


def test_what_was_made_before_a_failure_is_forgotten() -> None:
    session = Guarded(tables(ROWS))
    session.ask(FIRST)
    session.ask(SECOND)
    engine = session.pair.engines[0]
    assert len(engine.counts)
    found = probes(plan(THIRD.sql, context(ROWS, min_rows=LEAST)), session.answered)
    with pytest.raises(Exception, match="column"):
        differ_by_few(engine, "query.q.history", found, [{}] * len(found), b"one")
    assert not len(engine.counts) and not len(engine.uploads)


def words(count: int) -> np.ndarray:
    return np.zeros(count, dtype=np.uint64)


def test_the_oldest_are_forgotten_first() -> None:
    kept = KeptCounts(most=10)
    for name in "abc":
        kept.put((name, "x"), words(4), b"")
    assert kept.get(("a", "x")) is None and kept.get(("b", "x")) is not None
    kept.put(("d", "x"), words(4), b"")
    assert kept.usable([("a", "x"), ("b", "x"), ("c", "x"), ("d", "x")]) == [("b", "x"), ("d", "x")]
    kept.put(("b", "x"), words(10), b"")
    assert len(kept) == 1
    kept.clear()
    assert not len(kept) and kept.usable([("b", "x")]) == []


def test_no_more_columns_are_used_than_a_message_tells_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_counts, "COLUMNS", 3)
    kept = KeptCounts()
    names: list[Any] = [(f"a{n}", f"b{n % 2}") for n in range(5)]
    for name in names:
        kept.put(name, words(1), b"")
    assert kept.usable([*names, ("a0", "b1")]) == names[:3]


@pytest.mark.parametrize("bits", [[0], [0, 0, 0], [0, 2]])
def test_a_peer_that_tells_of_other_columns_is_stopped(bits: list[int]) -> None:
    kept, (ours, theirs) = KeptCounts(), channels()
    names: list[Any] = [("a", "x"), ("a", "y")]
    for name in names:
        kept.put(name, words(1), b"content")
    theirs.send(Changed(np.array(bits, dtype=np.uint8)))
    what, content = "query.q.changed", (0, lambda _: b"content")
    with pytest.raises(PolicyRefused):
        kept.refresh(ours, open_guard([], ours.peer)[0], what, names, content)
    with pytest.raises(PeerError, match="other columns"):
        kept.refresh(ours, open_guard([(what, ours.peer)], ours.peer)[0], what, names, content)
