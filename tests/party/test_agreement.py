"""Agreement: both read, both decide, both sign; every refusal is told to the other side and written down."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from party.agreement import (
    Agreement,
    CatalogueMessage,
    Hello,
    Proposal,
    Proposed,
    Side,
    Signed,
    Verdict,
    answer,
    exchange_catalogues,
    greet,
    job_digest,
    propose,
)
from party.canonical import canonical, parse_canonical
from party.catalogue import Catalogue, Column, Table
from party.catalogue_wire import decode_catalogue, encode_catalogue
from party.channel import Channel
from party.errors import (
    DataError,
    FileError,
    InternalError,
    PeerError,
    PeerRefused,
    PolicyRefused,
    TallyError,
    UsageError,
)
from party.identity import create, verify
from party.policy import PeerPolicy
from party.request import Opening, Request, Use
from tests.support import Ledger, channels, run_pair

JOB = canonical({"version": 1, "name": "churn", "peer": "telco", "l2": 1.0})
REQUEST = Request(
    frozenset({Use("bank", "customers", "phone", "join"), Use("telco", "subscribers", "msisdn", "join")}),
    frozenset({Opening("alignment.rows", "bank"), Opening("alignment.rows", "telco")}),
)
OPEN = {"bank": "customers.phone", "telco": "subscribers.msisdn"}


def read(proposed: Proposed) -> tuple[Request, bytes]:
    return REQUEST, b"none"


class Pair:
    """Two sides with real keys, each with its own policy, reading and ledger."""

    def __init__(self, tmp_path: Path) -> None:
        self.us, self.peer = channels()
        identities = {name: create(tmp_path / name, name) for name in OPEN}
        self.ledgers = {name: Ledger() for name in OPEN}
        self.sides = {}
        for name, other in (("bank", "telco"), ("telco", "bank")):
            grants = MappingProxyType({OPEN[name]: frozenset({"join"})})
            self.sides[name] = Side(
                PeerPolicy(other, "rows", 50 if name == "bank" else 70, 5, "auto", grants),
                read,
                self.ledgers[name],
                identities[name].sign,
                lambda content, code, pem=identities[other].certificate_pem: verify(pem, content, code),
            )

    def change(self, name: str, **changes: Any) -> None:
        self.sides[name] = replace(self.sides[name], **changes)

    def policy(self, name: str, **changes: Any) -> None:
        self.change(name, policy=replace(self.sides[name].policy, **changes))

    def run(self, **resume: bytes) -> tuple[Any, Any]:
        """What each side gets: an Agreement or the error it raised."""

        def kept(side: Callable[[], Agreement], channel: Channel) -> Any:
            try:
                return side()
            except TallyError as error:
                if not isinstance(error, PolicyRefused | PeerRefused):
                    channel.abort(error)
                return error

        return run_pair(
            lambda: kept(lambda: propose(self.us, self.sides["bank"], "run-1", JOB, **resume), self.us),
            lambda: kept(lambda: answer(self.peer, self.sides["telco"]), self.peer),
            self.us,
            self.peer,
        )

    def events(self, name: str) -> list[str]:
        return [event for event, _ in self.ledgers[name].events]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


def test_both_sides_hold_the_same_agreement(pair: Pair) -> None:
    ours, theirs = pair.run(resume=b"at align")
    assert isinstance(ours, Agreement) and isinstance(theirs, Agreement)
    assert replace(ours, our_resume=b"", their_resume=b"") == replace(theirs, our_resume=b"", their_resume=b"")
    assert (ours.run, ours.job, ours.digest, ours.initiator) == ("run-1", JOB, job_digest(JOB), "bank")
    assert (ours.min_rows, ours.min_size) == ((5, 5), (50, 70)) and ours.signatures[0] != ours.signatures[1]
    assert len(ours.salt) == 32 and ours.request == REQUEST and ours.their_resume == b"none"
    for name, peer in (("bank", "telco"), ("telco", "bank")):
        ((event, fields),) = pair.ledgers[name].events
        assert (event, fields["run"], fields["peer"], fields["initiator"]) == ("agreement", "run-1", peer, "bank")
        assert (
            fields["digest"] == job_digest(JOB).hex()
            and fields["statement"] == pair.ledgers["bank"].events[0][1]["statement"]
        )
    assert Agreement.decode(ours.encode(), REQUEST) == ours
    with pytest.raises(InternalError, match="damaged"):
        Agreement.decode(ours.encode()[:-1], REQUEST)
    with pytest.raises(InternalError, match="damaged"):
        Agreement.decode(canonical({"run": "x"}), REQUEST)


def test_rounds_and_bytes_are_as_declared(pair: Pair) -> None:
    pair.run()
    assert pair.us.counters.messages_sent == 4 and pair.us.counters.rounds == 3  # with the stage's transcript
    assert pair.peer.counters.messages_sent == 3
    assert pair.us.counters.sent == pair.peer.counters.received < 700 + len(JOB)


def test_two_runs_have_two_salts_and_one_channel_serves_both(pair: Pair) -> None:
    assert pair.run()[0].salt != pair.run()[1].salt


def refusal(found: Any, kind: type[TallyError], *words: str) -> None:
    assert type(found) is kind, found
    assert all(word in str(found) for word in words), found


def test_our_policy_refuses_here_and_the_other_side_hears_it(pair: Pair) -> None:
    pair.policy("bank", columns=MappingProxyType({}))
    ours, theirs = pair.run()
    refusal(ours, PolicyRefused, "customers.phone needs `join`")
    refusal(theirs, PeerRefused, "bank does not allow it", "customers.phone needs `join`")
    assert (ours.exit_code, theirs.exit_code) == (3, 4)
    assert pair.events("bank") == pair.events("telco") == ["refused"]
    assert pair.ledgers["telco"].events[0][1]["by"] == "bank"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"columns": MappingProxyType({})}, "subscribers.msisdn needs `join`"),
        ({"alignment": "size"}, "needs `alignment: rows`"),
        ({"alignment": "nothing"}, "needs `alignment: rows`"),
        ({"approve": "manual"}, "approve runs of bank by hand"),
    ],
)
def test_the_answering_policy_refuses_there(pair: Pair, change: dict[str, Any], reason: str) -> None:
    pair.policy("telco", **change)
    ours, theirs = pair.run()
    refusal(ours, PeerRefused, "telco does not allow it", reason)
    refusal(theirs, PolicyRefused, reason)
    assert pair.events("bank") == pair.events("telco") == ["refused"]
    assert pair.ledgers["bank"].events[0][1]["reasons"] == pair.ledgers["telco"].events[0][1]["reasons"]


def test_who_starts_a_run_has_approved_it(pair: Pair) -> None:
    pair.policy("bank", approve="manual")
    assert isinstance(pair.run()[0], Agreement)


def test_both_may_refuse_at_once(pair: Pair) -> None:
    for name in OPEN:
        pair.policy(name, columns=MappingProxyType({}))
    ours, theirs = pair.run()
    refusal(ours, PolicyRefused, "customers.phone")
    refusal(theirs, PolicyRefused, "subscribers.msisdn")


def raising(error: TallyError) -> Callable[[Proposed], tuple[Request, bytes]]:
    def fail(proposed: Proposed) -> tuple[Request, bytes]:
        raise error

    return fail


def test_a_job_that_cannot_be_run_there_is_refused_there(pair: Pair) -> None:
    pair.change("telco", read=raising(UsageError("there is no table `subscribers`")))
    ours, theirs = pair.run()
    refusal(ours, PeerRefused, "there is no table `subscribers`")
    refusal(theirs, PolicyRefused, "there is no table `subscribers`")


@pytest.mark.parametrize("error", [DataError("the table cannot be read"), FileError("bad", file="party.yaml", line=3)])
def test_trouble_on_the_answering_side_stays_its_own_and_is_written_down(pair: Pair, error: TallyError) -> None:
    pair.change("telco", read=raising(error))
    ours, theirs = pair.run()
    assert theirs is error and isinstance(ours, TallyError) and ours.exit_code in (4, 6)
    assert pair.events("telco") == ["refused"]


def test_two_readings_of_one_job_are_refused_by_both(pair: Pair) -> None:
    pair.change("telco", read=lambda proposed: (Request(REQUEST.uses), b""))
    for found in pair.run():
        refusal(found, PeerRefused, "read the job differently")
    assert pair.events("bank") == pair.events("telco") == ["refused"]


def test_a_wrong_signature_is_the_peers_fault(pair: Pair) -> None:
    sign = pair.sides["telco"].sign
    pair.change("telco", sign=lambda content: sign(content + b" "))
    refusal(pair.run()[0], PeerError, "signature")


@pytest.mark.parametrize(
    "proposal",
    [
        Proposal("run/1", JOB, b""), Proposal("", JOB, b""), Proposal("run\n", JOB, b""), Proposal("run", b"{}  ", b""),
        Proposal("run", b'{"b":1,"a":2}', b""), Proposal("run", b'{"a":1,"a":1}', b""),
        Proposal("run", b"\xff\xff", b""),
        Proposal("run", b'{"a":NaN}', b""), Proposal("run", b'{"a":1.0}', b""), Proposal("run", b"[" * 9000, b""),
    ],
)  # fmt: skip
def test_a_malformed_proposal_is_a_peer_error(pair: Pair, proposal: Proposal) -> None:
    pair.us.send(proposal)
    with pytest.raises(PeerError):
        answer(pair.peer, pair.sides["telco"])
    assert pair.events("telco") == []


@pytest.mark.parametrize("message", [Signed(bytes(64)), Hello(1, "x", 1)])
def test_another_message_in_a_proposals_place_is_a_peer_error(pair: Pair, message: Any) -> None:
    pair.us.send(message)
    with pytest.raises(PeerError):
        answer(pair.peer, pair.sides["telco"])


def test_a_verdicts_words_are_made_printable(pair: Pair) -> None:
    def rude() -> None:
        with pair.peer.stage("agree"):
            pair.peer.recv(Proposal)
            pair.peer.bind("run-1")
            pair.peer.swap(Verdict(False, "no\x1b[2J\nnever", bytes(32), b"", 1, 0, bytes(32)))
            raise PolicyRefused("enough")

    with pytest.raises(TallyError) as caught:
        run_pair(lambda: propose(pair.us, pair.sides["bank"], "run-1", JOB), lambda: _ignored(rude), pair.us, pair.peer)
    assert "\x1b" not in str(caught.value) and "never" in str(caught.value)


def test_a_refusal_whose_end_overtakes_its_verdict_is_written_down_too(pair: Pair) -> None:
    def hasty() -> None:
        with pair.peer.stage("agree"):
            pair.peer.recv(Proposal)
            pair.peer.bind("run-1")
            pair.peer.send(Verdict(False, "closed", bytes(32), b"", 1, 0, bytes(32)))
            raise PolicyRefused("our policy does not allow it: closed", party="telco")

    swap = pair.us.swap

    def late(message: Any, *rest: Any) -> Any:
        if isinstance(message, Verdict):
            time.sleep(0.3)  # the peer's verdict and its abort are both here
        return swap(message, *rest)

    pair.us.swap = late  # type: ignore[method-assign]
    with pytest.raises(PeerRefused, match="closed"):
        run_pair(
            lambda: propose(pair.us, pair.sides["bank"], "run-1", JOB), lambda: _ignored(hasty), pair.us, pair.peer
        )
    assert [event for event, _ in pair.ledgers["bank"].events] == ["refused"]


def _ignored(side: Callable[[], None]) -> None:
    with pytest.raises(PolicyRefused):
        side()


def test_only_a_canonical_job_is_proposed(pair: Pair) -> None:
    with pytest.raises(InternalError, match="not canonical"):
        propose(pair.us, pair.sides["bank"], "run-1", b'{"a": 1}')


def test_versions_are_compared_first() -> None:
    us, peer = channels()
    ours, theirs = run_pair(lambda: greet(us, "0.1.0"), lambda: greet(peer, "0.2.0"), us, peer)
    assert (ours.program, theirs.program) == ("0.2.0", "0.1.0") and abs(ours.clock - theirs.clock) < 60
    peer.send(Hello(2, "9.0", 1))
    with pytest.raises(PeerRefused, match="telco speaks version 2"):
        greet(us, "0.1.0")


BALANCE = Column("balance", "decimal", 2, 12, -100, 10**15, None, "text", frozenset({"aggregate", "label"}))
PHONE = Column("phone", "string", normalise="phone", grants=frozenset({"join"}))
REGION = Column("region", "string", domain=("north", "é"), grants=frozenset({"group"}))
CATALOGUE = Catalogue("bank", (Table("customers", (("phone",),), (PHONE, BALANCE, REGION), 21_000),), 20, 100)


def test_catalogues_are_swapped_under_the_names_of_the_channel() -> None:
    us, peer = channels()
    other = replace(CATALOGUE, party="whatever")
    ours, theirs = run_pair(
        lambda: exchange_catalogues(us, CATALOGUE), lambda: exchange_catalogues(peer, other), us, peer
    )
    assert ours == replace(CATALOGUE, party="telco") and theirs == CATALOGUE


def test_a_catalogue_of_ours_that_is_none_is_our_fault() -> None:
    us, _ = channels()
    bad = replace(CATALOGUE, tables=(Table("Customers", (), (PHONE,), 1),))
    with pytest.raises(InternalError, match="our catalogue is malformed"):
        exchange_catalogues(us, bad)


def test_a_malformed_catalogue_message_is_a_peer_error() -> None:
    us, peer = channels()
    peer.send(CatalogueMessage(b"{}"))
    with pytest.raises(PeerError, match="catalogue"):
        exchange_catalogues(us, CATALOGUE)


def test_canonical_bytes_are_one_for_one_value() -> None:
    assert canonical({"b": 1.0, "a": [True, None, "é"]}) == '{"a":[true,null,"é"],"b":1}'.encode()
    assert canonical(1e-6) == b"1e-06" and canonical(-0.0) == b"0" and canonical(0.1 + 0.2) == b"0.30000000000000004"
    assert parse_canonical(canonical({"x": 2**70, "y": 1e300}), "it") == {"x": 2**70, "y": 1e300}
    for bad in (float("nan"), float("inf"), {1: 2}, b"x", "\ud800", object()):
        with pytest.raises(InternalError):
            canonical(bad)


def test_a_catalogue_decodes_to_itself() -> None:
    assert decode_catalogue(encode_catalogue(CATALOGUE), "bank") == CATALOGUE
