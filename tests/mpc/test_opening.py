"""Openings through the guard, and the smallest group decided on shares, against a plain twin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc import opening
from mpc.opening import Opened
from party.errors import InternalError, PeerError, PolicyRefused, TallyError
from tests.mpc.ot_support import Half, both, halves, opened, split
from tests.support import run_pair


@pytest.fixture(scope="module")
def pair() -> Any:
    with halves([("sums", "bank"), ("sums", "telco"), ("bits", "bank")]) as made:
        yield made


def plain_shown(counts: list[int], min_rows: int) -> list[int]:
    """The rule in the clear: small groups go; if few rows are hidden, the smallest shown group goes too."""
    shown = [int(count >= min_rows) for count in counts]
    hidden = sum(count for count, there in zip(counts, shown, strict=True) if not there)
    if 0 < hidden < min_rows and any(shown):
        shown[min((count, place) for place, count in enumerate(counts) if shown[place])[1]] = 0
    return shown


def shown_bits(pair: tuple[Half, Half], counts: list[int], min_rows: int, bits: int, seed: int = 0) -> list[int]:
    shares = split(counts, np.random.default_rng(seed))
    got = both(*pair, lambda half: opening.shown_groups(half, shares[half.index], min_rows, bits))
    return (got[0] ^ got[1]).tolist()


@pytest.mark.parametrize(("to", "receives"), [(["bank"], (1, 0)), (["telco"], (0, 1)), (["bank", "telco"], (1, 1))])
def test_values_open_to_their_receivers_only(to: list[str], receives: tuple[int, int]) -> None:
    with halves([("sums", "bank"), ("sums", "telco")]) as (left, right):
        values = np.array([[-5, 2**62], [0, 7]])
        shares = split(values, np.random.default_rng(1))

        def act(half: Half) -> Any:
            return half.counted(lambda: opening.open_to(half, shares[half.index], "sums", to))

        got = both(left, right, act)
        for side, half in enumerate((left, right)):
            result, (sent, messages, _, _) = got[side]
            if receives[side]:
                assert np.array_equal(result.view(np.int64), values)
            else:
                assert result is None
            # the other's receipt is what we send and what our ledger holds
            assert messages == receives[1 - side] and sent == (28 + 32) * receives[1 - side]
            noted = [(fields["what"], fields["to"], fields["rows"]) for _, fields in half.ledger.events]
            assert noted == [("sums", half.channel.peer, 4)] * receives[1 - side]


def test_bits_open_and_cost_one_bit_each(pair: tuple[Half, Half]) -> None:
    for n in (0, 1, 8, 63, 64, 65, 200):
        bits = np.random.default_rng(n).integers(0, 2, (2, n)).astype(np.uint8)

        def act(half: Half, bits: np.ndarray = bits) -> Any:
            return half.counted(lambda: opening.open_bits(half, bits[half.index], "bits", ["bank"]))

        got = both(*pair, act)
        assert np.array_equal(got[0][0], bits[0] ^ bits[1]) and got[1][0] is None
        assert got[1][1][0] == (28 + 8 * -(-n // 64) if n else 0)


def test_what_the_agreement_does_not_name_is_refused_before_a_byte_leaves() -> None:
    with halves([("sums", "bank")]) as (left, right):
        share = np.arange(3, dtype=np.uint64)
        before = left.channel.counters.sent
        with pytest.raises(PolicyRefused):
            opening.open_to(left, share, "sums", ["telco"])
        with pytest.raises(PolicyRefused):
            opening.open_to(left, share, "other", ["bank", "telco"])
        assert left.channel.counters.sent == before and not left.ledger.events
        assert both(left, right, lambda half: opening.open_to(half, share, "sums", ["bank"]))[0].tolist() == [0, 2, 4]


def test_the_ledger_is_written_before_the_send() -> None:
    with halves([("sums", "bank"), ("sums", "telco")]) as (left, right):
        order: list[str] = []
        append, send = right.ledger.append, right.channel.send
        right.ledger.append = lambda *a, **k: (order.append("ledger"), append(*a, **k))[1]  # type: ignore[method-assign]
        right.channel.send = lambda message: (order.append("send"), send(message))[1]  # type: ignore[method-assign]
        both(left, right, lambda half: opening.open_to(half, np.arange(3, dtype=np.uint64), "sums", ["bank"]))
        assert order == ["ledger", "send"]


def test_wrong_receivers_and_wrong_sizes_are_refused(pair: tuple[Half, Half]) -> None:
    share = np.arange(3, dtype=np.uint64)
    for to in ([], ["mallory"], ["bank", "bank"], ["bank", "mallory"]):
        with pytest.raises(InternalError):
            opening.open_to(pair[0], share, "sums", to)
    with halves([("sums", "bank")]) as (left, right), pytest.raises(PeerError, match="wrong number"):
        run_pair(
            lambda: opening.open_to(left, share, "sums", ["bank"]),
            lambda: right.channel.send(Opened(np.zeros(2, np.uint64))),
            left.channel,
            right.channel,
        )


def test_more_values_than_a_frame_holds_open_in_several(pair: tuple[Half, Half]) -> None:
    share = np.arange(2**20 + 5, dtype=np.uint64)
    got = both(*pair, lambda half: opening.open_to(half, share, "sums", ["telco"]))
    assert np.array_equal(got[1], 2 * share)


@pytest.mark.parametrize("min_rows", [1, 3])
def test_all_small_tables_of_three_groups(pair: tuple[Half, Half], min_rows: int) -> None:
    for first in range(4):
        for second in range(4):
            counts = [first, second, 2]
            assert shown_bits(pair, counts, min_rows, 3, first) == plain_shown(counts, min_rows)


@pytest.mark.parametrize(
    ("counts", "min_rows", "expected"),
    [
        ([30, 19, 0, 25, 20], 20, [1, 0, 0, 1, 0]),  # 19 hidden: the smallest shown (20) goes too
        ([30, 0, 0, 25, 20], 20, [1, 0, 0, 1, 1]),  # nothing but empty ones hidden
        ([30, 10, 10, 25, 20], 20, [1, 0, 0, 1, 1]),  # 20 rows hidden together: enough
        ([20, 20, 5], 20, [0, 1, 0]),  # of equals the first
        ([5, 4, 3], 20, [0, 0, 0]),  # nothing shown, nothing to drop
        ([5, 100], 20, [0, 0]),  # two groups: a total would show the small one
        ([19], 20, [0]),
        ([20], 20, [1]),
        ([0, 1, 5], 1, [0, 1, 1]),  # 1 switches the protection off
        ([4095, 4095, 4095], 5000, [0, 0, 0]),  # beyond the declared width
    ],
)
def test_hidden_groups_and_their_partner(
    pair: tuple[Half, Half], counts: list[int], min_rows: int, expected: list[int]
) -> None:
    assert plain_shown(counts, min_rows) == expected
    assert shown_bits(pair, counts, min_rows, 12) == expected


@settings(max_examples=12, deadline=None)
@given(
    counts=st.lists(st.integers(0, 40) | st.integers(0, 2**21 - 1), min_size=1, max_size=17),
    min_rows=st.integers(1, 60),
    seed=st.integers(0, 2**32),
)
def test_any_groups_follow_the_plain_rule(pair: tuple[Half, Half], counts: list[int], min_rows: int, seed: int) -> None:
    assert shown_bits(pair, counts, min_rows, 21, seed) == plain_shown(counts, min_rows)


def protected(half: Half, counts: np.ndarray, cells: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    shown = opening.shown_groups(half, counts, 20, bits)
    return shown, opening.suppress(half, shown, cells)


def test_protected_cells_open_as_zeros_and_say_the_same_for_empty_and_small(pair: tuple[Half, Half]) -> None:
    counts = [50, 3, 0, 2**20 - 1, 60]
    cells = np.array([[50, -7], [3, 1234567], [0, 0], [2**20 - 1, -(2**62)], [60, 9]])
    rng = np.random.default_rng(5)
    count_shares, cell_shares = split(counts, rng), split(cells, rng)
    got = both(*pair, lambda half: protected(half, count_shares[half.index], cell_shares[half.index], 20))
    shown = got[0][0] ^ got[1][0]
    assert shown.tolist() == plain_shown(counts, 20) == [0, 0, 0, 1, 1]
    assert np.array_equal(opened((got[0][1], got[1][1])), cells * shown[:, None])


def test_protection_costs_the_same_whatever_the_counts(pair: tuple[Half, Half]) -> None:
    costs = set()
    for counts in ([0] * 6, [100] * 6, [5, 100, 100, 100, 100, 100], [1, 2, 3, 100, 0, 19]):
        shares = split(counts, np.random.default_rng(1))
        cells = split(np.arange(12).reshape(6, 2), np.random.default_rng(2))
        got = both(
            *pair,
            lambda half: half.counted(lambda: protected(half, shares[half.index], cells[half.index], 10)),
        )
        costs.add((got[0][1], got[1][1]))
    assert len(costs) == 1


def test_protection_refuses_what_it_cannot_hold(pair: tuple[Half, Half]) -> None:
    counts = np.zeros(4, dtype=np.uint64)
    for min_rows, bits in ((0, 10), (20, 0), (20, 60)):
        with pytest.raises(TallyError):
            opening.shown_groups(pair[0], counts, min_rows, bits)
