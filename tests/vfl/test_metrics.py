"""Metrics agree with scikit-learn and scipy, ties included."""

import numpy as np
import pytest
from scipy.stats import chi2, ks_2samp
from sklearn import metrics as sk

from vfl import metrics


@pytest.mark.parametrize("decimals", [None, 1])
def test_metrics_agree_with_scikit_learn_and_scipy(decimals):
    rng = np.random.default_rng(2)
    label = (rng.random(3000) < 0.3).astype(np.int64)
    logits = rng.normal(size=3000) + label
    if decimals is not None:
        logits = np.round(logits, decimals)  # many ties
    assert metrics.auc(label, logits) == pytest.approx(sk.roc_auc_score(label, logits), abs=1e-12)
    assert metrics.ks(label, logits) == pytest.approx(
        ks_2samp(logits[label == 1], logits[label == 0]).statistic, abs=1e-12
    )
    assert metrics.log_loss(label, logits) == pytest.approx(sk.log_loss(label, 1 / (1 + np.exp(-logits))), rel=1e-9)
    p = 1 / (1 + np.exp(-logits))
    assert metrics.brier(label, logits) == pytest.approx(sk.brier_score_loss(label, p), rel=1e-9)


def test_all_scores_equal_is_a_coin():
    label = np.array([0, 1, 1, 0])
    assert metrics.auc(label, np.zeros(4)) == 0.5
    assert metrics.ks(label, np.zeros(4)) == 0.0


def test_the_table_by_score_is_that_of_its_groups():
    groups = [metrics.Group(10, 6, 5.0), metrics.Group(20, 2, 3.0), metrics.Group(0, 0, 0.0)]
    first, second, empty = metrics.told_by_score(groups)
    assert (first["rate"], first["lift"], first["gain"], first["depth"]) == (0.6, 2.25, 0.75, 1 / 3)
    assert second["predicted"] == 0.15 and second["gain"] == second["depth"] == 1.0
    assert empty["rate"] is empty["lift"] is None


def test_tests_and_indices_have_the_values_of_their_formulas():
    groups = [metrics.Group(50, 30, 25.0), metrics.Group(50, 10, 15.0), metrics.Group(50, 5, 5.0)]
    found = metrics.hosmer_lemeshow(groups)
    assert found["statistic"] == pytest.approx(25 / 12.5 + 25 / 10.5) and found["dof"] == 1
    assert found["p"] == pytest.approx(chi2.sf(found["statistic"], 1))
    assert metrics.hosmer_lemeshow(groups[:2]) is None
    assert metrics.hosmer_lemeshow([*groups, metrics.Group(5, 0, 0.0)]) is None
    assert metrics.likelihood_ratio(12.5, 4)["p"] == pytest.approx(chi2.sf(12.5, 4))
    assert metrics.stability([50, 50], [25, 75]) == pytest.approx(0.25 * np.log(3))
    assert metrics.stability([10, 30], [100, 300]) == 0


def test_sure_and_wrong_rows_keep_a_finite_loss():
    assert metrics.log_loss(np.array([1]), np.array([-800.0])) == pytest.approx(800.0)
