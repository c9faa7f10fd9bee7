"""Comparisons of shared and private values against Python integers, their costs, and peers that break the rules."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc import compare
from mpc.compare import Leaf, Masked
from party.errors import InternalError, PeerError
from tests.mpc.ot_support import Half, both, halves, split
from tests.support import run_pair


@pytest.fixture(scope="module")
def pair() -> Any:
    with halves() as made:
        yield made


def signs(pair: tuple[Half, Half], values: list[int], bits: int, seed: int = 0) -> list[int]:
    shares = split(values, np.random.default_rng(seed))
    got = both(*pair, lambda half: compare.negative(half, shares[half.index], bits))
    return (got[0] ^ got[1]).tolist()


@pytest.mark.parametrize("bits", range(1, 6))
def test_all_pairs_of_small_numbers_compare(pair: tuple[Half, Half], bits: int) -> None:
    table = np.array(list(itertools.product(range(2**bits), repeat=2)), dtype=np.uint64)
    got = both(*pair, lambda half: compare.less_than(half, table[:, half.index].copy(), bits))
    assert np.array_equal(got[0] ^ got[1], table[:, 0] < table[:, 1])


@pytest.mark.parametrize("bits", range(2, 7))
def test_all_small_values_under_all_low_shares_have_their_sign(pair: tuple[Half, Half], bits: int) -> None:
    values = np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1))
    ours = np.arange(2**bits)
    table = [(v, a) for v in values.tolist() for a in ours.tolist()]
    left = np.array([a for _, a in table], dtype=np.uint64)
    right = np.array([(v - a) % 2**64 for v, a in table], dtype=np.uint64)
    got = both(*pair, lambda half: compare.negative(half, right if half.index else left, bits))
    assert (got[0] ^ got[1]).tolist() == [int(v < 0) for v, _ in table]


@pytest.mark.parametrize("bits", [2, 5, 8, 9, 17, 32, 33, 62, 63, 64])
def test_signs_at_the_edges_of_a_width(pair: tuple[Half, Half], bits: int) -> None:
    edge = 2 ** (bits - 1)
    values = [v for v in (-edge, -edge + 1, -2, -1, 0, 1, edge - 2, edge - 1) if -edge <= v < edge] * 25
    assert signs(pair, values, bits, bits) == [int(v < 0) for v in values]


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=40), seed=st.integers(0, 2**32))
def test_signs_of_any_64_bit_values(pair: tuple[Half, Half], values: list[int], seed: int) -> None:
    assert signs(pair, values, 64, seed) == [int(v < 0) for v in values]


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.tuples(*[st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**63, 2**64 - 1])] * 2), min_size=1)
)
def test_any_two_private_64_bit_numbers_compare(pair: tuple[Half, Half], values: list[tuple[int, int]]) -> None:
    table = np.array(values, dtype=np.uint64)
    got = both(*pair, lambda half: compare.less_than(half, table[:, half.index].copy(), 64))
    assert (got[0] ^ got[1]).tolist() == [int(x < y) for x, y in values]


@pytest.mark.parametrize("bits", [3, 8, 63])
def test_at_least_around_every_kind_of_threshold(pair: tuple[Half, Half], bits: int) -> None:
    edge = 2 ** (bits - 1)
    values = sorted({-edge, -edge + 1, -1, 0, 1, 2, edge - 2, edge - 1})
    shares = split(values, np.random.default_rng(bits))
    for threshold in (-edge, -1, 0, 1, 2, edge - 1):
        got = both(*pair, lambda half: compare.at_least(half, shares[half.index], threshold, bits))
        assert (got[0] ^ got[1]).tolist() == [int(v >= threshold) for v in values]


def test_and_or_not_follow_their_truth_tables(pair: tuple[Half, Half]) -> None:
    table = np.array(list(itertools.product((0, 1), repeat=4)), dtype=np.uint8)
    left, right = table[:, :2], table[:, 2:]  # column i is side i's share
    x, y = left[:, 0] ^ left[:, 1], right[:, 0] ^ right[:, 1]
    for action, expected in ((compare.logic_and, x & y), (compare.logic_or, x | y)):
        got = both(*pair, lambda half: action(half, left[:, half.index].copy(), right[:, half.index].copy()))
        assert np.array_equal(got[0] ^ got[1], expected)
    got = both(*pair, lambda half: compare.logic_not(half, left[:, half.index].copy()))
    assert np.array_equal(got[0] ^ got[1], 1 - x)


def test_shapes_are_kept_and_empty_arrays_pass(pair: tuple[Half, Half]) -> None:
    shares = split(np.arange(-6, 6).reshape(3, 4), np.random.default_rng(1))
    got = both(*pair, lambda half: compare.negative(half, shares[half.index], 20))
    assert np.array_equal(got[0] ^ got[1], np.arange(-6, 6).reshape(3, 4) < 0)
    empty = np.empty(0, dtype=np.uint64)
    assert both(*pair, lambda half: compare.negative(half, empty, 20))[0].shape == (0,)


def test_one_share_of_the_answer_is_even(pair: tuple[Half, Half]) -> None:
    values = np.full(4000, -1)
    shares = split(values, np.random.default_rng(5))
    got = both(*pair, lambda half: compare.negative(half, shares[half.index], 64))
    assert (got[0] ^ got[1]).all()
    assert abs(got[0].mean() - 0.5) < 0.05 and abs(got[1].mean() - 0.5) < 0.05


@pytest.mark.parametrize(("bits", "digits", "levels"), [(5, 1, 0), (9, 2, 1), (33, 8, 3), (64, 16, 4)])
def test_declared_rounds_and_bytes_whatever_the_data(
    pair: tuple[Half, Half], bits: int, digits: int, levels: int
) -> None:
    n = 800
    costs = []
    for value in (0, -1, 2 ** (bits - 2)):
        shares = split(np.full(n, value), np.random.default_rng(3))
        got = both(*pair, lambda half: half.counted(lambda: compare.negative(half, shares[half.index], bits)))
        costs.append((got[0][1], got[1][1]))
    assert costs[0] == costs[1] == costs[2]
    (left_bytes, left_messages, _, left_rounds), (right_bytes, right_messages, _, right_rounds) = costs[0]
    # one wait for corrections or leaves, one a level; index 1 sends nothing between corrections and leaves
    assert left_rounds == right_rounds == 1 + levels or (digits, left_rounds, right_rounds) == (1, 0, 1)
    frames = 24 + 8  # a header and the dimensions of an array, at most
    messages = left_messages + right_messages
    declared = n * (20 * digits + 8.75 * (digits - 1))
    assert declared <= left_bytes + right_bytes <= declared + frames * messages
    assert messages <= 4 + 2 * levels


@pytest.mark.parametrize("message", [Leaf(np.zeros(3, np.uint32)), Masked(np.zeros(1, np.uint8))])
def test_a_peer_with_wrong_sizes_or_messages_is_refused(message: Leaf | Masked) -> None:
    with halves() as (left, right):
        share = np.arange(4, dtype=np.uint64)

        def cheat() -> None:
            left.ot.choose(np.zeros(0, np.uint8))
            left.ot.offer16(4)
            left.channel.send(message)

        with pytest.raises(PeerError):
            run_pair(cheat, lambda: compare.less_than(right, share, 4), left.channel, right.channel)


def test_masked_bits_of_a_wrong_number_are_refused() -> None:
    with halves() as (left, right):
        bits = np.ones(9, dtype=np.uint8)

        def cheat() -> None:
            left.ot.choose(bits)
            left.ot.offer(9)
            left.channel.send(Masked(np.zeros(1, np.uint8)))

        with pytest.raises(PeerError, match="wrong number"):
            run_pair(cheat, lambda: compare.logic_and(right, bits, bits), left.channel, right.channel)


def test_our_own_wrong_inputs_are_refused(pair: tuple[Half, Half]) -> None:
    words = np.array([16], dtype=np.uint64)
    for action in (
        lambda: compare.less_than(pair[0], words, 4),
        lambda: compare.less_than(pair[0], words, 65),
        lambda: compare.less_than(pair[0], words.view(np.int64), 8),
        lambda: compare.negative(pair[0], words, 1),
        lambda: compare.at_least(pair[0], words, 0, 64),
        lambda: compare.at_least(pair[0], words, 128, 8),
        lambda: compare.logic_and(pair[0], np.zeros(2, np.uint8), np.zeros(3, np.uint8)),
    ):
        with pytest.raises(InternalError):
            action()


@pytest.mark.slow
def test_a_hundred_thousand_64_bit_comparisons(pair: tuple[Half, Half]) -> None:
    values = np.random.default_rng(9).integers(-(2**63), 2**63 - 1, 100_000)
    ours = np.random.default_rng(10).integers(0, 2**64, values.size, dtype=np.uint64)
    shares = (ours, values.view(np.uint64) - ours)
    got = both(*pair, lambda half: compare.negative(half, shares[half.index], 64))
    assert np.array_equal(got[0] ^ got[1], values < 0)
