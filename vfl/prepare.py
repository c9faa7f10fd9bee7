"""What each party does to its own columns before training: split, standardise, whiten, fixed point. All local.

Only one number leaves: the fixed-point scale (`Whitened.scale`), of which the smaller of both sides is used.

Source: architecture section 4 "Preparation"; whitening columns before training, so that each step is a plain shift,
is argued in docs/protocols/09-split-logistic-regression.md, step 0.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kernels.prg import Prg
from party.errors import DataError

__all__ = [
    "LEAST_FEATURES",
    "MATRIX_BITS",
    "Aside",
    "Known",
    "Prepared",
    "Whitened",
    "check_columns",
    "check_label",
    "held_out",
    "labels",
    "leverage",
    "moments",
    "numbers",
    "prepare",
    "scaled",
    "split",
    "standardise",
    "whiten",
]

Columns = Mapping[str, tuple[np.ndarray, np.ndarray]]

MATRIX_BITS = 20  # signed width of a whitened, scaled matrix entry: |entry| < 2^19
LEAST_FEATURES = 3
_MOST_LEVERAGE = 2 / 3  # of a row in its owner's columns; unclipped ones of honest tables reach 0.6
_SPAN = 1e-12  # eigenvalues of X'X below this part of the largest are rounding
_RANK = 1e-9  # eigenvalues below this part of the largest are directions without data


@dataclass(frozen=True, repr=False)
class Prepared:
    """One party's columns on the standardised scale: the names, what was subtracted and divided by, and the values."""

    names: tuple[str, ...]
    means: np.ndarray  # float64, shape (d,)
    sds: np.ndarray  # float64, shape (d,); 0 for a column that is constant on the training rows
    values: np.ndarray  # float64, shape (n, d), all aligned rows in the common order


@dataclass(frozen=True, repr=False)
class Aside:
    """Rows that no pass sees, for whom a model whose weights stay shared is measured: prepared columns (m, d), the
    label at its holder, our offset."""

    values: np.ndarray
    label: np.ndarray | None = None
    offset: np.ndarray | None = None


@dataclass(frozen=True, repr=False)
class Known:
    """What one side knows of the rows beside its columns, float64 (n,) each or None.

    label: 0/1, at the label holder. weights: of rows in the loss, at the label holder. offset: added to the logit.
    held: how many of the rows, the last, are held out: they are in no gradient, their loss ends the training. aside:
    other rows, which training does not see.
    """

    label: np.ndarray | None = None
    weights: np.ndarray | None = None
    offset: np.ndarray | None = None
    held: int = 0
    aside: Aside | None = None

    def part(self, rows: np.ndarray | slice, held: int) -> Known:
        """The same of some rows."""
        label, weights, offset = (
            None if values is None else values[rows] for values in (self.label, self.weights, self.offset)
        )
        return Known(label, weights, offset, held, self.aside)


@dataclass(frozen=True, repr=False)
class Whitened:
    """X L for the training rows, with L = 2^a (X'X/4 + l2 I)^(-1/2): weights w on X L are the weights L w on X."""

    values: np.ndarray  # float64, shape (n, d)
    transform: np.ndarray  # L, float64, symmetric, shape (d, d)
    penalty: np.ndarray  # L' P L with P = l2 I, 0 for the intercept; float64, shape (d, d)
    exponent: int  # a

    @property
    def scale(self) -> int:
        """Fraction bits fx: the most with |entry| 2^fx < 2^19. The one number of the preparation that is opened."""
        return _scale(self.values)

    def apply(self, values: np.ndarray, *, intercept: bool) -> np.ndarray:
        """Other standardised rows (m, d), whitened as those were."""
        matrix = np.hstack([np.ones((len(values), 1)), values]) if intercept else values
        return np.asarray(matrix @ self.transform)

    def scale_with(self, more: np.ndarray) -> int:
        """The same for these rows and further whitened ones."""
        return min(self.scale, _scale(more))


def split(rows: int, test_fraction: float, salt: bytes) -> np.ndarray:
    """Which aligned rows are test rows: bool, shape (rows,); the same on both sides.

    Exactly round(rows * test_fraction) rows, those whose keyed hash of their place in the common order is smallest.
    salt: at least 16 bytes that both sides derive from the agreement and the alignment's digest; it need not be secret.
    """
    return _smallest(np.ones(rows, dtype=bool), test_fraction, b"split", salt)


