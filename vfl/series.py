"""The label-aware series: sigmoid, guard and loss of the margin as short cosine and sine sums.

With labels s = +-1 and margin m = s z, the residual of a row is r = -s h(m), h(m) = 1/(1+e^m). A series of period T
in m needs no comparison and no clamp: two parties that hold z = z_A + z_B (mod T) multiply cos and sin of their own
angles. Margins of a fitted model lie far more to the right than to the left, so the window in which the series is
accurate is not centred; outside it, in the return zone, the series climbs back to where the next period begins.

Source: windows and fit are our own (docs/protocols/09-split-logistic-regression.md, step 3); the guard's expansion is
the binomial theorem.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

__all__ = ["PERIODS", "Series", "Window", "guard", "loss", "residual", "window"]

PERIODS = (32, 64, 128, 256)
_RETURN_WEIGHT = 3e-4  # of a squared error in the return zone, against 1 inside the window
_POINTS = 4096  # of the fit, over one period


@dataclass(frozen=True)
class Window:
    """Where the series of one period is accurate: margins in [low, high]; harmonics 1..K."""

    period: int
    low: float
    high: float
    harmonics: int

    @property
    def middle_of_return(self) -> float:
        """The margin that a row has when it is exactly between two windows."""
        return (self.high + self.low + self.period) / 2


_WINDOWS = {
    32: Window(32, -11.0, 15.0, 12),
    64: Window(64, -18.0, 40.0, 24),
    128: Window(128, -40.0, 80.0, 48),
    256: Window(256, -80.0, 168.0, 96),
}


@dataclass(frozen=True)
class Series:
    """f(m) = constant + sum_k cosine[k-1] cos(2 pi k m / T) + sine[k-1] sin(2 pi k m / T), k = 1..K."""

    period: int
    constant: float
    cosine: np.ndarray  # float64, shape (K,)
    sine: np.ndarray  # float64, shape (K,)

    def __call__(self, margins: np.ndarray) -> np.ndarray:
        """The series at these margins, float64, same shape: the plain twin of what happens under encryption."""
        angles = np.asarray(margins, dtype=np.float64) * (2 * np.pi / self.period)
        total = np.full(angles.shape, self.constant)
        for k, (even, odd) in enumerate(zip(self.cosine, self.sine, strict=True), start=1):
            total += even * np.cos(k * angles) + odd * np.sin(k * angles)
        return total


def window(period: int) -> Window:
    """The window of this period; KeyError for a period that is not in PERIODS."""
    return _WINDOWS[period]


@cache
def residual(period: int) -> Series:
    """h(m) = 1/(1+e^m), to 4e-4 inside the window of every period."""
    return _fit(period, lambda m: 0.5 * (1.0 - np.tanh(m / 2)))


@cache
def loss(period: int) -> Series:
    """log(1+e^-m) to a few 1e-2 at single points of the window's left edge, far better on average."""
    return _fit(period, lambda m: np.logaddexp(0.0, -m))


@cache
def guard(period: int) -> Series:
    """cos(pi (m - c)/T)^(2K): 1 in the middle c of the return zone, small inside the window, never negative."""
    at = window(period)
    count = at.harmonics
    weights = np.array([math.comb(2 * count, count - k) / 4**count for k in range(count + 1)])
    phases = 2 * np.pi * np.arange(1, count + 1) * at.middle_of_return / period
    return Series(period, float(weights[0]), 2 * weights[1:] * np.cos(phases), 2 * weights[1:] * np.sin(phases))


def _fit(period: int, function: Callable[[np.ndarray], np.ndarray]) -> Series:
    at = window(period)
    points = at.low + np.arange(_POINTS) * (period / _POINTS)
    inside = points <= at.high
    target = np.empty_like(points)
    target[inside] = function(points[inside])
    start, end = (float(function(np.array([m]))[0]) for m in (at.high, at.low))
    way = (points[~inside] - at.high) / (at.low + period - at.high)
    target[~inside] = start + (end - start) * way**4 * (35 - 84 * way + 70 * way**2 - 20 * way**3)  # a smooth step
    weight = np.sqrt(np.where(inside, 1.0, _RETURN_WEIGHT))
    angles = points[:, None] * (2 * np.pi * np.arange(1, at.harmonics + 1) / period)
    design = np.hstack([np.ones((len(points), 1)), np.cos(angles), np.sin(angles)])
    found = np.linalg.lstsq(design * weight[:, None], target * weight, rcond=None)[0]
    return Series(period, float(found[0]), found[1 : at.harmonics + 1], found[at.harmonics + 1 :])
