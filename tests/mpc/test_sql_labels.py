"""Labels of groups: what goes over, and what a peer that sends odd ones meets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from connectors import evaluate
from mpc.sql import TABLE, execute, plan
from mpc.sql.labels import GroupCount, GroupLabels
from party.channel import Channel
from party.errors import DataError, PeerError
from party.guard import Guard
from party.message import Message
from tests.mpc.sqlkit import JOIN, Pair, context, oracle, tables
from tests.support import Ledger, run_pair

SQL = f"SELECT t.plan, t.late // 5 AS h, COUNT(*) AS n {JOIN} GROUP BY t.plan, t.late // 5"


def lie(monkeypatch: pytest.MonkeyPatch, kind: type[Message], **fields: Any) -> None:
    """The next message of this kind goes out with these fields changed."""
    send = Channel.send

    def changed(channel: Channel, message: Message) -> None:
        if isinstance(message, kind):
            message = replace(message, **{name: change(getattr(message, name)) for name, change in fields.items()})  # type: ignore[type-var]  # every message is a dataclass
        send(channel, message)

    monkeypatch.setattr(Channel, "send", changed)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (GroupCount, {"count": lambda count: count + 1}),
        (GroupLabels, {"lengths": lambda lengths: lengths[:-1]}),
        (GroupLabels, {"text": lambda text: text[:-1]}),
        (GroupLabels, {"text": lambda text: text + b"x"}),
        (GroupLabels, {"text": lambda text: b"\xff" * len(text)}),
        (GroupLabels, {"text": lambda text: b"0" * len(text)}),
        (GroupLabels, {"lengths": lambda lengths: np.full_like(lengths, 2**31)}),
    ],
)
def test_odd_labels_are_a_peer_error(
    kind: type[Message], fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, telco = tables(80)
    lie(monkeypatch, kind, **fields)
    with pytest.raises(PeerError) as caught:
        Pair.ideal().query(SQL, bank, telco)
    assert caught.value.exit_code == 7


def test_labels_of_hidden_groups_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, telco = tables(400, seed=7)
    sent: list[GroupLabels] = []
    send = Channel.send

    def seen(channel: Channel, message: Message) -> None:
        if isinstance(message, GroupLabels):
            sent.append(message)
        send(channel, message)

    monkeypatch.setattr(Channel, "send", seen)
    sql = f"SELECT t.plan, COUNT(*) AS n {JOIN} GROUP BY t.plan"
    result = Pair.ideal().query(sql, bank, telco, min_rows=20)
    small = [row["plan"] for row in oracle(sql, bank, telco) if row["n"] < 20]
    assert "x" in small
    (labels,) = sent
    assert b"x" not in labels.text
    assert len(labels.lengths) == len(result.rows)


def test_an_owner_that_receives_nothing_learns_only_which_groups_are_shown() -> None:
    bank, telco = tables(200)
    made = plan(f"SELECT t.plan, SUM(b.balance) AS s {JOIN} GROUP BY t.plan", context(200, ("bank",), 20))
    pair = Pair.ideal()
    ledgers = [Ledger(), Ledger()]
    sides = []
    for engine, table, ledger in zip(pair.engines, (bank, telco), ledgers, strict=True):
        guard = Guard("r", engine.channel.peer, made.request.openings, ledger)
        sides.append((replace(engine, guard=guard), evaluate(table, made.local[engine.channel.us], TABLE)))
    _, theirs = run_pair(
        lambda: execute(made, sides[0][1], sides[0][0]),
        lambda: execute(made, sides[1][1], sides[1][0]),
        *pair.channels,
    )
    assert theirs is None
    told = [[fields["what"] for event, fields in ledger.events if event == "disclosure"] for ledger in ledgers]
    assert told[0] == ["query.q.shown"]  # what the bank let out to the telco
    assert told[1] == ["query.q.groups", "query.q.rows", "query.q.s.count", "query.q.s.sum", "query.q.labels"]


def test_too_many_groups_are_a_data_error() -> None:
    bank, telco = tables(5000)
    plans = pa.array([f"p{i}" for i in range(5000)], pa.string())
    telco = telco.set_column(telco.column_names.index("plan"), "plan", plans)
    with pytest.raises(DataError, match="4096"):
        Pair.ideal().query(SQL, bank, telco)
