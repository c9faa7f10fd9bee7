"""Second-order steps on shares against pooled scikit-learn, over the ideal oracle and the real engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mpc import ring
from party.errors import DataError, UsageError
from party.request import Opening
from tests.support import run_pair
from tests.vfl import ideal, tables
from tests.vfl.real import Pair
from tests.vfl.test_spec import SPEC
from vfl import checks, newton, passes, prepare, schedule, sides, spec
from vfl.prepare import Known
from vfl.schedule import WEIGHT_BITS
from vfl.secure import Secure
from vfl.sides import Settings
from vfl.state import MemoryCheckpoints
from vfl.train import fit_weights, settings_of


def _sides(ours, theirs, label, l2, **options):
    white = [prepare.whiten(ours, l2, intercept=True), prepare.whiten(theirs, l2, intercept=False)]
    scale = min(part.scale for part in white)
    scales = schedule.Scales(scale, schedule.slot_bits(len(label)), white[0].exponent)
    found = []
    for place, part in enumerate(white):
        known = Known(label if place == 0 else None)
        side = sides.ours(part, known, white[1 - place].values.shape[1], scales, Settings(l2, **options))
        found.append((side, part, sides.first_state(side, part, known)))
    return found


def _fit(both, plain, pair=None, steps=6):
    """Plain passes first, then the second-order steps: the opened weights, and what both sides' states say."""

    def run(place):
        side, _, state = both[place]

        def work(arithmetic):
            now = state
            for _ in range(plain):
                now = passes.one_pass(arithmetic, side, now)
            for _ in range(steps):
                now = newton.step(arithmetic, side, side.second, now)
            return now

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
    assert states[0].number == plain + 6 and states[0].chords == 6 and states[0].stopped


def test_equal_columns_across_parties_get_the_weights_that_passes_do_not_reach():
    ours, theirs, label = tables.synthetic(1500, 4, 4)
    theirs[:, 0] = ours[:, 1]
    wanted = tables.pooled([ours, theirs], label, 1.0)
    both = _sides(ours, theirs, label, 1.0)
    found, _ = _fit(both, 0)
    assert tables.distance(found, wanted) < 0.01


def test_breast_reaches_the_pooled_weights_in_an_eighth_of_the_passes():
    ours, theirs, label = tables.fate("breast")
    ours, theirs = (np.clip((part - part.mean(0)) / part.std(0), -3, 3) for part in (ours, theirs))
    found, states = _fit(_sides(ours, theirs, label, 1.0), 6, steps=9)
    assert tables.distance(found, tables.pooled([ours, theirs], label, 1.0)) < 0.01
    assert states[0].number == 15


def test_steps_over_the_real_engine():
    table = tables.synthetic(600, 3, 3)
    openings = [Opening(what, to) for what in (checks.CHECK_BITS, newton.INVERTIBLE) for to in ("bank", "telco")]
    pair = Pair(type("Request", (), {"openings": openings}))
    found, _ = _fit(_sides(*table, 1.0), 0, pair)
    assert tables.distance(found, tables.pooled(list(table[:2]), table[2], 1.0)) < 5e-3
    wrote = {fields["what"] for ledger in pair.ledgers for _, fields in ledger.events}
    assert wrote == {checks.CHECK_BITS, newton.INVERTIBLE}


def test_where_there_is_no_inverse_passes_are_plain_from_there_on():
    ours, theirs, label = tables.synthetic(800, 3, 3)
    theirs[:, 0] = ours[:, 0]
    both = _sides(ours, theirs, label, 1e-4)
    found, states = _fit(both, 0, steps=1)
    assert states[0].chords == states[1].chords == -1 and states[0].number == 1 and states[0].k == 1
    assert not newton.ready(both[0][0], replace(states[0], number=20))
    plain, _ = _fit(both, 1, steps=0)
    np.testing.assert_allclose(found, plain, atol=2e-3)


