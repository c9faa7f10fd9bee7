"""The whole of `vfl.train` on named public tables, over the ideal oracle or the real engine, beside the pooled model.

`train` runs both sides; `compare` puts their opened weights beside scikit-learn's and statsmodels' answers on the same
prepared columns and the same split. Only tests and benchmarks may do that: they see both halves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

import vfl
from tests.support import run_pair
from tests.vfl import ideal, tables
from tests.vfl.real import Pair
from vfl import prepare, reference, spec
from vfl.metrics import Metrics

__all__ = ["CUTS", "SALTS", "TABLES", "Table", "compare", "cut", "halves", "job", "table", "train"]

TABLES = ("default_credit", "breast", "fair", "randhie", "anes96", "digits")
SALTS = tuple(f"agreement and alignment {n}".encode() for n in range(3))
CUTS = 3

_TRAINING = import_module("vfl.train")  # the package has a function of that name


@dataclass(frozen=True)
class Table:
    """Columns of the label holder and of the feature holder, (n, d) each, and the label, 0/1 (n,)."""

    ours: np.ndarray
    theirs: np.ndarray
    label: np.ndarray


def table(name: str) -> tuple[np.ndarray, np.ndarray]:
    """All columns of a public table, (n, d), and its label. Skips the test where the table is not to be had."""
    if name in ("default_credit", "breast"):
        ours, theirs, label = tables.fate(name)
        return np.hstack([ours, theirs]), label
    if name.startswith("digits"):
        from sklearn.datasets import load_digits

        # whether it is odd, or (`digits 1`: nearly separable) whether it is that one
        values, digit = load_digits(return_X_y=True)
        label = digit % 2 if name == "digits" else digit == int(name.removeprefix("digits "))
        return values, label.astype(np.int64)
    from statsmodels import datasets

    frame = getattr(datasets, name).load_pandas().data
    label = {"fair": "affairs", "randhie": "mdvis", "anes96": "vote"}[name]
    return frame.drop(columns=label).to_numpy(dtype=np.float64), (frame[label] > 0).to_numpy().astype(np.int64)


def cut(values: np.ndarray, label: np.ndarray, number: int) -> Table:
    """Columns in a random order, cut in two: about a third, a half or two thirds at the label holder, at least three
    that vary at either side."""
    rng = np.random.default_rng(number)
    order = rng.permutation(values.shape[1])
    least = 3
    place = min(max(least, round(len(order) * (1 + number % 3) * 0.25)), len(order) - least)
    return Table(values[:, order[:place]], values[:, order[place:]], label)


def job(at: Table, **change: Any) -> spec.TrainSpec:
    """A job over all columns: standardised, +-3, l2 1, the default stop."""
    found = vfl.TrainSpec(
        parties=("bank", "telco"),
        tables={"bank": "customers", "telco": "subscribers"},
        label=("bank", "y"),
        features={
            "bank": tuple(f"x{i}" for i in range(at.ours.shape[1])),
            "telco": tuple(f"x{i}" for i in range(at.theirs.shape[1])),
        },
    )
    return replace(found, **change)


def _columns(block: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    # NaN stands for a missing value
    return {f"x{i}": (np.nan_to_num(column, nan=0.0), ~np.isnan(column)) for i, column in enumerate(block.T)}


@contextmanager
def _oracle(seed: int) -> Iterator[list[Any]]:
    """Two stand-ins of engines: `vfl.train` then computes over the ideal oracle and measures nothing."""
    sides = ideal.pair(seed)
    engines = [
        SimpleNamespace(channel=SimpleNamespace(us=side.us, peer=side.peer), guard=SimpleNamespace(min_rows=1), at=side)
        for side in sides
    ]
    nothing = Metrics(None, None, None, 0, 0)
    with (
        mock.patch.object(_TRAINING, "Secure", lambda engine, bits: engine.at),
        mock.patch.object(_TRAINING, "measure", lambda *_: nothing),
    ):
        yield engines


def train(
    at: Table,
    wanted: spec.TrainSpec,
    salt: bytes,
    *,
    min_rows: int = 1,
    real: bool = False,
    extra: dict[str, np.ndarray] | None = None,
) -> list[Any]:
    """Both sides' `Fitted`. extra: more columns of the label holder (weights, offset)."""
    valid = np.ones(len(at.label), dtype=bool)
    left = {**_columns(at.ours), "y": (at.label, valid)} | {n: (v, valid) for n, v in (extra or {}).items()}
    right = _columns(at.theirs)
    if real:
        pair = Pair(vfl.request(wanted), min_rows)
        return list(
            pair.run(lambda e: vfl.train(e, left, wanted, salt), lambda e: vfl.train(e, right, wanted, salt), 800)
        )
    with _oracle(1) as engines:
        for engine in engines:
            engine.guard.min_rows = min_rows
        cut_off = SimpleNamespace(_transport=SimpleNamespace(shutdown=engines[0].at.table.close))
        return list(
            run_pair(
                lambda: vfl.train(engines[0], left, wanted, salt),
                lambda: vfl.train(engines[1], right, wanted, salt),
                cut_off,
                timeout=800,
            )
        )


