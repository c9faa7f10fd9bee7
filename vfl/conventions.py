"""scikit-learn's conventions without scikit-learn: parameters, tables with or without names, two classes, its errors.

scikit-learn is never needed: where it is installed, its own classes of errors, warnings and tags are used besides ours.
"""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Self

import numpy as np

from party.errors import DataError, UsageError

__all__ = ["InputError", "Parameters", "classes", "not_fitted", "row_weights", "table"]

Weighing = str | Mapping[Any, float] | None


class InputError(DataError, ValueError):
    """X, y or weights do not fit: a ValueError, as scikit-learn has it."""


class Parameters:
    """What `clone`, `GridSearchCV` and the like ask of an estimator; to be a base of dataclasses whose fields are the
    parameters. Learned attributes end in an underscore."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's parameters."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def set_params(self, **params: Any) -> Self:
        """Change parameters by name; UsageError (a ValueError) for an unknown one."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise _both(UsageError, ValueError)(f"{type(self).__name__} has no parameter {name}")
            setattr(self, name, value)
        return self

    def learned_of(self, count: int, names: tuple[str, ...] | None) -> None:
        """Remember the columns of `fit`."""
        self.n_features_in_ = count
        if names is not None:
            self.feature_names_in_ = np.array(names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def __repr__(self) -> str:
        default = type(self)().get_params()
        told = [f"{name}={value!r}" for name, value in self.get_params().items() if repr(value) != repr(default[name])]
        return f"{type(self).__name__}({', '.join(told)})"

    def __sklearn_tags__(self) -> Any:
        """A classifier of two classes that takes missing values; only scikit-learn asks."""
        utils = import_module("sklearn.utils")
        return utils.Tags(
            estimator_type="classifier",
            target_tags=utils.TargetTags(required=True),
            classifier_tags=utils.ClassifierTags(multi_class=False),
            input_tags=utils.InputTags(allow_nan=True),
        )


def table(X: Any, seen: Parameters | None = None) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """X as float64 (n, d), NaN where a value is missing, and its columns' names if all are texts.

    seen: the fitted estimator, whose columns these must be. Raises InputError.
    """
    names = _names(X)
    if hasattr(X, "toarray"):
        raise InputError("sparse data is not supported: pass a dense table")
    values = np.asarray(X)
    if np.iscomplexobj(values):
        raise InputError("Complex data not supported")
    if values.ndim != 2:
        raise InputError(f"Expected 2D array, got {values.ndim}D array instead. Reshape your data")
    if values.dtype.kind not in "biufO":
        raise InputError("X holds texts or dates: make numbers of them first")
    try:
        values = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        reason = "X holds what is no number: an argument must be a string or a number"
        raise _both(DataError, kind)(f"{reason}: {error}") from None
    for count, what in zip(values.shape, ("sample", "feature"), strict=True):
        if not count:
            raise InputError(f"0 {what}(s) (shape={values.shape}) while a minimum of 1 is required.")
    if bool(np.isinf(values).any()):
        raise InputError("X holds an infinity")
    if seen is not None:
        _same_columns(seen, values.shape[1], names)
    return values, names


def classes(y: Any, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The two values of y, ascending, and for each row which it is, int64 (n,). Raises InputError for other labels."""
    if y is None:
        raise InputError("requires y to be passed, but the target y is None")
    label = np.asarray(y)
    if label.ndim == 2 and label.shape[1] == 1:
        kind = _sklearn("exceptions", "DataConversionWarning", UserWarning)
        warnings.warn("A column-vector y was passed when a 1d array was expected.", kind, stacklevel=3)
        label = label[:, 0]
    if label.ndim != 1:
        raise InputError("y should be a 1d array")
    if len(label) != rows:
        raise InputError(f"X and y have inconsistent numbers of samples: {rows} and {len(label)}")
    if label.dtype.kind == "f":
        if not bool(np.isfinite(label).all()):
            raise InputError("Input y contains NaN or infinity")
        if bool((label != np.rint(label)).any()):
            raise InputError("Unknown label type: continuous. y holds two classes")
    if label.dtype.kind == "O" and len({type(value) for value in label if not isinstance(value, numbers.Number)}) > 1:
        raise InputError("y holds values of several kinds")
    found, place = np.unique(label, return_inverse=True)
    if len(found) > 2:
        raise InputError(
            f"Only binary classification is supported. The type of the target is multiclass: y has {len(found)} classes"
        )
    if len(found) < 2:
        raise InputError("y holds one class only: a classifier needs two")
    return found, place.astype(np.int64)


def row_weights(
    sample_weight: Any, class_weight: Weighing, label: tuple[np.ndarray, np.ndarray], training: np.ndarray
) -> np.ndarray | None:
    """What each row weighs in the loss, float64 (n,); None where all weigh 1.

    label: from `classes`; training: which rows `balanced` counts.
    """
    found, place = label
    if sample_weight is None and class_weight is None:
        return None
    weights = np.ones(len(place))
    if sample_weight is not None:
        weights = np.broadcast_to(np.asarray(sample_weight, dtype=np.float64), place.shape).copy()
        if not bool(np.isfinite(weights).all()) or float(weights.min()) < 0.0:
            raise InputError("sample_weight holds a negative or no number")
        if not bool(weights.any()):
            raise InputError("sample_weight is zero for all rows")
    if class_weight is None:
        return weights
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise InputError("class_weight is None, 'balanced', or a weight for each class")
        counts = np.bincount(place[training], minlength=2)
        each = counts.sum() / (2.0 * np.maximum(counts, 1))
    else:
        each = np.array([float(class_weight.get(value, 1.0)) for value in found.tolist()])
    return np.asarray(weights * each[place])


def not_fitted(estimator: Parameters) -> Exception:
    """UsageError, and scikit-learn's NotFittedError where it is installed."""
    kind = _sklearn("exceptions", "NotFittedError", ValueError)
    return _both(UsageError, kind)(f"this {type(estimator).__name__} is not fitted yet: call fit first")


def _both(ours: type[Exception], other: type[Exception]) -> type[Exception]:
    return type(ours.__name__, (ours, other), {})


def _sklearn(module: str, name: str, otherwise: type[Any]) -> type[Any]:
    """A class of scikit-learn's where it is installed."""
    if find_spec("sklearn") is None:
        return otherwise
    found: type[Any] = getattr(import_module(f"sklearn.{module}"), name)
    return found


def _names(X: Any) -> tuple[str, ...] | None:
    columns = getattr(X, "columns", None)
    if columns is None:
        return None
    found = list(columns)
    if all(isinstance(name, str) for name in found):
        return tuple(found)
    if any(isinstance(name, str) for name in found):
        raise _both(DataError, TypeError)(
            "Feature names are only supported if all input features have string names, but your input has others too"
        )
    return None


def _same_columns(seen: Parameters, count: int, names: tuple[str, ...] | None) -> None:
    """Refuse other columns than those of `fit`; warn where only one of both had names."""
    expected, known = seen.n_features_in_, getattr(seen, "feature_names_in_", None)
    us = type(seen).__name__
    if known is not None and names is None:
        warnings.warn(f"X does not have valid feature names, but {us} was fitted with feature names", stacklevel=4)
    elif known is None and names is not None:
        warnings.warn(f"X has feature names, but {us} was fitted without feature names", stacklevel=4)
    elif known is not None and names != tuple(known):
        raise InputError(_unlike(tuple(known), names or ()))
    if count != expected:
        raise InputError(f"X has {count} features, but {us} is expecting {expected} features as input")


def _unlike(known: tuple[str, ...], names: tuple[str, ...]) -> str:
    """scikit-learn's words."""
    lines = ["The feature names should match those that were passed during fit."]
    unseen, missing = sorted(set(names) - set(known)), sorted(set(known) - set(names))
    if unseen:
        lines += ["Feature names unseen at fit time:", *(f"- {name}" for name in unseen)]
    if missing:
        lines += ["Feature names seen at fit time, yet now missing:", *(f"- {name}" for name in missing)]
    if not unseen and not missing:
        lines.append("Feature names must be in the same order as they were in fit.")
    return "\n".join(lines) + "\n"
