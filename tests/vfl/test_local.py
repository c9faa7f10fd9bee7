"""Both halves in one process: scikit-learn's checks, its cross-validation and grids, and the pooled model."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

from party.errors import DataError
from tests.vfl import tables
from vfl import LocalSplit, local
from vfl.conventions import table
from vfl.train import fit_weights

WEIGHTED = "columns are standardised by all rows alike, whatever they weigh, as in a job"
FEW = "fits fewer than the 40 rows that training on shares needs"
ROUNDED = "shares are random: two trainings differ by their last rounding"
POOLED = {"check_sample_weight_equivalence_on_dense_data": WEIGHTED}
SHARES = {
    "check_sample_weight_equivalence_on_dense_data": WEIGHTED,
    "check_fit_idempotent": ROUNDED,
    "check_classifiers_one_label_sample_weights": FEW,
} | dict.fromkeys(
    (
        "check_array_api_input",
        "check_classifier_data_not_an_array",
        "check_classifiers_classes",
        "check_dict_unchanged",
        "check_dont_overwrite_parameters",
        "check_estimators_dtypes",
        "check_estimators_fit_returns_self",
        "check_estimators_overwrite_params",
        "check_estimators_pickle",
        "check_f_contiguous_array_estimator",
        "check_fit2d_predict1d",
        "check_fit_score_takes_y",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_n_features_in_after_fitting",
        "check_pipeline_consistency",
        "check_readonly_memmap_input",
        "check_sample_weights_list",
        "check_sample_weights_not_an_array",
        "check_sample_weights_not_overwritten",
        "check_sample_weights_pandas_series",
        "check_sample_weights_shape",
        "check_supervised_y_2d",
    ),
    FEW,
)


def _checked(arithmetic, left_out):
    found = check_estimator(LocalSplit(arithmetic=arithmetic), expected_failed_checks=left_out, on_skip=None)
    failed = {one["check_name"] for one in found if one["status"] == "xfail"}
    assert len(found) > 55
    return failed, {one["check_name"] for one in found if one["status"] == "passed"}


@pytest.mark.filterwarnings("ignore:.*does not inherit:UserWarning")
def test_scikit_learns_checks_of_the_pooled_form():
    failed, passed = _checked("pooled", POOLED)
    assert failed == set(POOLED) and {"check_classifiers_train", "check_classifiers_classes"} <= passed


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore:.*does not inherit:UserWarning")
def test_scikit_learns_checks_of_the_protocol():
    failed, passed = _checked("shares", SHARES)
    assert failed >= set(SHARES) - {"check_array_api_input"} and "check_classifiers_train" in passed


def _joined(rows, seed=1):
    ours, theirs, label = tables.synthetic(rows, 3, 3, seed=seed)
    return np.hstack([ours, theirs]), label


def test_the_protocol_comes_to_the_pooled_model_and_to_scikit_learns():
    X, y = _joined(400)
    params = {"left": 2, "l2": 20.0, "tol": 1e-4}
    shares, pooled = (LocalSplit(arithmetic=name, **params).fit(X, y) for name in ("shares", "pooled"))
    assert shares.n_iter_[0] > 5 and shares.converged_ and pooled.converged_
    both = [np.concatenate([model.intercept_, model.coef_[0]]) for model in (shares, pooled)]
    assert 0 < tables.distance(*both) < 0.03
    scaled = np.clip((X - X.mean(0)) / X.std(0), -3, 3)
    wanted = tables.pooled([scaled], y, 20.0)
    assert tables.distance(both[1], wanted) < 1e-6
    proba = LogisticRegression(C=1 / 20.0, tol=1e-10).fit(scaled, y).predict_proba(scaled)
    assert np.abs(pooled.predict_proba(X) - proba).max() < 1e-6
    assert np.abs(shares.predict_proba(X) - proba).max() < 1e-2
    assert shares.score(X, y) == pytest.approx(np.mean(shares.predict(X) == y))


def test_cross_val_score_and_a_grid_run_by_the_protocol():
    X, y = _joined(240, seed=2)
    model = LocalSplit(max_passes=2)
    scores = cross_val_score(model, X, y, cv=2, scoring="roc_auc", error_score="raise")
    assert scores.shape == (2,) and scores.min() > 0.6
    grid = GridSearchCV(model, {"l2": [1.0, 1e5]}, cv=2, scoring="neg_log_loss", error_score="raise").fit(X, y)
    assert grid.best_params_ == {"l2": 1.0} and grid.best_estimator_.coef_.shape == (1, 6)


def test_a_grid_over_the_pooled_form_is_scikit_learns():
    X, y = _joined(2000, seed=3)
    wanted = {"C": [1.0, 0.01, 0.001]}
    clip = FunctionTransformer(lambda X: np.clip((X - X.mean(0)) / X.std(0), -3, 3))
    theirs = make_pipeline(clip, GridSearchCV(LogisticRegression(tol=1e-10), wanted, cv=4, scoring="neg_log_loss"))
    theirs.fit(X, y)
    ours = GridSearchCV(
        LocalSplit(arithmetic="pooled"), {"l2": [1.0, 100.0, 1000.0]}, cv=4, scoring="neg_log_loss"
    ).fit(X, y)
    expected = theirs[-1].cv_results_["mean_test_score"]
    assert np.abs(ours.cv_results_["mean_test_score"] - expected).max() < 1e-3
    assert ours.best_params_["l2"] == 1 / theirs[-1].best_params_["C"]


def test_columns_are_split_by_number_place_or_name():
    X, y = _joined(60)
    named = pd.DataFrame(X, columns=list("abcdef"))
    found = {}
    for left in (None, 3, [0, 1, 2], ["a", "b", "c"]):
        model = LocalSplit(left=left, max_passes=1).fit(named, y)
        found[str(left)] = model.coef_[0]
        assert list(model.feature_names_in_) == list("abcdef")
    for coefficients in found.values():
        assert tables.distance(coefficients, found["3"]) < 0.02
    other = LocalSplit(left=["a", "f"], max_passes=1).fit(named, y).coef_[0]
    assert tables.distance(other, found["3"]) > 0.03  # other blocks are whitened: after one pass it shows
    for left, words in ((["z"], "no column"), (0, "cannot be split"), (6, "cannot be split")):
        with pytest.raises(ValueError, match=words):
            LocalSplit(left=left).fit(named, y)


def test_weights_missing_values_and_early_stopping_by_the_protocol():
    X, y = _joined(300, seed=4)
    X = X.copy()
    X[::7, 1] = np.nan
    weights = np.where(y == 1, 3.0, 1.0)
    params = {"l2": 30.0, "tol": 1e-3}
    shares = LocalSplit(**params).fit(X, y, weights)
    pooled = LocalSplit(arithmetic="pooled", class_weight={0: 1.0, 1: 3.0}, **params).fit(X, y)
    assert tables.distance(shares.coef_[0], pooled.coef_[0]) < 0.1
    stopped = LocalSplit(early_stopping=1, validation_fraction=0.5, max_passes=3).fit(X, y)
    assert stopped.n_iter_[0] <= 3


def test_what_cannot_be_is_refused_as_a_value_error():
    X, y = _joined(60)
    refused = [
        (LocalSplit(), X[:30], y[:30], "too few"),
        (LocalSplit(arithmetic="ideal"), X, y, "arithmetic is shares or pooled"),
        (LocalSplit(arithmetic="pooled", early_stopping=3), X, y, "early_stopping needs"),
        (LocalSplit(class_weight="heavy"), X, y, "class_weight"),
        (LocalSplit(arithmetic="pooled", l2=-1.0), X, y, "l2 is out of range"),
        (LocalSplit(), X, np.arange(60) % 3, "Only binary"),
        (LocalSplit(), X, np.zeros(60), "one class"),
        (LocalSplit(), X, y[:-1], "inconsistent"),
    ]
    for model, columns, label, words in refused:
        with pytest.raises(ValueError, match=words):
            model.fit(columns, label)
    with pytest.raises(TypeError, match="number"):
        table(np.array([[{}, 1.0]], dtype=object))


def test_an_error_of_one_half_ends_both(monkeypatch):
    X, y = _joined(60)

    def fit(arithmetic, table, settings, kept):
        if table[1].label is not None:
            raise DataError("the left half cannot")
        return fit_weights(arithmetic, table, settings, kept)

    monkeypatch.setattr(local, "fit_weights", fit)
    with pytest.raises(DataError, match="the left half cannot"):
        LocalSplit().fit(X, y)
