"""Each row's weight in the information and its loss, on shares; and what the label holder makes of their sum.

Step 2 of docs/protocols/14-inference.md, both roles. Where both parts of the logits reach R together, series of period
T = 2 R + 16 serve both functions from one upload: the weight w(z) = h(z) h(-z), whose coefficients are known, and the
loss log(1 + e^-m), m = s z, fitted on [-R, R]. Reveals: nothing by itself; `vfl.inference` opens the sum of the losses
to the label holder.

Source: Poisson summation of sech^2 for w; likelihood ratio: Wilks, Ann. Math. Stat. 9, 1938; pseudo R^2: McFadden 1974.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np

from mpc.linear import smallest_slot_prime
from mpc.statistics.distributions import chi_squared_tail
from vfl.secure import Arithmetic
from vfl.waves import residues

__all__ = ["LOSS_BITS", "Known", "ModelFit", "fit_of", "harmonics", "loss", "series", "weights", "weights_and_loss"]

SLOT_BITS = 20  # fraction bits of one factor of a weight
SLOT_PRIME = smallest_slot_prime(2 * SLOT_BITS + 3)  # weights are under 2^2: far below a quarter of it
LOSS_BITS = 2 * SLOT_BITS - 7  # a loss is under 2^8
ROWS = 1 << 17  # of one call of the slot products, so that memory is bounded
_TAIL = 18.0  # harmonics are kept up to 2 pi^2 k / T = 18: of the weights, what is left out adds up to less than 2e-7
_LEAST_AMPLITUDE = 1e-3
_POINTS = 4  # of the fit, for each harmonic
_BEYOND = 1.0  # fitted so much further than needed: the error rises at the very end
_OUTSIDE = 1e-5  # weight of an error beyond R, against 1 inside
_CUTOFF = 1e-13  # of singular values in the fit


@dataclass(frozen=True, repr=False)
class Known:
    """What the label holder multiplies by: factors f in [0, 1] and signs s = +-1 of the rows, float64 (n,)."""

    factors: np.ndarray
    signs: np.ndarray


@dataclass(frozen=True)
class ModelFit:
    """The label holder's statistics of the whole model on its training rows, names as in statsmodels' summary."""

    log_likelihood: float
    log_likelihood_null: float
    llr: float  # 2 (log_likelihood - log_likelihood_null)
    llr_dof: int
    llr_p_value: float
    pseudo_r_squared: float
    aic: float
    bic: float
    rows: int

    def as_dict(self) -> dict[str, Any]:
        """The `fit` object of `tally run --json`."""
        return asdict(self)


def harmonics(period: float) -> int:
    """K: harmonics of both series at this period."""
    return math.ceil(_TAIL * period / (2 * np.pi**2))


def series(period: float) -> np.ndarray:
    """Coefficients c_0..c_K: w(z) = h(z) h(-z) = sum_k c_k cos(2 pi k z / T), to 2e-7 for |z| up to T - 16.

    The sum of all shifts of w by T has the coefficients (1/T) F(k/T), F the Fourier transform of w; the nearest shift
    adds no more than e^-16 where |z| <= T - 16.
    """
    x = 2 * np.pi**2 * np.arange(1, harmonics(period) + 1) / period
    return np.concatenate([[1.0 / period], 2.0 / period * x / np.sinh(x)])


@cache
def loss(period: float) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (even, odd), (K + 1,) each: log(1 + e^-m) = sum_k even_k cos + odd_k sin (2 pi k m / T) for |m|
    up to T/2 - 8; 1e-8 on average near 0, under 1e-4 everywhere.

    Its even part is log(2 cosh(m/2)), its odd part -m/2; both are fitted by least squares, and left free outside.
    """
    count = harmonics(period)
    points = (np.arange(_POINTS * count) + 0.5) * (period / 2 / (_POINTS * count))
    inside = points <= period / 2 - 8 + _BEYOND
    weight = np.where(inside, 1.0, _OUTSIDE)
    angles = points[:, None] * (2 * np.pi * np.arange(count + 1) / period)
    end = period / 4 - 4
    even = np.where(inside, np.logaddexp(points / 2, -points / 2), end)
    odd = np.where(inside, -points / 2, 0.0)
    cosine = np.linalg.lstsq(np.cos(angles) * weight[:, None], even * weight, rcond=_CUTOFF)[0]
    sine = np.linalg.lstsq(np.sin(angles[:, 1:]) * weight[:, None], odd * weight, rcond=_CUTOFF)[0]
    return cosine, np.concatenate([[0.0], sine])


