"""Columns uploaded once a session: later statements send them no more, and hold only what means the same."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from mpc.linear import Uploaded
from mpc.sql import plan
from mpc.uploads import Changed, Uploads
from party.errors import PeerError, TallyError
from party.guard import Guard
from tests.mpc.sqlkit import JOIN, Pair, agree, context, oracle, tables
from tests.support import Ledger, channels

DOT = f"SELECT SUM(b.age * t.late) AS s {JOIN}"


def uploads(pair: Pair) -> int:
    """Columns that both have sent so far."""
    calls = [call for engine in pair.engines for call in engine.linear.calls]  # type: ignore[attr-defined]
    return sum(shape[0] for _, shape in calls)


def ask(pair: Pair, select: str, alignment: bytes | None, rows: int = 300) -> int:
    """Run it, compare with DuckDB, and count the columns that were sent."""
    bank, telco = tables(rows)
    before = uploads(pair)
    answer, _ = pair.run(plan(select, context(rows)), bank, telco, alignment)
    assert answer is not None
    agree(answer, oracle(select, bank, telco))
    return uploads(pair) - before


def test_the_same_columns_are_sent_once_a_session() -> None:
    pair = Pair.ideal()
    first = ask(pair, DOT, b"one")
    assert first > 0
    assert ask(pair, DOT, b"one") == 0
    assert ask(pair, DOT, b"another") == first  # rows of another alignment are other rows
    assert ask(pair, DOT, b"one") == 0
    assert ask(pair, DOT, None) == first  # outside an alignment nothing is kept


def test_another_multiplier_uses_them_again() -> None:
    pair = Pair.ideal()
    select = f"SELECT SUM(t.late) AS s, COUNT(*) AS n {JOIN} WHERE b.age > {{}} AND t.late > 3"
    (call, *_) = plan(select.format(30), context(300)).calls
    ask(pair, select.format(30), b"one")
    again = ask(pair, select.format(60), b"one")
    owner_is_bank = call.owner == 0
    assert again == (1 if owner_is_bank else 0)  # the bank's condition is new, the telco's columns are not
    assert ask(pair, select.format(30).replace("late > 3", "late > 4"), b"one") == (0 if owner_is_bank else again)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (f"SELECT SUM(b.age * t.late) AS s {JOIN}", f"SELECT SUM(b.income * t.minutes) AS s {JOIN}"),
        (f"SELECT COUNT(*) AS n {JOIN} WHERE b.age > 50 AND t.late > 5", f"SELECT COUNT(*) AS n {JOIN} WHERE b.age > 51 AND t.late > 6"),  # noqa: E501
        (f"SELECT t.plan, b.region, COUNT(*) AS n {JOIN} GROUP BY 1, 2", f"SELECT t.prepaid, b.defaulted, COUNT(*) AS n {JOIN} GROUP BY 1, 2"),  # noqa: E501
    ],
)  # fmt: skip
def test_what_means_something_else_is_sent(first: str, second: str) -> None:
    pair, alone = Pair.ideal(), Pair.ideal()
    ask(pair, first, b"one")
    assert ask(pair, second, b"one") == ask(alone, second, b"one") > 0


def test_fewer_rows_are_other_columns() -> None:
    pair = Pair.ideal()
    assert ask(pair, DOT, b"one") == ask(pair, DOT, b"one", rows=299) > 0


def test_groups_and_features_are_kept_one_by_one() -> None:
    pair = Pair.ideal()
    select = f"SELECT b.region, t.plan, SUM(b.age) AS s {JOIN} GROUP BY b.region, t.plan"
    whole = ask(pair, select, b"one")
    more = ask(pair, select.replace("SUM(b.age) AS s", "SUM(b.age) AS s, SUM(t.late) AS l"), b"one")
    assert whole > more


def changed(table: pa.Table, column: str) -> pa.Table:
    """Another day's values of one column."""
    values = pa.array(table[column].to_pylist()[::-1], table[column].type)
    return table.set_column(table.schema.get_field_index(column), column, values)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("select", [DOT, f"SELECT b.region, SUM(t.minutes * b.age) AS s {JOIN} GROUP BY b.region"])
