"""The extension and correlated transfers: results, costs, what a choice shows, bad peers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mpc import ole
from mpc.ot import Correction, Correction16, Ot, Reply
from party.errors import InternalError, PeerError
from tests.mpc.ot_support import Half, both, halves
from tests.support import run_pair


@pytest.fixture(scope="module")
def pair() -> Any:
    with halves() as made:
        yield made


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 1000, 65535, 65536, 65537, 2**18 + 9])
def test_correlated_shares_add_up(pair: tuple[Half, Half], n: int) -> None:
    rng = np.random.default_rng(n)
    deltas = rng.integers(0, 2**64, n, dtype=np.uint64)
    bits = rng.integers(0, 2, n).astype(np.uint8)
    left, right = pair
    got = run_pair(lambda: left.ot.cot_send(deltas), lambda: right.ot.cot_receive(bits), left.channel, right.channel)
    assert np.array_equal(got[0] + got[1], deltas * bits)
    got = run_pair(lambda: right.ot.cot_send(deltas), lambda: left.ot.cot_receive(bits), left.channel, right.channel)
    assert np.array_equal(got[0] + got[1], deltas * bits)


@pytest.mark.parametrize("words", [1, 2, 3, 8])
def test_vectors_of_deltas_share_one_bit_a_row(pair: tuple[Half, Half], words: int) -> None:
    rng = np.random.default_rng(words)
    deltas = rng.integers(0, 2**64, (300, words), dtype=np.uint64)
    bits = rng.integers(0, 2, 300).astype(bool)
    left, right = pair
    got = run_pair(
        lambda: left.ot.cot_send(deltas), lambda: right.ot.cot_receive(bits, words), left.channel, right.channel
    )
    assert np.array_equal(got[0] + got[1], deltas * bits[:, None])


@pytest.mark.parametrize("words", [None, 1, 5])
def test_both_directions_at_once_with_different_lengths(pair: tuple[Half, Half], words: int | None) -> None:
    rng = np.random.default_rng(4)
    sizes = (70, 400)  # rows that each side offers
    deltas = [rng.integers(0, 2**64, n if words is None else (n, words), dtype=np.uint64) for n in sizes]
    bits = [rng.integers(0, 2, n).astype(np.uint8) for n in sizes[::-1]]  # bits of side i meet deltas of side 1 - i
    got = both(*pair, lambda half: half.ot.cot_both(deltas[half.index], bits[half.index]))
    for side in (0, 1):
        theirs = bits[1 - side] if words is None else bits[1 - side][:, None]
        assert np.array_equal(got[side][0] + got[1 - side][1], deltas[side] * theirs)


def test_one_of_sixteen_gives_exactly_one_key(pair: tuple[Half, Half]) -> None:
    n = 70_001
    digits = np.random.default_rng(6).integers(0, 16, n).astype(np.uint8)
    left, right = pair
    keys, all_keys = run_pair(
        lambda: left.ot.choose16(digits), lambda: right.ot.offer16(n), left.channel, right.channel
    )
    assert np.array_equal(all_keys[digits, np.arange(n)], keys)
    others = (all_keys == keys).sum(axis=0) - 1
    assert abs(others.mean() - 15 / 256) < 0.005
    for m in range(16):
        assert abs(np.unpackbits(all_keys[m]).mean() - 0.5) < 0.01


def test_pairs_of_strings_give_the_chosen_one(pair: tuple[Half, Half]) -> None:
    rng = np.random.default_rng(7)
    zero, one = rng.integers(0, 2**64, (2, 500, 3), dtype=np.uint64)
    bits = rng.integers(0, 2, 500).astype(np.uint8)
    left, right = pair
    got = run_pair(
        lambda: left.ot.send_pairs(zero, one), lambda: right.ot.receive_pairs(bits, 3), left.channel, right.channel
    )
    assert np.array_equal(got[1], np.where(bits[:, None] == 1, one, zero))


def test_equal_inputs_never_repeat_a_mask(pair: tuple[Half, Half]) -> None:
    deltas, bits = np.full(5000, 9, dtype=np.uint64), np.zeros(5000, dtype=np.uint8)
    shares = [both(*pair, lambda half: half.ot.cot_both(deltas, bits)) for _ in range(3)]
    seen = np.concatenate([part for round_ in shares for part in round_[0] + round_[1]])
    assert len(np.unique(seen)) == len(seen) == 60_000


def test_corrections_do_not_show_the_choices() -> None:
    """The same choices in two runs, and opposite choices: the packed corrections are balanced and unlike each other."""
    with halves() as (left, right):
        sent: list[np.ndarray] = []
        send = left.channel.send

        def keep(message: Any) -> None:
            if isinstance(message, Correction):
                sent.append(np.array(message.bits))
            send(message)

        left.channel.send = keep  # type: ignore[method-assign]
        for value in (0, 0, 1):
            bits = np.full(8192, value, dtype=np.uint8)
            run_pair(lambda: left.ot.choose(bits), lambda: right.ot.offer(8192), left.channel, right.channel)
    for message in sent:
        assert abs(np.unpackbits(message).mean() - 0.5) < 0.01
        # no two places carry the same mask: their XOR would be zero
        assert all((message[place] ^ message[place + 1]).any() for place in range(31))
    assert abs(np.unpackbits(sent[0] ^ sent[1]).mean() - 0.5) < 0.01
    assert abs(np.unpackbits(sent[0] ^ sent[2]).mean() - 0.5) < 0.01


@pytest.mark.parametrize(("n", "words"), [(1, 1), (5000, 1), (5000, 4), (70_000, 1)])
def test_correlated_transfer_costs_what_it_declares(pair: tuple[Half, Half], n: int, words: int) -> None:
    costs = []
    for fill in (0, 1):
        deltas = np.full((n, words), fill * (2**64 - 1), dtype=np.uint64)
        bits = np.full(n, fill, dtype=np.uint8)
        got = both(*pair, lambda half: half.counted(lambda: half.ot.cot_both(deltas, bits)))
        costs.append((got[0][1], got[1][1]))
    assert costs[0] == costs[1] and costs[0][0] == costs[0][1]
    sent, messages, _, rounds = costs[0][0]
    assert rounds == 2
    assert messages == -(-n // 2**18) + -(-n * words // 2**20)
    assert sent == 32 * -(-n // 8) + 8 * n * words + 28 * messages


def test_wrong_sizes_from_the_peer_are_refused() -> None:
    bits = np.zeros(20, dtype=np.uint8)
    narrow, wide = Correction(np.zeros((32, 2), np.uint8)), Correction(np.zeros((32, 4), np.uint8))
    for bad in (narrow, wide, Reply(np.zeros(1, np.uint64))):
        with halves() as (left, right), pytest.raises(PeerError):
            run_pair(lambda: left.channel.send(bad), lambda: right.ot.offer(20), left.channel, right.channel)
    with halves() as (left, right), pytest.raises(PeerError, match="correction"):
        short = Correction16(np.zeros((32, 4, 2), np.uint8))
        run_pair(lambda: left.channel.send(short), lambda: right.ot.offer16(20), left.channel, right.channel)
    with halves() as (left, right), pytest.raises(PeerError, match="reply"):

        def short_reply() -> None:
            left.ot.offer(20)
            left.channel.send(Reply(np.zeros(19, np.uint64)))

        run_pair(short_reply, lambda: right.ot.cot_receive(bits), left.channel, right.channel)


def test_our_own_wrong_inputs_are_refused(pair: tuple[Half, Half]) -> None:
    ot: Ot = pair[0].ot
    for action in (
        lambda: ot.choose(np.array([0, 2], dtype=np.uint8)),
        lambda: ot.choose(np.array([0, 1])),
        lambda: ot.choose(np.zeros((2, 2), dtype=np.uint8)),
        lambda: ot.choose16(np.array([16], dtype=np.uint8)),
        lambda: ot.cot_send(np.zeros(3, dtype=np.int64)),
        lambda: ot.cot_send(np.zeros((3, 0), dtype=np.uint64)),
    ):
        with pytest.raises(InternalError):
            action()


def test_products_in_the_field_of_sixteen_follow_its_laws() -> None:
    def times(x: int, y: int) -> int:
        """Carry-less product modulo a^4 + a + 1, bit by bit."""
        product = 0
        for bit in range(4):
            if y >> bit & 1:
                product ^= x << bit
        for bit in (6, 5, 4):
            if product >> bit & 1:
                product ^= 0b10011 << (bit - 4)
        return product

    for factor in range(16):
        elements = np.arange(16, dtype=np.uint8)
        planes = (elements >> np.arange(4, dtype=np.uint8)[:, None]) & 1
        got = ole.times(planes, factor)
        values = sum(got[bit].astype(int) << bit for bit in range(4))
        assert values.tolist() == [times(x, factor) for x in range(16)]
        if factor:
            assert sorted(values.tolist()) == list(range(16))  # each factor but 0 is a permutation: all of D hides


@pytest.mark.slow
def test_three_million_transfers_in_one_call(pair: tuple[Half, Half]) -> None:
    n = 3_000_001
    deltas = np.arange(n, dtype=np.uint64)
    bits = (deltas % np.uint64(3) == 0).astype(np.uint8)
    left, right = pair
    got = run_pair(lambda: left.ot.cot_send(deltas), lambda: right.ot.cot_receive(bits), left.channel, right.channel)
    assert np.array_equal(got[0] + got[1], deltas * bits)


def test_small_and_large_calls_mix_without_losing_step_or_repeating_a_key(pair: tuple[Half, Half]) -> None:
    left, right = pair
    rng = np.random.default_rng(11)
    seen: list[np.ndarray] = []
    for n in (3, 500, 513, 512, 511, 1, 4096, 4097, 9, *[400] * 12):
        bits = rng.integers(0, 2, n).astype(np.uint8)
        digits = rng.integers(0, 16, n).astype(np.uint8)
        keys, (zero, one) = run_pair(
            lambda: left.ot.choose(bits), lambda: right.ot.offer(n), left.channel, right.channel
        )
        assert np.array_equal(keys, np.where(bits[:, None] == 1, one, zero))
        got, offered = run_pair(
            lambda: left.ot.choose16(digits), lambda: right.ot.offer16(n), left.channel, right.channel
        )
        assert np.array_equal(offered[digits, np.arange(n)], got)
        seen += [zero, one]
    everything = np.concatenate(seen)
    assert len(np.unique(everything)) == len(everything)


def test_small_calls_never_reuse_a_stream() -> None:
    """Equal choices under one stream used twice would send equal corrections."""
    with halves() as (left, right):
        sent: list[bytes] = []
        send = left.channel.send

        def keep(message: Any) -> None:
            if isinstance(message, Correction):
                sent.append(np.array(message.bits).tobytes())
            send(message)

        left.channel.send = keep  # type: ignore[method-assign]
        bits = np.zeros(64, dtype=np.uint8)
        for _ in range(150):  # several times what one expansion ahead holds
            run_pair(lambda: left.ot.choose(bits), lambda: right.ot.offer(64), left.channel, right.channel)
    assert len(set(sent)) == 150
