"""What one party knows of the aligned rows beside its features: label, weights, offset. Local; checked, never sent.

Step 0 of docs/protocols/09-split-logistic-regression.md.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from party.errors import DataError
from vfl.prepare import Known, numbers
from vfl.spec import TrainSpec

__all__ = ["MOST_WEIGHT", "check_weights", "known_of", "offset_of"]

MOST_WEIGHT = 20  # weights of rows lie between 2^-20 and 2^20
_MOST_OFFSET = 50.0
_MOST_SPREAD = 8

Columns = Mapping[str, tuple[np.ndarray, np.ndarray]]


def known_of(
    spec: TrainSpec, us: str, columns: Columns, label: np.ndarray | None, split_: tuple[np.ndarray, np.ndarray]
) -> Known:
    """What we know of all aligned rows by this job. Raises DataError for unfit weights and offsets."""
    training = ~split_[0] & ~split_[1]
    offset = offset_of(spec.offset[us], columns) if us in spec.offset else None
    if label is None or (spec.weights is None and spec.class_weight is None):
        return Known(label, None, offset)
    weights = np.ones(len(label))
    if spec.weights is not None:
        weights, valid = numbers(spec.weights, *columns[spec.weights])
        if not bool(valid.all()) or float(weights.min(initial=0.0)) < 0.0:
            raise DataError(f"weight {spec.weights} is NULL or negative in an aligned row")
    if spec.class_weight is not None:
        weights = weights * _class_weights(spec.class_weight, label, training)[label]
    return Known(label, weights, offset)


def offset_of(name: str, columns: Columns) -> np.ndarray:
    """The offset of each row, float64 (n,). Raises DataError where it is NULL or too large to be one."""
    offset, valid = numbers(name, *columns[name])
    if not bool(valid.all()):
        raise DataError(f"offset {name} is NULL in an aligned row", hint="fill it, or filter these rows out")
    if float(np.abs(offset).max(initial=0.0)) > _MOST_OFFSET:
        raise DataError(f"offset {name} is over {_MOST_OFFSET:g} in size; it is added to the logit")
    return offset


def check_weights(known: Known, min_rows: int, training: np.ndarray | None = None) -> None:
    """Refuse weights of rows and offsets under which the model would speak of a few: our own protection. DataError.

    training: bool (n,), the rows that training sees; None: all. In each class the effective number of them,
    (sum c)^2 / sum c^2, is at least min_rows, c = w h(s offset): how much a row pulls before training, with the label's
    sign s. An offset that settles all rows but a few leaves these alone to pull.
    """
    if known.label is None or (known.weights is None and known.offset is None):
        return
    here = np.ones(len(known.label), dtype=bool) if training is None else training
    pulls = np.ones(len(known.label)) if known.weights is None else known.weights
    if known.offset is not None:
        pulls = pulls / (1.0 + np.exp((2.0 * known.label - 1.0) * known.offset))
    for value in (0, 1):
        some = pulls[here & (known.label == value)]
        total, squares = float(some.sum()), float((some**2).sum())
        if squares == 0.0 or total**2 * (1 + 1e-9) < squares * max(1, min_rows):
            raise DataError(
                "the weights of rows or the offset rest on fewer rows of one class than min_rows: the model would speak"
                " of single rows",
                hint="use milder weights or a smaller offset",
            )
    if known.weights is None:
        return
    mean, most = float(known.weights.mean()), float(known.weights.max())
    if not 2.0**-MOST_WEIGHT < mean <= most < 2.0**MOST_WEIGHT or most > 2.0**_MOST_SPREAD * mean:
        raise DataError(
            f"weights of rows have a mean of {mean:g} and go up to {most:g}: more than fixed point holds",
            hint=f"scale them; none may be over {2**_MOST_SPREAD} times the mean",
        )


def _class_weights(wanted: str | tuple[float, float], label: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Weights of class 0 and 1; balanced: rows / (2 rows of the class), over the training rows."""
    if not isinstance(wanted, str):
        return np.array(wanted)
    ones = float(label[training].sum())
    total = float(training.sum())
    return total / (2.0 * np.array([max(total - ones, 1.0), max(ones, 1.0)]))
