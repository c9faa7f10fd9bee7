"""Joins that break anywhere go on: several keys, repeated keys, kept rows, the unbalanced form, a list made ahead.

Each case is cut after a message or killed at a write, then run again over what both sides have kept: the same pairs of
rows as a plain join, the same bytes for what was sent before, and one scalar for each side and key, ever.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from kernels import curve25519
from party.errors import PeerError, PolicyRefused
from party.guard import Guard
from party.message import Message, encode
from psi import Alignment, Joined, Means, MemoryStore, Terms, align, predict, prepare_ahead, request
from psi.messages import (
    Bitmap,
    Enough,
    Evaluated,
    Listed,
    Masked,
    Multiplicities,
    Seed,
    Size,
    Tags,
    Unmatched,
)
from tests.psi.support import SALT, Tampered, both_ends
from tests.psi.test_bad_peer import eight_of_one
from tests.psi.test_joins import TWO, Row, pairs, plain, sources, tables
from tests.psi.test_resume import SMALL, Counted, Cut, multiplications
from tests.support import Ledger, channels

BOTH_KEYS: tuple[tuple[int, ...], ...] = ((0,), (1,))
TOLD: dict[str, tuple[type[Message], ...]] = {
    "alignment.list": (Listed,),
    "alignment.count": (Tags, Evaluated, Size),
    "alignment.enough": (Enough,),
    "alignment.rows": (Seed, Bitmap),
    "alignment.multiplicities": (Multiplicities,),
    "alignment.unmatched": (Unmatched,),
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("psi.") and hasattr(module, "CHUNK"):
            monkeypatch.setattr(module, "CHUNK", SMALL)


@dataclass
class Case:
    """How two tables are joined, and what each side has kept."""

    small: str | None = None
    keep: str | None = None
    duplicates: tuple[str, str] = ("first", "first")
    prepared: bool = False
    learns: str = "both"
    keys: tuple[tuple[int, ...], ...] = BOTH_KEYS
    stores: list[Any] = field(default_factory=lambda: [MemoryStore(), MemoryStore()])
    ahead: Any = None

    def __post_init__(self) -> None:
        rng = random.Random(3)
        self.rows: tuple[list[Row], list[Row]] = tables(rng, 14, 60, 20) if self.small else tables(rng, 24, 30, 20)
        self.sent: list[list[Message]] = [[], []]
        self.ledgers = [Ledger(), Ledger()]

    def prepare(self) -> None:
        """The long side's list, made ahead."""
        self.ahead = self.ahead or MemoryStore()
        prepare_ahead(sources(self.rows[1], self.keys, self.duplicates[1])[0], self.ahead, lambda _: None)

    def go(
        self, change: Callable[[int, Message], Message] = lambda _, message: message, closed: str | None = None
    ) -> list[Any]:
        """Once, over what is kept."""
        self.pair, multiple = channels(), "all" in self.duplicates
        self.sent, self.ledgers = [[], []], [Ledger(), Ledger()]

        def side(place: int) -> Callable[[], Alignment]:
            def tamper(message: Message) -> Message:
                changed = change(place, message)
                self.sent[place].append(changed)
                return changed

            end: Any = Tampered(self.pair[place], tamper)
            tables = {name: (table, keys[: len(self.keys)]) for name, (table, keys) in TWO.items()}
            openings = request(Joined(tables, self.learns, self.keep, multiple)).openings
            allowed = [opening for opening in openings if place == 1 or opening.what != closed]
            guard = Guard("r1", end.peer, allowed, self.ledgers[place])
            terms = Terms("r1", SALT, self.learns, keep=self.keep, multiple=multiple, small=self.small)
            mine = sources(self.rows[place], self.keys, self.duplicates[place])
            means = Means(self.stores[place], self.ahead if place == 1 else None)
            return lambda: align(mine, end, guard, terms, means)

        return list(both_ends(side(0), side(1), *self.pair))

    def check(self, outcomes: list[Any]) -> None:
        """As a plain join has it."""
        found = [pair for pair in pairs(outcomes) if -1 not in pair]
        assert sorted(found) == plain(*self.rows, self.duplicates, self.keys)
        assert (outcomes[0].unmatched > 0) == (self.keep is not None)


CASES: dict[str, Callable[[], Case]] = {
    "two keys": Case,
    "two keys, kept, repeated": lambda: Case(keep="bank", duplicates=("all", "all")),
    "unbalanced": lambda: Case("bank", keep="telco", duplicates=("first", "all")),
    "made ahead": lambda: Case("bank", duplicates=("all", "first"), prepared=True),
}


