"""L1 and elastic net on shares: against the plain twin, scikit-learn's saga and the real engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mpc import ring
from party.errors import DataError, TallyError, UsageError
from tests.support import run_pair
from tests.vfl import ideal, tables
from tests.vfl.real import Pair
from tests.vfl.test_options import _fit, _weights
from tests.vfl.test_spec import SPEC
from vfl import checks, prepare, proximal, reference, schedule, spec
from vfl.prepare import Known
from vfl.schedule import WEIGHT_BITS
from vfl.secure import Secure
from vfl.sides import Settings
from vfl.state import MemoryCheckpoints
from vfl.train import fit_weights
from vfl.wanted import Wanted


def _saga(blocks, label, l1, l2, weights=None):
    """scikit-learn's answer at the same two penalties: intercept, then all weights."""
    model = LogisticRegression(C=1 / (l1 + l2), l1_ratio=l1 / (l1 + l2), solver="saga", tol=1e-7, max_iter=20000)
    model.fit(np.hstack(blocks), label, weights)
    return np.concatenate([model.intercept_, model.coef_[0]])


def _same_zeros(found, wanted):
    return bool(((found == 0.0) == (wanted == 0.0)).all())


def _shared(values, rng):
    mask = rng.integers(0, 2**63, values.shape, dtype=np.uint64)
    return mask, ring.encode(values, WEIGHT_BITS) - mask


def test_a_step_on_shares_is_the_plain_twins():
    ours, theirs, _ = tables.synthetic(1500)
    white = [prepare.whiten(ours, 1.0, intercept=True), prepare.whiten(theirs, 1.0, intercept=False)]
    cut = slice(0, 5), slice(5, 10)
    sides = [proximal.shrink_of(white[i], 30.0, (cut[i], cut[1 - i]), intercept=i == 0) for i in (0, 1)]
    rng = np.random.default_rng(1)
    moved, split = rng.normal(size=10), rng.normal(size=(2, 10)) * 0.1
    shares = [_shared(moved, rng), _shared(split, rng)]

    def run(arithmetic, place):
        z_and_y, c = shares[1][place], shares[0][place]
        for _ in range(proximal.STEPS):
            full = proximal.product(arithmetic, sides[place], z_and_y, c, 0)
            found = arithmetic.truncate(full, proximal.STEP_BITS)
            z_and_y = proximal.soft(arithmetic, sides[place], z_and_y, found[0])
        return found[1], z_and_y

    a, b = ideal.pair(3)
    first, second = run_pair(lambda: run(a, 0), lambda: run(b, 1))
    u, both = (ring.decode(x + y, WEIGHT_BITS) for x, y in zip(first, second, strict=True))
    for place, block in enumerate(cut):
        plain = reference.shrunk(white[place], moved[block], split[:, block], 30.0, intercept=place == 0)
        np.testing.assert_allclose(u[block], plain[0], atol=2e-5)
        np.testing.assert_allclose(both[:, block], plain[1], atol=2e-5)
        assert _same_zeros(both[0, block], plain[1][0])


@pytest.mark.parametrize(("l1", "l2"), [(20.0, 0.0), (20.0, 1.0), (75.0, 1.0), (10.0, 40.0)])
def test_weights_and_zeros_are_those_of_scikit_learns_saga(l1, l2):
    table = tables.synthetic(1500)
    wanted = _saga(table[:2], table[2], l1, l2)
    halves = _fit(table, settings=Settings(l2, l1=l1))
    found = _weights(halves)
    assert halves[0].stopped and halves[0].passes <= 60
    assert tables.distance(found, wanted) < 0.01 and _same_zeros(found, wanted)
    twin, _ = reference.fit(*table, l1=l1, l2=l2, passes=halves[0].passes)
    assert tables.distance(found, np.concatenate(twin)) < 4e-3


def test_a_penalty_above_every_gradient_leaves_the_intercept_alone():
    table = tables.synthetic(1500)
    told = []
    halves = _fit(table, settings=Settings(1.0, l1=5000.0), progress=lambda _, text: told.append(text))
    found, mean = _weights(halves), table[2].mean()
    assert (found[1:] == 0.0).all() and found[0] == pytest.approx(np.log(mean / (1 - mean)), abs=0.01)
    assert halves[0].stopped and not any("rose" in text for text in told)


