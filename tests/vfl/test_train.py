"""The whole of training on the real engine, against scikit-learn and against the plain twin."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sk

import vfl
from party.errors import DataError, PolicyRefused
from tests.vfl import tables
from tests.vfl.real import Pair, valid
from vfl import prepare, reference, spec

SALT = b"agreement and alignment"


def _spec(ours, theirs, **change):
    found = vfl.TrainSpec(
        parties=("bank", "telco"),
        tables={"bank": "customers", "telco": "subscribers"},
        label=("bank", "y"),
        features={
            "bank": tuple(f"x{i}" for i in range(ours.shape[1])),
            "telco": tuple(f"x{i}" for i in range(theirs.shape[1])),
        },
    )
    return replace(found, **change)


def _train(table, job, receiver=None, min_rows=5):
    ours, theirs, label = table
    pair = Pair(vfl.request(job, receiver), min_rows)
    left = {**valid(ours), "y": (label == 1, np.ones(len(label), dtype=bool))}
    halves = pair.run(
        lambda engine: vfl.train(engine, left, job, SALT), lambda engine: vfl.train(engine, valid(theirs), job, SALT)
    )
    return pair, halves


def _found(halves):
    return np.concatenate([[halves[0].model.intercept], halves[0].model.weights, halves[1].model.weights])


def _pooled(table, halves):
    """scikit-learn on the same preparation and split: its weights, and metrics of its test rows."""
    ours, theirs, label = table
    test = prepare.split(len(label), 0.2, SALT)
    blocks = [prepare.prepare(valid(block), test, 3.0).values for block in (ours, theirs)]
    weights = tables.pooled([block[~test] for block in blocks], label[~test], 1.0)
    logits = weights[0] + np.hstack(blocks)[test] @ weights[1:]
    return weights, sk.roc_auc_score(label[test], logits), sk.log_loss(label[test], 1 / (1 + np.exp(-logits)))


def test_a_small_job_runs_end_to_end_and_follows_the_plain_twin():
    table = tables.synthetic(320, 3, 3)
    job = _spec(*table[:2], passes=7)
    pair, halves = _train(table, job, "telco")
    test = prepare.split(320, 0.2, SALT)
    blocks = [prepare.prepare(valid(block), test, 3.0).values[~test] for block in table[:2]]
    twin, _ = reference.fit(*blocks, table[2][~test], l2=1.0, passes=7)
    assert tables.distance(_found(halves), np.concatenate(twin)) < 2e-3
    assert halves[0].passes == 7 and not halves[0].stopped
    assert halves[0].metrics == halves[1].metrics
    assert (halves[0].metrics.n_train, halves[0].metrics.n_test) == (256, 64)
    assert halves[1].model.intercept is None

    # scores of all rows go to the named receiver alone
    given, got = pair.run(
        lambda engine: vfl.score(engine, halves[0].model, halves[0].values, "telco"),
        lambda engine: vfl.score(engine, halves[1].model, halves[1].values, "telco"),
    )
    assert given is None
    logits = halves[0].model.partial_logits(halves[0].values) + halves[1].model.partial_logits(halves[1].values)
    assert np.abs(got - 1 / (1 + np.exp(-logits))).max() < 1.1e-3
    np.testing.assert_array_equal(got, np.round(got, 3))
    assert halves[0].metrics.auc == pytest.approx(sk.roc_auc_score(table[2][test], logits[test]), abs=2e-3)

    # everything that left is in the ledger, under the names of the request
    allowed = {(opening.what, opening.to) for opening in vfl.request(job, "telco").openings}
    wrote = {(fields["what"], fields["to"]) for ledger in pair.ledgers for _, fields in ledger.events}
    assert wrote <= allowed and (spec.SCORES, "telco") in wrote and (spec.METRICS, "bank") in wrote
    assert (spec.weights_name("bank"), "telco") not in wrote

    # and scores to another receiver than the request's are refused before anything is sent
    with pytest.raises(PolicyRefused):
        pair.run(
            lambda engine: vfl.score(engine, halves[0].model, halves[0].values, "bank"),
            lambda engine: vfl.score(engine, halves[1].model, halves[1].values, "bank"),
        )


def test_unfit_columns_are_refused_before_any_message():
    ours, theirs, label = tables.synthetic(300, 3, 3)
    job = _spec(ours, theirs)
    rare = valid(theirs)
    rare["x1"] = ((np.arange(300) == 7).astype(float), rare["x1"][1])
    pair = Pair(vfl.request(job), min_rows=5)
    with pytest.raises(DataError, match="x1"):
        vfl.train(pair.engines[1], rare, job, SALT)
    few = replace(job, features={"bank": ("x0", "x1"), "telco": job.features["telco"]})
    with pytest.raises(PolicyRefused, match="features of bank"):
        vfl.train(pair.engines[0], {**valid(ours), "y": (label, label >= 0)}, few, SALT)
    assert pair.channels[0].counters.messages_sent == pair.channels[1].counters.messages_sent == 0


@pytest.mark.slow
def test_default_credit_equals_the_pooled_model():
    ours, theirs, label = tables.fate("default_credit")
    keep = np.random.default_rng(1).random(len(label)) < 0.81  # both sides miss a tenth
    table = ours[keep], theirs[keep], label[keep]
    _, halves = _train(table, _spec(*table[:2]), min_rows=20)
    weights, auc, loss = _pooled(table, halves)
    assert halves[0].stopped
    assert tables.distance(_found(halves), weights) < 0.01
    assert tables.distance(np.array(halves[1].model.weights), weights[14:]) < 0.01
    assert halves[0].metrics.auc == pytest.approx(auc, abs=1e-3)
    assert halves[0].metrics.log_loss == pytest.approx(loss, abs=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_breast_equals_the_pooled_model():
    table = tables.fate("breast")
    _, halves = _train(table, _spec(*table[:2]))
    weights, auc, loss = _pooled(table, halves)
    assert tables.distance(_found(halves), weights) < 0.03
    assert halves[0].metrics.auc == pytest.approx(auc, abs=1e-3)
    assert halves[0].metrics.log_loss == pytest.approx(loss, abs=5e-3)
