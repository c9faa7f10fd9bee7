"""A peer that is pinned, shakes hands properly, and then sends what nobody should: told, written down, nothing kept."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from party import agreement
from party.canonical import canonical
from party.channel import memory_pair
from party.errors import NetworkError, PeerError, PeerRefused, PolicyRefused, TallyError
from party.home import Home
from party.ledger import Ledger
from pipelines import link, verbs_run, worker
from pipelines.link import Command, Link, Reply
from pipelines.results import printable, table_text
from pipelines.runs import new_run_id
from tests.e2e.homes import Pair, wait_until
from tests.e2e.test_schedule import small_pair

JOB = {
    "version": 1,
    "name": "j",
    "initiator": "bank",
    "align": {"tables": [["bank", "customers"], ["telco", "subscribers"]], "learns": "both", "duplicates": None},
    "analyse": [],
    "train": {},
    "score": None,
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return small_pair(tmp_path_factory.mktemp("link"))


def events(home: Path) -> list[tuple[str, dict[str, Any]]]:
    ledger = Ledger.open(home / "state" / "ledger.db")
    try:
        ledger.verify()
        return [(event.event, dict(event.fields)) for event in ledger.events()]
    finally:
        ledger.close()


def attacked(pair: Pair, attack: Callable[[Link], None]) -> TallyError:
    """The telco's worker in this process, the bank's end in our hands; returns the error the worker ended with."""
    met: list[TallyError] = []
    with socket.create_server(("127.0.0.1", pair.port)) as listener:

        def work() -> None:
            sock, _ = listener.accept()
            try:
                worker.serve_connection(Home.open(pair.telco), sock)
            except TallyError as error:
                met.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            with link.dial(Home.open(pair.bank), "telco") as connection:
                attack(connection)
        except TallyError:
            pass
        thread.join(30)
    assert not thread.is_alive()
    assert met, "the worker saw nothing wrong"
    return met[0]


def runs(pair: Pair) -> list[str]:
    folder = pair.telco / "state" / "runs"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.mark.parametrize(
    "job",
    [canonical(JOB), canonical([1]), canonical(JOB | {"train": {"l2": 10**400}}), b'{"a": 1}', b"[" * 100_000],
    ids=["no form", "a list", "a huge number", "not canonical", "deep"],
)
def test_a_job_that_is_none_is_written_down_and_leaves_no_run(pair: Pair, job: bytes) -> None:
    before = runs(pair)

    def attack(connection: Link) -> None:
        connection.channel.send(Command("run"))
        with connection.channel.stage("agree"):
            connection.channel.send(agreement.Proposal(new_run_id(), job, b""))
            connection.channel.recv(agreement.Verdict)

    assert isinstance(attacked(pair, attack), PeerError)
    assert runs(pair) == before
    event, fields = events(pair.telco)[-1]
    assert (event, fields["code"], fields["peer"]) == ("abort", "integrity", "bank")


def test_an_unknown_command_is_written_down(pair: Pair) -> None:
    def attack(connection: Link) -> None:
        connection.channel.send(Command("dance"))
        connection.channel.recv(Reply)

    assert isinstance(attacked(pair, attack), PeerError)
    assert events(pair.telco)[-1][1]["code"] == "integrity"
    # our side was told, and its ledger says so too
    assert events(pair.bank)[-1][0] == "abort"


def test_a_peer_that_goes_away_between_runs_is_written_down(pair: Pair) -> None:
    def attack(connection: Link) -> None:
        connection.channel._transport.shutdown()

    assert isinstance(attacked(pair, attack), NetworkError)
    assert events(pair.telco)[-1][1]["code"] == "peer_vanished"


FACTS = {"version": "1.0", "clock": 1.0, "kernels": "k"}


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 60_000,
        b"[]",
        b"nonsense",
        b'{"version": "1"}',
        json.dumps(FACTS | {"clock": "now"}).encode(),
        json.dumps(FACTS | {"clock": True}).encode(),
        json.dumps(FACTS | {"clock": None}).encode(),
        b'{"version": "1", "clock": NaN, "kernels": "k"}',
        b'{"version": "1", "clock": 1e999, "kernels": "k"}',
        json.dumps(FACTS | {"version": ["1"]}).encode(),
        json.dumps(FACTS | {"kernels": "k" * 5000}).encode(),
    ],
)
def test_facts_that_are_none_are_the_peers_fault(body: bytes) -> None:
    ours, theirs = memory_pair()
    theirs.send(Reply(body))
    with pytest.raises(PeerError):
        Link(None, ours, None, None, None, None, 0.0).facts()  # type: ignore[arg-type]
    for channel in (ours, theirs):
        channel._transport.shutdown()


def test_a_peers_words_do_not_command_our_terminal() -> None:
    ours, theirs = memory_pair()
    theirs.send(Reply(json.dumps(FACTS | {"kernels": "\x1b]0;owned\x07"}).encode()))
    facts = Link(None, ours, None, None, None, None, 0.0).facts()  # type: ignore[arg-type]
    assert facts["kernels"].isprintable()
    for channel in (ours, theirs):
        channel._transport.shutdown()
    shown = table_text(["plan"], [{"plan": "\x1b[2Jgone\r\nn  5"}, {"plan": "Łódź"}])
    assert "\x1b" not in shown and "\r" not in shown and "Łódź" in shown and len(shown.splitlines()) == 3
    assert printable("a\u202eb\x9b") == "a\ufffdb\ufffd"


def test_a_grant_taken_back_ends_an_open_session(pair: Pair) -> None:
    """The telco closes a column between two queries of one connection: the second is refused, and written down."""
    policy = pair.telco / "policy.yaml"
    before = policy.read_text()
    bank = Home.open(pair.bank)
    statement = "SELECT SUM(t.w) AS w FROM bank.customers b JOIN telco.subscribers t ON b.id = t.id"
    with pair.served():
        try:
            with link.dial(bank, "telco") as connection:
                assert verbs_run.ask(connection, statement, False)["rows"]
                policy.touch()  # the same content: nothing happens
                assert verbs_run.ask(connection, statement, False)["rows"]
                policy.write_text(before.replace("subscribers.w: [aggregate]", "subscribers.w: [filter]"))
                with pytest.raises(PeerRefused, match="has changed since this connection began"):
                    verbs_run.ask(connection, statement, False)
        finally:
            policy.write_text(before)
        wait_until(lambda: events(pair.telco)[-1][0] == "abort", 10, "the telco's ledger says so")
        assert [name for name, _ in events(pair.telco)[-2:]] == ["refused", "abort"]
    assert events(pair.bank)[-1][0] == "abort"


def test_our_own_change_is_refused_here(pair: Pair) -> None:
    policy = pair.bank / "policy.yaml"
    before = policy.read_text()
    bank = Home.open(pair.bank)
    statement = "SELECT SUM(t.w) AS w FROM bank.customers b JOIN telco.subscribers t ON b.id = t.id"
    with pair.served():
        try:
            with link.dial(bank, "telco") as connection:
                policy.write_text(before.replace("min_rows: 5", "min_rows: 50"))
                with pytest.raises(PolicyRefused, match="connection began"):
                    verbs_run.ask(connection, statement, False)
        finally:
            policy.write_text(before)


def _asked_alone(pair: Pair, sql: str) -> list[dict[str, Any]] | None:
    """The rows over an alignment of its own; None where the guard of the history refuses it."""
    try:
        with link.dial(Home.open(pair.bank), "telco") as connection:
            found: list[dict[str, Any]] = verbs_run.ask(connection, sql, True)["rows"]
            connection.close()
    except (PolicyRefused, PeerRefused):
        return None
    return found


def test_one_customer_cannot_be_read_through_a_sum(pair: Pair) -> None:
    """The real engine, both policies and ledgers: the asker names one customer in a CASE and learns nothing."""
    policy = pair.bank / "policy.yaml"
    before = policy.read_text()
    assert "customers.id: [join]" in before
    policy.write_text(before.replace("customers.id: [join]", "customers.id: [join, filter]"))
    join = "FROM bank.customers b JOIN telco.subscribers t ON b.id = t.id"
    tricks = [
        "SUM(CASE WHEN b.id = 'k150' THEN t.w ELSE 0 END)",
        "SUM(CASE WHEN b.id = 'k150' THEN t.w ELSE b.v END)",
        "AVG(CASE WHEN b.id = 'k150' THEN 1000 * t.w ELSE t.w END)",
        "CORR(CAST(b.id = 'k150' AS INTEGER), t.w)",
        "SUM(CASE WHEN b.id = 'k150' THEN 1 ELSE 0 END)",
    ]
    with pair.served():
        try:
            told = [_asked_alone(pair, f"SELECT {trick} AS x {join}") for trick in tricks]
            with link.dial(Home.open(pair.bank), "telco") as connection:
                many = f"SELECT SUM(CASE WHEN b.id >= 'k2' THEN t.w ELSE 0 END) AS many, COUNT(*) AS n {join}"
                (other,) = verbs_run.ask(connection, many, True)["rows"]
                connection.close()
        finally:
            policy.write_text(before)
    assert all(answer in (None, [{"x": None}]) for answer in told)
    assert [{"x": None}] in told
    assert other["n"] == 200
    assert other["many"] == sum(n % 7 for n in range(200, 300))
