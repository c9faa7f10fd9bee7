"""The series stay within the errors the page states."""

import numpy as np
import pytest

from vfl import series


def _inside(period):
    at = series.window(period)
    return np.linspace(at.low, at.high, 20_001)


@pytest.mark.parametrize("period", series.PERIODS)
def test_residual_is_within_its_stated_error_on_the_window(period):
    m = _inside(period)
    exact = 1 / (1 + np.exp(np.clip(m, -700, 700)))
    assert np.abs(series.residual(period)(m) - exact).max() < 4e-4


@pytest.mark.parametrize("period", series.PERIODS)
def test_loss_is_within_its_stated_error_on_the_window(period):
    m = _inside(period)
    assert np.abs(series.loss(period)(m) - np.logaddexp(0, -m)).max() < 3e-2


@pytest.mark.parametrize("period", series.PERIODS)
def test_series_stay_under_the_lift_bound_everywhere(period):
    m = np.linspace(0, period, 50_001)
    assert np.abs(series.residual(period)(m)).max() < 1.1  # r below 2
    assert np.abs(series.loss(period)(m)).max() < 0.4 * period  # scaled to stay below t/4
    assert np.abs(series.guard(period)(m)).max() < 1.0 + 1e-9


@pytest.mark.parametrize("period", series.PERIODS)
def test_guard_is_one_in_the_middle_of_the_return_zone_and_never_negative(period):
    guard, at = series.guard(period), series.window(period)
    m = np.linspace(at.low, at.low + period, 50_001)
    assert guard(np.array([at.middle_of_return]))[0] == pytest.approx(1.0)
    assert guard(m).min() > -1e-12
    assert guard(np.linspace(at.low / 2, at.high / 2, 1001)).max() < 0.01


@pytest.mark.parametrize("period", series.PERIODS)
def test_series_repeat_after_one_period(period):
    m = np.linspace(-3, 3, 101)
    for make in (series.residual, series.loss, series.guard):
        np.testing.assert_allclose(make(period)(m), make(period)(m + period), atol=1e-9)


def test_windows_fit_their_period_and_unknown_periods_are_refused():
    for period in series.PERIODS:
        at = series.window(period)
        assert at.low < 0 < at.high < at.low + period
    with pytest.raises(KeyError):
        series.window(48)
