"""A party's preparation as it was fitted on training rows: one function for these rows and for any later ones.

Saved with the model half as a JSON object; floats are written by `repr`, so a reloaded one gives the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from party.errors import DataError
from vfl import prepare
from vfl.lines import NONE, Lines
from vfl.model import ModelHalf
from vfl.prepare import Columns, moments

__all__ = ["Feature", "Number", "OneHot", "Preparation", "Weighted", "columns_of", "standardised"]

_FORMAT = 1


@dataclass(frozen=True)
class Number:
    """A number: clipped to `clip` (percentiles), missing values `fill` (None: the mean), standardised, clipped to
    +- `winsorise`; with `indicator` also a 0/1 column of missing rows."""

    column: str
    clip: tuple[float, float] | None = None
    fill: float | None = None
    indicator: bool = False
    winsorise: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (self.column, f"{self.column}:missing") if self.indicator else (self.column,)

    def made(self, values: np.ndarray, valid: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        given, known = prepare.numbers(self.column, values, valid)
        if self.clip is not None:
            given = np.clip(given, *self.clip)
        filled = (given, known) if self.fill is None else (np.where(known, given, self.fill), np.ones_like(known))
        return [filled, *([_whole(~known)] if self.indicator else [])]

    def to_json(self) -> dict[str, Any]:
        clip = None if self.clip is None else list(self.clip)
        told = {"fill": self.fill, "indicator": self.indicator, "winsorise": self.winsorise}
        return {"form": "number", "column": self.column, "clip": clip, **told}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Number:
        clip = None if raw["clip"] is None else tuple(_number(x) for x in raw["clip"])
        if type(raw["indicator"]) is not bool or (clip is not None and (len(clip) != 2 or clip[0] > clip[1])):
            raise ValueError("not a number's preparation")
        fill, winsorise = (None if raw[key] is None else _number(raw[key]) for key in ("fill", "winsorise"))
        return cls(
            _text(raw["column"]), None if clip is None else (clip[0], clip[1]), fill, raw["indicator"], winsorise
        )


@dataclass(frozen=True)
class OneHot:
    """A 0/1 column for each line but the reference."""

    lines: Lines
    reference: int | None = None
    winsorise: None = None

    @property
    def column(self) -> str:
        return self.lines.column

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for place, name in enumerate(self.lines.names) if place != self.reference)

    def made(self, values: np.ndarray, valid: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        line = self.lines.of(values, valid)
        return [_whole(line == place) for place in range(len(self.lines)) if place != self.reference]

    def to_json(self) -> dict[str, Any]:
        return {"form": "one_hot", "column": self.column, "reference": self.reference, **self.lines.to_json()}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> OneHot:
        lines, reference = Lines.from_json(_text(raw["column"]), raw), raw["reference"]
        if reference is not None and (type(reference) is not int or not 0 <= reference < len(lines)):
            raise ValueError("no such line")
        return cls(lines, reference)


@dataclass(frozen=True)
class Weighted:
    """The weight of evidence of each row's line; 0 for a row of none."""

    lines: Lines
    weights: tuple[float, ...]
    winsorise: None = None

    @property
    def column(self) -> str:
        return self.lines.column

    @property
    def names(self) -> tuple[str, ...]:
        return (f"{self.column}:woe",)

    def made(self, values: np.ndarray, valid: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        line = self.lines.of(values, valid)
        return [_whole(np.append(self.weights, 0.0)[np.where(line == NONE, len(self.weights), line)])]

    def to_json(self) -> dict[str, Any]:
        return {"form": "woe", "column": self.column, "weights": list(self.weights), **self.lines.to_json()}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Weighted:
        lines, weights = Lines.from_json(_text(raw["column"]), raw), tuple(_number(x) for x in raw["weights"])
        if len(weights) != len(lines):
            raise ValueError("a weight for each line")
        return cls(lines, weights)


Feature = Number | OneHot | Weighted
_FORMS: dict[str, type[Number] | type[OneHot] | type[Weighted]] = {"number": Number, "one_hot": OneHot, "woe": Weighted}


@dataclass(frozen=True)
class Preparation:
    """All features of one party; means, sds: of each made column over the training rows, sd 0 where it is constant.
    kept: the made columns that the screen leaves in, ascending."""

    features: tuple[Feature, ...]
    means: tuple[float, ...]
    sds: tuple[float, ...]
    kept: tuple[int, ...]

    @classmethod
    def fit(cls, features: tuple[Feature, ...], columns: Columns, training: np.ndarray) -> Preparation:
        """Means and sds (ddof 0) of the training rows that have a value; nothing is left out yet."""
        means, sds = [], []
        for feature in features:
            plain = replace(feature, fill=None) if isinstance(feature, Number) else feature
            for values, valid in plain.made(*columns[feature.column]):
                known = values[valid & training]
                varies = bool(len(known)) and known.min() < known.max()
                constant = float(known[0]) if len(known) else 0.0
                mean, sd = moments(feature.column, known) if varies else (constant, 0.0)
                means.append(mean)
                sds.append(sd)
        return cls(features, tuple(means), tuple(sds), tuple(range(len(means))))

    @property
    def columns(self) -> tuple[str, ...]:
        """The party's own columns that are read."""
        return tuple(feature.column for feature in self.features)

    @property
    def names(self) -> tuple[str, ...]:
        """The made columns that are kept."""
        made = [name for feature in self.features for name in feature.names]
        return tuple(made[place] for place in self.kept)

    @property
    def sources(self) -> tuple[str, ...]:
        """Of which feature each kept column was made."""
        made = [feature.column for feature in self.features for _ in feature.names]
        return tuple(made[place] for place in self.kept)

    def apply(self, columns: Columns) -> tuple[np.ndarray, tuple[str, ...]]:
        """These rows on the model's scale: float64 (n, d), and the names of the d kept columns.

        columns: name -> (values (n,), valid (n,)); more than `self.columns` may be there. Raises DataError as `fit`.
        """
        parts, place, kept = [], 0, set(self.kept)
        for feature in self.features:
            if feature.column not in columns:
                raise DataError(f"column {feature.column} is missing, which the model was trained on")
            for nth, made in enumerate(feature.made(*columns[feature.column])):
                if place in kept:
                    scale = np.array([self.means[place]]), np.array([self.sds[place]])
                    parts.append(prepare.scaled([made], *scale, feature.winsorise if nth == 0 else None)[:, 0])
                place += 1
        return np.stack(parts, axis=1) if parts else np.zeros((0, 0)), self.names

    def to_json(self) -> dict[str, Any]:
        """The JSON object that a model half keeps as `recipe`."""
        features = [feature.to_json() for feature in self.features]
        scale = {"means": list(self.means), "sds": list(self.sds), "kept": list(self.kept)}
        return {"format": _FORMAT, "features": features, **scale}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Preparation:
        """Read `to_json`'s object. Raises DataError for anything else."""
        try:
            if raw["format"] != _FORMAT or set(raw) != {"format", "features", "means", "sds", "kept"}:
                raise ValueError("unknown format")
            features = tuple(_FORMS[one["form"]].from_json(one) for one in raw["features"])
            means, sds = (tuple(_number(x) for x in raw[key]) for key in ("means", "sds"))
            kept = tuple(raw["kept"])
            made = sum(len(feature.names) for feature in features)
            if not len(means) == len(sds) == made or any(type(x) is not int for x in kept):
                raise ValueError("unequal lengths")
            if sorted(set(kept)) != list(kept) or not set(kept) <= set(range(made)) or min(sds, default=0.0) < 0:
                raise ValueError("no such column")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"this is not a fitted preparation: {type(error).__name__}") from None
        return cls(features, means, sds, kept)


def columns_of(model: ModelHalf) -> tuple[str, ...]:
    """Our own columns that a model half reads."""
    return model.features if model.recipe is None else Preparation.from_json(model.recipe).columns


def standardised(model: ModelHalf, columns: Columns) -> np.ndarray:
    """Rows as a model half takes them, float64 (n, d): by its recipe, or on the scale of plain numbers."""
    if model.recipe is not None:
        return Preparation.from_json(model.recipe).apply(columns)[0]
    chosen = {name: columns[name] for name in model.features}
    return prepare.standardise(chosen, np.array(model.means), np.array(model.sds), model.winsorise)


def _whole(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values.astype(np.float64), np.ones(len(values), dtype=bool)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a finite number")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value
