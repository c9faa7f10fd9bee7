"""Inference over the real engine against statsmodels: same errors, own ones only, clear refusals, declared bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

import vfl
from party.errors import DataError, PeerError, PolicyRefused
from party.request import Opening
from tests.vfl import tables
from tests.vfl.real import Pair, valid
from vfl import inference, inference_cost, prepare, reference
from vfl.inference import INTERCEPT, LIKELIHOOD, REACH, Reach, Sample, infer
from vfl.model import ModelHalf
from vfl.secure import Secure

SALT = b"agreement and alignment"
BOTH = ("bank", "telco")


def _names() -> list[tuple[str, str]]:
    found = [(what, party) for what in (REACH, LIKELIHOOD, inference.DETERMINED) for party in BOTH]
    return [*found, *((inference.errors_name(party), party) for party in BOTH)]


@dataclass
class _Openings:
    openings: Sequence[Opening] = tuple(Opening(*name) for name in _names())


def _halves(ours, theirs, weights):
    """The two halves of a pooled model: intercept, then all weights."""
    d, found = ours.shape[1], []
    for block, part, intercept in ((ours, weights[1 : d + 1], float(weights[0])), (theirs, weights[d + 1 :], None)):
        width = block.shape[1]
        names = tuple(f"x{i}" for i in range(width))
        found.append(ModelHalf(names, (0.0,) * width, (2.0,) * width, tuple(map(float, part)), intercept, None))
    return found


def _infer(ours, theirs, weights, l2, pair=None, factors=None, label=None):
    """Both sides' Inference of these coefficients, over real engines."""
    halves = _halves(ours, theirs, weights)
    pair = pair or Pair(_Openings())

    def side(place, values, others):
        half = halves[place]
        told = (None, None) if place else (np.arange(len(values)) % 2 if label is None else label, factors)
        sample = Sample(values, half.partial_logits(values), *told)
        return lambda engine: infer(Secure(engine, prepare.MATRIX_BITS), sample, half, l2, others)

    return pair.run(side(0, ours, theirs.shape[1]), side(1, theirs, ours.shape[1] + 1))


def _errors(found):
    return np.array([row.standard_error for side in found for row in side.rows])


def _observed(ours, theirs, label, weights, l2):
    """Standard errors from statsmodels' Hessian at these coefficients, penalised."""
    table = np.hstack([np.ones((len(label), 1)), ours, theirs])
    ridge = np.full(len(weights), l2)
    ridge[0] = 0.0
    return np.sqrt(np.diag(np.linalg.inv(np.diag(ridge) - sm.Logit(label, table).hessian(weights))))


def _standard(table):
    return np.clip((table - table.mean(0)) / table.std(0), -3, 3)


