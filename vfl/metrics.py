"""How well scores separate two classes and how well they are calibrated: plain arithmetic on values one party holds.

Source: AUC as the Mann-Whitney statistic with ties counted half (Hanley and McNeil, Radiology 143, 1982); KS as the
largest distance of the two empirical distributions (Massey, JASA 46, 1951);
Hosmer and Lemeshow, "Applied Logistic Regression", section 5.2.2; Siddiqi, "Credit Risk Scorecards", chapter 9 (PSI).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mpc.statistics.distributions import chi_squared_tail

__all__ = [
    "Group",
    "Metrics",
    "auc",
    "brier",
    "hosmer_lemeshow",
    "ks",
    "likelihood_ratio",
    "log_loss",
    "sigmoid",
    "stability",
    "told_by_score",
]


@dataclass(frozen=True)
class Metrics:
    """What one side was told about the model; None where a class has too few test rows, or we are no receiver.

    more: what else the job asked for, by name; None where it would show a count under the minimum.
    """

    auc: float | None
    ks: float | None
    log_loss: float | None
    n_train: int
    n_test: int
    more: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The `metrics` object of `tally run --json`."""
        first = {"auc": self.auc, "ks": self.ks, "log_loss": self.log_loss}
        return {**first, "n_train": self.n_train, "n_test": self.n_test, **self.more}


@dataclass(frozen=True)
class Group:
    """Test rows of one band of scores: how many, how many events, and the sum of predicted probabilities."""

    rows: int
    events: int
    predicted: float


def auc(label: np.ndarray, scores: np.ndarray) -> float:
    """Probability that a row of class 1 scores above one of class 0, ties half. Needs both classes."""
    positive = np.asarray(label) == 1
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2  # mean rank of each distinct score, from 1
    ones, zeros = int(positive.sum()), int((~positive).sum())
    return float((middle[place[positive]].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def ks(label: np.ndarray, scores: np.ndarray) -> float:
    """Largest distance of the two classes' empirical distributions of the score. Needs both classes."""
    positive = np.asarray(label) == 1
    points = np.unique(scores)
    ones, zeros = np.sort(scores[positive]), np.sort(scores[~positive])
    above = np.searchsorted(ones, points, side="right") / len(ones)
    below = np.searchsorted(zeros, points, side="right") / len(zeros)
    return float(np.abs(above - below).max())


def log_loss(label: np.ndarray, logits: np.ndarray) -> float:
    """Mean of log(1 + e^(-s z)), s = 2 label - 1; from logits, so that sure rows lose no digits."""
    signs = 2.0 * np.asarray(label) - 1.0
    return float(np.logaddexp(0.0, -signs * np.asarray(logits)).mean())


def brier(label: np.ndarray, logits: np.ndarray) -> float:
    """Mean squared distance of prediction and label."""
    return float(np.mean((sigmoid(np.asarray(logits)) - label) ** 2))


def told_by_score(groups: Sequence[Group]) -> list[dict[str, float | int | None]]:
    """The lift and calibration table, highest scores first: of each band, and of all down to it."""
    rows, events = sum(one.rows for one in groups), sum(one.events for one in groups)
    found, seen_rows, seen_events = [], 0, 0
    for one in groups:
        seen_rows, seen_events = seen_rows + one.rows, seen_events + one.events
        line: dict[str, float | int | None] = {
            "rows": one.rows,
            "events": one.events,
            "rate": one.events / one.rows if one.rows else None,
            "predicted": one.predicted / one.rows if one.rows else None,
            "lift": one.events * rows / (one.rows * events) if one.rows else None,
            "gain": seen_events / events,
            "depth": seen_rows / rows,
        }
        found.append(line)
    return found


def hosmer_lemeshow(groups: Sequence[Group]) -> dict[str, float | int] | None:
    """The statistic on groups - 2 degrees of freedom, as on rows the model was not fitted to or was, and its p value;
    None for fewer than three groups, or where a prediction is 0 or 1 throughout."""
    if len(groups) < 3 or not all(0 < one.predicted < one.rows for one in groups):
        return None
    parts = [(one.events - one.predicted) ** 2 / (one.predicted * (1 - one.predicted / one.rows)) for one in groups]
    dof = len(groups) - 2
    return {"statistic": sum(parts), "dof": dof, "p": chi_squared_tail(sum(parts), dof)}


def likelihood_ratio(statistic: float, dof: int) -> dict[str, float | int]:
    """The likelihood-ratio test against the model with the intercept alone."""
    return {"statistic": statistic, "dof": dof, "p": chi_squared_tail(statistic, dof)}


def stability(expected: Sequence[int], actual: Sequence[int]) -> float:
    """Population stability index: the sum of (share a - share e) log(share a / share e); no count is 0."""
    e, a = (np.asarray(counts, dtype=np.float64) / sum(counts) for counts in (expected, actual))
    return float(math.fsum((a - e) * np.log(a / e)))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-z) without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(logits / 2.0)))
