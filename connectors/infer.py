"""What the values of a text column look like.

Types are inferred only when every value agrees; identifiers with leading zeros or a plus sign stay text.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from connectors.declare import Declared
from party.catalogue import Type

__all__ = ["Inference"]

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