def test_the_loss_that_a_strong_penalty_lets_rise_is_no_divergence():
    table = tables.synthetic(3000, 6, 6, seed=4)
    for l1 in (150.0, 750.0):
        told = []
        halves = _fit(table, settings=Settings(1.0, l1=l1), progress=lambda _, text, told=told: told.append(text))
        assert halves[0].stopped and not any("rose" in text for text in told)
        wanted = _saga(table[:2], table[2], l1, 1.0)
        assert np.abs(_weights(halves) - wanted).max() < 0.01 and _same_zeros(_weights(halves), wanted)


def test_breast_whose_columns_are_collinear_comes_within_a_few_percent():
    ours, theirs, label = tables.fate("breast")
    ours, theirs = (np.clip((block - block.mean(0)) / block.std(0), -3, 3) for block in (ours, theirs))
    wanted = _saga([ours, theirs], label, 20.0, 1.0)
    halves = _fit((ours, theirs, label), settings=Settings(1.0, l1=20.0))
    assert tables.distance(_weights(halves), wanted) < 0.03 and _same_zeros(_weights(halves), wanted)


def test_weights_of_rows_are_scikit_learns_sample_weight_with_l1_too():
    table = tables.synthetic(1500, seed=3)
    weights = np.random.default_rng(4).uniform(0.2, 3.0, 1500)
    halves = _fit(table, Known(table[2], weights=weights), Settings(1.0, weighed=True, l1=30.0))
    wanted = _saga(table[:2], table[2], 30.0, 1.0, weights)
    assert tables.distance(_weights(halves), wanted) < 0.01 and _same_zeros(_weights(halves), wanted)


def test_early_stopping_keeps_weights_whose_zeros_are_exact():
    table = tables.synthetic(1200, seed=9)
    settings = Settings(1.0, patience=2, l1=60.0)
    halves = _fit(table, Known(table[2], held=200), settings, Known(held=200))
    alone = _saga([block[:-200] for block in table[:2]], table[2][:-200], 60.0, 1.0)
    assert (_weights(halves) == 0.0).any() and tables.distance(_weights(halves), alone) < 0.25


def test_a_warm_start_ends_at_the_same_weights(monkeypatch):
    monkeypatch.setattr(schedule, "WARM_ROWS", 2000)
    table = tables.synthetic(3000, seed=10)
    halves = _fit(table, settings=Settings(1.0, l1=40.0))
    wanted = _saga(table[:2], table[2], 40.0, 1.0)
    assert halves[0].stopped and tables.distance(_weights(halves), wanted) < 0.01


def _cut(stores, settings, table, calls=None):
    a, b = ideal.pair(11)
    a.cut_after = calls

    def fit(arithmetic, place):
        known = Known(table[2] if place == 0 else None)
        width = table[1 - place].shape[1] + place
        return fit_weights(arithmetic, (table[place], known, width), settings, stores[place])

    return run_pair(lambda: fit(a, 0), lambda: fit(b, 1))


def test_a_run_that_was_cut_ends_with_the_very_same_weights():
    table, settings = tables.synthetic(600), Settings(1.0, passes=12, l1=20.0)
    stores = [MemoryCheckpoints() for _ in range(2)]
    whole = _cut(stores, settings, table)
    for calls in (40, 133, 210):
        again = [MemoryCheckpoints() for _ in range(2)]
        for new, old in zip(again, stores, strict=True):
            new._secret = old._secret
        with pytest.raises(ConnectionError):
            _cut(again, settings, table, calls)
        resumed = _cut(again, settings, table)
        assert np.array_equal(_weights(whole), _weights(resumed))
    # another penalty is another run
    other = _cut(stores, replace(settings, l1=21.0), table)
    assert not np.array_equal(_weights(whole), _weights(other))


