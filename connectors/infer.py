"""What the values of a text column look like, and what a column measures.

Types are inferred only when every value agrees; identifiers with leading zeros or a plus sign stay text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from connectors.declare import Declared
from party.catalogue import Type
from party.errors import UsageError

if TYPE_CHECKING:
    from connectors.source import Source

__all__ = ["Inference", "Measured", "measure"]

DIGITS = 18  # an inferred decimal fits 64 bits
SCALE = 6  # more digits after the point than this, and it is a measurement: float
PATTERNS: dict[Type, str] = {
    "bool": r"^(?i:true|false)$",
    "integer": r"^(0|-?[1-9][0-9]{0,18})$",
    "decimal": r"^-?(0|[1-9][0-9]*)(\.[0-9]{1,6})?$",
    "float": r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$",
    "date": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
    "timestamp": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?$",
}


class Inference:
    """Looks at a text column batch by batch; the types it may still have only get fewer."""

    def __init__(self) -> None:
        self._open: list[Type] = list(PATTERNS)
        self._seen = False
        self._whole = 0
        self._after = 0

    def take(self, array: pa.Array) -> None:
        """One more batch."""
        text = pc.drop_null(pc.utf8_trim_whitespace(array.cast(pa.string())))
        text = text.filter(pc.not_equal(text, ""))
        if not len(text) or not self._open:
            return
        self._seen = True
        self._open = [kind for kind in self._open if pc.all(pc.match_substring_regex(text, PATTERNS[kind])).as_py()]
        exact = (("integer", pa.int64()), ("date", pa.date32()), ("timestamp", pa.timestamp("us")))
        for kind, target in (*exact, ("float", pa.float64())):
            if kind in self._open and not _casts(text, target):
                self._open = [other for other in self._open if other != kind]
        if "decimal" in self._open:
            whole = pc.utf8_length(pc.replace_substring_regex(text, r"^-|\..*$", ""))
            after = pc.utf8_length(pc.replace_substring_regex(text, r"^[^.]*\.?", ""))
            self._whole = max(self._whole, pc.max(whole).as_py())
            self._after = max(self._after, pc.max(after).as_py())
            if self._whole + self._after > DIGITS:
                self._open = [kind for kind in self._open if kind != "decimal"]

    def result(self) -> Declared:
        """The narrowest type left; text when there is none, or when there were no values."""
        if not self._seen or not self._open:
            return Declared("string")
        kind = self._open[0]
        return Declared(kind, DIGITS, self._after) if kind == "decimal" else Declared(kind)


def _casts(text: pa.Array, target: pa.DataType) -> bool:
    try:
        cast = text.cast(target)
    except pa.ArrowInvalid:
        return False
    return not pa.types.is_floating(target) or bool(pc.all(pc.is_finite(cast)).as_py())


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
