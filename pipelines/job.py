"""A job as both parties see it: frozen values, canonical bytes, and back, with the same checks on either side.

`spec` reads a job.yaml into a Job; the peer reads the same Job from the canonical bytes that both will sign. Where a
score is written (`score.to`) is the running party's own affair and not part of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mpc.statistics.wanted import KINDS, MOMENTS, Wanted
from party.canonical import canonical
from party.errors import PeerError, UsageError
from party.files import DUPLICATES
from pipelines.fitting import Fitting
from pipelines.job_score import Score
from pipelines.measured import Measured, cross_validation_of

if TYPE_CHECKING:
    from vfl.folds import CrossValidation
    from vfl.recipes import Recipe, Screen

__all__ = ["Align", "Analysis", "Job", "Train"]

_ANSWERS = 1000  # of one job: planning each takes a few milliseconds
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_COLUMN = re.compile(r"[^.\s]+\.[^.\s]+")


@dataclass(frozen=True)
class Align:
    """Which two tables, who learns the matches (`both`, a party, or `size`: how many, not which), what to do with a
    repeated key, whose rows stay without a match, and whether only changes since the last run are exchanged."""

    tables: tuple[tuple[str, str], ...]
    learns: str
    duplicates: str | None = None  # None: as each owner declared its table
    keep: str | None = None
    incremental: bool = False

    @property
    def parties(self) -> tuple[str, ...]:
        """The two parties in the job's order: index 0 and 1 of every protocol."""
        return tuple(party for party, _ in self.tables)


@dataclass(frozen=True)
class Analysis:
    """One joint result: SQL, or statistics as pairs of a kind and what is wanted of it; `to` receives it."""

    name: str
    to: tuple[str, ...]
    sql: str | None = None
    statistics: tuple[tuple[str, Wanted], ...] = ()

    @property
    def answers(self) -> int:
        """How many answers it is: all moments of statistics are one, any other statistic is one for each column."""
        if self.sql is not None:
            return 1
        moments = any(kind in MOMENTS for kind, _ in self.statistics)
        return moments + sum(len(wanted.columns) for kind, wanted in self.statistics if kind not in MOMENTS)


@dataclass(frozen=True)
class Train:
    """Split logistic regression: `label` and `features` as party.column; the rest as in the job file."""

    label: str
    features: tuple[tuple[str, tuple[str, ...]], ...]
    l2: float = 1.0
    winsorise: float | None = 3.0
    test_fraction: float = 0.2
    tol: float = 1e-6
    max_passes: int | None = None
    weights: str | None = None
    class_weight: str | tuple[float, float] | None = None
    offset: tuple[str, ...] = ()
    early_stopping: int | None = None
    validation_fraction: float = 0.1
    prepare: tuple[tuple[str, Recipe], ...] = ()  # party.column, or `*` for all that are not named
    screen: Screen | None = None
    inference: bool = False
    metrics: Measured = field(default_factory=Measured)
    cross_validation: CrossValidation | None = None
    fitting: Fitting = field(default_factory=Fitting)

    def columns_read(self) -> dict[str, tuple[str, ...]]:
        """What a score reads of each party: its features, and its offset where there is one."""
        offsets = dict(name.split(".", 1) for name in self.offset)
        return {party: (*names, *((offsets[party],) if party in offsets else ())) for party, names in self.features}

    def options(self) -> dict[str, Any]:
        """Weights, offsets and early stopping as both sides digest them, where they are said."""
        found = self.fitting.canonical()
        if self.weights is not None:
            found["weights"] = self.weights
        if self.class_weight is not None:
            found["class_weight"] = self.class_weight if isinstance(self.class_weight, str) else [*self.class_weight]
        if self.offset:
            found["offset"] = list(self.offset)
        if self.early_stopping is not None:
            found["early_stopping"] = [self.early_stopping, self.validation_fraction]
        if self.inference:
            found["inference"] = True
        if self.metrics != Measured():
            found["metrics"] = self.metrics.canonical()
        if self.cross_validation is not None:
            found["cross_validation"] = self.cross_validation.canonical()
        return found

    def preparation(self) -> dict[str, Any]:
        """`prepare` and `screen` as both sides digest them, where they are said."""
        found: dict[str, Any] = {}
        if self.prepare:
            found["prepare"] = [[name, recipe.canonical()] for name, recipe in self.prepare]
        if self.screen is not None:
            found["screen"] = self.screen.canonical()
        return found


