"""A party's own half as a scorecard and as scikit-learn's coefficients: what a model risk team reads and files.

Points = base + the points of all features of both sides; each side's card holds its own features, the label holder's
the base. A row whose features are all at their means has the base.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pipelines.job_score import Scale
from pipelines.scorecard_lines import prepared_rows

if TYPE_CHECKING:
    from vfl import ModelHalf

__all__ = ["card", "card_text", "coefficients", "coefficients_text"]


def card(half: ModelHalf, scale: Scale) -> dict[str, Any]:
    """Points per standard deviation and per unit of each own feature, or by line of a prepared one (a bin, a category);
    `base` at the label holder, null elsewhere.

    Standard scaling: factor = pdo / ln 2, offset = points - factor ln(odds), points = offset - factor * logit; the
    logit is that of label 1, so points rise with the odds of label 0.
    """
    rows = _plain(half, scale.factor) if half.recipe is None else prepared_rows(half, scale.factor)
    return {
        "model": half.id,
        "role": half.role,
        "scale": {
            "points": scale.points, "odds": scale.odds, "pdo": scale.pdo,
            "factor": scale.factor, "offset": scale.offset,
        },
        "base": None if half.intercept is None else scale.offset - scale.factor * half.intercept,
        "features": rows,
    }  # fmt: skip


def _plain(half: ModelHalf, factor: float) -> list[dict[str, Any]]:
    own = half.original()
    rows = []
    for place, name in enumerate(half.features):
        low, high = float(own.low[place]), float(own.high[place])
        rows.append(
            {
                "feature": name,
                "weight": half.weights[place],
                "points_per_sd": -factor * half.weights[place],
                "points_per_unit": -factor * float(own.weights[place]),
                "mean": half.means[place],
                "sd": half.sds[place],
                "low": low if math.isfinite(low) else None,
                "high": high if math.isfinite(high) else None,
            }
        )
    return rows


def card_text(found: dict[str, Any]) -> str:
    """The card for people."""
    from pipelines.results import printable

    scale, base = found["scale"], found["base"]
    lines = [
        f"model {found['model']}, our half ({found['role']}): {scale['points']:g} points at odds {scale['odds']:g}"
        f" to 1, {scale['pdo']:g} to double them",
        f"base {base:.2f} points" if base is not None else "base: on the label holder's card",
        f"{'feature':24} {'per sd':>10} {'per unit':>14} {'mean':>14} {'from':>14} {'to':>14}",
    ]
    for row in found["features"]:
        if "lines" in row:
            lines.append(printable(row["feature"]))
            lines += [f"  {printable(line['line']):22} {line['points']:10.2f}" for line in row["lines"]]
            continue
        low, high = (
            "-" if end is None else f"{end:.6g}" for end in (row["low"], row["high"])
        )  # beyond them nothing changes
        lines.append(
            f"{printable(row['feature']):24} {row['points_per_sd']:10.2f} {row['points_per_unit']:14.6g}"
            f" {row['mean']:14.6g} {low:>14} {high:>14}"
        )
        if "present" in row:
            lines.append(f"  {'any value, besides':22} {row['present']:10.2f}")
        if "missing" in row:
            lines.append(f"  {'missing':22} {row['missing']:10.2f}")
    return "\n".join(lines)


def coefficients(half: ModelHalf) -> dict[str, Any]:
    """Our own coefficients on the scale of our table, in the words of scikit-learn's LogisticRegression.

    With them, decision_function of our columns is our part of the logit, for values within low and high; clip to these
    first, and put `mean` where a value is missing. The two sides' parts add up to the logit.
    """
    own = half.original()
    return {
        "model": half.id,
        "role": half.role,
        "feature_names_in_": list(own.features),
        "coef_": [own.weights.tolist()],
        "intercept_": [own.intercept],
        "classes_": [0, 1] if half.classes is None else list(half.classes),
        "mean": own.means.tolist(),
        "low": [low if math.isfinite(low) else None for low in own.low.tolist()],
        "high": [high if math.isfinite(high) else None for high in own.high.tolist()],
    }


def coefficients_text(found: dict[str, Any]) -> str:
    """The coefficients for people."""
    from pipelines.results import printable

    pairs = zip(found["feature_names_in_"], found["coef_"][0], strict=True)
    lines = [f"model {found['model']}, our half ({found['role']}), on the scale of our table"]
    lines += [f"  {printable(name):24} {value:+.9g}" for name, value in pairs]
    return "\n".join([*lines, f"  {'intercept, our part':24} {found['intercept_'][0]:+.9g}"])
