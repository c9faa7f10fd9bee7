"""The whole of training on public tables, none of which a constant was chosen on but two, cut by columns at random.

Demands: AUC and log-loss within 0.001 of pooled scikit-learn at the same penalty (log-loss 0.005 under 1,000 rows), KS
within 0.003, weights within 1 % (3 % under 1,000 rows), standard errors within 1 % of the pooled information.
"""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from tests.vfl import tables, whole
from tests.vfl.whole import CUTS, SALTS, TABLES, Gaps
from vfl import metrics_shared, prepare

SMALL = 1000


def _meets(gaps: Gaps) -> None:
    small = gaps.rows < SMALL
    assert gaps.stopped
    assert gaps.auc <= 1e-3 and gaps.loss <= (5e-3 if small else 1e-3)
    assert gaps.ks <= 3e-3
    assert gaps.weights <= (0.03 if small else 0.01)
    assert not gaps.errors > 0.01


def _fitted(name: str, number: int, salt: bytes, **change):
    at = whole.cut(*whole.table(name), number)
    job = whole.job(at, **change)
    found = whole.train(at, job, salt)
    return at, job, found, whole.compare(at, job, salt, found)


@pytest.mark.parametrize("name", ["breast", "fair", "anes96", "digits"])
def test_a_random_cut_equals_the_pooled_model(name):
    _, _, found, gaps = _fitted(name, 0, SALTS[0], inference=True)
    _meets(gaps)
    assert gaps.errors < 0.01 and found[0].period == 64


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", TABLES)
def test_every_cut_and_split_equals_the_pooled_model(name):
    for number in range(CUTS):
        for salt in SALTS:
            _meets(_fitted(name, number, salt, inference=number == 0)[-1])


def test_standard_errors_are_those_of_statsmodels():
    at, job, found, _ = _fitted("anes96", 1, SALTS[0], inference=True, l2=1e-3)
    test = prepare.split(len(at.label), job.test_fraction, SALTS[0])
    columns = np.hstack([half.values for half in found])[~test]
    fit = sm.Logit(at.label[~test], sm.add_constant(columns)).fit(disp=False, method="newton", tol=1e-12)
    told = [row for half in found for row in half.inference.rows]
    np.testing.assert_allclose([row.standard_error for row in told], fit.bse, rtol=0.01)
    assert tables.distance(np.array([row.coefficient for row in told]), fit.params) < 0.01
    big = np.abs(fit.tvalues) > 1
    np.testing.assert_allclose(np.array([row.z for row in told])[big], fit.tvalues[big], rtol=0.03)


@pytest.mark.parametrize(
    ("name", "l2", "winsorise", "widest"),
    [("breast", 0.1, 3.0, 128), ("breast", 0.003, 3.0, 256), ("digits 1", 0.1, 3.0, 128)],
)
def test_where_margins_leave_the_window_it_widens_and_ends_at_the_pooled_model(name, l2, winsorise, widest):
    _, _, found, gaps = _fitted(name, 1, SALTS[0], l2=l2, winsorise=winsorise)
    assert found[0].period == widest
    _meets(gaps)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["anes96", "fair"])
def test_over_the_real_engine_and_with_metrics_on_shares(name):
    at = whole.cut(*whole.table(name), 2)
    job = whole.job(at, inference=True)
    found = whole.train(at, job, SALTS[1], min_rows=5, real=True)
    gaps = whole.compare(at, job, SALTS[1], found)
    _meets(gaps)
    told, rows = found[0].metrics, round(len(at.label) * 0.2)
    auc, ks, loss = gaps.truth
    assert told.auc == pytest.approx(auc, abs=1e-3) and told.log_loss == pytest.approx(loss, abs=1e-4)
    assert told.ks == pytest.approx(ks, abs=3e-3 if rows > SMALL else 0.02)
    assert metrics_shared.bins_for(rows) >= 1024
