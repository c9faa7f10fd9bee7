"""Both halves in one process: an ordinary scikit-learn classifier over a joined table, for experiments without a peer.

It trains by the very protocol, two threads over a channel in memory, so that `cross_val_score` and `GridSearchCV` see
what two parties would get. Nothing is protected here: whoever runs it holds the whole table.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from party.channel import Channel, memory_pair
from party.errors import InternalError, TallyError
from vfl import prepare
from vfl.conventions import InputError, Parameters, Weighing, classes, not_fitted, row_weights, table
from vfl.estimator import columns_of, held_rows, open_engine, settings_of
from vfl.metrics import sigmoid
from vfl.prepare import Known
from vfl.schedule import LEAST_ROWS
from vfl.secure import Secure
from vfl.sides import Settings
from vfl.state import MemoryCheckpoints
from vfl.train import Half, fit_weights

__all__ = ["LocalSplit"]

ARITHMETIC = ("shares", "pooled")
_STEPS = 100


@dataclass(eq=False, repr=False, kw_only=True)
class LocalSplit(Parameters):
    """Split logistic regression of a label holder and a feature holder, simulated over the joined X.

    left: the label holder's columns: how many of the first, or their names or places; None: the first half. arithmetic:
    `shares`, the protocol itself (seconds, at least 40 rows), or `pooled`, the model that it approaches, by Newton's
    method in the clear (milliseconds, no early stopping). The other parameters are `SplitLogisticRegression`'s.

    After `fit`: `coef_` (1, d) and `intercept_` (1,) on the standardised scale in the order of X, `means_`, `scales_`,
    `classes_`, `n_features_in_`, `feature_names_in_` where X has names, `n_iter_`, `converged_`.
    """

    left: int | Sequence[int | str] | None = None
    l2: float = 1.0
    winsorise: float | None = 3.0
    tol: float = 1e-6
    max_passes: int | None = None
    class_weight: Weighing = None
    early_stopping: int | None = None
    validation_fraction: float = 0.1
    arithmetic: str = "shares"

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit both halves. X: (n, d), NaN is missing; y: two classes. Raises InputError, a ValueError."""
        if self.arithmetic not in ARITHMETIC:
            raise InputError(f"arithmetic is {' or '.join(ARITHMETIC)}")
        if self.arithmetic == "pooled" and self.early_stopping:
            raise InputError("early_stopping needs arithmetic='shares': the pooled model has no passes")
        settings_of(self, weighed=False)
        values, names = table(X)
        label = classes(y, len(values))
        left = self._left(values.shape[1], names)
        held = held_rows(self, len(values))
        weights = row_weights(sample_weight, self.class_weight, label, ~held)
        ready = prepare.prepare(columns_of(values, names), held, self.winsorise)
        order = np.concatenate([np.flatnonzero(~held), np.flatnonzero(held)])
        known = Known(label[1], weights).part(order, int(held.sum()))
        fit = self._shares if self.arithmetic == "shares" else self._pooled
        coefficients = fit(ready.values[order], known, left)
        self.classes_ = label[0]
        self.intercept_, self.coef_ = coefficients[:1], coefficients[None, 1:]
        self.means_, self.scales_ = ready.means, ready.sds
        self.learned_of(values.shape[1], names)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits, float64 (n,)."""
        if not hasattr(self, "coef_"):
            raise not_fitted(self)
        values, names = table(X, self)
        scaled = prepare.standardise(columns_of(values, names), self.means_, self.scales_, self.winsorise)
        return np.asarray(scaled @ self.coef_[0] + self.intercept_[0])

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of both classes, float64 (n, 2)."""
        scores = sigmoid(self.decision_function(X))
        return np.stack([1.0 - scores, scores], axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """Classes, (n,)."""
        logits = self.decision_function(X)
        return np.asarray(self.classes_[(logits > 0).astype(np.int64)])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy."""
        return float(np.average(self.predict(X) == np.asarray(y).reshape(-1), weights=sample_weight))

    def _left(self, count: int, names: tuple[str, ...] | None) -> np.ndarray:
        """Which columns are the label holder's: bool (d,), neither none nor all."""
        found = np.zeros(count, dtype=bool)
        if self.left is None or isinstance(self.left, int):
            found[: count // 2 if self.left is None else self.left] = True
        else:
            for name in self.left:
                if isinstance(name, str) and name not in (names or ()):
                    raise InputError(f"left names {name!r}, which is no column of X")
                found[(names or ()).index(name) if isinstance(name, str) else name] = True
        if not 0 < int(found.sum()) < count:
            raise InputError(f"X with {count} feature(s) cannot be split: each half needs at least one of them")
        return found

    def _shares(self, values: np.ndarray, known: Known, left: np.ndarray) -> np.ndarray:
        """Intercept and weights by the protocol."""
        if len(values) - known.held < LEAST_ROWS:
            raise InputError(f"{len(values)} samples are too few to train on shares: {LEAST_ROWS} are needed")
        settings = settings_of(self, weighed=known.weights is not None)
        right = int((~left).sum())
        brought = (
            (values[:, left], known, right),
            (values[:, ~left], Known(held=known.held), 1 + len(left) - right),
        )
        found = _together(brought, settings)
        coefficients = np.empty(1 + len(left))
        coefficients[0] = found[0].weights[0]
        coefficients[1:][left], coefficients[1:][~left] = found[0].weights[1:], found[1].weights
        self.n_iter_, self.converged_ = np.array([found[0].passes]), found[0].stopped
        return coefficients

    def _pooled(self, values: np.ndarray, known: Known, left: np.ndarray) -> np.ndarray:
        """The same by Newton's method on the joined columns, the step halved where the loss rises."""
        columns = np.hstack([np.ones((len(values), 1)), values])
        weights = np.ones(len(values)) if known.weights is None else known.weights
        ridge = np.full(columns.shape[1], float(self.l2))
        ridge[0] = 0.0
        signs = 2.0 * np.asarray(known.label) - 1.0

        def loss(beta: np.ndarray) -> float:
            return float(weights @ np.logaddexp(0.0, -signs * (columns @ beta)) + ridge @ beta**2 / 2)

        beta, self.converged_ = np.zeros(columns.shape[1]), False
        for number in range(_STEPS):
            self.n_iter_ = np.array([number + 1])
            scores = sigmoid(columns @ beta)
            gradient = columns.T @ (weights * (scores - (signs > 0))) + ridge * beta
            hessian = (columns.T * (weights * scores * (1 - scores))) @ columns + np.diag(ridge)
            step = np.linalg.lstsq(hessian, gradient, rcond=None)[0]
            size, before = 1.0, loss(beta)
            while size > 1e-6 and loss(beta - size * step) > before:
                size /= 2
            beta = beta - size * step
            if float(np.abs(step).max()) < 1e-9 or size <= 1e-6:
                self.converged_ = True
                break
        return beta


def _together(brought: Sequence[tuple[np.ndarray, Known, int]], settings: Settings) -> list[Half]:
    """Both halves at once, each over its end of a channel; raises the error of the one that failed first."""
    errors: list[BaseException] = []

    def half(channel: Channel, what: tuple[np.ndarray, Known, int]) -> Half:
        try:
            arithmetic = Secure(open_engine(channel), prepare.MATRIX_BITS)
            found = fit_weights(arithmetic, what, settings, MemoryCheckpoints())
            channel.close()
        except BaseException as error:
            errors.append(error)
            channel.abort(error if isinstance(error, TallyError) else InternalError("the other half failed"))
            raise
        return found

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(half, *side) for side in zip(memory_pair("left", "right"), brought, strict=True)]
    if errors:
        raise errors[0]
    return [one.result() for one in both]
