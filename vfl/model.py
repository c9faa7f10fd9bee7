"""One party's half of a trained model: its own feature names, scaling and weights. Plain JSON, never a pickle.

The label holder's half also has the intercept. Neither half scores a row alone. A half names the training that made it:
`id` and `agreement` are the same on both sides, so two halves can be told to belong together without showing them.

A file of format 2 ends in `digest`, SHA-256 over all its other fields: what was changed by hand or by a broken disk is
not loaded. It is no signature: who can write the file can write its digest. Format 1, without all this, is still read.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import numpy as np

from party.errors import DataError

__all__ = ["FEATURE_HOLDER", "LABEL_HOLDER", "ModelHalf", "Original"]

T = TypeVar("T")
_FORMAT = 2
_MOST = 4 << 20
LABEL_HOLDER, FEATURE_HOLDER = "label holder", "feature holder"


@dataclass(frozen=True, repr=False)
class Original:
    """Own weights on the scale of the table, for values within [low, high]; missing values are the feature's mean.

    `values @ weights + intercept` is this side's part of the logit: a sum over the sides, not a model by itself.
    """

    features: tuple[str, ...]
    weights: np.ndarray  # float64 (d,), 0 for a feature that was constant on the training rows
    intercept: float
    means: np.ndarray  # float64 (d,)
    low: np.ndarray  # float64 (d,), -inf where nothing is clipped
    high: np.ndarray


@dataclass(frozen=True, repr=False)
class ModelHalf:
    """Weights of our own features on the standardised scale; intercept only at the label holder."""

    features: tuple[str, ...]
    means: tuple[float, ...]
    sds: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float | None
    winsorise: float | None
    recipe: Mapping[str, Any] | None = None  # the fitted preparation, kept verbatim
    id: str = ""  # the same on both sides
    agreement: str = ""  # digest of the statement that both sides signed, in hex
    parties: tuple[str, ...] = ()
    role: str = ""  # LABEL_HOLDER or FEATURE_HOLDER
    tables: Mapping[str, str] = field(default_factory=dict)  # party -> the table it was trained on
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # party -> columns, as the job names them
    classes: tuple[str | int, ...] | None = None
    created: str = ""  # UTC, ISO form
    metrics: Mapping[str, Any] | None = None
    version: str = ""  # of the program that trained it
    job: str = ""  # the name of the job that trained it
    offset: str | None = None  # our column that is added to the logit as it is

    @property
    def coefficients(self) -> dict[str, float]:
        """Feature name -> weight on the standardised scale."""
        return dict(zip(self.features, self.weights, strict=True))

    def partial_logits(self, values: np.ndarray) -> np.ndarray:
        """Our part of the logit of standardised rows (n, d): float64 (n,)."""
        return np.asarray(values @ np.array(self.weights) + (self.intercept or 0.0))

    def original(self) -> Original:
        """Our weights on the scale of our own table, as scikit-learn's LogisticRegression has them."""
        means, sds, weights = (np.array(values) for values in (self.means, self.sds, self.weights))
        held = sds > 0.0
        scaled = np.where(held, weights / np.where(held, sds, 1.0), 0.0)
        reach = np.where(held, math.inf if self.winsorise is None else self.winsorise * sds, math.inf)
        intercept = (self.intercept or 0.0) - float(scaled @ means)
        return Original(self.features, scaled, intercept, means, means - reach, means + reach)

    def to_json(self) -> str:
        """The half as one JSON object of format 2, with its digest; floats in the shortest form that reads back."""
        content = _content(self if self.version else replace(self, version=_program()))
        return json.dumps(content | {"digest": _digest(content)}, indent=1, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ModelHalf:
        """Read `to_json`'s form, or format 1. Raises DataError that names the field for anything else."""
        try:
            if len(text) > _MOST:
                raise ValueError("too long")
            found = json.loads(text, parse_constant=_no_number)
            if not isinstance(found, dict):
                raise TypeError("not an object")
        except (ValueError, TypeError, RecursionError) as error:
            raise DataError(f"this is not a model half: {type(error).__name__}") from None
        kind = found.pop("format", None)
        if isinstance(kind, bool) or kind not in (1, _FORMAT):
            raise _wrong("format", "is 1 or 2 for this version of the program", "install a newer tallystick")
        if kind == _FORMAT and found.pop("digest", None) != _digest({"format": _FORMAT, **found}):
            raise _wrong(
                "digest", "does not match the other fields: the file was changed or damaged", "restore it from a backup"
            )
        return _read(found, named=kind == _FORMAT)


def _content(half: ModelHalf) -> dict[str, Any]:
    """All fields but the digest, as they stand in the file."""
    return {
        "format": _FORMAT,
        "version": half.version,
        "id": half.id,
        "agreement": half.agreement,
        "job": half.job,
        "parties": list(half.parties),
        "role": half.role,
        "tables": dict(half.tables),
        "columns": {party: list(names) for party, names in half.columns.items()},
        "features": list(half.features),
        "means": list(half.means),
        "sds": list(half.sds),
        "weights": list(half.weights),
        "intercept": half.intercept,
        "winsorise": half.winsorise,
        "recipe": half.recipe,
        "classes": None if half.classes is None else list(half.classes),
        "created": half.created,
        "metrics": half.metrics,
        "offset": half.offset,
    }


def _digest(content: Mapping[str, Any]) -> str:
    """SHA-256 over the fields, keys sorted, no blanks; floats by repr, so it is of the very bits."""
    try:
        written = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return hashlib.sha256(b"tallystick/v1/vfl/model/" + written.encode()).hexdigest()
    except (ValueError, TypeError, RecursionError):
        raise DataError("this is not a model half: it cannot be written as JSON") from None


def _read(found: dict[str, Any], *, named: bool) -> ModelHalf:
    taken = _Fields(found)
    names = taken.take("features", _texts)
    means, sds, weights = (taken.take(key, _numbers) for key in ("means", "sds", "weights"))
    intercept, winsorise = (taken.take(key, _perhaps(_number)) for key in ("intercept", "winsorise"))
    half = ModelHalf(names, means, sds, weights, intercept, winsorise)
    if named:
        half = replace(
            half,
            id=taken.take("id", _text),
            agreement=taken.take("agreement", _text),
            job=taken.take("job", _text),
            parties=taken.take("parties", _texts),
            role=taken.take("role", _text),
            tables=taken.take("tables", lambda value: {_text(k): _text(v) for k, v in value.items()}),
            columns=taken.take("columns", lambda value: {_text(k): _texts(v) for k, v in value.items()}),
            recipe=taken.take("recipe", _perhaps(_object)),
            classes=taken.take("classes", _perhaps(_classes)),
            created=taken.take("created", _text),
            metrics=taken.take("metrics", _perhaps(_object)),
            version=taken.take("version", _text),
            offset=taken.take("offset", _perhaps(_text)),
        )
    if found:
        raise _wrong(min(found), "is unknown")
    for key, values in (("means", means), ("sds", sds), ("weights", weights)):
        if len(values) != len(names):
            raise _wrong(key, f"has {len(values)} numbers for {len(names)} features")
    return half


class _Fields:
    """Takes one field after another; what is left is unknown."""

    def __init__(self, found: dict[str, Any]) -> None:
        self._found = found

    def take(self, key: str, read: Callable[[Any], T]) -> T:
        if key not in self._found:
            raise _wrong(key, "is missing")
        try:
            return read(self._found.pop(key))
        except (ValueError, TypeError, AttributeError):
            raise _wrong(key, "has a wrong value") from None


def _wrong(key: str, reason: str, hint: str | None = None) -> DataError:
    return DataError(f"this is not a model half: `{key}` {reason}", hint=hint)


def _perhaps(read: Callable[[Any], T]) -> Callable[[Any], T | None]:
    return lambda value: None if value is None else read(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError("not a finite number")
    return float(value)


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(_number(item) for item in _list(value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_text(item) for item in _list(value))


def _classes(value: Any) -> tuple[str | int, ...]:
    if not all(isinstance(item, str | int) and not isinstance(item, bool) for item in _list(value)):
        raise ValueError("neither texts nor integers")
    return tuple(value)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("not a list")
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _program() -> str:
    try:
        return version("tallystick")
    except PackageNotFoundError:
        return "unknown"
