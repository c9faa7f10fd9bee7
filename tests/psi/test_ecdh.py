"""The alignment against plain set intersection, its openings, minimum sizes and agreed settings."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from party.errors import DataError, PeerRefused, PolicyRefused, UsageError
from party.message import Message
from psi import Alignment, Means, Terms, from_items, match, predict
from psi.messages import CHUNK
from psi.rows import ascending, join, order_words, strictly_ascending
from tests.psi.support import SALT, Tampered, align, both_ends, guard, ids, terms
from tests.support import channels

SIZES = [(0, 0), (0, 3), (3, 0), (1, 1), (1, 2), (2, 1), (7, 7), (7, 100), (100, 7), (100, 100), (1000, 1000)]


def shuffled(low: int, count: int, seed: int) -> list[int]:
    values = list(range(low, low + count))
    random.Random(seed).shuffle(values)
    return values


def check_both(a: list[int], b: list[int], bank: Alignment, telco: Alignment) -> None:
    common = set(a) & set(b)
    assert [a[row] for row in bank.rows] == [b[row] for row in telco.rows]
    assert {a[row] for row in bank.rows} == common and len(bank.rows) == len(common)
    assert bank.count == telco.count == len(common)
    assert bank.matched is None and telco.matched is None
    assert bank.digest == telco.digest and len(bank.digest) == 32
    assert (bank.ours, bank.theirs) == (telco.theirs, telco.ours) == (len(a), len(b))


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_equals_plain_set_intersection(n: int, m: int) -> None:
    a, b = shuffled(0, n, 1), shuffled(n // 2, m, 2)
    check_both(a, b, *align(ids(a), ids(b)))


@pytest.mark.parametrize(("a", "b"), [(range(50), range(50)), (range(50), range(50, 90)), (range(10), range(3, 5))])
def test_equal_disjoint_and_nested_lists(a: range, b: range) -> None:
    check_both(list(a), list(b), *align(ids(a), ids(b)))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m"), [(10_000, 10_000), (CHUNK - 1, 500), (CHUNK, 500), (2 * CHUNK + 1, CHUNK + 1)])
def test_equals_plain_set_intersection_over_chunks(n: int, m: int) -> None:
    a, b = shuffled(0, n, 1), shuffled(n // 2, m, 2)
    check_both(a, b, *align(ids(a), ids(b)))


@pytest.mark.parametrize("learner", ["bank", "telco"])
@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 4), (4, 0), (1, 1), (7, 100), (100, 7), (300, 300)])
def test_one_learner_fills_the_others_whole_list(n: int, m: int, learner: str) -> None:
    lists = {"bank": shuffled(0, n, 1), "telco": shuffled(n // 2, m, 2)}
    bank, telco = align(ids(lists["bank"]), ids(lists["telco"]), learner)
    got = {"bank": bank, "telco": telco}
    other = "telco" if learner == "bank" else "bank"
    theirs, ours, common = lists[other], lists[learner], set(lists["bank"]) & set(lists["telco"])
    assert sorted(got[other].rows) == list(range(len(theirs)))
    assert got[other].count is None and got[other].matched is None
    assert got[learner].count == len(common)
    assert got[learner].matched is not None
    for our_row, found, their_row in zip(got[learner].rows, got[learner].matched, got[other].rows, strict=True):
        assert found == (theirs[their_row] in common)
        assert ours[our_row] == theirs[their_row] if found else our_row == -1
    assert bank.digest == telco.digest


def seen_by_the_other(n: int, m: int, learner: str) -> list[str]:
    """The kinds of the messages that the side which does not learn receives."""
    first, second = channels()
    kinds: list[str] = []

    def watched(message: Message) -> Message:
        kinds.append(type(message).__name__)
        return message

    ends = {"bank": Tampered(first, watched) if learner == "bank" else first}
    ends["telco"] = Tampered(second, watched) if learner == "telco" else second
    both_ends(
        lambda: match(ids(range(n)), ends["bank"], guard("telco", learner)[0], terms(learner)),
        lambda: match(ids(range(2, 2 + m)), ends["telco"], guard("bank", learner)[0], terms(learner)),
        first,
        second,
    )
    return kinds


@pytest.mark.parametrize("learner", ["bank", "telco"])
def test_with_one_learner_nothing_but_one_bit_goes_back(learner: str) -> None:
    assert seen_by_the_other(20, 30, learner) == ["Agreed", "Listed", "Masked", "Enough", "Digest"]


@pytest.mark.parametrize(("bank_min", "telco_min"), [(6, 0), (0, 6), (6, 3), (3, 6), (6, 6)])
@pytest.mark.parametrize(("n", "m"), [(10, 20), (20, 10)])
def test_below_the_minimum_nobody_gets_rows_and_both_get_typed_errors(
    bank_min: int, telco_min: int, n: int, m: int
) -> None:
    first, second = channels()
    bank_guard, bank_ledger = guard("telco")
    telco_guard, telco_ledger = guard("bank")
    kinds: list[str] = []

    def watched(message: Message) -> Message:
        kinds.append(type(message).__name__)
        return message

    bank, telco = both_ends(  # five in common
        lambda: match(ids(range(n)), Tampered(first, watched), bank_guard, terms(ours=bank_min, theirs=telco_min)),
        lambda: match(
            ids(range(n - 5, n - 5 + m)), Tampered(second, watched), telco_guard, terms("both", telco_min, bank_min)
        ),
        first,
        second,
    )
    expected = {True: PolicyRefused, False: PeerRefused}
    assert type(bank) is expected[bank_min >= telco_min]
    assert type(telco) is expected[telco_min >= bank_min]
    assert "5" not in str(bank) and "5" not in str(telco)
    assert not {"Seed", "Bitmap", "Digest"} & set(kinds)
    for ledger in (bank_ledger, telco_ledger):
        assert "alignment.rows" not in [fields["what"] for _, fields in ledger.events]


def test_exactly_the_minimum_is_enough() -> None:
    first, second = channels()
    bank, telco = both_ends(
        lambda: match(ids(range(10)), first, guard("telco")[0], terms(ours=5)),
        lambda: match(ids(range(5, 25)), second, guard("bank")[0], terms(theirs=5)),
        first,
        second,
    )
    assert isinstance(bank, Alignment) and isinstance(telco, Alignment) and bank.count == 5


def test_a_list_shorter_than_the_minimum_is_refused_before_it_leaves() -> None:
    first, second = channels()
    kinds: list[str] = []
    bank, telco = both_ends(
        lambda: match(ids(range(4)), first, guard("telco")[0], terms(ours=5)),
        lambda: match(
            ids(range(25)),
            Tampered(second, lambda m: kinds.append(type(m).__name__) or m),
            guard("bank")[0],
            terms(theirs=5),
        ),
        first,
        second,
    )
    assert isinstance(bank, PolicyRefused) and isinstance(telco, PeerRefused) and kinds == ["Agreed", "Listed"]


@pytest.mark.parametrize(("learns", "n", "m"), [("both", 8, 20), ("both", 20, 8), ("bank", 8, 20), ("telco", 8, 20)])
def test_the_ledger_names_every_opening_before_it_leaves(learns: str, n: int, m: int) -> None:
    first, second = channels()
    bank_guard, bank_ledger = guard("telco", learns)
    telco_guard, telco_ledger = guard("bank", learns)
    both_ends(
        lambda: match(ids(range(n)), first, bank_guard, terms(learns)),
        lambda: match(ids(range(4, 4 + m)), second, telco_guard, terms(learns)),
        first,
        second,
    )
    sender = ["alignment.list", "alignment.count", "alignment.rows"]
    receiver = ["alignment.list", "alignment.enough", *(["alignment.rows"] if learns == "both" else [])]
    bank_receives = n < m if learns == "both" else learns == "bank"
    assert [f["what"] for _, f in bank_ledger.events] == (receiver if bank_receives else sender)
    assert [f["what"] for _, f in telco_ledger.events] == (sender if bank_receives else receiver)
    assert {f["to"] for _, f in bank_ledger.events} == {"telco"}


@pytest.mark.parametrize("closed", ["alignment.list", "alignment.count", "alignment.rows", "alignment.enough"])
def test_what_the_agreement_does_not_open_does_not_leave(closed: str) -> None:
    first, second = channels()
    kinds: list[str] = []
    allowed, _ = guard("telco")
    allowed._openings = frozenset(o for o in allowed._openings if o.what != closed)
    ours, theirs = (range(8), range(20)) if closed == "alignment.enough" else (range(20), range(8))
    bank, _ = both_ends(
        lambda: match(ids(ours), Tampered(first, lambda m: kinds.append(type(m).__name__) or m), allowed, terms()),
        lambda: match(ids(theirs), second, guard("bank")[0], terms()),
        first,
        second,
    )
    assert isinstance(bank, PolicyRefused)
    hidden = {
        "alignment.list": "Listed",
        "alignment.count": "Tags",
        "alignment.rows": "Seed",
        "alignment.enough": "Enough",
    }
    assert hidden[closed] not in kinds


def refused(bank_terms: Terms, telco_terms: Terms, telco_ids: Any = None) -> tuple[object, object]:
    first, second = channels()
    return both_ends(
        lambda: match(ids(range(8)), first, guard("telco")[0], bank_terms),
        lambda: match(telco_ids or ids(range(8)), second, guard("bank")[0], telco_terms),
        first,
        second,
    )


@pytest.mark.parametrize("other", [{"run": "r2"}, {"salt": bytes(32)}, {"learns": "bank"}, {"our_min_size": 2}])
def test_different_terms_are_refused_before_masking(other: dict[str, Any]) -> None:
    for outcome in refused(terms(), replace(terms(), **other)):
        assert isinstance(outcome, PeerRefused) and "same alignment" in outcome.message


def test_different_normalisation_is_refused_before_masking() -> None:
    others = ids(range(8))
    others.settings = bytes(32)
    for outcome in refused(terms(), terms(), others):
        assert isinstance(outcome, PeerRefused) and "normalises" in outcome.message


def test_our_own_list_beyond_the_agreed_length_is_a_data_error() -> None:
    outcome, _ = refused(replace(terms(), most_ours=7), terms())
    assert isinstance(outcome, DataError)


def test_a_learner_that_is_neither_party_is_refused() -> None:
    with pytest.raises(UsageError, match="neither"):
        match(ids([1]), channels()[0], guard("telco")[0], terms("insurer"))


def test_the_salt_separates_runs() -> None:
    """Lists masked under one scalar but other salts share no point; under one salt they share the common ones."""
    from kernels import curve25519
    from psi.masking import _DOMAIN

    scalar = curve25519.random_scalar()
    sets = [
        {
            p.tobytes()
            for p in curve25519.multiply(
                scalar, curve25519.hash_to_curve(*curve25519.pack([b"a", b"b"]), _DOMAIN + salt)
            )
        }
        for salt in (SALT, SALT, bytes(32))
    ]
    assert sets[0] == sets[1] and not sets[0] & sets[2]


def test_the_sent_order_says_nothing_about_the_input_order() -> None:
    """Trap: key order would leak ranks. Two runs over one list send rows in different orders, both ascending."""
    orders = []
    for _ in range(2):
        first, second = channels()
        sent: list[Any] = []
        both_ends(
            lambda: match(ids(range(40)), Tampered(first, lambda m: sent.append(m) or m), guard("telco")[0], terms()),
            lambda: match(ids(range(40)), second, guard("bank")[0], terms()),
            first,
            second,
        )
        points = sent[2].points
        assert strictly_ascending(points)
        orders.append(points.tobytes())
    assert orders[0] != orders[1]


@pytest.mark.parametrize("learns", ["both", "bank", "telco", "size"])
@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 9), (9, 0), (1, 1), (40, 90), (90, 40)])
def test_predicted_cost_equals_counted_cost(n: int, m: int, learns: str) -> None:
    pair = channels()
    align(ids(range(n)), ids(range(m)), learns, pair=pair)
    expected = predict({"bank": n, "telco": m}, learns)
    for channel in pair:
        cost = expected[channel.us]
        counted = (channel.counters.sent, channel.counters.messages_sent, channel.counters.rounds)
        assert counted == (cost.sent, cost.messages, cost.rounds)


def test_a_million_a_side_stays_under_37_and_a_half_bytes_an_identifier() -> None:
    cost = predict({"bank": 10**6, "telco": 10**6})
    assert (cost["bank"].sent + cost["telco"].sent) / (2 * 10**6) <= 37.5


def test_rows_are_found_ordered_and_permuted_by_all_their_bytes() -> None:
    rng = np.random.default_rng(1)
    points = rng.integers(0, 2, (300, 32), dtype=np.uint8)  # many equal beginnings
    points[:, :8] = 0
    order = ascending(points)
    assert [points[i].tobytes() for i in order] == sorted(p.tobytes() for p in points)
    distinct = np.unique(points, axis=0)
    theirs = distinct[1::2]
    ours, there = join(distinct, theirs)
    assert ours.tolist() == list(range(1, len(distinct), 2)) and (distinct[ours] == theirs[there]).all()
    assert not len(join(distinct[::2], theirs)[0]) and not len(join(distinct, theirs[:0])[0])
    words = [list(order_words(bytes([seed] * 32), CHUNK + 200)) for seed in (0, 0, 1)]
    assert (words[0][1] == words[1][1]).all() and (words[0][1] != words[2][1]).any()
    assert (next(order_words(bytes(32), CHUNK + 200, chunk=1)) == words[0][1]).all() and len(words[0][1]) == 200
    assert strictly_ascending(points[:0]) and strictly_ascending(points[:1])
    assert not strictly_ascending(points[[0, 0]])


def test_progress_counts_both_passes() -> None:
    first, second = channels()
    seen: list[tuple[int, int, str]] = []
    both_ends(
        lambda: match(ids(range(8)), first, guard("telco")[0], terms(), Means(progress=lambda *a: seen.append(a))),
        lambda: match(from_items([b"id1"]), second, guard("bank")[0], terms()),
        first,
        second,
    )
    assert [done for done, _, _ in seen] == [8, 9] and seen[-1][1] == 9
    assert "keys of bank" in seen[0][2] and "keys of telco" in seen[-1][2] and "a second" in seen[0][2]
