"""Second-order steps on shares against pooled scikit-learn, over the ideal oracle and the real engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from party.errors import DataError, PolicyRefused, TallyError, UsageError
from party.request import Opening
from tests.support import run_pair
from tests.vfl import ideal, tables
from tests.vfl.real import Pair
from tests.vfl.test_spec import SPEC
from vfl import checks, cost, information, newton, newton_cost, prepare, schedule, sides, spec
from vfl.prepare import Known
from vfl.secure import Secure
from vfl.sides import Settings
from vfl.state import MemoryCheckpoints
from vfl.train import fit_weights, settings_of


def _fit(table, l2=1.0, pair=None, seed=5, stores=None, cut=None, **options):
    """Both sides' halves of a second-order training, over the ideal oracle or a pair of real engines."""
    settings = Settings(l2, warm=False, second_order=True, **options)
    stores = stores or [MemoryCheckpoints() for _ in range(2)]

    def fit(place):
        what = (table[place], Known(table[2] if place == 0 else None), table[1 - place].shape[1] + place)
        return lambda arithmetic: fit_weights(arithmetic, what, settings, stores[place])

    if pair is None:
        left, right = ideal.pair(seed)
        left.cut_after = cut
        return run_pair(lambda: fit(0)(left), lambda: fit(1)(right))
    return pair.run(*(lambda engine, f=fit(place): f(Secure(engine, prepare.MATRIX_BITS)) for place in (0, 1)))


def _weights(halves):
    return np.concatenate([half.weights for half in halves])


@pytest.mark.parametrize("rows", [1500, 4000])
def test_a_few_steps_reach_the_pooled_weights(rows):
    table = tables.synthetic(rows, 4, 5)
    halves = _fit(table)
    assert tables.distance(_weights(halves), tables.pooled(list(table[:2]), table[2], 1.0)) < 2e-3
    assert halves[0].stopped and halves[0].passes == newton.PLAIN + newton.LEAST_STEPS


def test_equal_columns_across_parties_get_the_weights_that_passes_do_not_reach():
    ours, theirs, label = tables.synthetic(1500, 4, 4)
    theirs[:, 0] = ours[:, 1]
    wanted = tables.pooled([ours, theirs], label, 1.0)
    assert tables.distance(_weights(_fit((ours, theirs, label))), wanted) < 0.01


def test_breast_reaches_the_pooled_weights_in_a_fifth_of_the_passes():
    ours, theirs, label = tables.fate("breast")
    ours, theirs = (np.clip((part - part.mean(0)) / part.std(0), -3, 3) for part in (ours, theirs))
    halves = _fit((ours, theirs, label))
    assert tables.distance(_weights(halves), tables.pooled([ours, theirs], label, 1.0)) < 0.005
    assert halves[0].stopped and halves[0].passes <= 20


def test_it_goes_on_where_the_first_steps_do_not_arrive():
    ours, theirs, label = tables.synthetic(1500, 4, 5)
    halves = _fit((ours, theirs, label), tolerance=1e-15, passes=21)
    assert halves[0].passes == 21 and not halves[0].stopped
    assert tables.distance(_weights(halves), tables.pooled([ours, theirs], label, 1.0)) < 2e-3


def test_a_run_that_was_cut_ends_with_the_very_same_weights():
    table = tables.synthetic(600, 3, 3)
    first = [MemoryCheckpoints() for _ in range(2)]
    whole = _fit(table, stores=first)
    for calls in (40, 60, 120, 160):  # in a plain pass, within an inversion, between two steps of one H
        again = [MemoryCheckpoints() for _ in range(2)]
        for new, old in zip(again, first, strict=True):
            new._secret = old._secret
        with pytest.raises(ConnectionError):
            _fit(table, stores=again, cut=calls)
        assert np.array_equal(_weights(whole), _weights(_fit(table, stores=again)))


def test_a_step_that_is_dropped_goes_back_and_a_new_matrix_follows(monkeypatch):
    seen = []
    plain, refreshed = newton.passes.one_pass, newton.inverse_at

    def one_pass(arithmetic, side, state):
        after = plain(arithmetic, side, state)
        drop = state.number == newton.PLAIN  # as the bits of guard or loss would
        return replace(after, weights=np.stack([state.weights[2]] * 3), k=0) if drop else after

    def inverse_at(arithmetic, side, block, state):
        seen.append(state.number)
        return refreshed(arithmetic, side, block, state)

    monkeypatch.setattr(newton.passes, "one_pass", one_pass)
    monkeypatch.setattr(newton, "inverse_at", inverse_at)
    table = tables.synthetic(1500, 4, 5)
    halves = _fit(table)
    assert sorted(set(seen))[:3] == [newton.PLAIN, newton.PLAIN + 1, newton.PLAIN + 3]
    assert tables.distance(_weights(halves), tables.pooled(list(table[:2]), table[2], 1.0)) < 5e-3


def test_steps_over_the_real_engine_open_one_more_bit():
    table = tables.synthetic(600, 3, 3)
    owned = [spec.weights_name(party) for party in ("bank", "telco")]
    pair = Pair(openings=[spec.SCALE, checks.CHECK_BITS, information.DETERMINED, *owned])
    halves = _fit(table, pair=pair, passes=8)
    assert tables.distance(_weights(halves), tables.pooled(list(table[:2]), table[2], 1.0)) < 5e-3
    wrote = {fields["what"] for ledger in pair.ledgers for _, fields in ledger.events}
    assert wrote == {spec.SCALE, checks.CHECK_BITS, information.DETERMINED, *owned}


