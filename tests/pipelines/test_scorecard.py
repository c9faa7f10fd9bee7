"""Scorecards: points of plain and prepared features add up to the logit they are made of."""

from __future__ import annotations

import math
from typing import Any

import pytest

from party.errors import DataError
from pipelines.job_score import STANDARD, Scale
from pipelines.scorecard import card, card_text
from vfl.model import LABEL_HOLDER, ModelHalf

RECIPE: dict[str, Any] = {
    "format": 1,
    "features": [
        {"form": "number", "column": "age", "clip": [18.0, 80.0], "fill": 40.0, "indicator": True, "winsorise": 2.0},
        {"form": "one_hot", "column": "plan", "reference": 0, "edges": None, "values": ["a", "b"], "other": True,
         "missing": True, "fill": -1},
        {"form": "woe", "column": "minutes", "weights": [0.5, -0.25, 0.1], "edges": [10.0], "values": [],
         "other": False, "missing": True, "fill": -1},
        {"form": "woe", "column": "town", "weights": [0.2, -0.4], "edges": None, "values": ["x", "y"], "other": False,
         "missing": False, "fill": -1},
        {"form": "number", "column": "out", "clip": None, "fill": None, "indicator": False, "winsorise": None},
    ],
    "means": [50.0, 0.1, 0.3, 0.2, 0.1, 0.05, -0.02, 7.0],
    "sds": [10.0, 0.3, 0.46, 0.4, 0.3, 0.4, 0.3, 0.0],
    "kept": [0, 1, 2, 4, 5, 6, 7],
}  # fmt: skip
WEIGHTS = (0.8, -0.3, 0.5, 0.2, -0.9, 0.4, 1.0)
HALF = ModelHalf(
    ("age", "age:missing", "plan=b", "plan:missing", "minutes:woe", "town:woe", "out"),
    tuple(RECIPE["means"][k] for k in RECIPE["kept"]), tuple(RECIPE["sds"][k] for k in RECIPE["kept"]), WEIGHTS,
    -1.5, None, RECIPE, role=LABEL_HOLDER,
)  # fmt: skip


def logit(made: dict[int, float], *, reach: float | None = None) -> float:
    """What these values of made columns add: the plain definition."""
    total = 0.0
    for place, value in made.items():
        sd = RECIPE["sds"][place]
        if place in RECIPE["kept"] and sd:
            scaled = (value - RECIPE["means"][place]) / sd
            scaled = scaled if reach is None or place else max(-reach, min(reach, scaled))
            total += WEIGHTS[RECIPE["kept"].index(place)] * scaled
    return total


def lines(found: dict[str, Any], feature: str) -> dict[str, float]:
    (row,) = [row for row in found["features"] if row["feature"] == feature]
    return {line["line"]: line["points"] for line in row["lines"]}


def test_each_line_of_a_prepared_feature_has_its_points() -> None:
    found, factor = card(HALF, STANDARD), STANDARD.factor
    plan = lines(found, "plan")  # made columns 2 (b), 3 (other, left out by the screen), 4 (missing)
    due = {
        "a": {2: 0, 3: 0, 4: 0}, "b": {2: 1, 3: 0, 4: 0}, "other": {2: 0, 3: 1, 4: 0}, "missing": {2: 0, 3: 0, 4: 1},
    }  # fmt: skip
    assert plan.keys() == due.keys()
    for name, made in due.items():
        assert math.isclose(plan[name], -factor * logit(made))
    minutes = lines(found, "minutes")
    assert minutes == pytest.approx(
        {name: -factor * logit({5: w}) for name, w in (("up to 10", 0.5), ("over 10", -0.25), ("missing", 0.1))}
    )
    town = lines(found, "town")
    assert town == pytest.approx(
        {n: -factor * logit({6: w}) for n, w in (("x", 0.2), ("y", -0.4), ("a value not seen in training", 0.0))}
    )


def test_a_number_of_a_recipe_has_its_clipping_and_its_points_where_it_is_missing() -> None:
    found, factor = card(HALF, STANDARD), STANDARD.factor
    age, out = found["features"][0], found["features"][4]
    assert (age["low"], age["high"]) == (30.0, 70.0) and age["points_per_unit"] == pytest.approx(-factor * 0.08)
    assert age["missing"] == pytest.approx(-factor * logit({0: 40.0, 1: 1.0}, reach=2.0))
    assert age["present"] == pytest.approx(-factor * logit({1: 0.0}))
    assert (out["points_per_unit"], out["missing"], out["low"], out["high"]) == (0.0, 0.0, None, None)
    text = card_text(found)
    assert "over 10" in text and "a value not seen" in text and "any value, besides" in text


def test_the_base_is_that_of_a_row_at_all_means() -> None:
    scale = Scale(600.0, 50.0, 20.0)
    assert card(HALF, scale)["base"] == pytest.approx(600 - 20 / math.log(2) * (math.log(50) - 1.5))
    rising = card(HALF, Scale(600.0, 50.0, -20.0))
    assert lines(rising, "town")["x"] == pytest.approx(-lines(card(HALF, scale), "town")["x"])


@pytest.mark.parametrize(
    "change", [{"format": 2}, {"kept": [0]}, {"features": [{"form": "other"}]}, {"means": []}, {"features": None}]
)
def test_an_unknown_recipe_has_no_card(change: dict[str, Any]) -> None:
    from dataclasses import replace

    with pytest.raises(DataError, match="recipe"):
        card(replace(HALF, recipe={**RECIPE, **change}), STANDARD)
