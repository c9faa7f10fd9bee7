"""One party's half of a trained model: its own feature names, scaling and weights. Plain JSON, never a pickle.

The label holder's half also has the intercept. Neither half scores a row alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from party.errors import DataError

__all__ = ["ModelHalf"]

_FORMAT = 2
_FORMATS = (1, 2)  # 1 has no recipe
_MOST = 1 << 20


@dataclass(frozen=True, repr=False)
class ModelHalf:
    """Weights of our own features on the standardised scale; intercept only at the label holder."""

    features: tuple[str, ...]
    means: tuple[float, ...]
    sds: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float | None
    winsorise: float | None
    recipe: Mapping[str, Any] | None = None  # `vfl.fitted.Preparation`, kept as it is

    @property
    def coefficients(self) -> dict[str, float]:
        """Feature name -> weight on the standardised scale."""
        return dict(zip(self.features, self.weights, strict=True))

    def partial_logits(self, values: np.ndarray) -> np.ndarray:
        """Our part of the logit of standardised rows (n, d): float64 (n,)."""
        return np.asarray(values @ np.array(self.weights) + (self.intercept or 0.0))

    def to_json(self) -> str:
        """The half as one JSON object."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ModelHalf:
        """Read `to_json`'s form. Raises DataError for anything else."""
        try:
            if len(text) > _MOST:
                raise ValueError("too long")
            found = json.loads(text)
            recipe = found.pop("recipe", None)
            if found.pop("format") not in _FORMATS or not isinstance(recipe, dict | None):
                raise ValueError("unknown format")
            names = tuple(_text(name) for name in found.pop("features"))
            means, sds, weights = (tuple(_number(x) for x in found.pop(key)) for key in ("means", "sds", "weights"))
            intercept, winsorise = (
                None if value is None else _number(value) for value in (found.pop("intercept"), found.pop("winsorise"))
            )
            if found or not len(names) == len(means) == len(sds) == len(weights):
                raise ValueError("unknown keys or unequal lengths")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"this is not a model half: {type(error).__name__}") from None
        return cls(names, means, sds, weights, intercept, winsorise, recipe)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError("not a finite number")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value
