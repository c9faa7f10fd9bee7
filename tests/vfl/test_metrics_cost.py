"""Declared bytes of metrics on shares against counted ones; and sizes that do not depend on the data."""

import numpy as np
import pytest

from party.message import encode
from tests.vfl.measuring import allowed, coarse, measured, scored, shared
from tests.vfl.real import Pair
from vfl.metrics_cost import declared
from vfl.metrics_shared import bins_for
from vfl.wanted import Wanted

ALL = Wanted(brier=True, threshold=0.5, groups=20, stability=True, likelihood=True)


def _counted(pair):
    counters = [channel.counters for channel in pair.channels]
    return np.array([[c.sent for c in counters], [c.rounds for c in counters], [c.messages_sent for c in counters]])


@pytest.mark.parametrize("wanted", [Wanted(), ALL, Wanted(to=("telco",), groups=10)])
def test_bytes_and_rounds_are_those_declared(wanted, monkeypatch):
    coarse(monkeypatch, 128)
    table = scored(1000)
    pair = Pair(allowed(wanted), 5)
    measured(table, wanted, pair=pair)  # keys and base transfers
    before = _counted(pair)
    measured(table, wanted, pair=pair)
    sent, rounds, _ = _counted(pair) - before
    to = tuple(party in wanted.receivers(("bank", "telco")) for party in ("bank", "telco"))
    meter = declared(wanted, (1000, 200), 0, to)
    assert sent.tolist() == meter.sent
    assert abs(int(rounds.max()) - meter.rounds) <= 2


def test_bytes_for_shares_are_those_declared(monkeypatch):
    coarse(monkeypatch, 64)
    table = shared(scored(1000))
    pair = Pair(allowed(ALL), 5)
    measured(table, ALL, pair=pair)
    before = _counted(pair)
    measured(table, ALL, pair=pair)
    assert (_counted(pair) - before)[0].tolist() == declared(ALL, (1000, 200), 0, (True, True), chunks=1).sent


def _recorded(pair):
    """Kind and length of every message of either side, as they are sent."""
    found = []
    for engine in pair.engines:
        log, send = [], engine.channel.send

        def record(message, log=log, send=send):
            log.append((type(message).__name__, len(encode(message))))
            send(message)

        engine.channel.send = record
        found.append(log)
    return found


def test_two_data_sets_of_one_shape_send_messages_of_the_same_lengths(monkeypatch):
    coarse(monkeypatch, 128)
    found, shown = [], []
    for seed, spread in ((1, 0.5), (2, 6.0)):
        pair = Pair(allowed(ALL), 12)
        logs = _recorded(pair)
        told, _ = measured(scored(1000, seed, spread), ALL, pair=pair)
        found.append(logs)
        shown.append(told.more["by_score"] is None)
    assert found[0] == found[1] and len(found[0][0]) > 50
    assert shown == [False, True]  # whether a table is shown does not change a byte


def test_bins_fall_with_rows_and_a_plan_says_the_bytes():
    assert [bins_for(rows) for rows in (1, 512, 513, 1537, 8192, 8193, 10**6)] == [
        4096,
        4096,
        2048,
        1024,
        512,
        256,
        128,
    ]
    bytes_ = [declared(Wanted(), (5 * rows, rows), 0, (True, True)).bytes for rows in (500, 6000, 30_000, 200_000)]
    assert bytes_ == sorted(bytes_) and bytes_[1] < 55e6 and bytes_[3] < 500e6
    assert declared(Wanted(), (100, 0), 0, (True, True)).bytes == 0
