"""What a column's values are: read once, for our own eyes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from connectors.source import Source
from party.errors import UsageError

__all__ = ["Measured", "measure"]


@dataclass(frozen=True)
class Measured:
    """What a column's values are: for our own eyes; a measured range that is told to a peer is leakage.

    `low`, `high` in units of 10**-scale (days, microseconds) for exact types, plain for floats, None for text and
    truth values. `distinct`: the values in ascending order, None when they are more than the cap.
    """

    rows: int
    nulls: int
    low: int | float | None
    high: int | float | None
    distinct: tuple[object, ...] | None


def measure(source: Source, column: str, cap: int = 256) -> Measured:
    """Read one column once: lowest, highest, and its distinct values when they are at most `cap`."""
    if cap < 0:
        raise UsageError("a cap on distinct values is not negative")
    rows = nulls = 0
    low: int | float | None = None
    high: int | float | None = None
    distinct: pa.Array | None = None
    within = True
    for batch in source.scan([column]):
        array = batch.column(0)
        rows += len(array)
        nulls += array.null_count
        bounds = _bounds(array)
        if bounds is not None:
            low = bounds[0] if low is None else min(low, bounds[0])
            high = bounds[1] if high is None else max(high, bounds[1])
        if within:
            fresh = pc.drop_null(array)
            distinct = pc.unique(fresh if distinct is None else pa.concat_arrays([distinct, fresh]))
            within = len(distinct) <= cap
    values: Sequence[object] = [] if distinct is None else sorted(distinct.to_pylist())
    return Measured(rows, nulls, low, high, tuple(values) if within else None)


def _bounds(array: pa.Array) -> tuple[int | float, int | float] | None:
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_boolean(kind) or array.null_count == len(array):
        return None
    ends = pc.min_max(array)
    low, high = ends["min"], ends["max"]
    if pa.types.is_decimal(kind):
        return tuple(int(end.as_py().scaleb(kind.scale)) for end in (low, high))  # type: ignore[return-value]
    if pa.types.is_date(kind):
        return low.value, high.value
    if pa.types.is_timestamp(kind):
        return low.value, high.value
    return low.as_py(), high.as_py()