def _real(pair, table, settings, timeout=60):
    def fit(place, one):
        known = Known(table[2] if place == 0 else None)
        what = (table[place], known, table[1 - place].shape[1] + place)
        return lambda engine: fit_weights(Secure(engine, prepare.MATRIX_BITS), what, one, MemoryCheckpoints())

    return pair.run(fit(0, settings[0]), fit(1, settings[1]), timeout=timeout)


def test_passes_over_the_real_engine_open_nothing_more():
    table = tables.synthetic(600, 3, 3)
    settings = Settings(1.0, passes=9, l1=40.0)
    pair = Pair()
    found = _weights(_real(pair, table, (settings, settings), timeout=200))
    twin, _ = reference.fit(*table, l1=40.0, l2=1.0, passes=9)
    assert np.abs(found - np.concatenate(twin)).max() < 0.01
    wrote = {fields["what"] for ledger in pair.ledgers for _, fields in ledger.events}
    assert wrote == {spec.SCALE, checks.CHECK_BITS, spec.weights_name("bank"), spec.weights_name("telco")}


def test_a_peer_that_shrinks_without_agreement_broke_the_protocol():
    table = tables.synthetic(200, 3, 3)
    with pytest.raises(TallyError):
        _real(Pair(), table, (Settings(1.0, passes=2, l1=5.0), Settings(1.0, passes=2)), timeout=20)


def test_a_matrix_without_room_is_refused():
    white = prepare.whiten(tables.synthetic(400)[0], 1.0, intercept=True)
    shrink = proximal.shrink_of(white, 10.0, (slice(0, 5), slice(5, 9)), intercept=True)
    assert np.abs(shrink.matrix()).max() < 4 * 2**proximal.STEP_BITS
    with pytest.raises(DataError, match="too small for l1"):
        replace(shrink, rho=shrink.rho * 1e-9, roots=shrink.roots * 1e4).matrix()


def test_collinear_and_constant_columns_have_room():
    rng = np.random.default_rng(5)
    ours = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 6))
    ours = np.hstack([ours / ours.std(0), np.zeros((500, 2))])
    for l2 in (0.0, 1e-6):
        white = prepare.whiten(ours, l2, intercept=True)
        shrink = proximal.shrink_of(white, 10.0, (slice(0, 9), slice(9, 12)), intercept=True)
        assert np.abs(shrink.matrix()).max() < 16 * 2**proximal.STEP_BITS
        u, state = reference.shrunk(white, np.ones(9), np.zeros((2, 9)), 10.0, intercept=True)
        assert np.isfinite(u).all() and (state[0, -2:] == 0.0).all()


@pytest.mark.parametrize(
    "change",
    [{"l1": -1.0}, {"l1": float("nan")}, {"l1": 1.0, "inference": True}]
    + [{"l1": 1.0, "metrics": Wanted(likelihood=True)}],
)
def test_penalties_out_of_range_and_inference_after_selection_are_refused(change):
    with pytest.raises(UsageError):
        replace(SPEC, **change).check()
    replace(SPEC, l1=1.0).check()


def test_the_plan_says_what_l1_costs_and_opens():
    lines = spec.plan(replace(SPEC, l1=2.0), 5000).lines
    assert any(line.startswith("l1: some weights become exactly 0") for line in lines)
    assert not any(line.startswith("l1:") for line in spec.plan(SPEC, 5000).lines)
    assert spec.request(replace(SPEC, l1=2.0)) == spec.request(replace(SPEC, method=spec.FIRST_ORDER))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("l1", [5.0, 20.0])
def test_default_credit_is_scikit_learns_elastic_net(l1):
    ours, theirs, label = tables.fate("default_credit")
    ours, theirs = (np.clip((block - block.mean(0)) / block.std(0), -3, 3) for block in (ours, theirs))
    wanted = _saga([ours, theirs], label, l1, 1.0)
    halves = _fit((ours, theirs, label), settings=Settings(1.0, l1=l1))
    assert tables.distance(_weights(halves), wanted) < 0.01
    assert ((_weights(halves) == 0.0) != (wanted == 0.0)).sum() <= 1
