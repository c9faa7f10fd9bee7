"""The estimator keeps scikit-learn's conventions on a bare channel."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.utils import estimator_checks as checks

from party.errors import DataError, UsageError
from tests.support import channels, run_pair
from tests.vfl import tables
from tests.vfl.real import Pair
from vfl import SplitLogisticRegression
from vfl.estimator import held_rows, settings_of


def test_two_halves_fit_and_predict_like_scikit_learn():
    ours, theirs, label = tables.synthetic(400, 3, 3)
    ours = ours * 7 + 3  # raw scale: standardised inside
    a, b = channels()
    params = {"max_passes": 10, "receiver": "telco"}
    left, right = SplitLogisticRegression(**params), SplitLogisticRegression(**params)
    run_pair(lambda: left.fit(ours, label, engine=a), lambda: right.fit(theirs, engine=b), a, b)
    assert left.coef_.shape == right.coef_.shape == (1, 3)
    assert left.intercept_.shape == (1,) and right.intercept_ is None
    assert left.n_iter_[0] == right.n_iter_[0] <= 10 and left.n_features_in_ == 3
    standard = (ours - ours.mean(0)) / ours.std(0)
    wanted = tables.pooled([np.clip(standard, -3, 3), theirs], label, 1.0)
    assert tables.distance(np.concatenate([left.intercept_, left.coef_[0], right.coef_[0]]), wanted) < 0.01
    none, proba = run_pair(lambda: left.predict_proba(ours), lambda: right.predict_proba(theirs), a, b)
    assert none is None and proba.shape == (400, 2)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    logits = left.intercept_[0] + np.clip(standard, -3, 3) @ left.coef_[0] + theirs @ right.coef_[0]
    assert np.abs(proba[:, 1] - 1 / (1 + np.exp(-logits))).max() < 1e-2


def test_parameters_follow_the_conventions():
    model = SplitLogisticRegression(l2=2.0, class_weight={0: 1.0, 1: 3.0})
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(l2=3.0).l2 == 3.0
    assert repr(model) == "SplitLogisticRegression(l2=3.0, class_weight={0: 1.0, 1: 3.0})"
    with pytest.raises(UsageError):
        model.set_params(penalty="l1")
    with pytest.raises(NotFittedError):
        model.predict(np.zeros((3, 3)))
    with pytest.raises(UsageError, match="not fitted"):
        model.score(np.zeros((3, 3)), np.zeros(3))
    with pytest.raises(UsageError, match="engine"):
        model.fit(np.zeros((3, 3)))


# Checks that fit need the other half: `tests/vfl/test_local.py` runs them over both halves in one process.
ALONE = [
    checks.check_do_not_raise_errors_in_init_or_set_params,
    checks.check_estimator_cloneable,
    checks.check_estimator_repr,
    checks.check_estimator_tags_renamed,
    checks.check_estimators_unfitted,
    checks.check_get_params_invariance,
    checks.check_no_attributes_set_in_init,
    checks.check_parameters_default_constructible,
    checks.check_set_params,
    checks.check_valid_tag_types,
]


@pytest.mark.parametrize("check", ALONE, ids=lambda check: check.__name__)
def test_scikit_learns_checks_of_an_estimator_before_fit(check):
    check("SplitLogisticRegression", SplitLogisticRegression())


def test_names_classes_and_weights():
    ours, theirs, label = tables.synthetic(320, 3, 3, seed=3)
    named = pd.DataFrame(ours, columns=["a", "b", "c"])
    words = np.where(label == 1, "bad", "good")
    params = {"max_passes": 10, "l2": 5.0, "class_weight": "balanced"}
    left, right = SplitLogisticRegression(**params), SplitLogisticRegression(**params)
    a, b = channels()
    weights = np.where(np.arange(320) < 100, 2.0, 1.0)
    run_pair(
        lambda: left.fit(named, words, weights, engine=a),
        lambda: right.fit(theirs, engine=b),
        a,
        b,
    )
    assert list(left.feature_names_in_) == ["a", "b", "c"] and not hasattr(right, "feature_names_in_")
    assert left.classes_.tolist() == ["bad", "good"] and right.classes_.tolist() == [0, 1]
    place = (words == "good").astype(int)
    counts = np.bincount(place)
    scaled = [np.clip((block - block.mean(0)) / block.std(0), -3, 3) for block in (ours, theirs)]
    model = LogisticRegression(C=1 / 5.0, tol=1e-10)
    model.fit(np.hstack(scaled), place, weights * (320 / (2 * counts))[place])
    near = np.concatenate([left.intercept_, left.coef_[0], right.coef_[0]])
    assert tables.distance(near, np.concatenate([model.intercept_, model.coef_[0]])) < 0.1
    found, none = run_pair(lambda: left.predict(named), lambda: right.predict(theirs), a, b)
    assert none is None and set(found.tolist()) <= {"bad", "good"}
    accuracy, none = run_pair(lambda: left.score(named, words), lambda: right.score(theirs), a, b)
    assert none is None and accuracy == pytest.approx(np.mean(found == words), abs=0.01) and accuracy > 0.6
    for wrong, words_ in ((named[["b", "a", "c"]], "same order"), (named[["a", "b"]], "now missing")):
        with pytest.raises(ValueError, match=words_):
            left.predict(wrong)
    with pytest.raises(ValueError, match="has 2 features"):
        right.predict(theirs[:, :2])
    with pytest.raises(ValueError, match="requires y"):
        left.score(named)


def test_held_out_rows_end_the_training_of_both_halves():
    ours, theirs, label = tables.synthetic(200, 3, 3, seed=5)
    params = {"max_passes": 3, "early_stopping": 1, "validation_fraction": 0.3}
    left, right = SplitLogisticRegression(**params), SplitLogisticRegression(**params)
    a, b = channels()
    run_pair(lambda: left.fit(ours, label, engine=a), lambda: right.fit(theirs, engine=b), a, b)
    held = held_rows(left, 200)
    assert held.sum() == 60 and left.n_iter_[0] == right.n_iter_[0] <= 3
    np.testing.assert_allclose(left.model_.means, ours[~held].mean(axis=0))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"l2": -1.0}, "l2"),
        ({"tol": 0.0}, "tol"),
        ({"max_passes": 0}, "max_passes"),
        ({"early_stopping": 101}, "early_stopping"),
        ({"validation_fraction": 0.0}, "validation_fraction"),
        ({"winsorise": 0.0}, "winsorise"),
    ],
)
def test_parameters_out_of_range_are_refused(params, words):
    with pytest.raises(ValueError, match=words):
        settings_of(SplitLogisticRegression(**params), weighed=False)


@pytest.mark.parametrize("wanted", ["heavy", {0: 1.0}, {0: 1.0, 1: 1e9}])
def test_weights_of_classes_that_cannot_be_told_are_refused(wanted):
    ours, _, label = tables.synthetic(200, 3, 3)
    a, _ = channels()
    with pytest.raises(ValueError, match="class_weight"):
        SplitLogisticRegression(class_weight=wanted).fit(ours, label, engine=a)
    with pytest.raises(ValueError, match="label holder"):
        SplitLogisticRegression().fit(ours, sample_weight=np.ones(200), engine=a)
    assert a.counters.messages_sent == 0


def test_a_rare_class_is_refused_by_its_holder():
    ours, _, _ = tables.synthetic(200, 3, 3)
    few = (np.arange(200) < 3).astype(int)
    pair = Pair(min_rows=5)
    with pytest.raises(DataError, match="min_rows"):
        SplitLogisticRegression().fit(ours, few, engine=pair.engines[0])
    assert pair.channels[0].counters.messages_sent == 0


@pytest.mark.parametrize("case", ["rows", "labels", "parameters", "class_weight"])
def test_halves_that_do_not_fit_together_are_refused(case):
    ours, theirs, label = tables.synthetic(200, 3, 3)
    a, b = channels()
    left, right = SplitLogisticRegression(), SplitLogisticRegression(l2=2.0 if case == "parameters" else 1.0)
    if case == "class_weight":
        right.set_params(class_weight="balanced")
    if case == "rows":
        theirs = theirs[:-1]
    with pytest.raises(DataError):
        run_pair(
            lambda: left.fit(ours, label, engine=a),
            lambda: right.fit(theirs, label if case == "labels" else None, engine=b),
            a,
            b,
        )
