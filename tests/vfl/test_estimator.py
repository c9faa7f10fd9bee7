"""The estimator keeps scikit-learn's conventions on a bare channel."""

import numpy as np
import pytest
from sklearn.base import clone

from party.errors import DataError, UsageError
from tests.support import channels, run_pair
from tests.vfl import tables
from vfl import SplitLogisticRegression


def test_two_halves_fit_and_predict_like_scikit_learn():
    ours, theirs, label = tables.synthetic(400, 3, 3)
    ours = ours * 7 + 3  # raw scale: standardised inside
    a, b = channels()
    params = {"max_passes": 10, "receiver": "telco"}
    left, right = SplitLogisticRegression(**params), SplitLogisticRegression(**params)
    run_pair(lambda: left.fit(ours, label, engine=a), lambda: right.fit(theirs, engine=b), a, b)
    assert left.coef_.shape == right.coef_.shape == (1, 3)
    assert left.intercept_.shape == (1,) and right.intercept_ is None
    assert left.n_iter_[0] == 10 and left.n_features_in_ == 3
    standard = (ours - ours.mean(0)) / ours.std(0)
    wanted = tables.pooled([np.clip(standard, -3, 3), theirs], label, 1.0)
    assert tables.distance(np.concatenate([left.intercept_, left.coef_[0], right.coef_[0]]), wanted) < 0.1
    none, proba = run_pair(lambda: left.predict_proba(ours), lambda: right.predict_proba(theirs), a, b)
    assert none is None and proba.shape == (400, 2)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    logits = left.intercept_[0] + np.clip(standard, -3, 3) @ left.coef_[0] + theirs @ right.coef_[0]
    assert np.abs(proba[:, 1] - 1 / (1 + np.exp(-logits))).max() < 1e-2


def test_parameters_follow_the_conventions():
    model = SplitLogisticRegression(l2=2.0)
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(l2=3.0).l2 == 3.0
    with pytest.raises(UsageError):
        model.set_params(penalty="l1")
    with pytest.raises(UsageError, match="not fitted"):
        model.predict(np.zeros((3, 3)))
    with pytest.raises(UsageError, match="engine"):
        model.fit(np.zeros((3, 3)))


@pytest.mark.parametrize("case", ["rows", "labels", "parameters"])
def test_halves_that_do_not_fit_together_are_refused(case):
    ours, theirs, label = tables.synthetic(200, 3, 3)
    a, b = channels()
    left, right = SplitLogisticRegression(), SplitLogisticRegression(l2=2.0 if case == "parameters" else 1.0)
    if case == "rows":
        theirs = theirs[:-1]
    with pytest.raises(DataError):
        run_pair(
            lambda: left.fit(ours, label, engine=a),
            lambda: right.fit(theirs, label if case == "labels" else None, engine=b),
            a,
            b,
        )
