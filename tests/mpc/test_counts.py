"""Counts by transfers are the integer products of two matrices of bits, and cost what is declared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from mpc import counts
from mpc.cost import Meter
from mpc.counts import counts_chosen, counts_offered, lane_of, waves
from mpc.ot import Reply
from party.errors import InternalError, PeerError
from tests.mpc.ot_support import Half, halves
from tests.support import run_pair

Blocks = list[tuple[np.ndarray, np.ndarray]]


def blocks(rng: np.random.Generator, shapes: Sequence[tuple[int, int]], n: int) -> Blocks:
    return [tuple(rng.integers(0, 2, (k, n), dtype=np.uint8) for k in shape) for shape in shapes]  # type: ignore[misc]


def counted(pair: tuple[Half, Half], made: Blocks, lane: int, chooser: int = 0) -> list[np.ndarray]:
    """Both shares added up, modulo what a lane holds."""
    shapes = [(len(chosen), len(offered)) for chosen, offered in made]
    n, ends = made[0][0].shape[1], (pair[chooser], pair[1 - chooser])
    ours, theirs = run_pair(
        lambda: counts_chosen(ends[0].ot, shapes, n, lambda block: made[block][0], lane),
        lambda: counts_offered(ends[1].ot, shapes, n, lambda block: made[block][1], lane),
        ends[0].channel,
        ends[1].channel,
    )
    assert all(share.dtype == np.uint64 for share in (*ours, *theirs))
    return [(a + b) & np.uint64(2 ** (8 * lane) - 1) for a, b in zip(ours, theirs, strict=True)]


@pytest.fixture
def pair() -> Iterator[tuple[Half, Half]]:
    with halves() as made:
        yield made


SHAPES = [(1, 1), (3, 2), (1, 1), (2, 9), (4, 1)]


@pytest.mark.parametrize("lane", counts.LANES)
@pytest.mark.parametrize("n", [1, 7, 300])
@pytest.mark.parametrize("chooser", [0, 1])
def test_counts_are_products_of_bits(pair: tuple[Half, Half], lane: int, n: int, chooser: int) -> None:
    made = blocks(np.random.default_rng(n), SHAPES, n)
    made[0][0][:], made[0][1][:] = 1, 1  # every row
    for found, (chosen, offered) in zip(counted(pair, made, lane, chooser), made, strict=True):
        assert np.array_equal(found, chosen.astype(np.uint64) @ offered.astype(np.uint64).T)


def test_pieces_that_do_not_end_with_a_column_add_up(pair: tuple[Half, Half], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "WAVE", 50)
    made = blocks(np.random.default_rng(2), SHAPES, 33)
    assert len(list(waves([(len(a), len(b)) for a, b in made], 33, 2))) > 8
    for found, (chosen, offered) in zip(counted(pair, made, 2), made, strict=True):
        assert np.array_equal(found, chosen.astype(np.uint64) @ offered.astype(np.uint64).T)


@pytest.mark.parametrize("wave", [1 << 20, 400])
@pytest.mark.parametrize("lane", counts.LANES)
def test_the_declared_cost_is_what_is_counted(
    pair: tuple[Half, Half], lane: int, wave: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "WAVE", wave)
    made = blocks(np.random.default_rng(1), SHAPES, 100)
    counted(pair, made[:1], lane)  # brings the base transfers
    counters = [half.channel.counters for half in pair]
    for half in pair:
        half.channel._asked = False  # nothing of the first is awaited
    before = [(one.sent, one.rounds) for one in counters]
    counted(pair, made, lane)
    meter = Meter()
    meter.counts(0, SHAPES, 100, lane)
    moved = [(one.sent - sent, one.rounds - rounds) for one, (sent, rounds) in zip(counters, before, strict=True)]
    assert moved == list(zip(meter.sent, meter.waits, strict=True))


def test_a_share_alone_is_uniform(pair: tuple[Half, Half]) -> None:
    """Of a count that is always 60: the low byte of the offerer's share over many runs, and the chooser's."""
    ones = [(np.ones((1, 60), np.uint8), np.ones((256, 60), np.uint8))]
    got = run_pair(
        lambda: counts_chosen(pair[0].ot, [(1, 256)] * 8, 60, lambda _: ones[0][0], 2),
        lambda: counts_offered(pair[1].ot, [(1, 256)] * 8, 60, lambda _: ones[0][1], 2),
        pair[0].channel,
        pair[1].channel,
    )
    for shares in got:
        seen = np.bincount(np.concatenate(shares).reshape(-1).astype(np.int64) & 15, minlength=16)
        assert ((seen - 128) ** 2 / 128).sum() < 60  # chi-squared of 15 degrees, p about 2e-7


def test_a_reply_of_another_length_is_refused(pair: tuple[Half, Half]) -> None:
    left, right = pair

    def peer() -> None:
        right.ot.offer(5, 1)
        right.channel.send(Reply(np.zeros(7, np.uint64)))

    with pytest.raises(PeerError, match="wrong number of words"):
        run_pair(
            lambda: counts_chosen(left.ot, [(1, 1)], 5, lambda _: np.ones((1, 5), np.uint8), 2),
            peer,
            left.channel,
            right.channel,
        )


def test_only_bits_are_counted(pair: tuple[Half, Half]) -> None:
    left, right = pair
    with pytest.raises(InternalError, match="each 0 or 1"):
        run_pair(
            lambda: counts_chosen(left.ot, [(1, 1)], 5, lambda _: np.full((1, 5), 2, np.uint8), 2),
            lambda: counts_offered(right.ot, [(1, 1)], 5, lambda _: np.ones((1, 5), np.uint8), 2),
            left.channel,
            right.channel,
        )


@pytest.mark.parametrize(("bits", "lane"), [(1, 2), (16, 2), (17, 4), (32, 4), (33, 8), (64, 8)])
def test_a_count_fits_its_lane(bits: int, lane: int) -> None:
    assert lane_of(bits) == lane
