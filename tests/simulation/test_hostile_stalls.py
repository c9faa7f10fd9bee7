"""A peer that is alive, beats its heart, and stops answering: at each step before a run is agreed it is let go soon."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from party import limits
from party.agreement import (
    Proposal,
    Side,
    Verdict,
    _request_digest,
    answer,
    exchange_catalogues,
    greet,
    propose,
)
from party.canonical import canonical
from party.catalogue import Catalogue
from party.channel import Channel
from party.errors import DeadlineExceeded
from party.identity import create, verify
from party.message import Message
from party.policy import PeerPolicy
from party.request import Request
from tests.support import Ledger, channels

JOB = canonical({"a": 1})


def side(folder: Path, us: str, peer: str) -> Side:
    identity = create(folder / us, us)
    return Side(
        PeerPolicy(peer, "rows", 0, 1, "auto"),
        lambda proposed: (Request(), b""),
        Ledger(),
        identity.sign,
        lambda content, code: verify(identity.certificate_pem, content, code),
    )


def _greet(channel: Channel, folder: Path) -> object:
    return greet(channel, "1")


def _catalogues(channel: Channel, folder: Path) -> object:
    return exchange_catalogues(channel, Catalogue("bank", ()))


def _propose(channel: Channel, folder: Path) -> object:
    return propose(channel, side(folder, "bank", "telco"), "run-1", JOB)


def _answer(channel: Channel, folder: Path) -> object:
    return answer(channel, side(folder, "bank", "telco"))


VERDICT = Verdict(True, "", _request_digest(Request()), b"", 1, 0, bytes(32))
STEPS: dict[str, tuple[Callable[[Channel, Path], object], list[Message]]] = {
    "hello": (_greet, []),
    "catalogue": (_catalogues, []),
    "proposal": (_answer, []),
    "verdict on ours": (_propose, []),
    "verdict on theirs": (_answer, [Proposal("run-1", JOB, b"")]),
    "signature on ours": (_propose, [VERDICT]),
    "signature on theirs": (_answer, [Proposal("run-1", JOB, b""), VERDICT]),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_peer_that_stalls_at_a_step_is_let_go(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SETUP_SECONDS", 0.3)
    ours, theirs = channels()
    act, said = STEPS[step]
    if act in (_propose, _answer):
        theirs._stage_number = 1  # the stage that our side enters
    for message in said:
        if isinstance(message, Verdict):
            theirs.bind("run-1")  # as both sides do after the proposal
        theirs.send(message)
    began = time.monotonic()
    try:
        with pytest.raises(DeadlineExceeded, match="is there but sent nothing"):
            act(ours, tmp_path)
        assert 0.2 < time.monotonic() - began < 10
    finally:
        for channel in (ours, theirs):
            channel._transport.shutdown()


def test_the_limit_is_minutes_not_hours() -> None:
    assert limits.SETUP_SECONDS <= 900