def fixed(sent: list[Message]) -> list[bytes]:
    """What must be sent again byte for byte, or not at all."""
    return [encode(message) for message in sent if not isinstance(message, Listed | Masked | Tags | Evaluated)]


def scalars(case: Case) -> int:
    """r and 1/r on the short side, one on the long side; or one a side; for each key."""
    return (3 if case.small else 2) * len(case.keys)


def broken_and_run_again(case: Case, outcomes: list[Any], before: list[list[Message]], done: list[Any]) -> None:
    outcomes = case.go()
    case.check(outcomes)
    for place in (0, 1):
        ours = fixed(case.sent[place])
        assert ours[: len(fixed(before[place]))] == fixed(before[place])
    assert len({scalar for scalar, _ in done}) == scalars(case)


def killed(name: str, place: int, at: int, late: bool, done: list[Any]) -> bool:
    """Whether there is such a write."""
    done.clear()
    case = CASES[name]()
    if case.prepared:
        case.prepare()
    kept = case.stores[place]
    case.stores[place] = Counted(kept, at, late)
    outcomes = case.go()
    there = case.stores[place].writes >= at
    assert isinstance(outcomes[place], Cut) == there
    case.stores[place] = kept
    broken_and_run_again(case, outcomes, case.sent, done)
    return bool(there)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_killed_at_some_writes_and_run_again(name: str, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    done = multiplications(monkeypatch)
    for at in range(1 + place, 100, 9):
        if not killed(name, place, at, at % 2 == 0, done):
            return
    raise AssertionError("it never ends")


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_killed_at_every_write_and_run_again(
    name: str, place: int, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = multiplications(monkeypatch)
    at = 1
    while killed(name, place, at, late, done):
        at += 1
    assert at > 12


@pytest.mark.parametrize("late", [False, True])
def test_killed_at_every_write_of_a_list_made_ahead(late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    done = multiplications(monkeypatch)
    for at in range(1, 200):
        done.clear()
        case = Case("bank", prepared=True)
        kept = MemoryStore()
        case.ahead = counted = Counted(kept, at, late)
        try:
            case.prepare()
        except Cut:
            pass
        case.ahead = kept
        case.prepare()
        assert len({scalar for scalar, _ in done}) == 1
        if counted.writes < at:
            assert at > 12
            return case.check(case.go())
    raise AssertionError("it never ends")


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_cut_after_any_message_and_run_again(name: str, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    done = multiplications(monkeypatch)
    for after in range(0, 100, 4):
        done.clear()
        case = CASES[name]()
        if case.prepared:
            case.prepare()

        def cut(place: int, message: Message, case: Case = case, after: int = after) -> Message:
            if place == side and len(case.sent[place]) == after:
                raise Cut
            return message

        outcomes = case.go(cut)
        if not isinstance(outcomes[side], Cut):
            return
        broken_and_run_again(case, outcomes, case.sent, done)
    raise AssertionError("it never ends")


def test_an_ended_alignment_run_once_more_gives_the_same() -> None:
    for make in CASES.values():
        case = make()
        if case.prepared:
            case.prepare()
        first, second = case.go(), case.go()
        assert [one.rows.tolist() for one in first] == [one.rows.tolist() for one in second]


# --- openings -------------------------------------------------------------------------------------------------------

FORMS = [
    ("both", None, "bank", ("all", "all"), BOTH_KEYS),
    ("both", "bank", "bank", ("first", "all"), BOTH_KEYS),
    ("both", "telco", "bank", ("all", "first"), BOTH_KEYS),
    ("size", "bank", None, ("first", "first"), BOTH_KEYS[:1]),
    ("size", "telco", None, ("first", "first"), BOTH_KEYS[:1]),
    ("bank", "bank", None, ("first", "first"), BOTH_KEYS[:1]),
]


@pytest.mark.parametrize(("learns", "small", "keep", "duplicates", "keys"), FORMS)
def test_the_ledger_names_each_opening_before_it_leaves(
    learns: str,
    small: str | None,
    keep: str | None,
    duplicates: tuple[str, str],
    keys: tuple[tuple[int, ...], ...],
) -> None:
    case = Case(small, keep, duplicates, learns=learns, keys=keys)
    late: list[str] = []

    def watch(place: int, message: Message) -> Message:
        what = next((name for name, kinds in TOLD.items() if isinstance(message, kinds)), None)
        if what is not None:
            written = [fields["what"] for _, fields in case.ledgers[place].events]
            before = {type(one) for one in case.sent[place]}
            firsts = sum(1 for one in case.sent[place] if isinstance(one, Listed)) + isinstance(message, Listed)
            if written.count(what) < (firsts if type(message) in before and what != "alignment.unmatched" else 1):
                late.append(type(message).__name__)
        return message

    outcomes = case.go(watch)
    assert all(isinstance(outcome, Alignment) for outcome in outcomes), outcomes
    assert late == []
    for ledger in case.ledgers:
        assert {fields["what"] for _, fields in ledger.events} <= set(TOLD)


@pytest.mark.parametrize("closed", TOLD)
@pytest.mark.parametrize(("learns", "small", "keep", "duplicates", "keys"), FORMS)
def test_what_is_not_open_does_not_leave(
    closed: str,
    learns: str,
    small: str | None,
    keep: str | None,
    duplicates: tuple[str, str],
    keys: tuple[tuple[int, ...], ...],
) -> None:
    plainly = Case(small, keep, duplicates, learns=learns, keys=keys)
    plainly.go()
    would = any(isinstance(message, TOLD[closed]) for message in plainly.sent[0])
    case = Case(small, keep, duplicates, learns=learns, keys=keys)
    outcome = case.go(closed=closed)[0]
    assert isinstance(outcome, PolicyRefused) == would
    assert not any(isinstance(message, TOLD[closed]) for message in case.sent[0])


# --- bad peers that need a curve ------------------------------------------------------------------------------------


def test_blinded_points_that_differ_by_torsion_are_refused_before_an_evaluated_one_leaves() -> None:
    from dataclasses import replace

    from psi.masking import chain
    from psi.rows import ascending
    from psi.run import LIST, Run

    shifted = eight_of_one()
    assert len(shifted) == SMALL
    case = Case("bank", keys=BOTH_KEYS[:1])
    start = Run(channels()[0], Guard("r1", "telco", [], Ledger()), Terms("r1", SALT), Means()).hash(LIST)
    listed = shifted[ascending(shifted)]

    def cheat(place: int, message: Message) -> Message:
        if place == 0 and isinstance(message, Listed):
            return replace(message, count=SMALL, digest=chain(start, listed))
        return Masked(listed) if place == 0 and isinstance(message, Masked) else message

    outcome = case.go(cheat)[1]
    assert isinstance(outcome, PeerError) and "torsion" in outcome.message and outcome.exit_code == 7
    assert not any(isinstance(message, Evaluated) for message in case.sent[1])


def test_each_key_has_a_scalar_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points of one customer under two keys, or in two runs, cannot be told to be of one customer."""
    drawn: list[bytes] = []
    draw = curve25519.random_scalar
    monkeypatch.setattr(curve25519, "random_scalar", lambda: drawn.append(draw()) or drawn[-1])
    case = Case(duplicates=("all", "all"))
    case.rows = ([("x", "x", None)] * 3 + [("y", "z", None)], [("x", "q", None), ("r", "z", None)])
    case.check(case.go())
    assert len(drawn) == len(set(drawn)) == 4
    lists = [message.points.tobytes() for sent in case.sent for message in sent if isinstance(message, Masked)]
    points = [one[at : at + 32] for one in lists for at in range(0, len(one), 32)]
    assert len(set(points)) == len(points)


@pytest.mark.parametrize("keep", [None, "bank", "telco"])
@pytest.mark.parametrize("small", [None, "bank"])
@pytest.mark.parametrize("multiple", [False, True])
def test_predicted_cost_of_a_join_equals_counted_cost(keep: str | None, small: str | None, multiple: bool) -> None:
    case = Case(small, keep, ("all", "all") if multiple else ("first", "first"), keys=BOTH_KEYS[:1])
    outcomes = case.go()
    lengths = {"bank": outcomes[0].ours, "telco": outcomes[1].ours}
    found = predict(lengths, "both", small, multiple=outcomes[0].count if multiple else None, keep=keep)
    assert [cost.sent for cost in found.values()] == [channel.counters.sent for channel in case.pair]
    assert [cost.messages for cost in found.values()] == [channel.counters.messages_sent for channel in case.pair]
    assert [cost.rounds for cost in found.values()] == [channel.counters.rounds for channel in case.pair]
    assert (outcomes[0].count or 0) > SMALL  # so that there are several chunks
