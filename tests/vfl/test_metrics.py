"""Metrics agree with scikit-learn and scipy, ties included."""

import numpy as np
import pytest
from scipy.stats import ks_2samp
from sklearn import metrics as sk

from vfl import metrics


@pytest.mark.parametrize("decimals", [None, 1])
def test_metrics_agree_with_scikit_learn_and_scipy(decimals):
    rng = np.random.default_rng(2)
    label = (rng.random(3000) < 0.3).astype(np.int64)
    logits = rng.normal(size=3000) + label
    if decimals is not None:
        logits = np.round(logits, decimals)  # many ties
    found = metrics.evaluate(label, logits, 7)
    assert found.auc == pytest.approx(sk.roc_auc_score(label, logits), abs=1e-12)
    assert found.ks == pytest.approx(ks_2samp(logits[label == 1], logits[label == 0]).statistic, abs=1e-12)
    assert found.log_loss == pytest.approx(sk.log_loss(label, 1 / (1 + np.exp(-logits))), rel=1e-9)
    assert (found.n_train, found.n_test) == (7, 3000)


def test_all_scores_equal_is_a_coin():
    label = np.array([0, 1, 1, 0])
    assert metrics.auc(label, np.zeros(4)) == 0.5
    assert metrics.ks(label, np.zeros(4)) == 0.0


def test_one_class_or_no_rows_give_none_not_nan():
    only = metrics.evaluate(np.zeros(5, dtype=np.int64), np.arange(5.0), 10)
    assert only.auc is None and only.ks is None and only.log_loss is not None
    assert metrics.evaluate(np.zeros(0, dtype=np.int64), np.zeros(0), 10).log_loss is None


def test_sure_and_wrong_rows_keep_a_finite_loss():
    assert metrics.log_loss(np.array([1]), np.array([-800.0])) == pytest.approx(800.0)
