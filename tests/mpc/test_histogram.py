"""Histograms of sums of two parties' indices: exact counts on shares."""

import numpy as np
import pytest
from scipy.stats import kstest

from mpc import cost, histogram
from mpc.exchange import Ciphertexts
from party.errors import InternalError, PeerError
from tests.support import run_pair
from tests.vfl.real import Pair


def _found(ours, theirs, group, size, groups, turned=False):
    pair = Pair()
    sides = [
        lambda engine: histogram.bins_multiplier(engine, ours, group, size, groups),
        lambda engine: histogram.bins_owner(engine, theirs, size, groups),
    ]
    halves = pair.run(*(sides[::-1] if turned else sides))
    return pair, halves[0] + halves[1]


def _plain(ours, theirs, group, size, groups):
    counts = np.zeros((groups, size), dtype=np.uint64)
    kept = group >= 0
    np.add.at(counts, (group[kept], ((ours + theirs) % size)[kept]), 1)
    return counts


@pytest.mark.parametrize(
    ("rows", "size", "groups", "turned"),
    [(700, 64, 5, False), (700, 64, 5, True), (1, 2, 1, False), (513, 512, 2, True)],
)
def test_counts_are_exact_at_either_side(rows, size, groups, turned):
    rng = np.random.default_rng(rows)
    ours, theirs = rng.integers(0, size, rows), rng.integers(0, size, rows)
    group = rng.integers(-1, groups, rows)
    _, found = _found(ours, theirs, group, size, groups, turned)
    np.testing.assert_array_equal(found, _plain(ours, theirs, group, size, groups))


def test_more_rows_than_one_sum_takes(monkeypatch):
    monkeypatch.setattr(histogram, "_PIECE", 2)
    rng = np.random.default_rng(3)
    ours, theirs, group = rng.integers(0, 1024, 40), rng.integers(0, 1024, 40), np.zeros(40, dtype=np.int64)
    _, found = _found(ours, theirs, group, 1024, 1)
    np.testing.assert_array_equal(found, _plain(ours, theirs, group, 1024, 1))


def test_all_rows_in_one_bin_and_none_counted():
    rows = np.full(300, 63)
    _, found = _found(rows, rows, np.where(np.arange(300) < 299, 0, -1), 64, 2)
    assert found[0, 62] == 299 and found.sum(dtype=np.uint64) == 299


def test_bytes_are_those_declared():
    rng = np.random.default_rng(5)
    ours, theirs, group = rng.integers(0, 128, 400), rng.integers(0, 128, 400), rng.integers(0, 3, 400)
    pair = Pair()
    for start in (True, False):
        before = [channel.counters.sent for channel in pair.channels]
        pair.run(
            lambda engine: histogram.bins_multiplier(engine, ours, group, 128, 3),
            lambda engine: histogram.bins_owner(engine, theirs, 128, 3),
        )
        sent = np.subtract([channel.counters.sent for channel in pair.channels], before).tolist()
        if not start:
            meter = cost.Meter()
            histogram.declare(meter, 1, 400, 128, 3)
            assert sent == meter.sent


@pytest.mark.parametrize(
    ("index", "size"),
    [
        (np.array([0, 64]), 64),
        (np.array([-1, 0]), 64),
        (np.array([0, 1]), 48),
        (np.array([0.0]), 64),
        (np.zeros(0, dtype=np.int64), 64),
        (np.array([0]), 16_384),
    ],
)
def test_indices_out_of_range_are_refused_before_any_message(index, size):
    pair = Pair()
    with pytest.raises(InternalError):
        histogram.bins_owner(pair.engines[0], index, size, 1)
    with pytest.raises(InternalError):
        histogram.bins_multiplier(pair.engines[0], index, np.zeros(len(index), dtype=np.int64), size, 1)
    assert pair.channels[0].counters.messages_sent == 0


def test_groups_that_are_none_and_too_many_rows_are_refused():
    pair = Pair()
    with pytest.raises(InternalError):
        histogram.bins_multiplier(pair.engines[0], np.array([1]), np.array([2]), 64, 2)
    assert histogram.modulus(1) % 2**14 == 1 and histogram.modulus(10_000) > 40_000
    with pytest.raises(InternalError, match="does not fit"):
        histogram.modulus(10_000_000)


def test_a_peer_that_sends_too_few_ciphertexts_is_refused():
    ours = np.arange(300) % 64
    pair = Pair()

    def cheat(engine):
        send = engine.channel.send

        def fewer(message):
            if isinstance(message, Ciphertexts):
                message = Ciphertexts(message.seeds[:-1], message.bodies[:-1])
            send(message)

        engine.channel.send = fewer
        return histogram.bins_owner(engine, ours, 64, 1)

    with pytest.raises(PeerError):
        run_pair(
            lambda: histogram.bins_multiplier(pair.engines[0], ours, ours * 0, 64, 1),
            lambda: cheat(pair.engines[1]),
            *pair.channels,
        )


def test_what_the_owner_decrypts_is_uniform_whatever_is_counted(monkeypatch):
    seen, rows = [], np.zeros(400, dtype=np.int64)
    counts = histogram._counts
    monkeypatch.setattr(
        histogram, "_counts", lambda engine, share, t: (seen.append(share), counts(engine, share, t))[1]
    )
    t = histogram.modulus(400)
    for group in (rows, rows - 1):  # all rows in one bin, and none
        seen.clear()
        _found(rows, rows, group, 1024, 8)
        for share in seen:
            assert kstest((share % np.uint64(t)).reshape(-1) / t, "uniform").pvalue > 1e-5