def test_without_the_agreement_on_that_bit_nothing_is_opened():
    pair = Pair()  # what a first-order training opens
    with pytest.raises(PolicyRefused):
        _fit(tables.synthetic(200, 3, 3), pair=pair)


def test_a_peer_that_trains_otherwise_than_agreed_broke_the_protocol():
    table, pair = tables.synthetic(200, 3, 3), Pair(openings=[spec.SCALE, checks.CHECK_BITS, information.DETERMINED])

    def fit(place, settings):
        what = (table[place], Known(table[2] if place == 0 else None), table[1 - place].shape[1] + place)
        return lambda engine: fit_weights(Secure(engine, prepare.MATRIX_BITS), what, settings, MemoryCheckpoints())

    with pytest.raises(TallyError):
        pair.run(fit(0, Settings(warm=False, second_order=True)), fit(1, Settings()), timeout=20)


def test_passes_cost_what_they_declare():
    table = tables.synthetic(600, 3, 3)
    white = [prepare.whiten(table[0], 1.0, intercept=True), prepare.whiten(table[1], 1.0, intercept=False)]
    scales = schedule.Scales(min(w.scale for w in white), schedule.slot_bits(600), white[0].exponent)
    settings = Settings(1.0, warm=False, second_order=True)
    known = (Known(table[2]), Known())
    both = [sides.ours(w, k, d, scales, settings) for w, k, d in zip(white, known, (3, 4), strict=True)]
    states = [
        replace(sides.first_state(side, w, k), number=6, k=1) for side, w, k in zip(both, white, known, strict=True)
    ]
    pair, counted = Pair(openings=[checks.CHECK_BITS, information.DETERMINED]), []
    for number in (7, 7, 8):  # the first also exchanges keys
        done = pair.run(
            *(
                lambda engine, i=i: newton.advance(Secure(engine, prepare.MATRIX_BITS), both[i], states[i])
                for i in range(2)
            )
        )
        states = states if number == 7 and not counted else list(done)
        counters = [channel.counters for channel in pair.channels]
        counted.append([sum(c.received for c in counters), max(c.rounds for c in counters)])
    shape = cost.Shape(600, 0, (4, 3), 64, scales.slots)
    for number, now, before in ((7, 1, 0), (8, 2, 1)):
        declared = newton_cost.of_newton_pass(shape, number, both[0].second.weight_bits)
        moved, rounds = np.subtract(counted[now], counted[before])
        assert (moved, rounds) == (declared.bytes, declared.rounds)
    whole = newton_cost.of_newton_passes(shape, 10)
    assert whole.bytes > cost.of_passes(shape, 10).bytes + 2 * newton_cost.of_inverse(shape, 30).bytes


@pytest.mark.slow
def test_default_credit_reaches_the_pooled_weights_in_ten_passes():
    ours, theirs, label = tables.fate("default_credit")
    ours, theirs = (np.clip((part - part.mean(0)) / part.std(0), -3, 3) for part in (ours, theirs))
    halves = _fit((ours, theirs, label))
    assert tables.distance(_weights(halves), tables.pooled([ours, theirs], label, 1.0)) < 0.003
    assert halves[0].stopped and halves[0].passes == 10


def test_what_has_no_inverse_and_what_is_too_wide_is_refused():
    ours, theirs, label = tables.synthetic(800, 3, 3)
    theirs[:, 0] = ours[:, 0]
    with pytest.raises(DataError, match="collinear"):
        _fit((ours, theirs, label), l2=1e-4)
    wide = np.random.default_rng(1).normal(size=(800, 38))
    with pytest.raises(UsageError, match="at most 40"):
        _fit((ours, wide, label))


@pytest.mark.parametrize("options", [{"weighed": True}, {"l1": 1.0}, {"patience": 2}])
def test_what_does_not_go_with_second_order_steps_is_refused(options):
    with pytest.raises(UsageError, match="method newton takes no"):
        _fit(tables.synthetic(200), **options)


def test_a_job_asks_for_it_plans_it_and_is_refused_what_does_not_go_with_it():
    job = replace(SPEC, method=spec.NEWTON)
    job.check()
    assert Opening(information.DETERMINED, "telco") in spec.request(job).openings
    assert Opening(information.DETERMINED, "telco") not in spec.request(SPEC).openings
    plan = spec.plan(job, 5000)
    assert any(line.startswith("method newton: after 6 plain passes") for line in plan.lines)
    assert plan.likely.bytes < spec.plan(SPEC, 5000).likely.bytes
    settings = settings_of(job)
    assert settings.second_order and not settings.warm and not settings_of(SPEC).second_order
    wide = {"bank": ("balance", "income", "age"), "telco": tuple(f"c{i}" for i in range(38))}
    for change in (
        {"l1": 1.0},
        {"early_stopping": 3},
        {"class_weight": "balanced"},
        {"weights": "w"},
        {"method": "second"},
        {"features": wide},
    ):
        with pytest.raises(UsageError):
            replace(job, **change).check()