def test_errors_z_p_intervals_and_odds_are_those_of_statsmodels():
    """Unpenalised fit (l2 = 1e-6) of 3,000 rows against Logit.fit() itself."""
    ours, theirs, label = tables.synthetic(3000, 3, 4)
    fit = sm.Logit(label, np.hstack([np.ones((3000, 1)), ours, theirs])).fit(disp=0)
    pair = Pair(_Openings())
    found = _infer(ours, theirs, fit.params, 1e-6, pair, label=label)
    assert [side.refusal for side in found] == [None, None]
    assert np.abs(_errors(found) / fit.bse - 1).max() < 1e-4
    rows = [row for side in found for row in side.rows]
    assert [row.name for row in rows] == [INTERCEPT, "x0", "x1", "x2", "x0", "x1", "x2", "x3"]
    np.testing.assert_allclose([row.z for row in rows], fit.tvalues, rtol=1e-3)
    np.testing.assert_allclose([row.p_value for row in rows], fit.pvalues, rtol=1e-2, atol=1e-12)
    np.testing.assert_allclose([[row.low, row.high] for row in rows], fit.conf_int(), atol=1e-4)
    np.testing.assert_allclose([row.odds_ratio for row in rows], np.exp(fit.params))
    np.testing.assert_allclose([[row.odds_low, row.odds_high] for row in rows], np.exp(fit.conf_int()), rtol=1e-3)
    # by units of the columns: the sd is 2
    assert rows[0].unit_coefficient is None and rows[0].unit_odds_ratio is None
    for row in rows[1:]:
        assert row.unit_coefficient == row.coefficient / 2 and row.unit_standard_error == row.standard_error / 2
        assert row.unit_odds_low < row.unit_odds_ratio < row.unit_odds_high
    assert json.dumps(found[0].as_list(), allow_nan=False)

    # the whole model, at the label holder alone
    whole = found[0].fit
    assert found[1].fit is None and (whole.rows, whole.llr_dof) == (3000, fit.df_model)
    assert whole.log_likelihood == pytest.approx(fit.llf, abs=0.05)
    assert whole.log_likelihood_null == pytest.approx(fit.llnull, rel=1e-9)
    assert whole.llr == pytest.approx(fit.llr, abs=0.1)
    assert (whole.aic, whole.bic) == pytest.approx((fit.aic, fit.bic), abs=0.1)
    assert whole.pseudo_r_squared == pytest.approx(fit.prsquared, abs=1e-4)
    assert whole.llr_p_value == pytest.approx(fit.llr_pvalue, abs=1e-12)

    # the ledger has the reach, the bit and one's own errors, and nothing else
    wrote = [{(fields["what"], fields["to"]) for _, fields in ledger.events} for ledger in pair.ledgers]
    common = {REACH, inference.DETERMINED}
    assert (LIKELIHOOD, "bank") in wrote[1] and wrote[1].discard((LIKELIHOOD, "bank")) is None
    assert wrote[0] == {(what, "telco") for what in common | {inference.errors_name("telco")}}
    assert wrote[1] == {(what, "bank") for what in common | {inference.errors_name("bank")}}


@pytest.mark.parametrize("name", ["breast", "fair"])
def test_penalised_errors_of_real_tables(name):
    if name == "breast":
        ours, theirs, label = tables.fate("breast")
    else:
        data = sm.datasets.fair.load_pandas().data
        label = (data.pop("affairs") > 0).to_numpy().astype(np.int64)
        ours, theirs = data.to_numpy()[:, :4], data.to_numpy()[:, 4:]
    ours, theirs = _standard(ours), _standard(theirs)
    weights = tables.pooled([ours, theirs], label, 1.0)
    found = _infer(ours, theirs, weights, 1.0)
    assert np.abs(_errors(found) / _observed(ours, theirs, label, weights, 1.0) - 1).max() < 1e-3


def test_training_with_inference_gives_each_side_its_own_rows():
    ours, theirs, label = tables.synthetic(400, 3, 3)
    job = vfl.TrainSpec(
        parties=BOTH,
        tables={"bank": "customers", "telco": "subscribers"},
        label=("bank", "y"),
        features=dict.fromkeys(BOTH, ("x0", "x1", "x2")),
        passes=2,
        inference=True,
    )
    pair = Pair(vfl.request(job), 5)
    left = {**valid(ours), "y": (label == 1, np.ones(len(label), dtype=bool))}
    halves = pair.run(
        lambda engine: vfl.train(engine, left, job, SALT), lambda engine: vfl.train(engine, valid(theirs), job, SALT)
    )
    rows = [half.inference.rows for half in halves]
    assert [row.name for row in rows[0]] == [INTERCEPT, "x0", "x1", "x2"] and len(rows[1]) == 3
    assert [row.coefficient for row in rows[1]] == list(halves[1].model.weights)
    weights = np.concatenate([[row.coefficient for row in side] for side in rows])
    keep = ~halves[0].test
    blocks = [half.values[keep] for half in halves]
    wanted = _observed(*blocks, label[keep], weights, 1.0)
    assert np.abs(_errors([half.inference for half in halves]) / wanted - 1).max() < 1e-3
    allowed = {(opening.what, opening.to) for opening in vfl.request(job).openings}
    assert {(f["what"], f["to"]) for ledger in pair.ledgers for _, f in ledger.events} <= allowed
    # a job that does not ask for them opens none
    assert not set(_names()) & {(o.what, o.to) for o in vfl.request(replace(job, inference=False)).openings}
    assert vfl.plan(job, 400).likely.seconds > vfl.plan(replace(job, inference=False), 400).likely.seconds
    assert sum("standard errors" in line for line in vfl.plan(job, 400).lines) == 3