def test_second_order_is_for_narrow_tables_without_weights_of_rows_and_early_stopping():
    ours, theirs, label = tables.synthetic(800, 3, 3)
    side, _, state = _sides(ours, theirs, label, 1.0)[0]
    assert side.second is not None
    for change in ({"weighed": True}, {"patience": 2}, {"second": False}, {"l1": 1.0}):
        assert _sides(ours, theirs, label, 1.0, **change)[0][0].second is None
    wide = np.random.default_rng(1).normal(size=(800, 78))
    assert _sides(ours, wide, label, 1.0)[0][0].second is None
    assert [newton.ready(side, replace(state, number=n)) for n in (6, 7, 40)] == [False, True, True]
    assert not newton.ready(side, replace(state, number=40, chords=24))


def test_a_run_that_was_cut_ends_with_the_very_same_weights():
    table = tables.synthetic(600, 3, 3)

    def fit(stores, cut=None):
        left, right = ideal.pair(5)
        left.cut_after = cut

        def run(place, arithmetic):
            what = (table[place], Known(table[2] if place == 0 else None), table[1 - place].shape[1] + place)
            return fit_weights(arithmetic, what, Settings(), stores[place]).weights

        found = np.concatenate(run_pair(lambda: run(0, left), lambda: run(1, right)))
        return found, left.calls

    first = [MemoryCheckpoints() for _ in range(2)]
    whole, counted = fit(first)
    for part in (0.3, 0.5, 0.6, 0.7, 0.8, 0.9):  # in a plain pass, within an inversion, between two steps of one H
        again = [MemoryCheckpoints() for _ in range(2)]
        for new, old in zip(again, first, strict=True):
            new._secret = old._secret
        with pytest.raises(ConnectionError):
            fit(again, int(part * counted))
        assert np.array_equal(whole, fit(again)[0])


def test_a_job_may_ask_for_second_order_or_for_none():
    assert [replace(SPEC, method=method).second for method in spec.METHODS] == [True, False, True]
    replace(SPEC, method=spec.NEWTON).check()
    assert Opening(newton.INVERTIBLE, "telco") in spec.request(SPEC).openings
    assert Opening(newton.INVERTIBLE, "telco") not in spec.request(replace(SPEC, method=spec.FIRST_ORDER)).openings
    assert settings_of(SPEC).second and not settings_of(replace(SPEC, method=spec.FIRST_ORDER)).second
    wide = {"bank": ("balance", "income", "age"), "telco": tuple(f"c{i}" for i in range(78))}
    for change in (
        {"l1": 1.0},
        {"early_stopping": 3},
        {"class_weight": "balanced"},
        {"weights": "w"},
        {"method": "second"},
        {"features": wide},
    ):
        with pytest.raises(UsageError):
            replace(SPEC, **{"method": spec.NEWTON, **change}).check()


def test_steps_end_when_the_loss_is_within_the_tolerance_and_not_before():
    table = tables.synthetic(1500, 4, 5)
    for tolerance, steps, stopped in ((1e-2, 1, False), (1.0, 1, True), (1e-9, 3, False)):
        both = [(replace(s, settings=replace(s.settings, tolerance=tolerance)), *r) for s, *r in _sides(*table, 1.0)]
        assert _fit(both, 0, steps=steps)[1][0].stopped is stopped


def test_a_loss_that_rose_after_a_step_doubles_the_window_and_at_the_widest_is_refused():
    both = _sides(*tables.synthetic(800, 3, 3), 1.0)
    low = np.zeros(1, dtype=np.uint64)  # a loss of 0 before: any other one rose
    for period, message in ((64, None), (128, None), (256, "separable")):
        changed = [(s, w, replace(state, period=period, has_loss=True, loss=low, number=7)) for s, w, state in both]
        if message is None:
            _, states = _fit(changed, 0, steps=1)
            assert (states[0].period, states[0].halvings, states[0].k) == (2 * period, 0, 0)
            assert len(states[0].inverse) == 0
        else:
            with pytest.raises(DataError, match=message):
                _fit(changed, 0, steps=1)
