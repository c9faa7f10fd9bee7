"""Lift, truncate, bits to arithmetic, select: exhaustive where small, at every boundary where not; and their costs."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc import convert
from party.errors import InternalError
from tests.mpc.ot_support import Half, both, halves, opened, split


@pytest.fixture(scope="module")
def pair() -> Any:
    with halves() as made:
        yield made


@pytest.mark.parametrize("t", [4, 5, 6, 7, 8, 13, 16, 31, 97, 100])
def test_lift_is_exact_for_every_value_and_every_share(pair: tuple[Half, Half], t: int) -> None:
    values = [v for v in range(-t, t + 1) if Fraction(abs(v)) < Fraction(t, 4)]
    table = [(v, a) for v in values for a in range(t)]
    shares = (
        np.array([a for _, a in table], dtype=np.uint64),
        np.array([(v - a) % t for v, a in table], dtype=np.uint64),
    )
    got = opened(both(*pair, lambda half: convert.lift(half, shares[half.index], t)))
    assert got.tolist() == [v for v, _ in table]


@pytest.mark.parametrize("t", [2113537, 2**22 - 3, 2**40, 0xFFFFFFFFFFFC001, 2**62, 2**63 - 25, 2**63])
def test_lift_at_the_edges_of_a_quarter(pair: tuple[Half, Half], t: int) -> None:
    top = (t - 1) // 4  # the largest integer under t/4
    values = [-top, -top + 1, -1, 0, 1, top - 1, top] * 2
    # shares at the places where the wrap and the half change, and random ones
    firsts = [0, 1, t // 4 - 1, t // 4, t // 4 + 1, t // 2 - 1, t // 2, t // 2 + 1, 3 * (t // 4), t - 2, t - 1]
    table = [(v, a) for v in values for a in firsts]
    shares = (
        np.array([a for _, a in table], dtype=np.uint64),
        np.array([(v - a) % t for v, a in table], dtype=np.uint64),
    )
    assert opened(both(*pair, lambda half: convert.lift(half, shares[half.index], t))).tolist() == [v for v, _ in table]
    random = split(values, np.random.default_rng(1), t)
    assert opened(both(*pair, lambda half: convert.lift(half, random[half.index], t))).tolist() == values


def test_lift_beyond_its_range_is_wrong() -> None:
    """The bound t/4 is where the proof ends: just outside, some shares give another value."""
    t = 97
    with halves() as made:
        values = [40] * t
        shares = (np.arange(t, dtype=np.uint64), (np.uint64(40 + t) - np.arange(t, dtype=np.uint64)) % np.uint64(t))
        got = opened(both(*made, lambda half: convert.lift(half, shares[half.index], t))).tolist()
        assert got != values


@pytest.mark.parametrize("shift", [0, 1, 2, 20, 33, 61, 62])
def test_truncation_is_floor_or_ceiling_at_every_boundary(pair: tuple[Half, Half], shift: int) -> None:
    edge, unit = 2**62, 2**shift
    halves_of_values = (0, 1, unit - 1, unit, unit + 1, edge // 2, edge - 1)
    values = [sign * v for v in halves_of_values for sign in (1, -1) if v < edge]
    firsts = [0, 1, unit - 1, unit, 2**62 - 1, 2**62, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - unit, 2**64 - 1, 2**45 + 99]
    table = [(v, a) for v in values for a in firsts]
    shares = (
        np.array([a for _, a in table], dtype=np.uint64),
        np.array([(v - a) % 2**64 for v, a in table], dtype=np.uint64),
    )
    got = opened(both(*pair, lambda half: convert.truncate(half, shares[half.index], shift))).tolist()
    for (value, _), result in zip(table, got, strict=True):
        assert result in (value >> shift, -(-value >> shift))


@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(st.integers(-(2**62) + 1, 2**62 - 1), min_size=1, max_size=40),
    shift=st.integers(0, 62),
    seed=st.integers(0, 2**32),
)
def test_truncation_of_any_values(pair: tuple[Half, Half], values: list[int], shift: int, seed: int) -> None:
    shares = split(values, np.random.default_rng(seed))
    got = opened(both(*pair, lambda half: convert.truncate(half, shares[half.index], shift))).tolist()
    assert all(result in (value >> shift, -(-value >> shift)) for value, result in zip(values, got, strict=True))
    # exact on multiples
    multiples = [(value >> shift) << shift for value in values if abs((value >> shift) << shift) < 2**62]
    shares = split(multiples, np.random.default_rng(seed))
    got = opened(both(*pair, lambda half: convert.truncate(half, shares[half.index], shift))).tolist()
    assert got == [value >> shift for value in multiples]


def test_truncation_has_no_bias(pair: tuple[Half, Half]) -> None:
    values = np.full(20_000, 3 * 2**19)  # one and a half units of 2^20
    shares = split(values, np.random.default_rng(8))
    got = opened(both(*pair, lambda half: convert.truncate(half, shares[half.index], 20)))
    assert abs(got.mean() - 1.5) < 0.02  # sd of the mean 0.0035


def test_bits_become_numbers(pair: tuple[Half, Half]) -> None:
    table = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 30, dtype=np.uint8)
    got = opened(both(*pair, lambda half: convert.to_arithmetic(half, table[:, half.index].copy())))
    assert got.tolist() == (table[:, 0] ^ table[:, 1]).tolist()
    square = table.reshape(60, 2, 2)
    got = opened(both(*pair, lambda half: convert.to_arithmetic(half, square[:, :, half.index] == 1)))
    assert np.array_equal(got, square[:, :, 0] ^ square[:, :, 1])


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=4, max_size=40), seed=st.integers(0, 2**32))
def test_select_keeps_or_clears_any_value(pair: tuple[Half, Half], values: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (2, len(values))).astype(np.uint8)
    shares = split(values, rng)
    got = opened(both(*pair, lambda half: convert.select(half, bits[half.index], shares[half.index])))
    assert got.tolist() == [v if b else 0 for v, b in zip(values, (bits[0] ^ bits[1]).tolist(), strict=True)]


def test_select_takes_one_bit_a_row_of_a_matrix(pair: tuple[Half, Half]) -> None:
    rng = np.random.default_rng(3)
    values = rng.integers(-(2**63), 2**63 - 1, (50, 7))
    bits = rng.integers(0, 2, (2, 50)).astype(np.uint8)
    shares = split(values, rng)
    got = opened(both(*pair, lambda half: convert.select(half, bits[half.index], shares[half.index])))
    assert np.array_equal(got, values * (bits[0] ^ bits[1])[:, None])


@pytest.mark.parametrize("n", [0, 1, 5, 3000])
def test_declared_rounds_and_bytes_whatever_the_data(pair: tuple[Half, Half], n: int) -> None:
    width, messages = 32 * -(-n // 8), int(n > 0)
    seen = set()
    for value in (0, 1, -5):
        shares = split(np.full(n, value), np.random.default_rng(2), 2113537)
        words = split(np.full(n, value), np.random.default_rng(2))
        bits = np.full(n, value & 1, dtype=np.uint8)
        lifts = both(*pair, lambda half: half.counted(lambda: convert.lift(half, shares[half.index], 2113537)))
        cuts = both(*pair, lambda half: half.counted(lambda: convert.truncate(half, words[half.index], 20)))
        numbers = both(*pair, lambda half: half.counted(lambda: convert.to_arithmetic(half, bits)))
        kept = both(*pair, lambda half: half.counted(lambda: convert.select(half, bits, words[half.index])))
        for one in (lifts, cuts, numbers):
            assert one[0][1] == (messages * (8 * n + 28), messages, messages, 0)
            assert one[1][1] == (messages * (width + 28), messages, messages, messages)
        assert kept[0][1] == kept[1][1] == (messages * (width + 8 * n + 56), 2 * messages, 2 * messages, 2 * messages)
        seen.add((lifts[0][1], cuts[0][1], numbers[0][1], kept[0][1]))
    assert len(seen) == 1


def test_shares_stay_uniform(pair: tuple[Half, Half]) -> None:
    """Either half of the results says nothing about the value, which is the same in all rows."""
    shares = split(np.full(4000, 5), np.random.default_rng(4))
    got = both(*pair, lambda half: convert.truncate(half, shares[half.index], 2))
    for half in got:
        assert abs(np.unpackbits(half.view(np.uint8)).mean() - 0.5) < 0.01
        assert len(np.unique(half)) == 4000


def test_our_own_wrong_inputs_are_refused(pair: tuple[Half, Half]) -> None:
    half, words = pair[0], np.array([97], dtype=np.uint64)
    for action in (
        lambda: convert.lift(half, words, 97),
        lambda: convert.lift(half, words, 3),
        lambda: convert.lift(half, words, 2**63 + 1),
        lambda: convert.lift(half, words.view(np.int64), 101),
        lambda: convert.truncate(half, words, 63),
        lambda: convert.truncate(half, words, -1),
        lambda: convert.select(half, np.zeros(2, dtype=np.uint8), words),
    ):
        with pytest.raises(InternalError):
            action()