def held_out(test: np.ndarray, fraction: float, salt: bytes) -> np.ndarray:
    """Which training rows end the training instead of being in it: bool, shape (rows,), chosen likewise."""
    return _smallest(~test, fraction, b"held out", salt)


def _smallest(among: np.ndarray, fraction: float, purpose: bytes, salt: bytes) -> np.ndarray:
    count = int(int(among.sum()) * fraction + 0.5)
    seed = hashlib.sha256(b"tallystick/v1/train/" + purpose + b"/" + salt).digest()
    order = np.argsort(Prg(seed, purpose.decode()).words(len(among)), kind="stable")
    chosen = np.zeros(len(among), dtype=bool)
    chosen[order[among[order]][:count]] = True
    return chosen


def prepare(columns: Columns, test: np.ndarray, winsorise: float | None) -> Prepared:
    """Standardise by mean and sd (ddof 0) of the non-missing training values; missing becomes 0; clip to +-winsorise.

    columns: name -> (values (n,), valid (n,) bool), numbers or booleans, in the order of the job.
    Raises DataError for text, dates, NaN and infinities, naming the column.
    """
    names = tuple(columns)
    given = [numbers(name, *columns[name]) for name in names]
    means, sds = np.zeros(len(names)), np.zeros(len(names))
    for place, (values, valid) in enumerate(given):
        known = values[valid & ~test]
        if len(known) and known.min() < known.max():
            means[place], sds[place] = moments(names[place], known)
        elif len(known):
            means[place] = known[0]
    return Prepared(names, means, sds, scaled(given, means, sds, winsorise))


