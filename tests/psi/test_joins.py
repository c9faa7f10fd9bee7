"""Joins as users mean them, against plain Python: keys in order, repeated keys, rows without a match, both minimums."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from party.errors import DataError, PeerError, PolicyRefused
from party.guard import Guard
from party.message import Message
from psi import Alignment, Identifiers, Joined, KeyColumn, Means, Terms, align, from_scan, request
from psi.messages import Agreed, Bitmap, Multiplicities, Seed, Size, Unmatched
from tests.psi.support import KEYS, SALT, Tampered, both_ends
from tests.support import Ledger, channels

TWO = {"bank": ("customers", (("phone",), ("email",))), "telco": ("subscribers", (("msisdn",), ("mail",)))}
Value = str | None
Row = tuple[Value, ...]


def sources(rows: Sequence[Row], keys: Sequence[tuple[int, ...]], duplicates: str) -> list[Identifiers]:
    """One source for each key; a key is a tuple of columns."""
    width = len(rows[0]) if rows else 3
    columns = {f"c{i}": pa.array([row[i] for row in rows], pa.string()) for i in range(width)}
    batch = pa.record_batch(columns)
    return [from_scan(lambda: [batch], [KeyColumn(f"c{i}") for i in key], duplicates=duplicates) for key in keys]


class Join:
    """One alignment of two small tables in one process."""

    def __init__(
        self, learns: str = "both", minimum: int = 0, keep: str | None = None, small: str | None = None
    ) -> None:
        self.learns, self.minimum, self.keep, self.small, self.most = learns, minimum, keep, small, 1000
        self.sent: list[list[Message]] = [[], []]
        self.ledgers = [Ledger(), Ledger()]

    def run(
        self,
        a: Sequence[Row],
        b: Sequence[Row],
        duplicates: tuple[str, str] = ("error", "error"),
        keys: Sequence[tuple[int, ...]] = ((0,),),
        change: Callable[[int, Message], Message] = lambda _, message: message,
    ) -> list[Any]:
        pair, multiple = channels(), "all" in duplicates

        def side(place: int) -> Callable[[], Alignment]:
            def tamper(message: Message) -> Message:
                self.sent[place].append(message)
                return change(place, message)

            end: Any = Tampered(pair[place], tamper)
            joined = Joined(KEYS if len(keys) == 1 else TWO, self.learns, self.keep, multiple)
            guard = Guard("r1", end.peer, request(joined).openings, self.ledgers[place])
            terms = Terms("r1", SALT, self.learns, self.minimum, self.minimum, self.keep, multiple, self.small)
            terms = replace(terms, most_ours=self.most, most_theirs=self.most)
            mine = sources((a, b)[place], keys, duplicates[place])
            return lambda: align(mine, end, guard, terms, Means())

        return list(both_ends(side(0), side(1), *pair))


def pairs(outcomes: list[Any]) -> list[tuple[int, int]]:
    for outcome in outcomes:
        if not isinstance(outcome, Alignment):
            raise outcome
    bank, telco = outcomes
    assert bank.digest == telco.digest and bank.by_key == telco.by_key and bank.unmatched == telco.unmatched
    return list(zip(bank.rows.tolist(), telco.rows.tolist(), strict=True))


def plain(
    a: Sequence[Row], b: Sequence[Row], duplicates: tuple[str, str], keys: Sequence[tuple[int, ...]], minimum: int = 0
) -> list[tuple[int, int]]:
    """What the tables' users expect, key by key, row by row."""
    found: list[tuple[int, int]] = []
    gone: tuple[set[int], set[int]] = (set(), set())
    for key in keys:
        groups: list[dict[tuple[str, ...], list[int]]] = []
        for rows, out, mode in zip((a, b), gone, duplicates, strict=True):
            group: dict[tuple[str, ...], list[int]] = {}
            for number, row in enumerate(rows):
                parts = [row[i] for i in key]
                if number not in out and all(part is not None and part.strip() for part in parts):
                    group.setdefault(tuple(str(part).strip() for part in parts), []).append(number)
            if mode == "first":
                out |= {row for rows_of in group.values() for row in rows_of[1:]}
                group = {name: rows_of[:1] for name, rows_of in group.items()}
            groups.append(group)
        common = groups[0].keys() & groups[1].keys()
        if len(common) < minimum:
            continue
        for name in common:
            found += [(i, j) for i in groups[0][name] for j in groups[1][name]]
            gone[0].update(groups[0][name])
            gone[1].update(groups[1][name])
    return sorted(found)


