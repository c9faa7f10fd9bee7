"""Passes on shares over the ideal oracle: right gradients, right bits, right weights."""

from dataclasses import replace

import numpy as np
import pytest

from mpc import ring
from party.errors import DataError, PeerError
from tests.support import run_pair
from tests.vfl import ideal, tables
from vfl import checks, newton, passes, prepare, reference, schedule, series, sides
from vfl.prepare import Known
from vfl.sides import Settings
from vfl.state import MemoryCheckpoints, State
from vfl.train import fit_weights


def _sides(ours, theirs, label, l2=1.0):
    """(Ours, Whitened, label) of both sides at their common scale."""
    white = [prepare.whiten(ours, l2, intercept=True), prepare.whiten(theirs, l2, intercept=False)]
    scales = schedule.Scales(min(w.scale for w in white), schedule.slot_bits(len(label)), white[0].exponent)
    widths = [w.values.shape[1] for w in white]
    return [
        (sides.ours(white[0], Known(label), widths[1], scales, Settings(l2)), white[0], label),
        (sides.ours(white[1], Known(), widths[0], scales, Settings(l2)), white[1], None),
    ]


def _shared(values, rng):
    mask = rng.integers(0, 2**63, values.shape, dtype=np.uint64)
    return mask, ring.encode(values, schedule.WEIGHT_BITS) - mask


def _one(both, states, seed=1):
    a, b = ideal.pair(seed)
    after = run_pair(
        lambda: passes.one_pass(a, both[0][0], states[0]), lambda: passes.one_pass(b, both[1][0], states[1])
    )
    return after, (a, b)


def _open(states, place=0):
    return ring.decode(states[0].weights[place] + states[1].weights[place], schedule.WEIGHT_BITS)


def _fit(a, b, tables_, settings=None, stores=None, progress=None):
    ours, theirs, label = tables_
    settings, stores = settings or Settings(), stores or (MemoryCheckpoints(), MemoryCheckpoints())
    return run_pair(
        lambda: fit_weights(a, (ours, Known(label), theirs.shape[1]), settings, stores[0], progress),
        lambda: fit_weights(b, (theirs, Known(), ours.shape[1] + 1), settings, stores[1]),
    )


def _weights(halves):
    return np.concatenate([half.weights for half in halves])


def test_one_step_is_half_the_whitened_gradient_by_finite_differences():
    ours, theirs, label = tables.synthetic(1200)
    both = _sides(ours, theirs, label, l2=2.0)
    rng = np.random.default_rng(0)
    start = rng.normal(size=10) * 0.5
    stack = [np.stack([share] * 3) for share in _shared(start, rng)]
    after, _ = _one(both, [State(weights=weights, period=64, number=10) for weights in stack])
    columns = np.hstack([side[1].values for side in both])
    penalty = np.zeros((10, 10))
    penalty[:5, :5], penalty[5:, 5:] = both[0][1].penalty, both[1][1].penalty

    def loss(weights):
        margins = (2 * label - 1) * (columns @ weights)
        return np.logaddexp(0, -margins).sum() + weights @ penalty @ weights / 2

    nudges = np.eye(10) * 1e-5
    gradient = np.array([(loss(start + e) - loss(start - e)) / 2e-5 for e in nudges])
    step = start - _open(after)
    wanted = gradient * 2.0 ** (-2 * both[0][0].scales.exponent - 1)
    # rounding of 1,200 rows and the series' own error, against a step of this size
    assert np.abs(step - wanted).max() < 2e-3 * np.abs(wanted).max() + 2e-5


def test_weights_agree_with_scikit_learn_and_with_the_plain_twin():
    table = tables.synthetic(3000)
    a, b = ideal.pair(2)
    halves = _fit(a, b, table, Settings(second=False))
    wanted = tables.pooled(list(table[:2]), table[2], 1.0)
    assert halves[0].stopped and halves[0].passes == halves[1].passes <= 60
    assert tables.distance(_weights(halves), wanted) < 0.01
    twin, _ = reference.fit(*table, l2=1.0, passes=halves[0].passes)
    assert tables.distance(_weights(halves), np.concatenate(twin)) < 3e-3


def test_breast_weights_agree_with_scikit_learn_to_three_percent():
    ours, theirs, label = tables.fate("breast")
    ours, theirs = (np.clip((block - block.mean(0)) / block.std(0), -3, 3) for block in (ours, theirs))
    halves = _fit(*ideal.pair(3), (ours, theirs, label))
    assert tables.distance(_weights(halves), tables.pooled([ours, theirs], label, 1.0)) < 0.03