def moments(name: str, values: np.ndarray) -> tuple[float, float]:
    """Mean and sd (ddof 0) of values that vary. Raises DataError where floating point cannot hold their squares."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        mean, sd = float(values.mean()), float(values.std())
    if not (math.isfinite(mean) and math.isfinite(sd) and sd > 0.0):
        raise DataError(
            f"column {name} cannot be standardised: its values are too large or too small for floating point",
            hint="give it in another unit",
        )
    return mean, sd


def standardise(columns: Columns, means: np.ndarray, sds: np.ndarray, winsorise: float | None) -> np.ndarray:
    """New rows on the scale of a trained model: float64, shape (n, d)."""
    return scaled([numbers(name, *columns[name]) for name in columns], means, sds, winsorise)


def labels(name: str, values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """The label column as int64 0/1, shape (n,). Raises DataError for NULL and for anything but bool, 0 and 1."""
    if not bool(np.all(valid)):
        raise DataError(f"label {name} is NULL in an aligned row", hint="filter these rows out before aligning")
    found, _ = numbers(name, values, np.ones(len(values), dtype=bool))
    if not bool(np.all((found == 0.0) | (found == 1.0))):
        raise DataError(f"label {name} holds values other than true, false, 0 and 1")
    return found.astype(np.int64)


def check_columns(prepared: Prepared, test: np.ndarray, min_rows: int, features: Sequence[str] | None = None) -> None:
    """Refuse columns whose weight would speak of single rows: our own protection, checked by ourselves.

    Every column must be constant or leave its most frequent value in at least min_rows training rows, no combination of
    them may stand for a single row, and three features must not be constant: with fewer, scores would show single ones.
    features: which one each column was made of, where columns are not features themselves. Raises DataError.
    """
    values = prepared.values[~test]
    varied = set()
    for feature, name, column in zip(features or prepared.names, prepared.names, values.T, strict=True):
        _, counts = np.unique(column, return_counts=True)
        rare = len(column) - int(counts.max(initial=0))
        varied |= {feature} if rare > 0 else set()
        if 0 < rare < min_rows:
            raise DataError(
                f"feature {name} has its most frequent value in all but a few training rows, fewer than min_rows:"
                " its weight would speak of single rows",
                hint="merge rare categories or leave the column out",
            )
    if min_rows > 1 and float(leverage(values).max(initial=0.0)) > _MOST_LEVERAGE:
        raise DataError(
            "a combination of our features stands for a single training row: its weights would tell what the other side"
            " holds of that row",
            hint="leave out one of two columns that are equal but for a few rows, winsorise, or align more rows",
        )
    if len(varied) < LEAST_FEATURES:
        raise DataError(
            f"only {len(varied)} of our features vary over the training rows; with fewer than {LEAST_FEATURES} a score"
            " would show single columns",
            hint="add features",
        )


def leverage(values: np.ndarray) -> np.ndarray:
    """Diagonal of the projection on the columns (n, d), float64 (n,): 1 where a combination of them is 0 in every other
    row, 1/2 where it is in all but two, d/n on average.
    """
    size, axes = np.linalg.eigh(values.T @ values)
    roots = np.where(size > _SPAN * size.max(initial=0.0), 1.0 / np.sqrt(np.maximum(size, 1e-300)), 0.0)
    return np.asarray(((values @ (axes * roots)) ** 2).sum(axis=1))


def check_label(label: np.ndarray, min_rows: int) -> None:
    """Refuse training labels with fewer than min_rows rows of either class: weights would speak of single rows."""
    if min(int(label.sum()), len(label) - int(label.sum())) < max(1, min_rows):
        raise DataError(
            "one class of the label has fewer training rows than min_rows: the model would speak of single rows",
            hint="align more rows, or pool rare outcomes",
        )


def whiten(values: np.ndarray, l2: float, *, intercept: bool, known: Known | None = None, mean: int = 0) -> Whitened:
    """Whiten standardised rows, shape (n, d), by those that are not held out; with intercept a column of ones is put
    before them.

    a = ceil(log2(n/4)/2), so that a step of 1 is about 2^-2a of the whitened gradient: a shift. mean: rows weigh 2^mean
    on average; who knows their weights uses these.
    """
    known = known or Known()
    rows = len(values) - known.held
    matrix = np.hstack([np.ones((len(values), 1)), values]) if intercept else values
    ridge = np.full(matrix.shape[1], float(l2))
    if intercept:
        ridge[0] = 0.0
    exponent = max(0, math.ceil((math.log2(rows / 4) + mean) / 2))
    seen = matrix[:rows]
    weighed = seen * 2.0**mean if known.weights is None else seen * known.weights[:rows, None]
    size, axes = np.linalg.eigh(weighed.T @ seen / 4 + np.diag(ridge))
    held = size > _RANK * size.max(initial=0.0)
    roots = np.where(held, 2.0**exponent / np.sqrt(np.where(held, size, 1.0)), 0.0)
    transform = (axes * roots) @ axes.T
    return Whitened(matrix @ transform, transform, transform.T @ (ridge[:, None] * transform), exponent)


def _scale(whitened: np.ndarray) -> int:
    largest = float(np.abs(whitened).max(initial=0.0))
    if largest == 0.0:
        return MATRIX_BITS - 1
    return min(MATRIX_BITS - 1, math.ceil(MATRIX_BITS - 1 - math.log2(largest)) - 1)


def scaled(
    given: list[tuple[np.ndarray, np.ndarray]], means: np.ndarray, sds: np.ndarray, winsorise: float | None
) -> np.ndarray:
    rows = len(given[0][0]) if given else 0
    out = np.zeros((rows, len(given)))
    for place, (values, valid) in enumerate(given):
        if sds[place] > 0.0:
            scaled = np.where(valid, (values - means[place]) / sds[place], 0.0)
            out[:, place] = scaled if winsorise is None else np.clip(scaled, -winsorise, winsorise)
    return out


def numbers(name: str, values: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A column as float64, 0 where it is missing, and where it is not. Raises DataError for what is no number."""
    known = np.asarray(valid, dtype=bool)
    if values.dtype.kind not in "biufO" or any(isinstance(value, str) for value in values[known][:1]):
        raise DataError(
            f"column {name} is not a number: text and dates cannot be features or labels",
            hint="of a text make one-hot columns (a 0/1 column for each value) or its weight of evidence (WOE): under"
            " train.prepare say `one_hot: true` or `woe: true`; of a date make a number first",
        )
    try:
        found = np.zeros(len(values))
        found[known] = values[known].astype(np.float64)
    except (TypeError, ValueError):
        raise DataError(f"column {name} holds something that is not a number") from None
    if not bool(np.all(np.isfinite(found))):
        raise DataError(f"column {name} holds NaN or an infinity", hint="declare the column `nan: null`")
    return found, known
