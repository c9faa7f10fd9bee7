"""Base transfers: seeds agree but for one a place, points show nothing of the choice, bad points are refused."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
import pytest

from kernels import curve25519
from mpc import base_ot
from mpc.base_ot import BaseTransfer, Trees
from party.errors import PeerError
from tests.mpc.ot_support import both, halves
from tests.support import channels, run_pair

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493


def ladder(k: int, u: int) -> int:
    """u-coordinate of k times a point, any k, unclamped (RFC 7748 section 5); 0 for the point at infinity."""
    x2, z2, x3, z3 = 1, 0, u, 1
    for bit in bin(k)[2:]:
        if bit == "1":
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % P, b * b % P, d * a % P, c * b % P
        x3, z3 = (da + cb) ** 2 % P, u * (da - cb) ** 2 % P
        x2, z2 = aa * bb % P, (aa - bb) * (aa + 121665 * (aa - bb)) % P
        if bit == "1":
            x2, z2, x3, z3 = x3, z3, x2, z2
    return x2 * pow(z2, P - 2, P) % P


def choices_of(offset: np.ndarray) -> np.ndarray:
    return 1 - ((offset[:, None] >> np.array([3, 2, 1, 0], dtype=np.uint8)) & 1).reshape(-1)


@pytest.fixture(scope="module")
def recorded() -> Any:
    """One run of the base transfers: the first message of each side and its seeds."""
    pair_of_channels = channels()
    sent: list[list[Any]] = []
    for channel in pair_of_channels:
        sent.append([])

        def keep(message: Any, send: Any = channel.send, kept: list[Any] = sent[-1]) -> None:
            kept.append(message)
            send(message)

        channel.send = keep  # type: ignore[method-assign]
    left, right = pair_of_channels
    seeds = run_pair(lambda: base_ot.exchange(left, 0), lambda: base_ot.exchange(right, 1), left, right)
    for channel in pair_of_channels:
        channel._transport.shutdown()
    return [messages[0] for messages in sent], seeds


def test_base_seeds_agree_everywhere_but_at_the_offset(recorded: Any) -> None:
    for chooser, offerer in (recorded[1], recorded[1][::-1]):
        for place, offset in enumerate(offerer.offset.tolist()):
            for leaf in range(16):
                got = offerer.offerer[place, leaf ^ offset]
                if leaf == offset:
                    assert not got.any()
                else:
                    assert np.array_equal(got, chooser.chooser[place, leaf])
    leaves = np.concatenate([side.chooser.reshape(-1, 16) for side in recorded[1]])
    assert len({leaf.tobytes() for leaf in leaves}) == 1024


def test_torsion_does_not_show_the_choice(recorded: Any) -> None:
    """Both points of every pair lie in the prime-order group; a raw Elligator2 output would not, 7 times of 8."""
    for message in recorded[0]:
        for pair in message.pairs[:12].reshape(-1, 32):
            assert ladder(ORDER, int.from_bytes(pair.tobytes(), "little")) == 0
    raw = curve25519.hash_to_curve(*curve25519.pack([secrets.token_bytes(32) for _ in range(40)]), b"test")
    assert any(ladder(ORDER, int.from_bytes(point.tobytes(), "little")) for point in raw)


def test_points_of_a_pair_look_alike(recorded: Any) -> None:
    points = np.concatenate([message.pairs for message in recorded[0]])
    choices = np.concatenate([choices_of(side.offset) for side in recorded[1]])
    rows = np.arange(len(points))
    chosen, other = points[rows, choices], points[rows, 1 - choices]
    assert len({p.tobytes() for p in points.reshape(-1, 32)}) == 512
    for group in (chosen, other):
        assert abs(np.unpackbits(group[:, :31]).mean() - 0.5) < 0.015  # sd 0.002
    assert 90 < int((chosen[:, 0] < other[:, 0]).sum()) < 166  # sd 8


@pytest.mark.parametrize("point", [bytes(32), (1).to_bytes(32, "little"), P.to_bytes(32, "little"), b"\xff" * 32])
@pytest.mark.parametrize("field", ["sender", "pairs"])
def test_small_order_and_non_canonical_points_are_refused(point: bytes, field: str) -> None:
    left, right = channels()

    def cheat() -> None:
        sender = curve25519.base_multiply_each(np.frombuffer(curve25519.random_scalar(), np.uint8).reshape(1, 32))
        pairs = np.repeat(sender, 256, axis=0).reshape(128, 2, 32)
        bad = np.frombuffer(point, dtype=np.uint8)
        if field == "sender":
            sender = bad.reshape(1, 32)
        else:
            pairs[77, 1] = bad
        left.send(BaseTransfer(bytes(16), sender, pairs))
        left.recv(Trees)

    with pytest.raises(PeerError):
        run_pair(lambda: base_ot.exchange(right, 1), cheat, left, right)


def test_base_transfers_cost_what_they_declare() -> None:
    with halves(prepared=False) as (left, right):
        got = both(left, right, lambda half: half.counted(half.ot.prepare))
        assert got[0][1] == got[1][1] == (16 + 4 + 32 + 8192 + 4096 + 2 * 24, 2, 2, 2)
