"""Points of prepared features: of each bin and category of a recipe, read off the recipe that the half keeps.

A recipe is the JSON object of a fitted preparation: `features` in order, each making one or more columns (`number`: the
number and perhaps a 0/1 column of missing rows; `one_hot`: a 0/1 column for each line but the reference; `woe`: one
number by line), `means` and `sds` of all made columns, `kept`: those that the model has weights of, in its order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from party.errors import DataError

if TYPE_CHECKING:
    from vfl import ModelHalf

__all__ = ["prepared_rows"]


def prepared_rows(half: ModelHalf, factor: float) -> list[dict[str, Any]]:
    """A row for each prepared feature: `lines` with points each, or a number's points as a plain feature has them.

    factor: points that a logit of -1 is worth. Raises DataError for a recipe that is not of the known form.
    """
    recipe = half.recipe or {}
    try:
        if recipe["format"] != 1:
            raise ValueError("unknown format")
        made = dict(zip(recipe["kept"], half.weights, strict=True))
        rows, place = [], 0
        for feature in recipe["features"]:
            width = _width(feature)
            columns = [
                _Made(made.get(at, 0.0), recipe["means"][at], recipe["sds"][at]) for at in range(place, place + width)
            ]
            place += width
            rows.append(_row(feature, columns, factor))
        return rows
    except (KeyError, ValueError, TypeError, IndexError, AttributeError):
        raise DataError("the recipe of this half is not of a form that has a scorecard") from None


class _Made:
    """One made column: its weight in the model and its scale."""

    def __init__(self, weight: float, mean: float, sd: float) -> None:
        self.weight, self.mean, self.sd = weight, mean, sd

    def logit(self, value: float, reach: float | None = None) -> float:
        """What a value adds to the logit."""
        if self.sd <= 0.0:
            return 0.0
        scaled = (value - self.mean) / self.sd
        return self.weight * (scaled if reach is None else max(-reach, min(reach, scaled)))


def _lines(feature: Mapping[str, Any]) -> list[str]:
    """The names of a feature's lines, in the order of the recipe."""
    edges: Sequence[float] | None = feature["edges"]
    if edges is None:
        names = [str(value) for value in feature["values"]] + ["other"] * bool(feature["other"])
    elif edges:
        between = [f"over {low:.6g} to {high:.6g}" for low, high in itertools.pairwise(edges)]
        names = [f"up to {edges[0]:.6g}", *between, f"over {edges[-1]:.6g}"]
    else:
        names = ["any value"]
    return names + ["missing"] * bool(feature["missing"])


def _width(feature: Mapping[str, Any]) -> int:
    if feature["form"] == "number":
        return 1 + bool(feature["indicator"])
    if feature["form"] == "one_hot":
        return len(_lines(feature)) - (feature["reference"] is not None)
    if feature["form"] == "woe":
        return 1
    raise ValueError("an unknown form")


def _row(feature: Mapping[str, Any], columns: list[_Made], factor: float) -> dict[str, Any]:
    name = str(feature["column"])
    if feature["form"] == "number":
        return _number(name, feature, columns, factor)
    lines = _lines(feature)
    unseen = feature["edges"] is None and not feature["other"]
    if feature["form"] == "woe":
        values = [*feature["weights"], *([0.0] if unseen else [])]
        logits = [columns[0].logit(value) for value in values]
    else:
        reference = feature["reference"]
        own = [line for line in range(len(lines)) if line != reference]
        logits = [
            sum(column.logit(float(line == place)) for column, place in zip(columns, own, strict=True))
            for line in range(len(lines) + unseen)
        ]
    names = [*lines, *(["a value not seen in training"] if unseen else [])]
    return {
        "feature": name,
        "lines": [
            {"line": line, "points": -factor * logit} for line, logit in zip(names, logits, strict=True)
        ],
    }  # fmt: skip


def _number(name: str, feature: Mapping[str, Any], columns: list[_Made], factor: float) -> dict[str, Any]:
    number, reach = columns[0], feature["winsorise"]
    low, high = (-math.inf, math.inf) if feature["clip"] is None else feature["clip"]
    if reach is not None:
        low, high = max(low, number.mean - reach * number.sd), min(high, number.mean + reach * number.sd)
    filled = number.mean if feature["fill"] is None else feature["fill"]
    held = number.sd > 0.0
    row = {
        "feature": name,
        "weight": number.weight,
        "points_per_sd": -factor * number.weight,
        "points_per_unit": -factor * number.weight / number.sd if held else 0.0,
        "mean": number.mean,
        "sd": number.sd,
        "low": low if math.isfinite(low) else None,
        "high": high if math.isfinite(high) else None,
        "missing": -factor * (number.logit(filled, reach) + sum(column.logit(1.0) for column in columns[1:])),
    }
    if columns[1:]:
        row["present"] = -factor * columns[1].logit(0.0)  # the 0/1 column of missing rows, where there is a value
    return row