@dataclass(frozen=True)
class Job:
    """A whole job; `initiator` is the party that runs it."""

    name: str
    initiator: str
    align: Align
    analyse: tuple[Analysis, ...] = ()
    train: Train | None = None
    score: Score | None = None
    version: int = 1

    @property
    def parties(self) -> tuple[str, ...]:
        """Both parties in the order of `align`."""
        return self.align.parties

    def other(self, us: str) -> str:
        """The party that is not us."""
        return next(party for party in self.parties if party != us)

    def canonical(self) -> dict[str, Any]:
        """The JSON object that both sides digest and sign."""
        train = self.train and {
            "label": self.train.label,
            "features": [[party, list(columns)] for party, columns in self.train.features],
            "l2": self.train.l2,
            "winsorise": self.train.winsorise,
            "test_fraction": self.train.test_fraction,
            "tol": self.train.tol,
            "max_passes": self.train.max_passes,
            **self.train.options(),
            **self.train.preparation(),
        }
        return {
            "version": self.version,
            "name": self.name,
            "initiator": self.initiator,
            "align": {
                "tables": [list(pair) for pair in self.align.tables],
                "learns": self.align.learns,
                "duplicates": self.align.duplicates,
                "keep": self.align.keep,
                "incremental": self.align.incremental,
            },
            "analyse": [
                {
                    "name": item.name,
                    "to": list(item.to),
                    "sql": item.sql,
                    "statistics": [wanted.canonical(kind) for kind, wanted in item.statistics],
                }
                for item in self.analyse
            ],
            "train": train or None,
            "score": self.score and self.score.canonical(),
        }

    @classmethod
    def from_canonical(cls, content: bytes) -> Job:
        """The job in a peer's canonical bytes; PeerError when they are not one that `spec` could have made."""
        try:
            raw = json.loads(content)
            train, score = raw["train"], raw["score"]
            job = cls(
                name=_text(raw["name"]),
                initiator=_text(raw["initiator"]),
                align=Align(
                    tuple((_text(party), _text(table)) for party, table in raw["align"]["tables"]),
                    _text(raw["align"]["learns"]),
                    None if raw["align"]["duplicates"] is None else _text(raw["align"]["duplicates"]),
                    None if raw["align"]["keep"] is None else _text(raw["align"]["keep"]),
                    _truth(raw["align"]["incremental"]),
                ),
                analyse=tuple(
                    Analysis(
                        _text(item["name"]),
                        tuple(_text(party) for party in item["to"]),
                        None if item["sql"] is None else _text(item["sql"]),
                        tuple(Wanted.from_canonical(*told) for told in item["statistics"]),
                    )
                    for item in raw["analyse"]
                ),
                train=None
                if train is None
                else Train(
                    _text(train["label"]),
                    tuple((_text(party), tuple(map(_text, columns))) for party, columns in train["features"]),
                    float(train["l2"]),
                    None if train["winsorise"] is None else float(train["winsorise"]),
                    float(train["test_fraction"]),
                    float(train["tol"]),
                    None if train["max_passes"] is None else int(train["max_passes"]),
                    *_options(train),
                    *_preparation(train),
                    _truth(train.get("inference", False)),
                    Measured() if "metrics" not in train else Measured.from_canonical(train["metrics"]),
                    cross_validation_of(train),
                    Fitting.from_canonical(train),
                ),
                score=None if score is None else Score.from_canonical(score),
                version=int(raw["version"]),
            )
            job.check()
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError, UsageError) as error:
            reason = error.message if isinstance(error, UsageError) else "it has not the form of a job"
            raise PeerError(f"the peer's job cannot be read: {reason}") from None
        if canonical(job.canonical()) != content:  # not as values: true is 1 there
            raise PeerError("the peer's job is not in canonical form")
        return job

    def check(self) -> None:
        """What must hold whoever wrote the job; UsageError names the place."""
        places = list(self.complaints())
        if places:
            place, reason, hint = places[0]
            raise UsageError(f"{place}: {reason}", hint=hint)

    def complaints(self) -> Iterator[tuple[str, str, str | None]]:
        """Each thing wrong: where in the job file, why, and a hint."""
        both = self.parties
        choices = f"both, {', '.join(both)}, or size"
        if self.version != 1:
            yield "version", f"this tally reads version 1, not {self.version}", "install a newer tally"
        if not _NAME.fullmatch(self.name):
            yield "name", "a job's name is lower-case letters, digits, - and _, at most 63", "such as churn-risk"
        if len(both) != 2 or len(set(both)) != 2 or self.initiator not in both:
            yield "align", "names one table of each of the two parties", "such as {bank: customers, telco: subscribers}"
            return
        if self.align.learns not in ("both", "size", *both):
            yield "align.learns", f"{self.align.learns!r} is not possible", f"use {choices}"
        if self.align.duplicates not in (None, *DUPLICATES):
            yield "align.duplicates", f"{self.align.duplicates!r} is not possible", "use error, first or all"
        if self.align.keep not in (None, *both):
            yield "align.keep", f"{self.align.keep!r} is no party of this job", f"use {both[0]} or {both[1]}"
        told = self.align.keep or self.align.duplicates == "all" or self.align.incremental
        if self.align.learns != "both" and told:
            reason = "`keep`, `duplicates: all` and `incremental` need `learns: both`"
            yield "align.learns", reason, "set learns: both"
        if (self.analyse or self.train or self.score) and self.align.learns != "both":
            yield "align.learns", "analyse, train and score need `learns: both`", "set learns: both, or only align"
        if sum(item.answers for item in self.analyse) > _ANSWERS:
            yield "analyse", f"asks for more than {_ANSWERS} answers", "make two jobs of it"
        names = [item.name for item in self.analyse]
        for item in self.analyse:
            place = f"analyse.{item.name}"
            if not _NAME.fullmatch(item.name) or names.count(item.name) > 1:
                yield place, "each item has a name of its own: lower-case letters, digits, - and _", None
            if not item.to or not set(item.to) <= set(both) or len(set(item.to)) < len(item.to):
                yield f"{place}.to", "names one or both of the parties", f"use [{both[0]}], [{both[1]}] or both"
            if (item.sql is None) == (not item.statistics):
                yield place, "has either `sql` or `statistics`", None
            kinds = [kind for kind, _ in item.statistics]
            if len(set(kinds)) < len(kinds):
                yield f"{place}.statistics", "names a statistic twice", None
            for kind, wanted in item.statistics:
                where = f"{place}.statistics" + f".{kind}" * (kind in KINDS)
                for key, reason, hint in wanted.complaints(kind):
                    yield where + f".{key}" * bool(key), reason, hint
                yield from self._columns(where, wanted.columns)
                yield from self._columns(f"{where}.by", () if wanted.by is None else (wanted.by,))
        yield from self._wrong_model()

    def _wrong_model(self) -> Iterator[tuple[str, str, str | None]]:
        both, train = self.parties, self.train
        if self.score is not None:
            yield from self.score.complaints(both, self.initiator, trains=train is not None)
        if self.score is not None and self.score.model is not None and self.align.keep is not None:
            yield "align.keep", "rows without a match cannot be scored with an earlier model", "leave `keep` out"
        if train is None:
            return
        yield from train.metrics.complaints(both)
        yield from self._columns("train.label", (train.label,))
        if {party for party, _ in train.features} != set(both):
            yield "train.features", "names features of both parties", f"{both[0]}: [...] and {both[1]}: [...]"
        if self.align.keep not in (None, train.label.split(".")[0]):
            reason = f"rows that {self.align.keep} keeps without a match have no label"
            yield "align.keep", reason, f"keep: {train.label.split('.')[0]}, or none"
        for party, columns in train.features:
            if not columns or len(set(columns)) < len(columns):
                yield f"train.features.{party}", "names at least one column, each once", None
            if f"{party}.{train.label.split('.')[-1]}" == train.label and train.label.split(".")[-1] in columns:
                yield f"train.features.{party}", "the label is no feature", None
        told = {"inference": train.inference, "likelihood_ratio": train.metrics.likelihood_ratio}
        yield from train.fitting.complaints(train.l2, tried=train.cross_validation is not None, **told)
        if train.winsorise is not None and not 0.5 <= train.winsorise <= 100:
            yield "train.winsorise", "is between 0.5 and 100 standard deviations, or null", "3.0 is the default"
        if not 0 <= train.test_fraction <= 0.9:
            yield "train.test_fraction", "is between 0 and 0.9", "0.2 is the default"
        if not 1e-12 <= train.tol <= 1e-1:
            yield "train.tol", "is between 1e-12 and 0.1", "1e-6 is the default"
        if train.max_passes is not None and not 1 <= train.max_passes <= 1000:
            yield "train.max_passes", "is between 1 and 1000", None
        yield from self._wrong_options(train)

    def _wrong_options(self, train: Train) -> Iterator[tuple[str, str, str | None]]:
        holder = train.label.split(".")[0]
        features = {f"{party}.{column}" for party, columns in train.features for column in columns}
        extra = (*((train.weights,) if train.weights else ()), *train.offset)
        yield from self._columns("train.weights", (train.weights,) if train.weights else ())
        yield from self._columns("train.offset", train.offset)
        if train.weights is not None and train.weights.split(".")[0] != holder:
            yield "train.weights", f"is a column of {holder}, who has the label", None
        if len({column.split(".")[0] for column in train.offset}) < len(train.offset):
            yield "train.offset", "names one column of a party", "add them up in one column"
        for column in extra:
            if column in features or column == train.label:
                yield "train", f"{column} cannot be a feature or the label and a weight or offset, too", None
        if isinstance(train.class_weight, str) and train.class_weight != "balanced":
            yield "train.class_weight", "is `balanced` or two numbers: of class 0 and class 1", None
        if isinstance(train.class_weight, tuple) and not all(1e-3 <= weight <= 1e3 for weight in train.class_weight):
            yield "train.class_weight", "lies between 0.001 and 1000", None
        if train.early_stopping is not None and not 1 <= train.early_stopping <= 100:
            yield "train.early_stopping", "is between 1 and 100 checks without a lower held-out loss", "3 is usual"
        if not 0.01 <= train.validation_fraction <= 0.5:
            yield "train.validation_fraction", "is between 0.01 and 0.5", "0.1 is the default"
        for key, reason, hint in train.cross_validation.complaints() if train.cross_validation is not None else ():
            yield f"train.cross_validation.{key}", reason, hint
        if train.prepare or train.screen is not None:
            from vfl.recipes import Preparing  # a query trains nothing

            named = [name for name, _ in train.prepare]
            if len(set(named)) < len(named):
                yield "train.prepare", "names a column twice", None
            known = {f"{party}.{column}" for party, columns in train.features for column in columns}
            for place, reason, hint in Preparing(dict(train.prepare), train.screen).complaints(known):
                yield f"train.{place}", reason, hint

    def _columns(self, place: str, columns: tuple[str, ...]) -> Iterator[tuple[str, str, str | None]]:
        for column in columns:
            if not _COLUMN.fullmatch(column) or column.split(".")[0] not in self.parties:
                yield (
                    place,
                    f"{column!r} is not party.column of this job's parties",
                    f"such as {self.parties[0]}.balance",
                )


def _preparation(train: dict[str, Any]) -> tuple[tuple[tuple[str, Recipe], ...], Screen | None]:
    """`prepare` and `screen` of a peer's words."""
    if "prepare" not in train and "screen" not in train:
        return (), None
    from vfl.recipes import Recipe, Screen

    recipes = tuple((_text(name), Recipe.from_canonical(raw)) for name, raw in train.get("prepare", ()))
    return recipes, Screen.from_canonical(train["screen"]) if "screen" in train else None


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("not true or false")
    return value


def _options(train: dict[str, Any]) -> tuple[str | None, Any, tuple[str, ...], int | None, float]:
    """The fields of `Train` that `Train.options` made, in their order."""
    weights, classes = train.get("weights"), train.get("class_weight")
    if classes is not None and not isinstance(classes, str):
        zero, one = map(float, classes)
        classes = zero, one
    patience, fraction = train.get("early_stopping", (None, Train("", ()).validation_fraction))
    return (
        None if weights is None else _text(weights),
        classes,
        tuple(map(_text, train.get("offset", ()))),
        None if patience is None else int(patience),
        float(fraction),
    )


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 20_000:
        raise ValueError("not a text")
    return value