@pytest.mark.slow
def test_a_job_from_end_to_end_gives_the_errors_of_the_pooled_fit():
    """Trained on shares until it stops, against statsmodels' own fit of the same rows: within 1 %."""
    data = sm.datasets.fair.load_pandas().data
    label = (data.pop("affairs") > 0).to_numpy().astype(np.int64)
    ours, theirs = data.to_numpy()[:, :4], data.to_numpy()[:, 4:]
    names = tuple(f"x{i}" for i in range(4))
    job = vfl.TrainSpec(
        parties=BOTH,
        tables={"bank": "customers", "telco": "subscribers"},
        label=("bank", "y"),
        features={"bank": names, "telco": names},
        l2=0.01,
        inference=True,
    )
    pair = Pair(vfl.request(job), 5)
    left = {**valid(ours), "y": (label == 1, np.ones(len(label), dtype=bool))}
    halves = pair.run(
        lambda engine: vfl.train(engine, left, job, SALT), lambda engine: vfl.train(engine, valid(theirs), job, SALT)
    )
    keep = ~halves[0].test
    table = np.hstack([np.ones((int(keep.sum()), 1)), *(half.values[keep] for half in halves)])
    fit = sm.Logit(label[keep], table).fit(disp=0)
    found = [half.inference for half in halves]
    assert np.abs(_errors(found) / fit.bse - 1).max() < 0.01
    assert found[0].fit.llr == pytest.approx(fit.llr, rel=0.01)


def test_collinear_columns_across_parties_are_refused_at_both_sides_and_nothing_is_opened():
    ours, theirs, label = tables.synthetic(1500, 3, 3)
    theirs[:, 1] = ours[:, 0]
    weights = tables.pooled([ours, theirs], label, 1.0)
    # the penalty alone tells equal columns apart: a right answer
    found = _infer(ours, theirs, weights, 1.0)
    assert np.abs(_errors(found) / _observed(ours, theirs, label, weights, 1.0) - 1).max() < 1e-3
    for l2 in (1e-3, 0.0):
        pair = Pair(_Openings())
        found = _infer(ours, theirs, weights, l2, pair)
        assert [side.rows for side in found] == [(), ()] and found[0].refusal == found[1].refusal
        assert "collinear" in found[0].refusal and found[0].fit is not None
        wrote = {fields["what"] for ledger in pair.ledgers for _, fields in ledger.events}
        assert wrote == {REACH, LIKELIHOOD, inference.DETERMINED}


def test_logits_that_reach_too_far_are_refused_before_anything_is_computed():
    ours, theirs, label = tables.synthetic(300, 3, 3)
    weights = tables.pooled([ours, theirs], label, 1.0) * 200
    pair = Pair(_Openings())
    found = _infer(ours, theirs, weights, 1.0, pair)
    assert found[0] == found[1] and "separable" in found[0].refusal
    assert pair.channels[0].counters.messages_sent == 1


def test_the_label_may_be_at_the_party_named_second():
    ours, theirs, label = tables.synthetic(500, 3, 4)
    weights = tables.pooled([ours, theirs], label, 1.0)
    holder, other = _halves(ours, theirs, weights)
    pair = Pair(_Openings())

    def side(half, values, others):
        sample = Sample(values, half.partial_logits(values), None if half is other else label)
        return lambda engine: infer(Secure(engine, prepare.MATRIX_BITS), sample, half, 1.0, others)

    second, first = pair.run(side(other, theirs, 4), side(holder, ours, 4))
    wanted = _observed(ours, theirs, label, weights, 1.0)
    assert np.abs(_errors([first, second]) / wanted - 1).max() < 1e-3


