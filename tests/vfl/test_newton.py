"""Second-order steps on shares against pooled scikit-learn, over the ideal oracle and the real engine."""

from __future__ import annotations

import numpy as np
import pytest

from mpc import ring
from party.errors import DataError, UsageError
from party.request import Opening
from tests.support import run_pair
from tests.vfl import ideal, tables
from tests.vfl.real import Pair
from vfl import checks, information, newton, passes, prepare, schedule, sides
from vfl.prepare import Known
from vfl.schedule import WEIGHT_BITS
from vfl.secure import Secure
from vfl.sides import Settings


def _sides(ours, theirs, label, l2):
    white = [prepare.whiten(ours, l2, intercept=True), prepare.whiten(theirs, l2, intercept=False)]
    scale = min(part.scale for part in white)
    scales = schedule.Scales(scale, schedule.slot_bits(len(label)), white[0].exponent)
    found = []
    for place, part in enumerate(white):
        known = Known(label if place == 0 else None)
        side = sides.ours(part, known, white[1 - place].values.shape[1], scales, Settings(l2))
        found.append((side, part, sides.first_state(side, part, known)))
    return found


def _fit(both, plain, pair=None):
    """Plain passes first, then the second-order steps: the opened weights, and what both sides' states say."""

    def run(place):
        side, white, state = both[place]

        def work(arithmetic):
            now = state
            for _ in range(plain):
                now = passes.one_pass(arithmetic, side, now)
            return newton.fit(arithmetic, side, white, now)

        return work

    if pair is None:
        left, right = ideal.pair(5)
        states = run_pair(lambda: run(0)(left), lambda: run(1)(right))
    else:
        states = pair.run(*(lambda engine, f=run(place): f(Secure(engine, prepare.MATRIX_BITS)) for place in (0, 1)))
    whole = ring.decode(states[0].weights[0] + states[1].weights[0], WEIGHT_BITS)
    found = [white.transform @ whole[side.block] for side, white, _ in both]
    return np.concatenate(found), states


@pytest.mark.parametrize("plain", [0, 3])
def test_a_few_steps_reach_the_pooled_weights(plain):
    table = tables.synthetic(1500, 4, 5)
    both = _sides(*table, 1.0)
    found, states = _fit(both, plain)
    assert tables.distance(found, tables.pooled(list(table[:2]), table[2], 1.0)) < 2e-3
    assert states[0].number == plain + newton.REFRESHES * newton.CHORDS


def test_equal_columns_across_parties_get_the_weights_that_passes_do_not_reach():
    ours, theirs, label = tables.synthetic(1500, 4, 4)
    theirs[:, 0] = ours[:, 1]
    wanted = tables.pooled([ours, theirs], label, 1.0)
    both = _sides(ours, theirs, label, 1.0)
    found, _ = _fit(both, 0)
    assert tables.distance(found, wanted) < 0.01


def test_breast_reaches_the_pooled_weights_in_a_tenth_of_the_passes():
    ours, theirs, label = tables.fate("breast")
    ours, theirs = (np.clip((part - part.mean(0)) / part.std(0), -3, 3) for part in (ours, theirs))
    found, states = _fit(_sides(ours, theirs, label, 1.0), 6)
    assert tables.distance(found, tables.pooled([ours, theirs], label, 1.0)) < 0.03
    assert states[0].number <= 12


def test_steps_over_the_real_engine():
    table = tables.synthetic(600, 3, 3)
    openings = [Opening(what, to) for what in (checks.CHECK_BITS, information.DETERMINED) for to in ("bank", "telco")]
    pair = Pair(type("Request", (), {"openings": openings}))
    found, _ = _fit(_sides(*table, 1.0), 0, pair)
    assert tables.distance(found, tables.pooled(list(table[:2]), table[2], 1.0)) < 5e-3
    wrote = {fields["what"] for ledger in pair.ledgers for _, fields in ledger.events}
    assert wrote == {checks.CHECK_BITS, information.DETERMINED}


def test_what_has_no_inverse_and_what_is_too_wide_is_refused():
    ours, theirs, label = tables.synthetic(800, 3, 3)
    theirs[:, 0] = ours[:, 0]
    with pytest.raises(DataError, match="collinear"):
        _fit(_sides(ours, theirs, label, 1e-4), 0)
    wide = np.random.default_rng(1).normal(size=(800, 38))
    with pytest.raises(UsageError, match="at most 40"):
        _fit(_sides(ours, wide, label, 1.0), 0)
