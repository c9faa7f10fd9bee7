"""Tail probabilities of the chi-squared and Student's t distribution, in plain floating point.

The incomplete gamma and beta functions by their series and continued fractions, the latter by the modified method of
Lentz. Source: Press, Teukolsky, Vetterling, Flannery, "Numerical Recipes", sections 5.2, 6.2 and 6.4; DLMF 8.9.2,
8.17.22, and 5.11.13 for the quotient of gamma functions; Hill, "Algorithm 395: Student's t-distribution", CACM 1970,
for many degrees of freedom.
"""

from __future__ import annotations

import math

from party.errors import InternalError

__all__ = ["chi_squared_tail", "t_two_sided"]

_ROUNDS = 100_000
_TINY = 1e-300
_EPSILON = 1e-16
_NORMAL = 1e4  # above, 1 - x of the beta function would lose digits; the expansion is good to 1e-13 there
_LARGE = 30.0  # from here on the quotient of two gamma functions is taken from its asymptotic series


def chi_squared_tail(statistic: float, dof: int) -> float:
    """P(X >= statistic) of a chi-squared distribution: Q(dof / 2, statistic / 2)."""
    a, x = dof / 2, statistic / 2
    if x <= 0:
        return 1.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        return max(0.0, 1.0 - front * _gamma_series(a, x))
    return front * _gamma_fraction(a, x)


def _gamma_series(a: float, x: float) -> float:
    term = total = 1 / a
    for n in range(1, _ROUNDS):
        term *= x / (a + n)
        total += term
        if term < total * _EPSILON:
            return total
    raise InternalError("the incomplete gamma function does not converge")


def _gamma_fraction(a: float, x: float) -> float:
    b = x + 1 - a
    c, d = 1 / _TINY, 1 / b
    value = d
    for n in range(1, _ROUNDS):
        factor = -n * (n - a)
        b += 2
        d = 1 / _nonzero(factor * d + b)
        c = _nonzero(b + factor / c)
        value *= d * c
        if abs(d * c - 1) < 2 * _EPSILON:
            return value
    raise InternalError("the incomplete gamma function does not converge")


def t_two_sided(statistic: float, dof: float) -> float:
    """P(|T| >= |statistic|) of Student's t distribution: I_x(dof / 2, 1 / 2) at x = dof / (dof + statistic^2)."""
    if statistic == 0:
        return 1.0
    if dof > _NORMAL:
        return math.erfc(_as_normal(statistic, dof) / math.sqrt(2))
    a, b = dof / 2, 0.5
    square = statistic * statistic
    x, rest = dof / (dof + square), square / (dof + square)
    # x^a (1 - x)^b / B(a, b), with log x = -log(1 + t^2 / dof): no digits are lost where dof is large
    front = math.exp(_log_quotient(a) - a * math.log1p(square / dof)) * math.sqrt(rest / math.pi)
    if x < (a + 1) / (a + b + 2):
        return front * _beta_fraction(a, b, x) / a
    return max(0.0, 1.0 - front * _beta_fraction(b, a, rest) / b)


def _as_normal(statistic: float, dof: float) -> float:
    """The standard normal value with the same tail: expansion for many degrees of freedom."""
    a = dof - 0.5
    b = 48 * a * a
    y = a * math.log1p(statistic * statistic / dof)
    inner = (((-0.4 * y - 3.3) * y - 24) * y - 85.5) / (0.8 * y * y + 100 + b)
    return ((inner + y + 3) / b + 1) * math.sqrt(y)


def _log_quotient(a: float) -> float:
    """log(Gamma(a + 1/2) / Gamma(a))."""
    if a < _LARGE:
        return math.lgamma(a + 0.5) - math.lgamma(a)
    return 0.5 * math.log(a) - 1 / (8 * a) + 1 / (192 * a**3) - 1 / (640 * a**5) + 17 / (14336 * a**7)


def _beta_fraction(a: float, b: float, x: float) -> float:
    c, d = 1.0, 1 / _nonzero(1 - (a + b) * x / (a + 1))
    value = d
    for n in range(1, _ROUNDS):
        for factor in (
            n * (b - n) * x / ((a + 2 * n - 1) * (a + 2 * n)),
            -(a + n) * (a + b + n) * x / ((a + 2 * n) * (a + 2 * n + 1)),
        ):
            d = 1 / _nonzero(1 + factor * d)
            c = _nonzero(1 + factor / c)
            value *= d * c
        if abs(d * c - 1) < 2 * _EPSILON:
            return value
    raise InternalError("the incomplete beta function does not converge")


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
