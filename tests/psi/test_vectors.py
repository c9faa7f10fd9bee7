"""The vectors of the alignment: the plain twin and the protocol give the same bytes, and bad lists are refused."""

from __future__ import annotations

import json
import secrets
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels import curve25519
from party.errors import PeerError
from party.guard import Guard
from party.message import Message
from psi import Alignment, Joined, Terms, from_items, match, reference, request
from psi.masking import chain
from psi.messages import Listed, Masked
from tests.psi.support import KEYS, LISTS_BEGIN, Tampered, both_ends, guard, ids, terms
from tests.support import Ledger, channels

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "psi_ecdh.json").read_text())


def named(cases: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in cases]


@pytest.mark.parametrize("case", named(VECTORS["cases"]))
def test_the_plain_twin_gives_the_vectors(case: dict[str, Any]) -> None:
    sides = [
        reference.Side([item.encode() for item in case[role]["items"]], bytes.fromhex(case[role]["scalar"]))
        for role in ("receiver", "sender")
    ]
    got = reference.match(*sides, case["run"], bytes.fromhex(case["salt"]), bytes.fromhex(case["seed"]))
    assert [p.hex() for p in got.receiver_list] == case["step_3"]["receiver_list"]
    assert [p.hex() for p in got.sender_list] == case["step_3"]["sender_list"]
    assert got.commitment.hex() == case["step_4"]["commitment"]
    assert [t.hex() for t in got.tags] == case["step_4"]["tags"]
    assert (got.count, got.bitmap.hex()) == (case["step_7"]["count"], case["step_7"]["bitmap"])
    assert got.digest.hex() == case["step_8"]["digest"]
    assert (got.receiver_rows, got.sender_rows) == (case["receiver_rows"], case["sender_rows"])


@pytest.mark.parametrize("case", named(VECTORS["cases"]))
def test_the_protocol_sends_the_vectors(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    curve25519.hash_to_curve(*curve25519.pack([b"self-test first"]), b"t")
    scalars = {role: bytes.fromhex(case[role]["scalar"]) for role in ("receiver", "sender")}
    pair = channels()
    sent: dict[str, list[Message]] = {"receiver": [], "sender": []}

    def side(role: str, place: int) -> Any:
        """One side by itself: bank is the receiver of tags, by the shorter list or the first name."""
        peer = pair[place].peer
        end = Tampered(pair[place], lambda message: sent[role].append(message) or message)
        items = from_items([item.encode() for item in case[role]["items"]])
        allowed = Guard(case["run"], peer, request(Joined(KEYS)).openings, Ledger())
        return lambda: match(items, end, allowed, Terms(run=case["run"], salt=bytes.fromhex(case["salt"])))

    names: dict[int, str] = {}
    monkeypatch.setattr(curve25519, "random_scalar", lambda: scalars[names[threading.get_ident()]])
    monkeypatch.setattr(secrets, "token_bytes", lambda count=32: bytes.fromhex(case["seed"])[:count])

    def run(role: str, place: int) -> Any:
        call = side(role, place)

        def go() -> Any:
            names[threading.get_ident()] = role
            return call()

        return go

    outcomes = list(both_ends(run("receiver", 0), run("sender", 1), *pair))
    assert all(isinstance(outcome, Alignment) for outcome in outcomes), outcomes
    by_kind = {role: {type(m).__name__: m for m in messages} for role, messages in sent.items()}
    for role in ("receiver", "sender"):
        points = b"".join(m.points.tobytes() for m in sent[role] if isinstance(m, Masked))
        assert points.hex() == "".join(case["step_3"][f"{role}_list"])
        assert by_kind[role]["Digest"].digest.hex() == case["step_8"]["digest"]
    assert by_kind["sender"]["Commitment"].digest.hex() == case["step_4"]["commitment"]
    if case["step_4"]["tags"]:
        assert by_kind["sender"]["Tags"].tags.tobytes().hex() == "".join(case["step_4"]["tags"])
    assert by_kind["sender"]["Seed"].seed.hex() == case["seed"]
    assert by_kind["receiver"]["Bitmap"].bits.tobytes().hex() == case["step_7"]["bitmap"]
    assert outcomes[0].rows.tolist() == case["receiver_rows"]
    assert outcomes[1].rows.tolist() == case["sender_rows"]


@pytest.mark.parametrize("case", named(VECTORS["must_refuse"]))
def test_lists_of_the_vectors_are_refused(case: dict[str, Any]) -> None:
    assert case["step"] == 3
    points = np.frombuffer(bytes.fromhex("".join(case["list"])), np.uint8).reshape(-1, 32)
    first, second = channels()

    def tamper(message: Message) -> Message:
        if isinstance(message, Listed):
            return replace(message, digest=chain(LISTS_BEGIN, points))
        return Masked(points) if isinstance(message, Masked) else message

    error, _ = both_ends(
        lambda: match(ids(range(20)), first, guard("telco")[0], terms()),
        lambda: match(
            ids(range(8)),
            Tampered(second, tamper),
            guard("bank")[0],
            terms(),
        ),
        first,
        second,
    )
    assert isinstance(error, PeerError) and error.exit_code == 7 and case["error"] in error.message


def test_masking_p_on_one_side_and_q_on_the_other_matches_nothing() -> None:
    """Trap: RFC 9380's P is 8 Q. Both sides mask Q."""
    from kernels import curve25519_reference as twin

    a, b = curve25519.random_scalar(), curve25519.random_scalar()
    q = curve25519.hash_to_curve(*curve25519.pack([b"x"]), b"t")
    p = np.frombuffer(twin.double(q.tobytes(), 3), np.uint8).reshape(1, 32)
    there = curve25519.multiply(b, curve25519.multiply(a, q)).tobytes()
    assert there == curve25519.multiply(a, curve25519.multiply(b, q)).tobytes()
    assert there != curve25519.multiply(a, curve25519.multiply(b, p)).tobytes()