def test_the_penalty_is_scikit_learns_for_strong_and_weak_l2():
    table = tables.synthetic(2000, seed=4)
    for l2 in (0.01, 200.0):
        halves = _fit(*ideal.pair(4), table, Settings(l2=l2))
        assert tables.distance(_weights(halves), tables.pooled(list(table[:2]), table[2], l2)) < 0.01


def test_constant_and_duplicated_columns_do_no_harm():
    ours, theirs, label = tables.synthetic(2000, seed=6)
    ours = np.hstack([ours, np.zeros((2000, 1))])
    theirs = np.hstack([theirs, ours[:, :1]])  # the same column on both sides
    halves = _fit(*ideal.pair(6), (ours, theirs, label))
    assert halves[0].weights[-1] == 0.0
    found, wanted = _weights(halves), tables.pooled([ours, theirs], label, 1.0)
    # only the penalty says how two equal columns share their weight, and it is slow to be heard; their sum is fixed
    both = np.hstack([np.ones((2000, 1)), ours, theirs])
    assert np.abs(both @ (found - wanted)).max() < 0.03
    assert found[1] + found[-1] == pytest.approx(wanted[1] + wanted[-1], rel=0.01)


def _states_with_margins(both, margin, period, rng):
    """States whose weights put every row's logit near margin on its label's side: only the intercept is moved."""
    side, white, _ = both[0]
    start = np.zeros(side.weights)
    start[side.block] = np.linalg.pinv(white.transform) @ np.eye(len(white.transform))[0] * margin
    return [State(weights=np.stack([w] * 3), period=period, number=2, k=2, has_loss=False) for w in _shared(start, rng)]


def test_guard_widens_the_window_when_margins_leave_it_and_is_quiet_otherwise():
    ours, theirs, label = tables.synthetic(1500)
    both = _sides(ours, theirs, label)
    rng = np.random.default_rng(3)
    # rows of class 1 stand in the return zone of T = 32
    after, seen = _one(both, _states_with_margins(both, 18.5, 32, rng))
    assert after[0].period == after[1].period == 64
    assert after[0].k == 0 and after[0].number == 3 and not after[0].has_loss
    assert seen[0].opened[-1][1][checks.GUARD] == 1
    after, seen = _one(both, _states_with_margins(both, 4.0, 32, rng))
    assert after[0].period == 32 and after[0].k == 3
    assert seen[0].opened[-1][1][checks.GUARD] == 0


def test_a_fired_guard_drops_the_pass_and_goes_back_two_states():
    ours, theirs, label = tables.synthetic(1500)
    both = _sides(ours, theirs, label)
    rng = np.random.default_rng(4)
    states = _states_with_margins(both, 18.5, 32, rng)
    old = np.arange(10) / 10.0
    for state, share in zip(states, _shared(old, rng), strict=True):
        state.weights[2] = share
    after, _ = _one(both, states)
    for place in range(3):
        np.testing.assert_allclose(_open(after, place), old, atol=2e-6)


def test_margins_beyond_the_widest_window_are_refused_as_separable():
    ours, theirs, label = tables.synthetic(1500)
    both = _sides(ours, theirs, label)
    middle = series.window(256).middle_of_return
    with pytest.raises(DataError, match="separable"):
        _one(both, _states_with_margins(both, middle - 256, 256, np.random.default_rng(5)))


def test_a_risen_loss_goes_back_and_a_fallen_one_does_not():
    ours, theirs, label = tables.synthetic(1500)
    both = _sides(ours, theirs, label)
    rng = np.random.default_rng(6)
    scales = both[0][0].scales
    for mean, rose in ((0.05, True), (3.0, False)):
        states = _states_with_margins(both, 0.5, 64, rng)
        total = ring.encode(np.array([mean * 1500]), scales.residual - 4)
        states = [
            State(weights=s.weights, period=64, number=2, k=2, loss=share, has_loss=True)
            for s, share in zip(states, (total, np.zeros(1, dtype=np.uint64)), strict=True)
        ]
        after, seen = _one(both, states)
        assert bool(seen[1].opened[-1][1][checks.ROSE]) is rose
        assert (after[0].k == 0) is rose


def test_only_check_bits_scale_and_own_weights_are_opened():
    a, b = ideal.pair(8)
    _fit(a, b, tables.synthetic(1200), Settings(passes=12))
    for side, other in ((a, b), (b, a)):
        assert {what for what, _ in side.opened} == {
            "train: fixed-point scale",
            checks.CHECK_BITS,
            newton.INVERTIBLE,
            f"train: weights of {side.us}",
        }
        assert not any(other.us in what for what, _ in side.opened)


