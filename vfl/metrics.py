"""How well scores separate two classes: AUC, KS and log-loss. Plain arithmetic on values one party already holds.

Source: AUC as the Mann-Whitney statistic with ties counted half (Hanley and McNeil, Radiology 143, 1982); KS as the
largest distance of the two empirical distributions (Massey, JASA 46, 1951).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

__all__ = ["Metrics", "auc", "evaluate", "ks", "log_loss"]


@dataclass(frozen=True)
class Metrics:
    """What the label holder tells the other side about the test rows; None where a class is missing."""

    auc: float | None
    ks: float | None
    log_loss: float | None
    n_train: int
    n_test: int

    def as_dict(self) -> dict[str, float | int | None]:
        """The `metrics` object of `tally run --json`."""
        return asdict(self)


def evaluate(label: np.ndarray, logits: np.ndarray, n_train: int) -> Metrics:
    """All three metrics of these test rows; label 0/1, logits float64, both shape (n,)."""
    both = 0 < int(label.sum()) < len(label)
    return Metrics(
        auc(label, logits) if both else None,
        ks(label, logits) if both else None,
        log_loss(label, logits) if len(label) else None,
        n_train,
        len(label),
    )


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