def halves(found: list[Any]) -> np.ndarray:
    """Intercept, weights of the label holder, weights of the feature holder."""
    return np.concatenate([[found[0].model.intercept], found[0].model.weights, found[1].model.weights])


@dataclass(frozen=True)
class Gaps:
    """Ours less the pooled model's, in size: what issue 5 demands bounds of."""

    rows: int
    passes: int
    stopped: bool
    period: int
    auc: float
    loss: float
    ks: float
    weights: float
    errors: float  # largest relative difference of a standard error; nan where none was asked
    logits: float  # largest difference of a test row's
    truth: tuple[float, float, float]  # our model's AUC, KS, log-loss, in the clear


def measures(label: np.ndarray, logits: np.ndarray) -> tuple[float, float, float]:
    """AUC, KS, log-loss in the clear."""
    rises = sk.roc_curve(label, logits, drop_intermediate=False)
    loss = float(np.logaddexp(0, -(2.0 * label - 1) * logits).mean())
    return float(sk.roc_auc_score(label, logits)), float(np.abs(rises[1] - rises[0]).max()), loss


def compare(at: Table, wanted: spec.TrainSpec, salt: bytes, found: list[Any]) -> Gaps:
    """Our model beside scikit-learn's at the same penalty, standard errors beside those of the information there."""
    test = prepare.split(len(at.label), wanted.test_fraction, salt)
    blocks = [prepare.prepare(_columns(block), test, wanted.winsorise).values for block in (at.ours, at.theirs)]
    columns = np.hstack(blocks)
    best = pooled(columns[~test], at.label[~test], wanted.l2)
    ours = halves(found)
    logits = [w[0] + columns[test] @ w[1:] for w in (ours, best)]
    mine, theirs = (measures(at.label[test], one) for one in logits)
    errors = float("nan")
    if wanted.inference and found[0].inference.refusal is None:
        told = np.array([row.standard_error or np.nan for one in found for row in one.inference.rows])
        right = reference.errors(*(b[~test] for b in blocks), best[0] + columns[~test] @ best[1:], wanted.l2)
        errors = float(np.nanmax(np.abs(told / right - 1)))
    return Gaps(
        rows=len(at.label),
        passes=found[0].passes,
        stopped=found[0].stopped,
        period=found[0].period,
        auc=abs(mine[0] - theirs[0]),
        ks=abs(mine[1] - theirs[1]),
        loss=abs(mine[2] - theirs[2]),
        weights=tables.distance(ours, best),
        errors=errors,
        logits=float(np.abs(logits[0] - logits[1]).max()),
        truth=mine,
    )


def pooled(columns: np.ndarray, label: np.ndarray, l2: float) -> np.ndarray:
    """scikit-learn's answer: intercept, then all weights."""
    model = LogisticRegression(C=1 / l2 if l2 else np.inf, solver="newton-cholesky", tol=1e-12, max_iter=500).fit(
        columns, label
    )
    return np.concatenate([model.intercept_, model.coef_[0]])