def weights(
    arithmetic: Arithmetic, angles: np.ndarray, period: float, bits: int, factors: np.ndarray | None
) -> np.ndarray:
    """Shares of f_i w(z_i) with `bits` fraction bits, uint64 (n,); z = our part + the peer's.

    cos k(a + b) = cos ka cos kb - sin ka sin kb: one side uploads 2 K values a row, the other multiplies by its own and
    adds up. The peer learns K. angles: 2 pi part / period, (n,). factors: f, float64 (n,) in [0, 1], at the side that
    multiplies; None at the other.
    """
    known = None if factors is None else Known(factors, np.ones_like(factors))
    lifted = _shares(arithmetic, angles, period, known, with_loss=False)
    return arithmetic.truncate(lifted[0], 2 * SLOT_BITS - bits)


def weights_and_loss(
    arithmetic: Arithmetic, angles: np.ndarray, period: float, bits: int, known: Known | None
) -> tuple[np.ndarray, np.ndarray]:
    """As `weights`, and from the same upload shares of sum_i f_i log(1 + e^(-s_i z_i)) with LOSS_BITS, uint64 (1,).

    |z| at most period/2 - 8. known: at the label holder, who multiplies; None at the other.
    """
    lifted = _shares(arithmetic, angles, period, known, with_loss=True)
    share = arithmetic.truncate(lifted[0], 2 * SLOT_BITS - bits)
    return share, lifted[1].sum(keepdims=True, dtype=np.uint64)


def fit_of(total_loss: float, label: np.ndarray, factors: np.ndarray, dof: int) -> ModelFit:
    """What the label holder makes of the sum of the losses; dof: features of both sides, without the intercept."""
    rows, ones = float(factors.sum()), float(factors[label == 1].sum())
    null = sum(part * math.log(part / rows) for part in (ones, rows - ones) if part > 0)
    ratio = 2.0 * (-total_loss - null)
    return ModelFit(
        -total_loss,
        null,
        ratio,
        dof,
        chi_squared_tail(max(0.0, ratio), dof),
        1.0 + total_loss / null if null else 0.0,
        2.0 * (dof + 1) + 2.0 * total_loss,
        math.log(rows) * (dof + 1) + 2.0 * total_loss,
        len(label),
    )


# --- parts ------------------------------------------------------------------------------------------------------


def _shares(
    arithmetic: Arithmetic, angles: np.ndarray, period: float, known: Known | None, *, with_loss: bool
) -> np.ndarray:
    """Shares mod 2^64 of the series at every row, uint64 (outputs, n): weights at 2 SLOT_BITS, losses at LOSS_BITS."""
    outputs = 2 if with_loss else 1
    parts = []
    for start in range(0, len(angles), ROWS):
        part = slice(start, start + ROWS)
        some = None if known is None else Known(known.factors[part], known.signs[part])
        parts.append(_narrow(arithmetic, angles[part], period, some, outputs))
    narrow = np.concatenate(parts, axis=1)
    return arithmetic.lift(narrow.reshape(-1), SLOT_PRIME).reshape(narrow.shape)


def _narrow(arithmetic: Arithmetic, angles: np.ndarray, period: float, known: Known | None, outputs: int) -> np.ndarray:
    """The same modulo SLOT_PRIME, for some rows."""
    weight = series(period)
    waves = np.exp(1j * angles[None, :] * np.arange(1, len(weight))[:, None])
    size = np.maximum(np.sqrt(weight[1:]), _LEAST_AMPLITUDE)[:, None]  # each coefficient evenly on both factors
    if known is None:
        values = np.concatenate([size * waves.real, size * waves.imag]) * 2.0**SLOT_BITS
        return arithmetic.slots_owner(residues(values, SLOT_PRIME), SLOT_PRIME, outputs)
    factors = np.empty((outputs, 2 * len(size), len(angles)), dtype=np.uint64)
    constants = np.empty((outputs, len(angles)), dtype=np.uint64)
    wanted = [(weight, np.zeros_like(weight), 2 * SLOT_BITS)]
    if outputs > 1:
        wanted.append((*loss(period), LOSS_BITS))
    for place, (even, odd, bits) in enumerate(wanted):
        # even(m) is even(z), odd(m) is s odd(z)
        cosine = even[1:, None] / size * known.factors
        sine = odd[1:, None] / size * (known.factors * known.signs)
        scale = 2.0 ** (bits - SLOT_BITS)
        factors[place, : len(size)] = residues((cosine * waves.real + sine * waves.imag) * scale, SLOT_PRIME)
        factors[place, len(size) :] = residues((sine * waves.real - cosine * waves.imag) * scale, SLOT_PRIME)
        constants[place] = residues(even[0] * known.factors * 2.0**bits, SLOT_PRIME)
    found = arithmetic.slots_multiplier(factors, SLOT_PRIME)
    return np.asarray((found + constants) % np.uint64(SLOT_PRIME))
