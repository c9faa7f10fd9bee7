"""The unbalanced form: answers of every learner, cost, resume, a list made ahead serves one run, bad peers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kernels import curve25519
from party.errors import PeerError, PolicyRefused, TallyError
from party.guard import Guard
from party.message import Message, encode
from psi import Alignment, Joined, Means, MemoryStore, Terms, match, predict, request, smaller
from psi.masking import KeyList
from psi.messages import Commitment, Digest, Evaluated, Listed, Masked, Seed, Tags
from psi.unbalanced import _ORDER, blinding_scalar, prepare_ahead
from tests.psi.support import KEYS, SALT, Tampered, both_ends, ids
from tests.psi.test_resume import Counted, Cut, multiplications
from tests.support import Ledger, channels

SMALL = 8


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("psi.") and hasattr(module, "CHUNK"):
            monkeypatch.setattr(module, "CHUNK", SMALL)


class Run:
    """One unbalanced alignment, the bank with the short list."""

    def __init__(self, a: Any, b: Any, learns: str = "both", minimum: int = 0) -> None:
        self.lists, self.learns, self.minimum = (a, b), learns, minimum
        self.sent: list[list[Message]] = [[], []]
        self.ledgers = [Ledger(), Ledger()]
        self.channels = channels()

    def go(
        self,
        stores: tuple[Any, Any] = (None, None),
        change: Callable[[int, Message], Message] = lambda _, message: message,
        ahead: Any = None,
    ) -> list[Any]:
        def side(place: int) -> Callable[[], Alignment]:
            def tamper(message: Message) -> Message:
                self.sent[place].append(message)
                return change(place, message)

            end: Any = Tampered(self.channels[place], tamper)
            guard = Guard("r1", end.peer, request(Joined(KEYS, self.learns)).openings, self.ledgers[place])
            terms = Terms("r1", SALT, self.learns, self.minimum, self.minimum, small="bank")
            means = Means(stores[place] or MemoryStore(), ahead if place == 1 else None)
            return lambda: match(ids(self.lists[place]), end, guard, terms, means)

        return list(both_ends(side(0), side(1), *self.channels))


SIZES = [(0, 0), (0, 9), (9, 0), (1, 1), (2, 7), (7, 100), (20, 500), (100, 1000), (30, 20)]


@pytest.mark.parametrize(("n", "m"), SIZES)
@pytest.mark.parametrize("learns", ["both", "bank", "size"])
def test_equals_plain_set_intersection(n: int, m: int, learns: str) -> None:
    a, b = list(range(n))[::-1], list(range(n // 2, n // 2 + m))
    run = Run(a, b, learns)
    bank, telco = run.go()
    common = set(a) & set(b)
    assert bank.digest == telco.digest and (bank.ours, bank.theirs) == (n, m)
    if learns == "both":
        assert [a[row] for row in bank.rows] == [b[row] for row in telco.rows]
        assert {a[row] for row in bank.rows} == common and bank.count == telco.count == len(common)
    elif learns == "size":
        assert bank.count == telco.count == len(common) and not len(bank.rows) and not len(telco.rows)
    else:
        assert telco.count is None and sorted(telco.rows) == list(range(m))
        for row, found, other in zip(bank.rows, bank.matched, telco.rows, strict=True):
            assert found == (b[other] in common) and (a[row] == b[other] if found else row == -1)
    counted = [(c.counters.sent, c.counters.messages_sent, c.counters.rounds) for c in run.channels]
    expected = predict({"bank": n, "telco": m}, learns, "bank")
    assert counted == [(cost.sent, cost.messages, cost.rounds) for cost in (expected["bank"], expected["telco"])]


def test_one_side_at_least_eight_times_smaller_and_a_learner_takes_this_form() -> None:
    assert smaller({"bank": 10, "telco": 80}, "both") == smaller({"telco": 80, "bank": 10}, "size") == "bank"
    assert smaller({"bank": 10, "telco": 79}, "both") is None
    assert smaller({"bank": 80, "telco": 10}, "telco") == "telco"
    assert smaller({"bank": 80, "telco": 10}, "bank") is None  # the long side alone learns: it would not know how many


def test_the_blinding_comes_off_through_a_clamping_interface() -> None:
    for _ in range(40):
        scalar, inverse = blinding_scalar()
        for each in (scalar, inverse):  # clamping changes neither
            assert each[0] & 7 == 0 and each[31] & 192 == 64
        number, back = (int.from_bytes(each, "little") for each in (scalar, inverse))
        assert number * back % _ORDER == 1
    points = curve25519.multiply(
        curve25519.random_scalar(), curve25519.hash_to_curve(*curve25519.pack([b"a", b"b"]), b"t")
    )
    assert (curve25519.multiply(inverse, curve25519.multiply(scalar, points)) == points).all()


def test_a_reduced_inverse_would_give_another_point() -> None:
    """Trap: 1/r modulo the order is no multiple of 8 and too small: an interface that clamps changes it."""
    scalar = curve25519.random_scalar()
    reduced = pow(int.from_bytes(scalar, "little"), -1, _ORDER).to_bytes(32, "little")
    point = curve25519.multiply(curve25519.random_scalar(), np.frombuffer((9).to_bytes(32, "little"), np.uint8)[None])
    assert (curve25519.multiply(reduced, curve25519.multiply(scalar, point)) != point).any()


def test_the_short_side_multiplies_three_times_and_the_long_side_once_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    done = multiplications(monkeypatch)
    Run(range(20), range(10, 200)).go()
    assert sum(points for _, points in done) == 3 * 20 + 190
    assert len({scalar for scalar, _ in done}) == 3  # r, 1/r, and the long side's


@pytest.mark.parametrize("learns", ["both", "bank", "size"])
def test_below_the_minimum_only_counts_were_seen(learns: str) -> None:
    run = Run(range(20), range(16, 200), learns, minimum=5)
    bank, telco = run.go()
    assert isinstance(bank, PolicyRefused) and isinstance(telco, PolicyRefused)
    assert not [m for sent in run.sent for m in sent if isinstance(m, Seed | Digest)]
    assert "alignment.rows" not in [f["what"] for ledger in run.ledgers for _, f in ledger.events]


def test_a_list_made_ahead_is_used_and_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = MemoryStore()
    listed = prepare_ahead(ids(range(10, 200)), ahead, lambda _: None)
    assert isinstance(listed, KeyList) and len(listed) == 190
    done = multiplications(monkeypatch)
    bank, telco = Run(range(20), range(10, 200)).go(ahead=ahead)
    assert list(bank.rows) == [row + 10 for row in telco.rows] and len(bank.rows) == 10
    assert sum(points for _, points in done) == 3 * 20


def fixed(sent: list[Message]) -> list[bytes]:
    """What must be sent again byte for byte, or not at all."""
    return [encode(m) for m in sent if not isinstance(m, Listed | Masked | Tags | Evaluated)]


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("at", range(1, 40, 4))
def test_killed_at_any_write_and_run_again(place: int, late: bool, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    done = multiplications(monkeypatch)
    kept = (MemoryStore(), MemoryStore())
    stores: list[Any] = list(kept)
    stores[place] = Counted(kept[place], at, late)
    run = Run(range(20), range(10, 100))
    outcomes = run.go((stores[0], stores[1]))
    assert isinstance(outcomes[place], Cut) or stores[place].writes < at
    again = Run(range(20), range(10, 100))
    bank, telco = again.go(kept)
    assert list(bank.rows) == [row + 10 for row in telco.rows] and len(bank.rows) == 10
    for side in (0, 1):
        assert fixed(again.sent[side])[: len(fixed(run.sent[side]))] == fixed(run.sent[side])
    assert len({scalar for scalar, _ in done}) == 3
    assert sum(points for _, points in done) - (3 * 20 + 90) <= 2 * SMALL


def breach(change: Callable[[Message], Message], cheat: int) -> TallyError:
    run = Run(range(20), range(10, 200))
    outcome = run.go(change=lambda place, m: change(m) if place == cheat else m)[1 - cheat]
    assert isinstance(outcome, TallyError), outcome
    return outcome


def points_of(kind: type[Any], change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Message], Message]:
    name = "tags" if kind is Tags else "points"
    return lambda m: replace(m, **{name: change(getattr(m, name).copy())}) if isinstance(m, kind) else m


def first_is(value: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(points: np.ndarray) -> np.ndarray:
        points[0] = np.frombuffer(value.to_bytes(32, "little"), np.uint8)
        return points

    return change


LONG_SIDE = {
    "tags unsorted": (points_of(Tags, lambda t: t[::-1]), "ascending"),
    "a tag twice": (points_of(Tags, lambda t: np.concatenate([t[:1], t[:-1]])), "ascending"),
    "too few tags": (points_of(Tags, lambda t: t[:-1]), "were due"),
    "short tags": (points_of(Tags, lambda t: np.ascontiguousarray(t[:, :-1])), "were due"),
    "other tags": (points_of(Tags, lambda t: t ^ (np.arange(len(t)) == len(t) - 1).astype(np.uint8)[:, None]), ""),
    "too few evaluated": (points_of(Evaluated, lambda p: p[:-1]), "another number"),
    "evaluated zero": (points_of(Evaluated, first_is(0)), "small order"),
    "evaluated not canonical": (points_of(Evaluated, first_is(2**255 - 19 + 9)), "not canonical"),
    "one evaluated twice": (points_of(Evaluated, lambda p: np.concatenate([p[:1], p[:-1]])), "twice"),
    "another seed": (lambda m: replace(m, seed=bytes(32)) if isinstance(m, Seed) else m, "another seed"),
    "another commitment": (lambda m: Commitment(bytes(32)) if isinstance(m, Commitment) else m, "another seed"),
    "holds too much": (lambda m: replace(m, points_held=9) if isinstance(m, Listed) else m, "more of this run"),
}
SHORT_SIDE = {
    "unsorted": (points_of(Masked, lambda p: p[::-1]), "ascending"),
    "too few": (points_of(Masked, lambda p: p[:-1]), "were due"),
    "small order": (points_of(Masked, lambda p: np.concatenate([np.zeros((1, 32), np.uint8), p[1:]])), "small order"),
    "holds too much": (lambda m: replace(m, points_held=9) if isinstance(m, Listed) else m, "more of this run"),
    "holds too many": (lambda m: replace(m, tags_held=9) if isinstance(m, Listed) else m, "more of this run"),
}


@pytest.mark.parametrize("case", LONG_SIDE)
def test_a_broken_long_side_is_refused(case: str) -> None:
    change, text = LONG_SIDE[case]
    error = breach(change, 1)
    assert isinstance(error, PeerError) and text in error.message and error.exit_code == 7


@pytest.mark.parametrize("case", SHORT_SIDE)
def test_a_broken_short_side_is_refused(case: str) -> None:
    change, text = SHORT_SIDE[case]
    error = breach(change, 0)
    assert isinstance(error, PeerError) and text in error.message and error.exit_code == 7


def test_a_resumed_run_with_another_salt_is_refused() -> None:
    store = MemoryStore()
    Run(range(20), range(10, 100)).go((store, None))
    bank = Run(range(20), range(10, 100)).go((store, None))[0]  # the long side has lost its store and draws anew
    assert isinstance(bank, PeerError) and "before this run was interrupted" in bank.message
