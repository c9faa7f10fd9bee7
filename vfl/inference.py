"""Standard errors, z and p values, confidence intervals and odds ratios of each party's own coefficients.

The covariance of the coefficients is the inverse of the observed information of all columns of both sides. For l2 > 0
it is the penalised one, (X'WX + l2 P)^-1 with P = 1 for every weight but the intercept's: the curvature of what
training minimised, which is l2 P less statsmodels' `Logit.hessian` at these coefficients. With a penalty that matters
these are the errors of a shrunken estimate, not of an unbiased one.

Nothing of the matrix is opened. Each side learns its own variances, the label holder the log-likelihood of the training
rows; both learn how far the two parts of the logits reach, rounded up to 8, and one bit, whether the matrix could be
inverted. Steps 1 and 7 of docs/protocols/14-inference.md; 2 is in vfl/likelihood.py, 3 to 6 in vfl/information.py.
Source: McCullagh and Nelder, "Generalized Linear Models", 1989, section 4.4 (information of the logistic model).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np

from mpc import ring
from party.errors import DataError, PeerError
from party.message import Int, Message
from vfl import information, likelihood, prepare
from vfl.information import DETERMINED, X_BITS
from vfl.likelihood import LOSS_BITS, Known, ModelFit
from vfl.model import ModelHalf
from vfl.secure import Arithmetic

__all__ = [
    "DETERMINED",
    "INTERCEPT",
    "LIKELIHOOD",
    "REACH",
    "Coefficient",
    "Inference",
    "Sample",
    "errors_name",
    "infer",
    "period_of",
]

LIKELIHOOD = "train: log-likelihood of training rows"
REACH = "train: reach of logits and fixed-point scale"
INTERCEPT = "(intercept)"
_STEP = 8  # the reach of a part is told in these units
_MOST_STEPS = 64
_MOST_PERIOD = 256
_TOLD_BITS = 10  # fraction bits of the log-likelihood that is opened
_QUANTILE = 1.959963984540054  # of the normal distribution at 0.975


def errors_name(owner: str) -> str:
    """How the ledger calls the variances of one party's own weights."""
    return f"train: standard errors of {owner}"


@dataclass(frozen=True, repr=False)
class Reach(Message, kind=0x0610):
    """Step 1, both ways: fraction bits of our whitened columns, how many there are, and max |our part of a logit| / 8,
    rounded up."""

    bits: Annotated[int, Int(0, prepare.MATRIX_BITS - 1)]
    columns: Annotated[int, Int(1, 4096)]
    steps: Annotated[int, Int(1, _MOST_STEPS)]


@dataclass(frozen=True, repr=False)
class Sample:
    """One side's training rows: its standardised columns (n, d), and its own part of their logits (n,), with anything
    that is added to them. label: 0/1, (n,), at the label holder alone. weights: of rows, (n,), none over 2^most, there
    alone; None: all 1. most: the same on both sides."""

    values: np.ndarray
    logits: np.ndarray
    label: np.ndarray | None = None
    weights: np.ndarray | None = None
    most: int = 0

    def check(self, *, holder: bool) -> None:
        """Raises DataError for rows that do not fit."""
        rows = len(self.values)
        if len(self.logits) != rows or not bool(np.all(np.isfinite(self.logits))):
            raise DataError("the training rows and their logits do not fit")
        if (self.label is not None) != holder or (self.label is not None and len(self.label) != rows):
            raise DataError("the label and the intercept are the label holder's, one label a row")
        if self.weights is not None and not (
            holder
            and len(self.weights) == rows
            and bool(np.all((self.weights >= 0.0) & (self.weights <= 2.0**self.most)))
        ):
            raise DataError(f"weights of rows lie in [0, {2.0**self.most:g}] and are the label holder's")

    def known(self) -> Known | None:
        """What the label holder multiplies by; None at the other side."""
        if self.label is None:
            return None
        factors = np.ones(len(self.label)) if self.weights is None else self.weights * 2.0**-self.most
        return Known(factors, 2.0 * self.label - 1.0)


@dataclass(frozen=True)
class Coefficient:
    """One of our own coefficients on the standardised scale; `unit_` on that of the column. None where there is none:
    a column that is constant on the training rows, the intercept by units, a number beyond floating point."""

    name: str
    coefficient: float
    standard_error: float | None
    z: float | None
    p_value: float | None
    low: float | None
    high: float | None
    odds_ratio: float | None
    odds_low: float | None
    odds_high: float | None
    unit_coefficient: float | None
    unit_standard_error: float | None
    unit_odds_ratio: float | None
    unit_odds_low: float | None
    unit_odds_high: float | None


@dataclass(frozen=True)
class Inference:
    """What one side has: a row for each of its coefficients, the intercept first; or why there are none."""

    rows: tuple[Coefficient, ...]
    refusal: str | None = None
    fit: ModelFit | None = None  # of the whole model, at the label holder

    def as_list(self) -> list[dict[str, Any]]:
        """The `inference` list of `tally run --json`."""
        return [asdict(row) for row in self.rows]


