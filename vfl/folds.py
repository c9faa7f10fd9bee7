"""Cross-validation as a job asks for it: how many folds, which penalties, by which metric the best is chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from kernels.prg import Prg
from party.errors import UsageError
from vfl.wanted import FOLDS, Wanted

__all__ = ["CHOICES", "CrossValidation", "folds_of"]

CHOICES = ("log_loss", "auc")
_MOST_FOLDS, _MOST_CANDIDATES = 20, 20
_MOST_PENALTY = 1e6


@dataclass(frozen=True)
class CrossValidation:
    """Train on all folds but one and measure on that one, for each fold and each penalty; the penalty of the best mean
    metric trains the model, of equal ones the largest."""

    folds: int = 5
    l2: tuple[float, ...] = (0.1, 1.0, 10.0)
    metric: str = "log_loss"

    def canonical(self) -> dict[str, Any]:
        """As both sides sign it."""
        return {"folds": self.folds, "l2": list(self.l2), "metric": self.metric}

    @classmethod
    def from_canonical(cls, raw: Mapping[str, Any]) -> CrossValidation:
        """Back; ValueError, KeyError or TypeError when it cannot be."""
        folds, metric = raw["folds"], raw["metric"]
        if isinstance(folds, bool) or not isinstance(folds, int) or not isinstance(metric, str):
            raise ValueError("not a number of folds and a metric")
        return cls(folds, tuple(map(float, raw["l2"])), metric)

    def complaints(self) -> Iterator[tuple[str, str, str | None]]:
        """Each thing wrong: the key, why, and a hint."""
        if not 2 <= self.folds <= _MOST_FOLDS:
            yield "folds", f"is between 2 and {_MOST_FOLDS}", "5 is usual"
        if not 1 <= len(self.l2) <= _MOST_CANDIDATES or len(set(self.l2)) < len(self.l2):
            yield "l2", f"names 1 to {_MOST_CANDIDATES} penalties, each once", "such as [0.1, 1, 10]"
        if not all(0 < penalty <= _MOST_PENALTY for penalty in self.l2):
            yield "l2", "has penalties above 0 and at most 1e6", "such as [0.1, 1, 10]"
        if self.metric not in CHOICES:
            yield "metric", f"is {' or '.join(CHOICES)}", None

    def check(self) -> None:
        """Raises UsageError for what cannot be done."""
        for key, reason, hint in self.complaints():
            raise UsageError(f"train.cross_validation.{key}: {reason}", hint=hint)

    @property
    def trainings(self) -> int:
        """How many models are fitted before the last one."""
        return self.folds * len(self.l2)

    @property
    def wanted(self) -> Wanted:
        """What is measured of each of them, opened to both sides: both must know which penalty to go on with."""
        return Wanted(name=FOLDS, ks=False)

    def best(self, measured: Sequence[tuple[float, float, float]]) -> float:
        """The penalty to train with. measured: (penalty, AUC, log-loss) of each fold."""

        def rank(penalty: float) -> tuple[float, float]:
            values = [(auc if self.metric == "auc" else -loss) for l2, auc, loss in measured if l2 == penalty]
            return sum(values) / len(values), penalty

        return max(self.l2, key=rank)

    def lines(self, whole: int) -> list[str]:
        """What a plan says of it. whole: bytes of all its trainings together."""
        penalties = ", ".join(f"{penalty:g}" for penalty in self.l2)
        return [
            f"cross-validation: {self.folds} folds of the training rows x l2 {penalties}: {self.trainings} trainings of"
            f" about {whole / self.trainings / 1e6:.0f} MB, {whole / 1e6:.0f} MB in all, before the one of the model",
            "both learn AUC and log-loss of each fold and penalty, computed on shares, and of each of these trainings"
            " the scale, the passes and the bits of checking passes; their weights and scores are opened to nobody",
            f"the penalty with the best mean {self.metric} trains the model; columns are prepared once, on all training"
            " rows",
        ]


def folds_of(rows: int, folds: int, salt: bytes) -> np.ndarray:
    """The fold of each training row, int64 (rows,) from 0, by a keyed hash of its place: the same on both sides.

    Sizes differ by at most one row.
    """
    seed = sha256(b"tallystick/v1/train/folds/" + salt).digest()
    order = np.argsort(Prg(seed, "folds").words(rows), kind="stable")
    found = np.empty(rows, dtype=np.int64)
    found[order] = np.arange(rows) % folds
    return found