def test_heavy_tails_without_winsorising():
    rng = np.random.default_rng(3)
    ours, theirs = rng.standard_t(2, (1500, 3)), np.exp(1.5 * rng.normal(size=(1500, 3)))
    ours, theirs = ((part - part.mean(0)) / part.std(0) for part in (ours, theirs))
    label = (rng.random(1500) < 1 / (1 + np.exp(-ours[:, 0] + theirs[:, 1]))).astype(np.int64)
    weights = tables.pooled([ours, theirs], label, 1.0)
    found = _infer(ours, theirs, weights, 1.0)
    assert np.abs(_errors(found) / _observed(ours, theirs, label, weights, 1.0) - 1).max() < 1e-3


def test_weights_of_rows_enter_the_information():
    ours, theirs, label = tables.synthetic(600, 3, 3)
    factors = np.where(label == 1, 1.0, 0.3)
    table = np.hstack([np.ones((600, 1)), ours, theirs])
    fit = sm.GLM(label, table, family=sm.families.Binomial(), freq_weights=factors).fit()
    found = _infer(ours, theirs, fit.params, 1e-6, factors=factors, label=label)
    assert found[0].fit.log_likelihood == pytest.approx(fit.llf, abs=0.05)
    assert np.abs(_errors(found) / fit.bse - 1).max() < 1e-3
    # and the feature holder has none
    half = _halves(ours, theirs, fit.params)[1]
    with pytest.raises(DataError, match="label holder"):
        infer(Secure(Pair(_Openings()).engines[1], 20), Sample(theirs, np.zeros(600), None, factors), half, 1.0, 4)


def test_the_plain_twin_is_statsmodels():
    ours, theirs, label = tables.synthetic(700, 3, 4)
    weights = tables.pooled([ours, theirs], label, 2.0)
    logits = weights[0] + np.hstack([ours, theirs]) @ weights[1:]
    np.testing.assert_allclose(
        reference.errors(ours, theirs, logits, 2.0), _observed(ours, theirs, label, weights, 2.0), rtol=1e-9
    )


def test_bytes_messages_and_rounds_do_not_depend_on_the_data():
    counted = []
    for seed, spoilt in ((1, False), (2, False), (3, True)):
        ours, theirs, label = tables.synthetic(300, 3, 3, seed)
        weights = tables.pooled([ours, theirs], label, 1.0)
        weights *= 5.0 / np.abs(np.hstack([ours, theirs]) @ weights[1:]).max()  # both parts reach 8 at most
        if spoilt:
            theirs[:, 0], weights[1:] = ours[:, 0], 0.0
        pair = Pair(_Openings())
        found = _infer(ours, theirs, weights, 1e-9, pair)
        assert (found[0].refusal is None) != spoilt
        counters = [channel.counters for channel in pair.channels]
        counted.append([(c.sent, c.messages_sent, c.rounds) for c in counters])
    assert counted[0] == counted[1]
    # a refusal ends the same messages before the two that open variances
    assert all(counted[0][place][1] - counted[2][place][1] <= 4 for place in (0, 1))


def test_bytes_are_the_declared_ones():
    ours, theirs, label = tables.synthetic(600, 3, 4)
    weights = tables.pooled([ours, theirs], label, 1.0)
    pair = Pair(_Openings())
    counted = []
    for _ in range(2):  # keys and base transfers only once
        before = sum(channel.counters.sent for channel in pair.channels)
        _infer(ours, theirs, weights, 1.0, pair)
        counted.append(sum(channel.counters.sent for channel in pair.channels) - before)
    halves = _halves(ours, theirs, weights)
    reach = [np.abs(half.partial_logits(block)).max() for half, block in zip(halves, (ours, theirs), strict=True)]
    period = inference.period_of(*(int(np.ceil(part / 8)) for part in reach))
    declared = inference_cost.predict(600, (4, 4), period, 20)
    assert abs(counted[1] - declared) < 0.001 * declared
    assert counted[0] > counted[1]


