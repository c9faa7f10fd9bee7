"""Which metrics a job wants and who gets them: the names under which they are opened, and the lines of a plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from party.errors import UsageError

__all__ = ["BRIER", "CONFUSION", "ENDS", "FOLDS", "GROUPS", "LIKELIHOOD", "METRICS", "STABILITY", "TABLE", "Wanted"]

ENDS = "train: range of own logits and whether test classes suffice"
METRICS = "train: metrics of the test rows"
FOLDS = "train: metrics of each fold and candidate"
BRIER = "train: Brier score of the test rows"
CONFUSION = "train: confusion of the test rows"
TABLE = "train: test rows and events by score"
STABILITY = "train: training and test rows by score"
LIKELIHOOD = "train: likelihood-ratio statistic of the training rows"

GROUPS = (20, 10, 5, 2)  # a table has the most of these, from the wanted number down, that hide no cell


@dataclass(frozen=True)
class Wanted:
    """AUC, KS and log-loss of the test rows always; what else, and to whom.

    to: parties, or none for both. threshold: a probability at which test rows are counted as events or not. groups: 20,
    10 or 0 groups of test rows by score (lift, calibration, ROC points, Hosmer-Lemeshow). stability: the population
    stability index of test against training rows. likelihood: the likelihood-ratio test on the training rows. name:
    under which the first numbers are opened; ks: whether KS is one of them (it takes most of the rounds).
    """

    to: tuple[str, ...] = ()
    brier: bool = False
    threshold: float | None = None
    groups: int = 0
    stability: bool = False
    likelihood: bool = False
    name: str = METRICS
    ks: bool = True

    def check(self, parties: Sequence[str]) -> None:
        """Raises UsageError for what cannot be measured."""
        if set(self.to) - set(parties) or len(set(self.to)) != len(self.to):
            raise UsageError("train.metrics.to names parties of this job, each once")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise UsageError("train.metrics.threshold is a probability between 0 and 1")
        if self.groups not in (0, 10, 20):
            raise UsageError("test rows are grouped by score into 10 or 20")

    def receivers(self, parties: Sequence[str]) -> tuple[str, ...]:
        """Who learns the metrics."""
        return self.to or tuple(parties)

    @property
    def names(self) -> Iterator[str]:
        """What is opened to the receivers."""
        yield self.name
        wanted = {
            BRIER: self.brier,
            CONFUSION: self.threshold is not None,
            TABLE: bool(self.groups),
            STABILITY: self.stability,
            LIKELIHOOD: self.likelihood,
        }
        yield from (name for name, asked in wanted.items() if asked)

    def lines(self, parties: Sequence[str]) -> list[str]:
        """What each party learns of it."""
        who = self.receivers(parties)
        learn = f"{' and '.join(who)} {'learns' if len(who) == 1 else 'learn'}"
        told = ["AUC", "KS", "log-loss"] + ["Brier score"] * self.brier
        found = [
            f"{learn} of the test rows {', '.join(told)}, computed on shares; nobody learns a logit for it",
            "both learn the range of the other's part of all logits, to an eighth of the largest, and whether each"
            " class has the minimum of test rows; with fewer, no metric is told",
        ]
        if self.threshold is not None:
            found.append(
                f"{learn} how many test rows of each class score above {self.threshold:g}, if none of the four counts"
                " is under the minimum"
            )
        if self.groups:
            found.append(
                f"{learn} rows, events and mean prediction of {self.groups} groups of test rows by score, or of fewer"
                " groups where a count of one class would be under the minimum"
            )
        if self.stability:
            found.append(f"{learn} how many training and test rows lie between ten cuts of the training rows' score")
        if self.likelihood:
            found.append(f"{learn} the likelihood-ratio statistic of the model on its training rows")
        return found
