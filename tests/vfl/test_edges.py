"""Tables at the edge: a right answer or a clear refusal at both sides, never NaN, divergence or silence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from sklearn.linear_model import LogisticRegression

from party.errors import DataError
from tests.vfl import tables, whole
from tests.vfl.whole import Table
from vfl import prepare

SALT = b"edge cases salt!!"


def _table(rows: int = 600, ours: int = 4, theirs: int = 5) -> Table:
    return Table(*tables.synthetic(rows, ours, theirs))


def _steep(rows: int = 800) -> tuple[Table, np.ndarray]:
    """Blocks, and logits of a model over both."""
    ours, theirs, _ = tables.synthetic(rows, 4, 5, 3)
    rng = np.random.default_rng(3)
    return Table(ours, theirs, np.zeros(rows, dtype=np.int64)), ours @ rng.normal(size=4) + theirs @ rng.normal(size=5)


def _right(at: Table, weights: float = 0.01, logits: float = 0.05, **change):
    """Trained, finite, and the pooled model within these bounds; the two halves."""
    job = whole.job(at, **change)
    found = whole.train(at, job, SALT)
    gaps = whole.compare(at, job, SALT, found)
    assert np.isfinite(whole.halves(found)).all() and (found[0].stopped or weights == np.inf)
    assert gaps.weights < weights and gaps.logits < logits
    return found


def _changed(values: np.ndarray, column: int, new) -> np.ndarray:
    values = values.copy()
    values[:, column] = new
    return values


def test_a_constant_and_an_all_missing_column_get_no_weight():
    at = _table()
    at = replace(at, ours=_changed(at.ours, 0, 7.0), theirs=_changed(at.theirs, 1, np.nan))
    found = _right(at, inference=True)
    assert max(abs(found[0].model.weights[0]), abs(found[1].model.weights[1])) < 1e-12
    assert found[0].inference.rows[1].standard_error is None and found[0].inference.rows[2].standard_error > 0


@pytest.mark.parametrize("l2", [1.0, 1e-6])
def test_collinear_columns_across_parties_leave_scores_right_and_errors_finite_or_refused(l2):
    at = _table()
    theirs = _changed(_changed(at.theirs, 0, at.ours[:, 1]), 1, at.ours[:, 0] - at.ours[:, 2])
    # at a small l2 the penalty alone says how equal columns share their weight; scores do not depend on it
    found = _right(replace(at, theirs=theirs), 0.01 if l2 == 1.0 else np.inf, 0.15, l2=l2, inference=True)
    refusals = [half.inference.refusal for half in found]
    if l2 == 1.0:
        assert refusals == [None, None]
    else:
        assert refusals[0] == refusals[1] and "collinear" in refusals[0]


@pytest.mark.parametrize("l2", [10.0, 1.0])
def test_separable_labels_have_a_finite_model_where_the_penalty_holds_them(l2):
    at, logits = _steep()
    found = _right(replace(at, label=(logits > 0).astype(np.int64)), l2=l2)
    assert found[0].period == 64


def test_separable_labels_beyond_the_widest_window_are_refused():
    at, logits = _steep()
    at = replace(at, label=(logits > 0).astype(np.int64))
    with pytest.raises(DataError, match="separable") as refused:
        whole.train(at, whole.job(at, l2=1e-4), SALT)
    assert "raise l2" in str(refused.value.hint)


def test_separable_labels_between_go_to_the_widest_window_and_errors_are_refused():
    at, logits = _steep()
    found = _right(replace(at, label=(logits > 0).astype(np.int64)), 0.01, 1.0, l2=0.01, inference=True)
    assert found[0].period == 256 and "separable" in found[0].inference.refusal


def test_a_few_rows_far_out_on_the_wrong_side_are_not_passed_by():
    """Labels that are separable but for eight rows: their margins leave the window alone, no crowd for the guard."""
    at, logits = _steep()
    label = (logits > 0).astype(np.int64)
    label[:8] ^= 1
    found = _right(replace(at, label=label), l2=0.01)
    assert found[0].period == 128


def test_a_feature_equal_to_the_label_is_fitted_as_the_pooled_model_fits_it():
    at = _table()
    for block in ("ours", "theirs"):
        _right(replace(at, **{block: _changed(getattr(at, block), 0, at.label)}))


@pytest.mark.parametrize("value", [0, 1])
def test_one_class_is_refused(value):
    at = _table(300)
    test = prepare.split(300, 0.2, SALT)
    for label in (np.full(300, value), np.where(test, 1 - value, value)):  # of all rows, of training rows
        one = replace(at, label=label.astype(np.int64))
        with pytest.raises(DataError, match="one class of the label"):
            whole.train(one, whole.job(one), SALT)


def test_one_class_among_test_rows_still_gives_a_model_and_no_metrics():
    at = _table(300)
    test = prepare.split(300, 0.2, SALT)
    at = replace(at, label=np.where(test, 0, at.label))
    found = whole.train(at, whole.job(at), SALT)
    assert np.isfinite(whole.halves(found)).all()
    real = whole.train(at, whole.job(at, passes=2), SALT, min_rows=5, real=True)
    for half in real:
        assert (half.metrics.auc, half.metrics.ks, half.metrics.log_loss) == (None, None, None)
        assert half.metrics.n_test == 60


def test_tiny_tables_are_refused_under_forty_training_rows_and_right_above():
    at = _table(40, 3, 3)
    with pytest.raises(DataError, match="32 training rows are too few"):
        whole.train(at, whole.job(at), SALT)
    _right(_table(50, 3, 3), inference=True)


def test_huge_and_tiny_values_are_a_matter_of_units_until_floating_point_ends():
    at = _table()
    plain = whole.halves(_right(at))
    huge = Table(at.ours * 1e12 + 1e12, at.theirs * 1e-12, at.label)
    assert tables.distance(whole.halves(_right(huge)), plain) < 2e-3
    for factor in (1e200, 1e-200):
        beyond = replace(at, theirs=_changed(at.theirs, 2, at.theirs[:, 2] * factor))
        with pytest.raises(DataError, match="x2 cannot be standardised"):
            whole.train(beyond, whole.job(beyond), SALT)


def test_rare_events_are_fitted_and_too_rare_ones_refused():
    ours, theirs, _ = tables.synthetic(8000)
    chance = 1 / (1 + np.exp(6.0 - 0.8 * ours[:, 0] - 0.8 * theirs[:, 0]))
    label = (np.random.default_rng(5).random(8000) < chance).astype(np.int64)
    assert 0.003 < label.mean() < 0.007
    _right(Table(ours, theirs, label), 0.01, 0.1)
    few = (np.arange(8000) < 12).astype(np.int64)
    with pytest.raises(DataError, match="min_rows"):
        whole.train(Table(ours, theirs, few), whole.job(Table(ours, theirs, few)), SALT, min_rows=20)


@pytest.mark.parametrize("l2", [0.0, 1e-6, 1e3, 1e6])
def test_tiny_and_huge_penalties(l2):
    _right(_table(), l2=l2)


@pytest.mark.parametrize("size", [50.0, -50.0])
def test_an_offset_of_every_row_moves_the_intercept_alone(size):
    at = _table()
    plain = whole.halves(_right(at))
    job = whole.job(at, offset={"bank": "o"})
    found = whole.halves(whole.train(at, job, SALT, extra={"o": np.full(len(at.label), size)}))
    assert found[0] + size == pytest.approx(plain[0], abs=5e-3)
    assert tables.distance(found[1:], plain[1:]) < 2e-3


def test_a_wild_offset_widens_the_window_and_ends_at_the_pooled_model():
    at = _table(800)
    offset = np.clip(20 * np.random.default_rng(7).normal(size=800), -45, 45)
    job = whole.job(at, offset={"bank": "o"}, l2=1e-3)
    found = whole.train(at, job, SALT, extra={"o": offset})
    test = found[0].test
    columns = sm.add_constant(np.hstack([half.values for half in found])[~test])
    fit = sm.GLM(at.label[~test], columns, offset=offset[~test], family=sm.families.Binomial()).fit(tol=1e-12)
    assert found[0].period > 64
    assert tables.distance(whole.halves(found), fit.params) < 0.01


def test_rows_of_weight_0_are_as_if_they_were_not_there():
    at = _table(800)
    weights = (np.random.default_rng(8).random(800) < 0.3).astype(np.float64)
    job = whole.job(at, weights="w")
    found = whole.train(at, job, SALT, extra={"w": weights})
    keep = ~found[0].test
    columns = np.hstack([half.values for half in found])[keep]
    model = LogisticRegression(C=1.0, tol=1e-12, max_iter=2000).fit(columns, at.label[keep], weights[keep])
    assert tables.distance(whole.halves(found), np.r_[model.intercept_, model.coef_[0]]) < 0.03
    for none in (np.zeros(800), at.label.astype(np.float64)):
        with pytest.raises(DataError, match="rest on fewer rows"):
            whole.train(at, job, SALT, extra={"w": none})