def test_a_constant_column_has_no_error_and_spoils_no_other():
    ours, theirs, label = tables.synthetic(800, 4, 3)
    ours[:, 2] = 0.0
    weights = tables.pooled([ours, theirs], label, 1.0)
    for l2 in (1.0, 1e-9):
        found = _infer(ours, theirs, weights, l2)
        row = found[0].rows[3]
        assert (row.standard_error, row.z, row.odds_ratio) == (None, None, None)
        kept = [0, 1, 2, 4, 5, 6, 7]
        wanted = _observed(np.delete(ours, 2, axis=1), theirs, label, weights[kept], l2)
        assert np.abs(_errors(found)[kept].astype(float) / wanted - 1).max() < 1e-3


# --- peers and rows that do not fit -----------------------------------------------------------------------------


def test_a_peer_with_another_number_of_columns_is_refused():
    ours, theirs, label = tables.synthetic(300, 3, 3)
    half = _halves(ours, theirs, tables.pooled([ours, theirs], label, 1.0))[0]
    for columns in (2, 4):
        pair = Pair(_Openings())
        pair.channels[1].send(Reach(12, columns, 1))
        with pytest.raises(PeerError, match="weights"):
            infer(Secure(pair.engines[0], 20), Sample(ours, half.partial_logits(ours), label), half, 1.0, 3)


def test_what_the_agreement_does_not_open_is_not_sent():
    ours, theirs, label = tables.synthetic(300, 3, 3)
    weights = tables.pooled([ours, theirs], label, 1.0)

    narrow = _Openings([o for o in _Openings.openings if o.what != inference.errors_name("telco")])
    with pytest.raises(PolicyRefused, match="standard errors of telco"):
        _infer(ours, theirs, weights, 1.0, Pair(narrow))
    pair = Pair(_Openings([]))
    with pytest.raises(PolicyRefused, match="reach"):
        _infer(ours, theirs, weights, 1.0, pair)
    assert pair.channels[0].counters.messages_sent == pair.channels[1].counters.messages_sent == 0


@pytest.mark.parametrize(
    "logits,factors",
    [
        (np.zeros(299), None),
        (np.full(300, np.nan), None),
        (np.zeros(300), np.full(300, 1.1)),
        (np.zeros(300), np.full(300, -0.1)),
        (np.zeros(300), np.full(300, np.nan)),
        (np.zeros(300), np.ones(299)),
        (np.zeros(301), None),
    ],
)
def test_rows_that_do_not_fit_are_refused(logits, factors):
    ours, theirs, label = tables.synthetic(300, 3, 3)
    half = _halves(ours, theirs, tables.pooled([ours, theirs], label, 1.0))[0]
    pair = Pair(_Openings())
    with pytest.raises(DataError):
        infer(Secure(pair.engines[0], 20), Sample(ours, logits, label[: len(logits)], factors), half, 1.0, 3)
    assert pair.channels[0].counters.messages_sent == 0


def test_p_values_and_odds_at_the_ends_of_floating_point():
    half = ModelHalf(("x0", "x1"), (0.0, 0.0), (1e-6, 1.0), (3.0, -0.5), None, None)
    rows = inference._rows(half, np.ones((4, 2)), np.array([0.001, 0.25]))
    assert rows[0].unit_odds_ratio is None and rows[0].p_value == 0.0
    assert rows[1].p_value == pytest.approx(2 * stats.norm.sf(2.0))
    assert (rows[1].low, rows[1].high) == pytest.approx(stats.norm.interval(0.95, -0.5, 0.25))
