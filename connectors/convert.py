"""From what a table holds to what was declared, column by column, exactly or not at all.

Every refusal is a DataError with row and column, never with a value. All work is Arrow kernels and numpy; when a kernel
refuses a whole array, the row at fault is found by halving.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.declare import Declared
from party.errors import DataError, FileError

__all__ = ["NUMBER", "arrow_type", "convert", "native_declaration", "refuse_key_type"]

INTEGER = r"^-?[0-9]{1,19}$"
NUMBER = r"^-?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"
SPECIAL = r"^(?i:[+-]?(nan|inf|infinity))$"
EXACT_DIGITS = 10**15  # any decimal of up to 15 digits is the shortest form of exactly one float64


def arrow_type(kind: Declared) -> pa.DataType:
    """The Arrow type in which a column of this kind is delivered."""
    types: dict[str | None, pa.DataType] = {
        "string": pa.string(),
        "integer": pa.int64(),
        "decimal": pa.decimal128(kind.precision, kind.scale),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us"),
    }
    return types[kind.type]


def native_declaration(native: pa.DataType, name: str, label: str) -> Declared:
    """What an undeclared column of this Arrow type is taken for. Raises FileError for types we do not read."""
    if isinstance(native, pa.BaseExtensionType):
        raise FileError(f"{label}: column {name!r} has an extension type, which is not read")
    if pa.types.is_dictionary(native):
        return native_declaration(native.value_type, name, label)
    if pa.types.is_decimal(native) and 0 <= native.scale <= native.precision <= 38:
        return Declared("decimal", native.precision, native.scale)
    table: list[tuple[Callable[[Any], bool], Declared]] = [
        (_is_text, Declared("string")),
        (pa.types.is_null, Declared("string")),
        (pa.types.is_integer, Declared("integer")),
        (pa.types.is_floating, Declared("float")),
        (pa.types.is_boolean, Declared("bool")),
        (pa.types.is_date, Declared("date")),
        (pa.types.is_timestamp, Declared("timestamp")),
    ]
    for fits, kind in table:
        if fits(native):
            return kind
    what = "a nested type" if pa.types.is_nested(native) else f"type {native}"
    raise FileError(f"{label}: column {name!r} has {what}, which is not read", hint="leave it out, or store it as text")


def refuse_key_type(native: pa.DataType, name: str, label: str) -> None:
    """A key is text, a whole number or a date; a float would have lost digits and leading zeros already."""
    if pa.types.is_dictionary(native) and not isinstance(native, pa.BaseExtensionType):
        native = native.value_type
    kind = native_declaration(native, name, label)
    if kind.type in ("string", "integer", "date"):
        return
    raise FileError(
        f"{label}: key column {name!r} is stored as {native}, which has lost leading zeros or digits",
        hint="store identifiers as text",
    )


def convert(array: pa.Array, kind: Declared, name: str, row: int) -> pa.Array:
    """One native array as a column of this kind; `row` is the number of its first row. Raises DataError."""
    column = _Column(name, row)
    if isinstance(array.type, pa.BaseExtensionType) or pa.types.is_nested(array.type):
        raise FileError(f"column {name!r} has type {array.type}, which is not read")
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_null(array.type):
        array = array.cast(arrow_type(kind))
    if pa.types.is_floating(array.type):
        array = _finite(array, kind, column)
    steps: dict[str | None, Callable[[pa.Array, Declared, _Column], pa.Array]] = {
        "string": _to_string,
        "integer": _to_integer,
        "decimal": _to_decimal,
        "float": _to_float,
        "bool": _to_bool,
        "date": _to_time,
        "timestamp": _to_time,
    }
    array = steps[kind.type](array, kind, column)
    _check_limits(array, kind, column)
    return array


class _Column:
    """Name and place, for errors."""

    def __init__(self, name: str, row: int) -> None:
        self.name = name
        self.row = row

    def error(self, place: int, reason: str, hint: str | None = None) -> DataError:
        return DataError(f"row {self.row + place}, column {self.name!r}: {reason}", hint=hint)

    def require(self, good: pa.Array, reason: str, hint: str | None = None) -> None:
        """`good`: bool; the first False is the error; null counts as good."""
        flags = pc.fill_null(good, True).to_numpy(zero_copy_only=False)
        if not flags.all():
            raise self.error(int(np.argmin(flags)), reason, hint)

    def cast(self, array: pa.Array, target: pa.DataType, reason: str) -> pa.Array:
        """A safe cast; what Arrow refuses is an error at the first value that does not pass."""
        done = _try_cast(array, target)
        if done is not None:
            return done
        good, bad = 0, len(array)
        while bad - good > 1:
            middle = (good + bad) // 2
            if _try_cast(array.slice(good, middle - good), target) is None:
                bad = middle
            else:
                good = middle
        raise self.error(good, reason)


def _try_cast(array: pa.Array, target: pa.DataType) -> pa.Array | None:
    try:
        return array.cast(target, safe=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _is_text(native: pa.DataType) -> bool:
    return bool(pa.types.is_string(native) or pa.types.is_large_string(native) or pa.types.is_string_view(native))


def _trimmed(array: pa.Array) -> pa.Array:
    """Text around a number, a date or a truth value: outer spaces do not count, and nothing left means missing."""
    text = pc.utf8_trim_whitespace(array.cast(pa.string()))
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _finite(array: pa.Array, kind: Declared, column: _Column) -> pa.Array:
    array = array.cast(pa.float64())
    nan = pc.is_nan(array)
    if kind.nan_null:
        array = pc.if_else(pc.fill_null(nan, False), pa.scalar(None, pa.float64()), array)
    else:
        column.require(pc.invert(nan), "not a number (NaN)", "declare `nan: null` if NaN means missing")
    column.require(pc.invert(pc.is_inf(array)), "infinite")
    return array


def _floats(text: pa.Array, kind: Declared, column: _Column) -> pa.Array:
    reason = "not a number"
    plain = pc.or_(pc.match_substring_regex(text, NUMBER), pc.match_substring_regex(text, SPECIAL))
    column.require(plain, reason)
    return _finite(column.cast(text, pa.float64(), reason), kind, column)


def _to_string(array: pa.Array, kind: Declared, column: _Column) -> pa.Array:
    if _is_text(array.type):
        return array.cast(pa.string())
    if pa.types.is_integer(array.type) or pa.types.is_boolean(array.type) or pa.types.is_date(array.type):
        return array.cast(pa.string())
    raise column.error(0, f"stored as {array.type}, declared string", "declare the type it has, or store it as text")


def _to_integer(array: pa.Array, kind: Declared, column: _Column) -> pa.Array:
    if _is_text(array.type):
        array = _trimmed(array)
        if kind.nan_null:
            special = pc.fill_null(pc.match_substring_regex(array, r"^(?i:nan)$"), False)
            array = pc.if_else(special, pa.scalar(None, pa.string()), array)
        column.require(pc.match_substring_regex(array, INTEGER), "not a whole number")
    elif pa.types.is_temporal(array.type):
        raise column.error(0, f"stored as {array.type}, declared integer")
    return column.cast(array, pa.int64(), "not a whole number of 64 bits")


def _to_float(array: pa.Array, kind: Declared, column: _Column) -> pa.Array:
    if _is_text(array.type):
        return _floats(_trimmed(array), kind, column)
    if pa.types.is_temporal(array.type) or pa.types.is_boolean(array.type):
        raise column.error(0, f"stored as {array.type}, declared float")
    return column.cast(array, pa.float64(), "too large to be exact as a float")


def _to_bool(array: pa.Array, kind: Declared, column: _Column) -> pa.Array:
    if pa.types.is_boolean(array.type):
        return array
    reason = "neither true nor false (0 and 1 are allowed)"
    if _is_text(array.type):
        array = _trimmed(array)
        column.require(pc.match_substring_regex(array, r"^(?i:true|false|0|1)$"), reason)
        return column.cast(array, pa.bool_(), reason)
    if pa.types.is_temporal(array.type):
        raise column.error(0, f"stored as {array.type}, declared bool")
    column.require(pc.or_(pc.equal(array, 0), pc.equal(array, 1)), reason)
    return pc.equal(array, 1)


def _to_time(array: pa.Array, kind: Declared, column: _Column) -> pa.Array:
    reason = f"not a {kind.type}" + (" (YYYY-MM-DD)" if kind.type == "date" else " (YYYY-MM-DD HH:MM:SS, no time zone)")
    target = arrow_type(kind)
    if _is_text(array.type):
        return column.cast(_trimmed(array), target, reason)
    if not (pa.types.is_date(array.type) or pa.types.is_timestamp(array.type)):
        raise column.error(0, f"stored as {array.type}, declared {kind.type}")
    if pa.types.is_timestamp(array.type):  # with a zone: the instant in UTC
        exact = pa.timestamp("us", array.type.tz)
        array = column.cast(array, exact, "finer than a microsecond").cast(pa.timestamp("us"))
        if kind.type == "date":
            column.require(pc.equal(pc.floor_temporal(array, unit="day"), array), reason)
    return column.cast(array, target, reason)


def _to_decimal(array: pa.Array, kind: Declared, column: _Column) -> pa.Array:
    target = arrow_type(kind)
    reason = (
        f"does not fit {kind.text()}: at most {kind.precision - kind.scale} digits before the point "
        f"and {kind.scale} after it"
    )
    if _is_text(array.type):
        array = _trimmed(array)
        if kind.nan_null:
            special = pc.fill_null(pc.match_substring_regex(array, r"^(?i:nan)$"), False)
            array = pc.if_else(special, pa.scalar(None, pa.string()), array)
        column.require(pc.match_substring_regex(array, NUMBER), "not a number")
        return column.cast(array, target, reason)
    if pa.types.is_floating(array.type):
        return _decimal_of_float(array, kind, column, reason)
    if pa.types.is_integer(array.type):
        array = array.cast(pa.decimal128(20, 0))
    elif not pa.types.is_decimal(array.type):
        raise column.error(0, f"stored as {array.type}, declared {kind.text()}")
    return column.cast(array, target, reason)


def _decimal_of_float(array: pa.Array, kind: Declared, column: _Column, reason: str) -> pa.Array:
    """Each float by its shortest decimal form (Python's repr), exactly.

    k = round(v 10^s) with |k| < 10^15: k / 10^s is correctly rounded, and gives v back exactly when v's shortest form
    has at most s digits after the point. Larger values, which are few, go through repr itself.
    """
    valid = pc.is_valid(array).to_numpy(zero_copy_only=False)
    values = pc.fill_null(array, 0.0).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        scaled = np.rint(values * float(10**kind.scale))
    limit = min(EXACT_DIGITS, 10**kind.precision)
    small = np.abs(scaled) < EXACT_DIGITS
    units = np.where(small, scaled, 0.0)
    fits = ~small | ((units / float(10**kind.scale) == values) & (np.abs(units) < limit))
    if not fits.all():
        raise column.error(int(np.argmin(fits)), reason)
    if small.all():
        return decimal_of_units(units.astype(np.int64), valid, kind.precision, kind.scale)
    exact: list[Decimal | None] = []
    with localcontext() as context:
        context.prec = 400  # a float's shortest form has at most 17 digits but an exponent of up to 308
        quantum = Decimal(1).scaleb(-kind.scale)
        for place, (value, there) in enumerate(zip(values.tolist(), valid.tolist(), strict=True)):
            number = Decimal(repr(value))
            if number != number.quantize(quantum) or abs(number.scaleb(kind.scale)) >= 10**kind.precision:
                raise column.error(place, reason)
            exact.append(number.quantize(quantum) if there else None)
    return pa.array(exact, arrow_type(kind))


def decimal_of_units(units: np.ndarray, valid: np.ndarray, precision: int, scale: int) -> pa.Array:
    """decimal128(precision, scale) from int64 counts of 10**-scale; `valid` bool of the same shape."""
    words = np.empty((len(units), 2), dtype="<i8")
    words[:, 0] = units
    words[:, 1] = units >> 63
    mask = pa.py_buffer(np.packbits(valid, bitorder="little").tobytes())
    return pa.Array.from_buffers(
        pa.decimal128(precision, scale), len(units), [mask, pa.py_buffer(words.tobytes())], int((~valid).sum())
    )


def _check_limits(array: pa.Array, kind: Declared, column: _Column) -> None:
    if not kind.nullable:
        column.require(array.is_valid(), "missing, declared `nullable: false`")
    compared = array
    if kind.type == "decimal" and (kind.low is not None or kind.high is not None):
        compared = array.cast(pa.decimal256(76, max(38, kind.scale)))
    for bound, compare in ((kind.low, pc.greater_equal), (kind.high, pc.less_equal)):
        if bound is not None:
            column.require(compare(compared, _bound_scalar(bound, kind, compared.type)), "outside the declared range")
    if kind.domain is not None:
        allowed = pa.array(list(kind.domain)).cast(array.type)
        good = pc.or_(pc.is_in(array, value_set=allowed), pc.is_null(array))
        column.require(good, "not in the declared domain")


def _bound_scalar(bound: Any, kind: Declared, target: pa.DataType) -> pa.Scalar:
    if kind.type == "integer":  # 0.5 as a bound of whole numbers: compare as decimals would be wasteful, floats inexact
        low_or_high = Decimal(bound)
        clamped = max(min(low_or_high, Decimal(2**63 - 1)), Decimal(-(2**63)))
        whole = clamped.to_integral_value("ROUND_CEILING" if bound == kind.low else "ROUND_FLOOR")
        return pa.scalar(int(whole), target)
    if kind.type == "float":
        return pa.scalar(float(bound), target)
    if kind.type == "decimal":
        return pa.scalar(Decimal(bound), target)
    return pa.scalar(bound, target)