def test_a_peer_with_other_columns_than_agreed_broke_the_protocol():
    ours, theirs, label = tables.synthetic(200)
    a, b = ideal.pair(10)
    with pytest.raises(PeerError, match="5 columns where 6"):
        run_pair(
            lambda: fit_weights(a, (ours, Known(label), 6), Settings(), MemoryCheckpoints()),
            lambda: fit_weights(b, (theirs, Known(), 6), Settings(), MemoryCheckpoints()),
        )


def test_too_few_rows_and_one_class_are_refused():
    ours, theirs, label = tables.synthetic(39)
    with pytest.raises(DataError, match="too few"):
        _fit(*ideal.pair(9), (ours, theirs, label))
    ours, theirs, label = tables.synthetic(100)
    with pytest.raises(DataError, match="one class"):
        fit_weights(ideal.pair(9)[0], (ours, Known(np.zeros(100, dtype=np.int64)), 5), Settings(), MemoryCheckpoints())


def _at_pass(both, states, number, **settings):
    """The opened bits of one pass, and the state after it."""
    both = [(replace(side, settings=replace(side.settings, **settings)), *rest) for side, *rest in both]
    states = [replace(state, number=number - 1, k=number - 1) for state in states]
    after, seen = _one(both, states)
    assert np.array_equal(seen[0].opened[-1][1], seen[1].opened[-1][1])
    return seen[0].opened[-1][1].tolist(), after


def test_training_stops_when_the_largest_step_reaches_the_limit_and_not_before():
    ours, theirs, label = tables.synthetic(1200)
    both = _sides(ours, theirs, label)
    rng = np.random.default_rng(5)
    states = [State(np.stack([share] * 3), period=64) for share in _shared(rng.normal(size=10) * 0.1, rng)]
    start = _open(states)  # both weights before are the same, so there is no momentum
    step = np.abs(_open(_at_pass(both, states, 8, tolerance=1e-6)[1]) - start).max() * 2.0 ** both[0][0].scales.exponent

    def reaches(limit):
        return (limit / 0.25) ** 2 * 10 / (2 * 1200)

    for part, moving in ((0.5, 1), (0.98, 1), (1.02, 0), (2.0, 0), (1e15, 0)):
        bits, after = _at_pass(both, states, 8, tolerance=reaches(part * step))
        assert bits == [0, 0, moving]
        assert after[0].stopped is after[1].stopped is (moving == 0)


def test_steps_are_asked_from_pass_eight_on_and_nothing_on_passes_between_checks():
    ours, theirs, label = tables.synthetic(1200)
    both = _sides(ours, theirs, label)
    states = [State(np.zeros((3, 10), dtype=np.uint64), period=64) for _ in range(2)]
    for number in (1, 7):
        bits, after = _at_pass(both, states, number, tolerance=1e9)  # any step is small
        assert bits == [0, 0] and not after[0].stopped
    assert _at_pass(both, states, 8, tolerance=1e9)[0] == [0, 0, 0]
    _, seen = _one(both, [replace(state, number=10, k=10) for state in states])
    assert not seen[0].opened and not seen[1].opened


def test_the_held_out_loss_is_asked_where_training_may_stop_by_it():
    ours, theirs, label = tables.synthetic(1200)
    both = _sides(ours, theirs, label)
    states = [State(np.zeros((3, 10), dtype=np.uint64), period=64) for _ in range(2)]
    assert _at_pass(both, states, 3, patience=2)[0] == [0, 0, 0]  # nothing to compare with yet
    best = [replace(state, has_best=True, best_loss=np.zeros(1, dtype=np.uint64)) for state in states]
    for number, bits in ((3, [0, 0, 1]), (8, [0, 0, 1, 1])):  # no row is held out: 0 is not below 0
        found, after = _at_pass(both, best, number, patience=2)
        assert found == bits and after[0].waited == after[1].waited == 1
    assert _at_pass(both, best, 8, patience=1)[1][0].stopped


def test_the_largest_gradient_a_pass_may_meet_leaves_room_for_its_test():
    """Step 7's bound: (16 + 2.8 x 64) 2^(G + 2a) at the largest scale that is not refused, beside the largest limit."""
    scales = schedule.Scales(13, 9, 8)
    while True:
        try:
            schedule.Scales(scales.matrix + 1, scales.slots, scales.exponent).check()
        except DataError:
            break
        scales = schedule.Scales(scales.matrix + 1, scales.slots, scales.exponent)
    assert scales.gradient + 2 * scales.exponent == 54
    largest = (16 + 180) * 2**54
    assert largest < 2**62 and largest + 2**62 < 2**63