def tables(rng: random.Random, n: int, m: int, distinct: int) -> tuple[list[Row], list[Row]]:
    def some(letter: str) -> Value:
        return rng.choice([None, "", " "]) if rng.random() < 0.15 else f"{letter}{rng.randrange(distinct)}"

    return [(some("p"), some("e"), some("z")) for _ in range(n)], [(some("p"), some("e"), some("z")) for _ in range(m)]


@pytest.mark.parametrize("duplicates", [(x, y) for x in ("first", "all") for y in ("first", "all")])
@pytest.mark.parametrize("keys", [((0,),), ((0, 1),), ((0,), (1,)), ((0, 2), (1, 2))])
@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 5), (1, 1), (2, 7), (40, 60), (200, 150)])
def test_equals_a_plain_join(n: int, m: int, keys: tuple[tuple[int, ...], ...], duplicates: tuple[str, str]) -> None:
    rng = random.Random(n + 7 * m + len(keys))
    a, b = tables(rng, n, m, max(n, m, 2) // 2)
    assert sorted(pairs(Join().run(a, b, duplicates, keys))) == plain(a, b, duplicates, keys)


def test_both_sides_lay_repeated_keys_out_in_one_order() -> None:
    a: list[Row] = [("x", None, None)] * 2 + [("y", None, None)]
    b: list[Row] = [("y", None, None)] * 3 + [("x", None, None)] * 2
    found = pairs(Join().run(a, b, ("all", "all")))
    assert sorted(found) == [(0, 3), (0, 4), (1, 3), (1, 4), (2, 0), (2, 1), (2, 2)]
    by_key = [[pair for pair in found if pair[0] in rows] for rows in ((0, 1), (2,))]
    assert by_key == [[(0, 3), (0, 4), (1, 3), (1, 4)], [(2, 0), (2, 1), (2, 2)]]


@pytest.mark.parametrize("keep", ["bank", "telco"])
@pytest.mark.parametrize("duplicates", [("first", "first"), ("all", "all"), ("first", "all")])
@pytest.mark.parametrize("keys", [((0,),), ((0,), (1,))])
def test_rows_without_a_match_stay_on_the_side_that_keeps_them(
    keep: str, duplicates: tuple[str, str], keys: tuple[tuple[int, ...], ...]
) -> None:
    rng = random.Random(5)
    a, b = tables(rng, 60, 50, 30)
    joined = Join(keep=keep)
    found = pairs(joined.run(a, b, duplicates, keys))
    matched = plain(a, b, duplicates, keys)
    place = 0 if keep == "bank" else 1
    kept = [pair[place] for pair in found if pair[1 - place] == -1]
    assert sorted(pair for pair in found if -1 not in pair) == matched
    taken = {pair[place] for pair in matched}
    if duplicates[place] == "all":
        assert kept == [row for row in range(len((a, b)[place])) if row not in taken]  # as a left join has it
    else:
        assert not taken & set(kept) and len(set(kept)) == len(kept)
    told = [m.count for sent in joined.sent for m in sent if isinstance(m, Unmatched)]
    assert told == [len(kept)]


def test_each_key_alone_must_reach_the_minimum() -> None:
    a: list[Row] = [(f"p{i}", f"e{i}", None) for i in range(40)]
    b: list[Row] = [(f"p{i}" if i < 20 else f"q{i}", f"e{i}" if i < 23 else f"f{i}", None) for i in range(60)]
    joined = Join(minimum=5)
    outcomes = joined.run(a, b, keys=((0,), (1,)))
    assert len(pairs(outcomes)) == 20 and outcomes[0].by_key == (20, None)  # three by e-mail stay hidden
    for place in (0, 1):
        kinds = [type(message) for message in joined.sent[place]]
        later = kinds[len(kinds) - kinds[::-1].index(Agreed) :]
        assert Seed not in later and Bitmap not in later
    everything = Join(minimum=3).run(a, b, keys=((0,), (1,)))
    assert len(pairs(everything)) == 23 and everything[0].by_key == (20, 3)


def test_where_no_key_reaches_the_minimum_nothing_is_aligned() -> None:
    a: list[Row] = [(f"p{i}", f"e{i}", None) for i in range(40)]
    b: list[Row] = [(f"p{i}" if i < 4 else f"q{i}", f"e{i}" if i < 8 else f"f{i}", None) for i in range(60)]
    some = Join(minimum=5).run(a, b, keys=((0,), (1,)))  # four by phone stay hidden, eight by e-mail do not
    assert len(pairs(some)) == 8 and some[0].by_key == (None, 8)
    assert all(isinstance(outcome, PolicyRefused) for outcome in Join(minimum=9).run(a, b, keys=((0,), (1,))))


@pytest.mark.parametrize("small", [None, "bank"])
@pytest.mark.parametrize("minimum", [5, 6])
def test_the_minimum_holds_where_only_the_size_is_told(minimum: int, small: str | None) -> None:
    a: list[Row] = [(f"p{i}", None, None) for i in range(20)]
    b: list[Row] = [(f"p{i}", None, None) for i in range(15, 200)]
    joined = Join("size", minimum, small=small)
    bank, telco = joined.run(a, b)
    told = [m.count for sent in joined.sent for m in sent if isinstance(m, Size)]
    if minimum == 5:
        assert bank.count == telco.count == 5 and told == [5]
    else:
        assert isinstance(bank, PolicyRefused) and isinstance(telco, PolicyRefused) and told == []
    assert not [m for sent in joined.sent for m in sent if isinstance(m, Seed | Bitmap)]
    opened = {fields["what"] for ledger in joined.ledgers for _, fields in ledger.events}
    assert "alignment.rows" not in opened


def test_repeated_keys_are_an_error_that_names_rows_and_no_value() -> None:
    a: list[Row] = [(name, None, None) for name in ("secretkey", "b", "secretkey", "b", "secretkey")]
    outcome = Join().run(a, [("b", None, None)])[0]
    assert isinstance(outcome, DataError)
    assert "3 rows" in outcome.message and "2, 3, 4" in outcome.message
    assert "secretkey" not in str(outcome.as_dict())


def test_multiplicities_stand_in_the_ledger_before_they_leave() -> None:
    joined = Join()
    joined.run([("x", None, None)] * 2, [("x", None, None)], ("all", "error"))
    for ledger in joined.ledgers:
        assert [fields["what"] for _, fields in ledger.events][-1] == "alignment.multiplicities"


def test_too_many_pairs_are_refused_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psi.joining.MOST_ROWS", 100)
    outcomes = Join().run([("x", None, None)] * 20, [("x", None, None)] * 6, ("all", "all"))
    for outcome in outcomes:
        assert isinstance(outcome, DataError) and "120 pairs" in outcome.message
        assert "first" in str(outcome.hint)


def changed(kind: type[Any], change: Callable[[Any], Message], cheat: int = 1) -> Callable[[int, Message], Message]:
    return lambda place, message: change(message) if place == cheat and isinstance(message, kind) else message


WRONG = {
    "none": (Multiplicities, lambda m: Multiplicities(m.counts * 0)),
    "too few": (Multiplicities, lambda m: Multiplicities(m.counts[:-1])),
    "too many": (Multiplicities, lambda m: Multiplicities(np.append(m.counts, np.uint32(1)))),
}


@pytest.mark.parametrize("case", WRONG)
def test_multiplicities_that_do_not_fit_are_refused(case: str) -> None:
    kind, change = WRONG[case]
    rows: list[Row] = [("x", None, None), ("y", None, None), ("x", None, None)]
    outcome = Join().run(rows, rows, ("all", "all"), change=changed(kind, change))[0]
    assert isinstance(outcome, PeerError) and "multiplicities" in outcome.message


def test_an_impossible_size_is_refused() -> None:
    rows: list[Row] = [(f"p{i}", None, None) for i in range(20)]
    for wrong in (0, 21):
        outcome = Join("size", 3).run(
            rows, rows + [("q", None, None)], change=changed(Size, lambda _, w=wrong: Size(w), 0)
        )
        assert isinstance(outcome[1], PeerError) and "impossible size" in outcome[1].message


def test_more_rows_without_a_match_than_agreed_are_refused() -> None:
    rows: list[Row] = [(f"p{i}", None, None) for i in range(5)]
    joined = Join(keep="telco")
    joined.most = 10
    outcome = joined.run(rows, rows, change=changed(Unmatched, lambda _: Unmatched(11)))[0]
    assert isinstance(outcome, PeerError) and "more rows than the agreement" in outcome.message