def test_a_table_that_changed_is_sent_again(side: int, select: str) -> None:
    """The alignment holds while the keys do; the other columns may be others at the next statement."""
    pair, now = Pair.ideal(), list(tables(300))
    made = plan(select, context(300))
    for column in (None, None, "age" if side == 0 else "minutes", "age", "late", None):
        if column is not None:
            place = 0 if column == "age" else 1
            now[place] = changed(now[place], column)
        answer, _ = pair.run(made, now[0], now[1], b"one")
        assert answer is not None
        agree(answer, oracle(select, now[0], now[1]))


def test_groups_that_changed_are_sent_again() -> None:
    pair, (bank, telco) = Pair.ideal(), tables(300)
    select = f"SELECT b.region, t.plan, SUM(b.age) AS s {JOIN} GROUP BY b.region, t.plan"
    turned = bank["region"].to_pylist()[::-1]
    other = bank.set_column(bank.schema.get_field_index("region"), "region", pa.array(turned))
    plans = telco["plan"].to_pylist()[::-1]
    theirs = telco.set_column(telco.schema.get_field_index("plan"), "plan", pa.array(plans))
    for ours, their in ((bank, telco), (other, telco), (other, theirs), (bank, theirs)):
        answer, _ = pair.run(plan(select, context(300)), ours, their, b"one")
        assert answer is not None
        agree(answer, oracle(select, ours, their))


@pytest.mark.parametrize("bits", [[], [0, 0], [2], [255]])
def test_a_peer_that_tells_of_other_columns_is_refused(bits: list[int]) -> None:
    ours, theirs = channels()
    held = Uploads()
    held.get([b"a"], 1, lambda places: [Uploaded(1, 1)])
    theirs.send(Changed(np.array(bits, dtype=np.uint8)))
    with pytest.raises(PeerError, match="other columns than we hold"):
        held.refresh(ours, Guard("r", ours.peer, (), Ledger()), "query.q.changed", {}, [b"a", b"b"])


def test_a_failure_forgets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair.ideal()
    ask(pair, DOT, b"one")
    assert all(engine.uploads._held for engine in pair.engines)

    def failing(*_: object) -> None:
        raise TallyError("cut")

    for engine in pair.engines:
        monkeypatch.setattr(engine.linear, "inner_owner", failing)
        monkeypatch.setattr(engine.linear, "inner_multiplier", failing)
    with pytest.raises(TallyError, match="cut"):
        pair.run(plan(DOT, context(300)), *tables(300), b"one")
    assert not any(engine.uploads._held for engine in pair.engines)


def test_the_least_recently_used_go_first_and_a_set_that_is_too_large_is_not_kept() -> None:
    held, made = Uploads(most=10), []

    def get(*names: bytes, blocks: int = 4) -> int:
        def make(places: list[int]) -> list[Uploaded]:
            made.extend(names[place] for place in places)
            return [Uploaded(1, 1) for _ in places]

        before = len(made)
        assert len(held.get(names, blocks, make)) == len(names)
        return len(made) - before

    assert (get(b"a"), get(b"b"), get(b"a"), get(b"c")) == (1, 1, 0, 1)  # b went
    assert (get(b"a"), get(b"b"), get(b"b", b"b")) == (0, 1, 0)
    assert get(b"x", b"y", b"z") == 3
    assert get(b"w", blocks=11) == 1
    assert get(b"w", blocks=11) == 1
    held.clear()
    assert get(b"z") == 1


def test_on_the_lattice_engine_only_the_answer_travels_again() -> None:
    pair = Pair.real()
    bank, telco = tables(9000, seed=4)
    sent = []
    for select in (DOT, DOT, f"SELECT SUM(b.age * t.late) AS s, AVG(b.age * t.minutes) AS a {JOIN}"):
        before = sum(channel.counters.sent for channel in pair.channels)
        answer, _ = pair.run(plan(select, context(9000)), bank, telco, b"one")
        assert answer is not None
        agree(answer, oracle(select, bank, telco))
        sent.append(sum(channel.counters.sent for channel in pair.channels) - before)
    assert sent[1] < 2.5 * 81_930 < sent[0]