def infer(arithmetic: Arithmetic, sample: Sample, half: ModelHalf, l2: float, theirs: int) -> Inference:
    """Inference on our own coefficients, together with the peer.

    sample: our training rows; half: our weights, the intercept at the label holder; theirs: how many weights the peer
    has, its intercept included. Both sides get rows, or both get the same refusal. Peer learns our `Reach` and the bit.
    Rounds: about 90. Bytes: `vfl.inference_cost.predict`. Raises DataError for rows that do not fit, PeerError when
    the peer brings another number of columns.
    """
    holder, values, logits = half.intercept is not None, sample.values, sample.logits
    sample.check(holder=holder)
    # 1. One scale and one period for both. Rows weigh at most 1 here, and so the penalty is divided, too.
    whitened = prepare.whiten(values, l2 * 2.0**-sample.most, intercept=holder)
    steps = min(_MOST_STEPS, max(1, math.ceil(float(np.abs(logits).max(initial=0.0)) / _STEP)))
    arithmetic.disclose(REACH, arithmetic.peer, len(values))
    answer = arithmetic.swap(Reach(max(0, whitened.scale), whitened.values.shape[1], steps))
    if answer.columns != theirs:
        raise PeerError(f"{arithmetic.peer} brings {answer.columns} weights where {theirs} were agreed")
    period = period_of(steps, answer.steps)
    if period > _MOST_PERIOD:
        most = _MOST_PERIOD // 2 - _STEP
        return Inference((), f"logits of training rows reach beyond {most}: the labels are nearly separable")
    block = information.block_of(whitened, min(whitened.scale, answer.bits), theirs, holder=holder)

    # 2. to 5. Weights, information, inverse, and whether it is one.
    known = sample.known()
    angles = logits * (2 * np.pi / period)
    weights, loss = likelihood.weights_and_loss(arithmetic, angles, period, block.weight_bits, known)
    loss = arithmetic.truncate(loss, LOSS_BITS - _TOLD_BITS)
    told = arithmetic.open_to(loss, LIKELIHOOD, arithmetic.us if holder else arithmetic.peer)
    fit = None
    if told is not None and known is not None:
        total, one = float(ring.decode(told, _TOLD_BITS)[0]), 2.0**sample.most
        fit = likelihood.fit_of(total * one, known.signs > 0, known.factors * one, values.shape[1] + theirs)
    h = information.information(arithmetic, block, weights)
    x = information.inverse(arithmetic, h)
    if not information.determined(arithmetic, h, x):
        return Inference(
            (),
            "perfectly or nearly collinear columns, within one party or across both, or labels that are nearly"
            " separable: standard errors are not determined. Leave one of such columns out, or raise l2",
            fit,
        )

    # 6. Each side's own variances on its own scale, opened to it alone.
    lengths = np.linalg.norm(whitened.transform, axis=1)
    units = whitened.transform / np.where(lengths > 0.0, lengths, 1.0)[:, None]
    mine, other = information.variances(arithmetic, block, x, units)
    opened: dict[str, np.ndarray] = {}
    sides = [(arithmetic.us, mine, block.start), (arithmetic.peer, other, block.peers.start)]
    for owner, share, _ in sorted(sides, key=lambda side: side[2]):
        found = arithmetic.open_to(share, errors_name(owner), owner)
        if found is not None:
            opened[owner] = np.maximum(ring.decode(found, X_BITS), 0.0)
    errors = np.sqrt(opened[arithmetic.us]) * lengths * 2.0 ** (-block.exponent - sample.most / 2)
    # 7. The rest is each side's own arithmetic.
    return Inference(_rows(half, values, errors), None, fit)


def period_of(ours: int, theirs: int) -> int:
    """The period of the series: twice the two reaches, and 16 more, over which the loss finds back."""
    return 2 * _STEP * (ours + theirs) + 16


def _rows(half: ModelHalf, values: np.ndarray, errors: np.ndarray) -> tuple[Coefficient, ...]:
    names, weights, sds = list(half.features), list(half.weights), list(half.sds)
    constant = list((values == 0.0).all(axis=0))
    if half.intercept is not None:
        names, weights = [INTERCEPT, *names], [half.intercept, *weights]
        sds, constant = [0.0, *sds], [False, *constant]
    return tuple(
        _row(name, (float(weight), float(sd)), None if empty else float(error))
        for name, weight, sd, empty, error in zip(names, weights, sds, constant, errors, strict=True)
    )


def _row(name: str, told: tuple[float, float], error: float | None) -> Coefficient:
    weight, sd = told
    if error is None or error <= 0.0:
        return Coefficient(name, weight, *[None] * 13)
    z = weight / error
    low, high = weight - _QUANTILE * error, weight + _QUANTILE * error
    unit: Sequence[float | None] = [None] * 5
    if sd > 0.0:
        unit = [weight / sd, error / sd, *(_exp(value / sd) for value in (weight, low, high))]
    odds = [_exp(value) for value in (weight, low, high)]
    return Coefficient(name, weight, error, z, math.erfc(abs(z) / math.sqrt(2.0)), low, high, *odds, *unit)


def _exp(value: float) -> float | None:
    try:
        return math.exp(value)
    except OverflowError:
        return None
