"""A party's own half of split logistic regression in scikit-learn's manner: both sides call the same methods in step.

It needs nothing of scikit-learn, but keeps its conventions: parameters in the constructor, `fit` returns self, learned
attributes end in an underscore, `get_params` and `set_params` make `clone` work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from mpc.engine import Engine
from party.channel import Channel
from party.errors import DataError, UsageError
from party.guard import Guard
from party.message import Int, Message
from party.request import Opening
from vfl import prepare, spec
from vfl.checks import CHECK_BITS
from vfl.model import ModelHalf
from vfl.score import open_logits, sigmoid
from vfl.secure import Secure
from vfl.sides import Settings
from vfl.state import MemoryCheckpoints
from vfl.train import fit_weights

__all__ = ["SplitLogisticRegression"]

_PARAMETERS = ("l2", "winsorise", "tol", "max_passes", "receiver")


@dataclass(frozen=True, repr=False)
class Hello(Message, kind=0x0604):
    """Both ways, before fitting: rows, own columns, whether the label is here, and the parameters, to be compared."""

    rows: Annotated[int, Int(1, 1 << 40)]
    columns: Annotated[int, Int(1, 4096)]
    label: bool
    l2: float
    winsorise: float
    tol: float
    max_passes: Annotated[int, Int(0, 1 << 20)]


class SplitLogisticRegression:
    """L2-penalised logistic regression over columns of two parties; the loss is LogisticRegression(C=1/l2)'s.

    Columns are standardised and winsorised inside, so `coef_` is on the standardised scale. Rows must be aligned and in
    the same order on both sides. receiver: who gets `decision_function` and the like; None: the label holder.

    After `fit`: `coef_` (1, d) our own columns, `intercept_` (1,) at the label holder, None elsewhere, `classes_`,
    `n_iter_` passes, `n_features_in_`, `converged_`.
    """

    def __init__(
        self,
        *,
        l2: float = 1.0,
        winsorise: float | None = 3.0,
        tol: float = 1e-6,
        max_passes: int | None = None,
        receiver: str | None = None,
    ) -> None:
        self.l2 = l2
        self.winsorise = winsorise
        self.tol = tol
        self.max_passes = max_passes
        self.receiver = receiver

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's parameters."""
        return {name: getattr(self, name) for name in _PARAMETERS}

    def set_params(self, **params: Any) -> SplitLogisticRegression:
        """Change parameters by name; UsageError for an unknown one."""
        for name, value in params.items():
            if name not in _PARAMETERS:
                raise UsageError(f"SplitLogisticRegression has no parameter {name}")
            setattr(self, name, value)
        return self

    def fit(
        self, X: np.ndarray, y: np.ndarray | None = None, *, engine: Engine | Channel | None = None
    ) -> SplitLogisticRegression:
        """Fit together with the peer, who calls `fit` at the same time; exactly one side brings y (0/1).

        X: float64 (n, d), our columns; NaN is missing. engine: an Engine, whose guard is asked before each opening, or
        a bare Channel, for experiments, where all of this is opened without a ledger. Opens: own weights, the
        fixed-point scale, the check bits. Raises DataError when the two sides do not fit together.
        """
        if engine is None:
            raise UsageError("fit needs engine=, an Engine or a Channel to the peer")
        self.engine_ = _engine(engine) if isinstance(engine, Channel) else engine
        columns = _columns(X)
        ready = prepare.prepare(columns, np.zeros(len(X), dtype=bool), self.winsorise)
        nothing = np.zeros(len(X), dtype=bool)
        prepare.check_columns(ready, nothing, self.engine_.guard.min_rows)
        label = None if y is None else prepare.labels("y", np.asarray(y), ~nothing)
        if label is not None and len(label) != len(X):
            raise DataError("X and y differ in rows")
        theirs = self._agree(len(X), len(columns), label is not None)
        settings = Settings(self.l2, self.tol, self.max_passes, spec.first_period(self.winsorise))
        half = fit_weights(
            Secure(self.engine_, prepare.MATRIX_BITS),
            (ready.values, prepare.Known(label), theirs),
            settings,
            MemoryCheckpoints(),
        )
        intercept, weights = (None, half.weights) if label is None else (float(half.weights[0]), half.weights[1:])
        self.model_ = ModelHalf(
            ready.names,
            tuple(map(float, ready.means)),
            tuple(map(float, ready.sds)),
            tuple(map(float, weights)),
            intercept,
            self.winsorise,
        )
        self.coef_ = weights[None, :]
        self.intercept_ = None if intercept is None else np.array([intercept])
        self.classes_ = np.array([0, 1])
        self.n_iter_ = np.array([half.passes])
        self.n_features_in_ = len(columns)
        self.converged_ = half.stopped
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray | None:
        """Logits to 1/512 of aligned rows, float64 (n,), at the receiver; None at the other side. Both call it.

        The receiver learns one linear combination of the other side's columns a row.
        """
        model = self._fitted()
        values = prepare.standardise(_columns(X), np.array(model.means), np.array(model.sds), model.winsorise)
        channel = self.engine_.channel
        holder = channel.us if model.intercept is not None else channel.peer
        return open_logits(self.engine_, model, values, spec.SCORES, self.receiver or holder)

    def predict_proba(self, X: np.ndarray) -> np.ndarray | None:
        """Probabilities of both classes, float64 (n, 2), at the receiver; None at the other side."""
        logits = self.decision_function(X)
        if logits is None:
            return None
        scores = sigmoid(logits)
        return np.stack([1.0 - scores, scores], axis=1)

    def predict(self, X: np.ndarray) -> np.ndarray | None:
        """Classes, int64 (n,), at the receiver; None at the other side."""
        logits = self.decision_function(X)
        return None if logits is None else (logits > 0).astype(np.int64)

    def _fitted(self) -> ModelHalf:
        if not hasattr(self, "model_"):
            raise UsageError("this SplitLogisticRegression is not fitted yet")
        return self.model_

    def _agree(self, rows: int, columns: int, label: bool) -> int:
        width = 0.0 if self.winsorise is None else self.winsorise
        ours = Hello(rows, columns, label, self.l2, width, self.tol, self.max_passes or 0)
        theirs = self.engine_.channel.swap(ours)
        if theirs.rows != ours.rows:
            raise DataError(f"the two sides bring {ours.rows} and {theirs.rows} rows: align them first")
        if theirs.label == ours.label:
            raise DataError("exactly one side brings the label")
        mine = (ours.l2, ours.winsorise, ours.tol, ours.max_passes)
        if mine != (theirs.l2, theirs.winsorise, theirs.tol, theirs.max_passes):
            raise DataError("the two sides have different parameters")
        if theirs.columns < prepare.LEAST_FEATURES:
            raise DataError(f"the other side brings fewer than {prepare.LEAST_FEATURES} features")
        return theirs.columns + (not label)


class _Forgetful:
    """The record of a bare channel: there is no ledger to write to."""

    def append(self, event: str, /, **fields: str | int) -> None:
        """Nothing is kept."""


def _engine(channel: Channel) -> Engine:
    parties = (channel.us, channel.peer)
    names = (spec.SCALE, CHECK_BITS, spec.SCORES, *map(spec.weights_name, parties))
    openings = [Opening(name, party) for name in names for party in parties]
    guard = Guard("estimator", channel.peer, openings, _Forgetful())
    return Engine.start(channel, guard, int(channel.us > channel.peer))


def _columns(X: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    values = np.asarray(X, dtype=np.float64)
    if values.ndim != 2 or not values.size:
        raise DataError("X is a table of rows and columns, neither empty")
    return {f"x{place}": (column, ~np.isnan(column)) for place, column in enumerate(values.T)}
