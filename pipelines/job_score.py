"""The `score` of a job: who receives scores, of which model, how finely, and how they are written."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from party.scores import MOST_DECIMALS

__all__ = ["FORMS", "STANDARD", "Model", "Scale", "Score"]

FORMS = ("score", "logit", "points")
_ID = re.compile(r"[0-9a-f]{16}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_COLUMNS = 1000  # of one party
Complaint = tuple[str, str, str | None]


@dataclass(frozen=True)
class Scale:
    """Scorecard points: `points` where label 0 is `odds` times as likely as label 1, `pdo` more when twice that."""

    points: float = 600.0
    odds: float = 50.0
    pdo: float = 20.0

    @property
    def factor(self) -> float:
        """Points that a logit of -1 is worth."""
        return self.pdo / math.log(2.0)

    @property
    def offset(self) -> float:
        """Points of a logit of 0."""
        return self.points - self.factor * math.log(self.odds)

    def complaint(self) -> str | None:
        """What is wrong with it."""
        if not 0 < self.odds <= 1e9 or not abs(self.points) <= 1e6 or not 0 < abs(self.pdo) <= 1e6:
            return "needs odds above 0, pdo that is not 0, and no number over 1e6 (odds: 1e9)"
        return None


STANDARD = Scale()


@dataclass(frozen=True)
class Model:
    """A model trained earlier, of which each party holds its half: what both must find in their own."""

    id: str
    agreement: str
    label_holder: str
    features: tuple[tuple[str, tuple[str, ...]], ...]  # party -> columns of its table


@dataclass(frozen=True)
class Score:
    """Who receives a score for every aligned row; `to` is set only at the party that runs the job.

    model: one trained earlier; None: the one that this job trains. chosen: not every aligned row, but those whose
    places the receiver, who then runs the job, tells the other side.
    """

    receiver: str
    to: str | None = field(default=None, compare=False)
    decimals: int = 3
    form: str = "score"  # how the receiver writes it; what is opened to it is the logit in any case
    scale: Scale = STANDARD
    model: Model | None = None
    chosen: bool = False

    def canonical(self) -> dict[str, Any]:
        """Its part of what both sides digest and sign."""
        model = self.model and {
            "id": self.model.id,
            "agreement": self.model.agreement,
            "label_holder": self.model.label_holder,
            "features": [[party, list(columns)] for party, columns in self.model.features],
        }
        return {
            "receiver": self.receiver,
            "decimals": self.decimals,
            "as": self.form,
            "scale": [self.scale.points, self.scale.odds, self.scale.pdo],
            "model": model,
            "chosen": self.chosen,
        }

    @classmethod
    def from_canonical(cls, raw: Mapping[str, Any]) -> Score:
        """The reverse; ValueError, KeyError or TypeError for anything else."""
        model = raw["model"]
        return cls(
            _text(raw["receiver"]),
            None,
            _whole(raw["decimals"]),
            _text(raw["as"]),
            Scale(*map(float, raw["scale"])),
            None
            if model is None
            else Model(
                _text(model["id"]),
                _text(model["agreement"]),
                _text(model["label_holder"]),
                tuple((_text(party), tuple(map(_text, columns))) for party, columns in model["features"]),
            ),
            _truth(raw["chosen"]),
        )

    def complaints(
        self, parties: tuple[str, ...], initiator: str, *, trains: bool
    ) -> Iterator[tuple[str, str, str | None]]:
        """Each thing wrong: where in the job file, why, and a hint."""
        if not trains and self.model is None:
            yield "score", "needs `train`", "`tally score MODEL --table T` scores with a model trained earlier"
        if self.receiver not in parties:
            yield "score.receiver", f"{self.receiver!r} is no party of this job", f"use {parties[0]} or {parties[1]}"
        if not 0 <= self.decimals <= MOST_DECIMALS:
            yield "score.decimals", f"is between 0 and {MOST_DECIMALS}", "3 is the default"
        if self.form not in FORMS:
            yield "score.as", f"{self.form!r} is not possible", f"use {', '.join(FORMS)}"
        if (wrong := self.scale.complaint()) is not None:
            yield "score.scale", wrong, "such as {points: 600, odds: 50, pdo: 20}"
        if self.chosen and (self.model is None or self.receiver != initiator):
            yield "score", "only the receiver may choose rows, of a model trained earlier", None
        if self.model is not None:
            yield from self._wrong_model(self.model, parties, trains=trains)

    def _wrong_model(self, model: Model, parties: tuple[str, ...], *, trains: bool) -> Iterator[Complaint]:
        if trains:
            yield "score.model", "a job trains a model or scores with an earlier one, not both", None
        if not _ID.fullmatch(model.id) or not _DIGEST.fullmatch(model.agreement):
            yield "score.model", "is not the id of a model with the digest of its agreement", None
        if model.label_holder not in parties:
            yield "score.model", "was trained with other parties", None
        if {party for party, _ in model.features} != set(parties) or len(model.features) != len(parties):
            yield "score.model", "names the columns of both parties", None
        for _, columns in model.features:
            if not 0 < len(columns) <= _COLUMNS or len(set(columns)) < len(columns):
                yield "score.model", "names at least one column of each party, each once", None


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 20_000:
        raise ValueError("not a text")
    return value


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("not an integer")
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("not true or false")
    return value
