"""A party's own half of split logistic regression in scikit-learn's manner: both sides call the same methods in step.

It needs nothing of scikit-learn, but keeps its conventions (`vfl.conventions`): parameters in the constructor, `fit`
returns self, learned attributes end in an underscore, `clone` works. Both halves in one process: `vfl.local`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, Self

import numpy as np

from mpc.engine import Engine
from party.channel import Channel
from party.errors import DataError, UsageError
from party.guard import Guard
from party.message import Int, Message
from party.request import Opening
from vfl import prepare, spec
from vfl.checks import CHECK_BITS
from vfl.conventions import InputError, Parameters, Weighing, classes, not_fitted, row_weights, table
from vfl.model import ModelHalf
from vfl.newton import INVERTIBLE
from vfl.prepare import Known
from vfl.rows import check_weights
from vfl.score import open_logits, sigmoid
from vfl.secure import Secure
from vfl.sides import Settings
from vfl.state import MemoryCheckpoints
from vfl.train import fit_weights

__all__ = ["SALT", "Passes", "SplitLogisticRegression", "columns_of", "held_rows", "open_engine", "settings_of"]

SALT = b"tallystick/v1/estimator"  # which rows are held out: by their place alone
_NO_WEIGHTS, _BALANCED = (0.0, 0.0), (-1.0, -1.0)


@dataclass(frozen=True, repr=False)
class Hello(Message, kind=0x0604):
    """Both ways, before fitting: rows, own columns, whether the label is here, whether rows are weighed, and the
    parameters, to be compared. Weights of classes: 0 for none, -1 for balanced."""

    rows: Annotated[int, Int(1, 1 << 40)]
    columns: Annotated[int, Int(1, 4096)]
    label: bool
    weighed: bool
    l2: float
    winsorise: float
    tol: float
    max_passes: Annotated[int, Int(0, 1 << 20)]
    early_stopping: Annotated[int, Int(0, 1 << 20)]
    validation_fraction: float
    zeros: float
    ones: float


class Passes(Protocol):
    """The parameters that say how passes are done."""

    l2: float
    winsorise: float | None
    tol: float
    max_passes: int | None
    early_stopping: int | None
    validation_fraction: float


def settings_of(parameters: Passes, *, weighed: bool) -> Settings:
    """The same as the passes take them. Raises InputError for numbers out of range."""
    wrong = [
        not 0 <= parameters.l2 < float("inf"),
        parameters.winsorise is not None and not 0 < parameters.winsorise <= 100,
        not 0 < parameters.tol < 1,
        parameters.max_passes is not None and not 1 <= parameters.max_passes <= 1000,
        parameters.early_stopping is not None and not 1 <= parameters.early_stopping <= 100,
        not 0 < parameters.validation_fraction <= 0.5,
    ]
    if any(wrong):
        names = ("l2", "winsorise", "tol", "max_passes", "early_stopping", "validation_fraction")
        raise InputError(f"{names[wrong.index(True)]} is out of range")
    period = spec.first_period(parameters.winsorise)
    patience = parameters.early_stopping or 0
    return Settings(parameters.l2, parameters.tol, parameters.max_passes, period, patience, weighed=weighed)


def held_rows(parameters: Passes, rows: int) -> np.ndarray:
    """Which rows end the training instead of being in it: bool (n,)."""
    fraction = parameters.validation_fraction if parameters.early_stopping else 0.0
    return prepare.held_out(np.zeros(rows, dtype=bool), fraction, SALT)


@dataclass(eq=False, repr=False, kw_only=True)
class SplitLogisticRegression(Parameters):
    """L2-penalised logistic regression over columns of two parties; the loss is LogisticRegression(C=1/l2)'s.

    Columns are standardised and winsorised inside, so `coef_` is on the standardised scale. Rows must be aligned and in
    the same order on both sides, and all parameters the same. class_weight: None, `balanced`, or a weight for each of
    both classes; early_stopping: end after so many checks without a lower loss over `validation_fraction` of the rows.
    receiver: who gets `decision_function` and the like; None: the label holder.

    After `fit`: `coef_` (1, d) our own columns, `intercept_` (1,) at the label holder, None elsewhere, `classes_` (0
    and 1 where the label is not), `n_iter_` passes, `n_features_in_`, `feature_names_in_` where X has names,
    `converged_`.
    """

    l2: float = 1.0
    winsorise: float | None = 3.0
    tol: float = 1e-6
    max_passes: int | None = None
    class_weight: Weighing = None
    early_stopping: int | None = None
    validation_fraction: float = 0.1
    receiver: str | None = None

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, *, engine: Engine | Channel | None = None) -> Self:
        """Fit together with the peer, who calls `fit` at the same time; exactly one side brings y, of two classes.

        X: (n, d), our columns; NaN is missing. sample_weight: of rows, (n,), at the label holder. engine: an Engine,
        whose guard is asked before each opening, or a bare Channel, for experiments, where all of this is opened
        without a ledger. Opens: own weights, the fixed-point scale, the check bits; with weights of rows their size.
        Raises DataError when the two sides do not fit together.
        """
        if engine is None:
            raise UsageError("fit needs engine=, an Engine or a Channel to the peer")
        values, names = table(X)
        label = None if y is None else classes(y, len(values))
        if label is None and sample_weight is not None:
            raise InputError("sample_weight is the label holder's")
        _class_weights(self.class_weight)
        self.engine_ = open_engine(engine) if isinstance(engine, Channel) else engine
        least, held = self.engine_.guard.min_rows, held_rows(self, len(values))
        ready = prepare.prepare(columns_of(values, names), held, self.winsorise)
        prepare.check_columns(ready, held, least)
        weights = None if label is None else row_weights(sample_weight, self.class_weight, label, ~held)
        order = np.concatenate([np.flatnonzero(~held), np.flatnonzero(held)])
        known = Known(None if label is None else label[1], weights).part(order, int(held.sum()))
        if known.label is not None:
            prepare.check_label(known.label[: len(order) - known.held], least)
            check_weights(known, least)
        theirs = self._agree(len(values), values.shape[1], known)
        settings = settings_of(self, weighed=weights is not None or theirs.weighed)
        half = fit_weights(
            Secure(self.engine_, prepare.MATRIX_BITS),
            (ready.values[order], known, theirs.columns + (label is None)),
            settings,
            MemoryCheckpoints(),
        )
        intercept, own = (None, half.weights) if label is None else (float(half.weights[0]), half.weights[1:])
        scale = tuple(map(float, ready.means)), tuple(map(float, ready.sds))
        self.model_ = ModelHalf(ready.names, *scale, tuple(map(float, own)), intercept, self.winsorise)
        self.coef_ = own[None, :]
        self.intercept_ = None if intercept is None else np.array([intercept])
        self.classes_ = np.array([0, 1]) if label is None else label[0]
        self.n_iter_ = np.array([half.passes])
        self.converged_ = half.stopped
        self.learned_of(values.shape[1], names)
        return self

    def decision_function(self, X: Any) -> np.ndarray | None:
        """Logits to 1/512 of aligned rows, float64 (n,), at the receiver; None at the other side. Both call it.

        The receiver learns one linear combination of the other side's columns a row.
        """
        if not hasattr(self, "model_"):
            raise not_fitted(self)
        model, (values, names) = self.model_, table(X, self)
        scaled = prepare.standardise(
            columns_of(values, names), np.array(model.means), np.array(model.sds), self.winsorise
        )
        return open_logits(self.engine_, model, scaled, spec.SCORES, self._receiver())

    def predict_proba(self, X: Any) -> np.ndarray | None:
        """Probabilities of both classes, float64 (n, 2), at the receiver; None at the other side."""
        logits = self.decision_function(X)
        if logits is None:
            return None
        scores = sigmoid(logits)
        return np.stack([1.0 - scores, scores], axis=1)

    def predict(self, X: Any) -> np.ndarray | None:
        """Classes (n,) at the receiver; None at the other side."""
        logits = self.decision_function(X)
        return None if logits is None else np.asarray(self.classes_[(logits > 0).astype(np.int64)])

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float | None:
        """Accuracy at the receiver, who brings y; None at the other side."""
        if not hasattr(self, "model_"):
            raise not_fitted(self)
        if y is None and self._receiver() == self.engine_.channel.us:
            raise InputError("requires y to be passed, but the target y is None: the receiver scores")
        found = self.predict(X)
        return None if found is None else float(np.average(found == np.asarray(y), weights=sample_weight))

    def _receiver(self) -> str:
        channel = self.engine_.channel
        return self.receiver or (channel.us if self.model_.intercept is not None else channel.peer)

    def _agree(self, rows: int, columns: int, known: Known) -> Hello:
        """Tell what we bring and how we fit; what the peer brings."""
        width = 0.0 if self.winsorise is None else self.winsorise
        told = known.label is not None, known.weights is not None
        limits = self.max_passes or 0, self.early_stopping or 0
        each = self.validation_fraction, *_class_weights(self.class_weight)
        ours = Hello(rows, columns, *told, self.l2, width, self.tol, *limits, *each)
        theirs = self.engine_.channel.swap(ours)
        if theirs.rows != ours.rows:
            raise DataError(f"the two sides bring {ours.rows} and {theirs.rows} rows: align them first")
        if theirs.label == ours.label:
            raise DataError("exactly one side brings the label")
        for name in ("l2", "winsorise", "tol", "max_passes", "early_stopping", "validation_fraction", "zeros", "ones"):
            if getattr(ours, name) != getattr(theirs, name):
                shown = "class_weight" if name in ("zeros", "ones") else name
                raise DataError(f"the two sides have different parameters: {shown}")
        if theirs.columns < prepare.LEAST_FEATURES:
            raise DataError(f"the other side brings fewer than {prepare.LEAST_FEATURES} features")
        return theirs


class _Forgetful:
    """The record of a bare channel: there is no ledger to write to."""

    def append(self, event: str, /, **fields: str | int) -> None:
        """Nothing is kept."""


def open_engine(channel: Channel) -> Engine:
    """An engine over a bare channel, whose guard lets out what an estimator opens."""
    parties = (channel.us, channel.peer)
    names = (spec.SCALE, spec.WEIGHING, CHECK_BITS, INVERTIBLE, spec.SCORES, *map(spec.weights_name, parties))
    openings = [Opening(name, party) for name in names for party in parties]
    guard = Guard("estimator", channel.peer, openings, _Forgetful())
    return Engine.start(channel, guard, int(channel.us > channel.peer))


def columns_of(values: np.ndarray, names: tuple[str, ...] | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(n, d) as columns by name, NaN being missing; without names x0, x1, ..."""
    known = names or tuple(f"x{place}" for place in range(values.shape[1]))
    return {name: (column, ~np.isnan(column)) for name, column in zip(known, values.T, strict=True)}


def _class_weights(wanted: Weighing) -> tuple[float, float]:
    if wanted is None:
        return _NO_WEIGHTS
    if isinstance(wanted, Mapping):
        found = [float(wanted[key]) for key in sorted(wanted, key=str)]
        if len(found) == 2 and all(1e-3 <= weight <= 1e3 for weight in found):
            return found[0], found[1]
    elif wanted == "balanced":
        return _BALANCED
    raise InputError("class_weight is None, 'balanced', or two weights between 0.001 and 1000: {0: 1.0, 1: 5.0}")
