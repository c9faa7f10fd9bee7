"""Step 7b: every margin against the window, before weights are opened."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpc import ring
from party.errors import DataError
from tests.support import run_pair
from tests.vfl import ideal, tables
from tests.vfl.real import Pair
from vfl import checks, prepare, schedule, series, sides, window
from vfl.prepare import Known
from vfl.secure import Secure
from vfl.sides import Settings
from vfl.state import State


def _table():
    """Four rows of which one may be moved: only the intercept and the label holder's first column have a weight."""
    ours, theirs, label = tables.synthetic(300, 3, 3)
    white = [prepare.whiten(ours, 1.0, intercept=True), prepare.whiten(theirs, 1.0, intercept=False)]
    scales = schedule.Scales(min(w.scale for w in white), 13, white[0].exponent)
    known = Known(label), Known()
    both = [sides.ours(w, k, d, scales, Settings()) for w, k, d in zip(white, known, (3, 4), strict=True)]
    return both, white, (ours, theirs, label)


def _states(both, white, weights, period):
    """Shares of a model with these weights of the label holder's columns, intercept first."""
    start = np.zeros(both[0].weights)
    start[both[0].block] = np.linalg.pinv(white[0].transform) @ weights
    mask = np.random.default_rng(1).integers(0, 2**63, start.shape, dtype=np.uint64)
    shares = mask, ring.encode(start, schedule.WEIGHT_BITS) - mask
    return [State(weights=np.stack([share] * 3), period=period, number=9, k=5, stopped=True) for share in shares]


def _run(both, states, work, pair=None):
    if pair is None:
        a, b = ideal.pair(3)
        found = run_pair(lambda: work(a, both[0], states[0]), lambda: work(b, both[1], states[1]))
        return found, a
    found = pair.run(
        *(lambda e, i=i: work(Secure(e, prepare.MATRIX_BITS), both[i], states[i]) for i in (0, 1)),
    )
    return found, None


def _ends(table, weights):
    ours, _, label = table
    margins = (2 * label - 1) * (weights[0] + ours @ weights[1:])
    return margins.min(), margins.max()


@pytest.mark.parametrize("real", [False, True])
def test_one_row_beyond_either_end_is_seen_and_one_within_is_not(real):
    both, white, table = _table()
    pair = Pair(openings=[checks.CHECK_BITS]) if real else None
    shape = np.array([0.3, 1.0, 0.0, 0.0])
    low, high = _ends(table, shape)
    at, seen = series.window(64), set()
    for sign, edge in ((1, at.low / low), (-1, -at.low / high)):  # the row farthest out, on either side of its label
        for factor in (0.995, 1.005):
            weights = sign * shape * edge * factor
            ends = _ends(table, weights)
            wanted = bool(ends[0] < at.low or ends[1] > at.high)
            assert _run(both, _states(both, white, weights, 64), window.outside, pair)[0] == (wanted, wanted)
            seen.add(wanted)
    assert seen == {True, False}


def test_a_row_outside_doubles_the_window_and_training_goes_on():
    both, white, table = _table()
    weights = np.array([0.0, 30.0, 0.0, 0.0])
    assert _ends(table, weights)[0] < -40
    states = _states(both, white, weights, 64)
    found, side = _run(both, states, window.widened)
    assert [(s.period, s.number, s.k, s.stopped, s.has_loss) for s in found] == [(128, 10, 0, False, False)] * 2
    opened = ring.decode(found[0].weights[0] + found[1].weights[0], schedule.WEIGHT_BITS)
    kept = ring.decode(states[0].weights[0] + states[1].weights[0], schedule.WEIGHT_BITS)
    np.testing.assert_array_equal(opened, kept)
    assert [what for what, _ in side.opened] == [checks.CHECK_BITS]
    assert _run(both, [replace(s, period=256) for s in states], window.widened)[0] == (None, None)


def test_a_row_outside_the_widest_window_is_refused_as_separable():
    both, white, _ = _table()
    with pytest.raises(DataError, match="separable"):
        _run(both, _states(both, white, np.array([0.0, 90.0, 0.0, 0.0]), 256), window.widened)
