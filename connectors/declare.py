"""What an owner says about one column: its type, its range, its domain. The same words as in party.yaml."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation

from party.catalogue import Type
from party.errors import FileError

__all__ = ["TYPES", "Bound", "Declared"]

TYPES: tuple[Type, ...] = ("string", "integer", "decimal", "float", "bool", "date", "timestamp")
Bound = int | Decimal | datetime.date | datetime.datetime
DomainValue = str | int | bool | Decimal | datetime.date
MAX_PRECISION = 38
EPOCH = datetime.datetime(1970, 1, 1)


@dataclass(frozen=True)
class Declared:
    """One column's declaration. `type` None: take what the table says, or what its values look like.

    `low` and `high` (inclusive) are in the column's own unit (pounds, not pence). `nan_null`: NaN is a missing value
    instead of an error. `nullable` False: a missing value is an error. `precision` and `scale` are those of
    decimal(p,s).
    """

    type: Type | None = None
    precision: int = 18
    scale: int = 0
    low: Bound | None = None
    high: Bound | None = None
    domain: tuple[DomainValue, ...] | None = None
    nan_null: bool = False
    nullable: bool = True

    @classmethod
    def of(
        cls,
        type: str | None = None,
        range: Sequence[object] | None = None,
        domain: Sequence[object] | None = None,
        nan_null: bool = False,
        nullable: bool = True,
    ) -> Declared:
        """From the words of party.yaml: `decimal(12,2)`, `[-10, 10.5]`, `[north, south]`. Raises FileError."""
        name, precision, scale = _parse_type(type)
        low = high = None
        if range is not None:
            if len(range) != 2:
                raise FileError("a range is two values: [lowest, highest]")
            low, high = (_bound(value, name) for value in range)
            if _units(low, scale) > _units(high, scale):
                raise FileError("a range names the lowest value first")
        values = None if domain is None else tuple(_domain_value(value, name) for value in domain)
        if values is not None and not values:
            raise FileError("a domain names at least one value")
        if values is not None and len(set(values)) < len(values):
            raise FileError("a domain names each value once")
        if nan_null and name not in (None, "float", "decimal", "integer"):
            raise FileError(f"`nan: null` makes no sense for type {name}")
        return cls(name, precision, scale, low, high, values, nan_null, nullable)

    def with_limits(self, limits: Declared) -> Declared:
        """This type with the range, domain, NaN rule and missing values of another declaration."""
        return replace(
            self,
            low=limits.low,
            high=limits.high,
            domain=limits.domain,
            nan_null=limits.nan_null,
            nullable=limits.nullable,
        )

    def units(self) -> tuple[int | None, int | None]:
        """The range in units of 10**-scale (days for a date, microseconds for a timestamp), as a catalogue has it.

        A bound between two units is moved outwards, so the range never shrinks.
        """
        low = None if self.low is None else _units(self.low, self.scale)
        high = None if self.high is None else _units(self.high, self.scale)
        return (
            None if low is None else int(low.to_integral_value("ROUND_FLOOR")),
            None if high is None else int(high.to_integral_value("ROUND_CEILING")),
        )

    def text(self) -> str:
        """The type in the words of party.yaml."""
        return f"decimal({self.precision},{self.scale})" if self.type == "decimal" else str(self.type)


def _parse_type(text: str | None) -> tuple[Type | None, int, int]:
    if text is None:
        return None, 18, 0
    for known in TYPES:
        if text == known and known != "decimal":
            return known, 18, 0
    match = re.fullmatch(r"decimal\(\s*([0-9]{1,2})\s*,\s*([0-9]{1,2})\s*\)", text)
    if match is None:
        hint = "decimal needs its digits: decimal(12,2)" if text == "decimal" else None
        known_types = "string, integer, decimal(p,s), float, bool, date, timestamp"
        raise FileError(f"unknown type {text!r}: one of {known_types}", hint=hint)
    precision, scale = int(match[1]), int(match[2])
    if not (1 <= precision <= MAX_PRECISION and scale <= precision):
        raise FileError(f"decimal({precision},{scale}): 1 to {MAX_PRECISION} digits, s at most p")
    return "decimal", precision, scale


def _bound(value: object, kind: Type | None) -> Bound:
    if kind in ("string", "bool"):
        raise FileError(f"type {kind} has no range")
    if isinstance(value, (datetime.date, bool)):  # a datetime is a date
        if isinstance(value, bool) or kind not in ("date", "timestamp"):
            raise FileError("a range's bounds are of the column's type")
        return value
    try:
        if kind == "date":
            return datetime.date.fromisoformat(str(value))
        if kind == "timestamp":
            return datetime.datetime.fromisoformat(str(value))
        number = Decimal(str(value))
    except (ValueError, InvalidOperation):
        number = Decimal("NaN")
    if not number.is_finite():
        raise FileError(f"a range's bounds are of the column's type ({kind or 'a number'})")
    return number


def _domain_value(value: object, kind: Type | None) -> DomainValue:
    wanted: dict[Type | None, type | tuple[type, ...]] = {
        None: (str, int, bool),
        "string": str,
        "integer": int,
        "decimal": (int, float, str, Decimal),
        "bool": bool,
        "date": (str, datetime.date),
    }
    if kind not in wanted:
        raise FileError(f"type {kind} has no domain")
    if not isinstance(value, wanted[kind]) or (kind in ("integer", "decimal") and isinstance(value, bool)):
        raise FileError(f"a value of the domain is not of type {kind}", hint="quote it if it is text")
    try:
        if kind == "decimal":
            return Decimal(str(value))
        if kind == "date":
            return value if isinstance(value, datetime.date) else datetime.date.fromisoformat(str(value))
    except (ValueError, InvalidOperation):
        raise FileError(f"a value of the domain is not of type {kind}") from None
    return value  # type: ignore[return-value]  # checked against `wanted` above


def _units(bound: Bound, scale: int) -> Decimal:
    if isinstance(bound, datetime.datetime):
        naive = bound if bound.tzinfo is None else bound.astimezone(datetime.UTC).replace(tzinfo=None)
        return Decimal((naive - EPOCH) // datetime.timedelta(microseconds=1))
    if isinstance(bound, datetime.date):
        return Decimal(bound.toordinal() - EPOCH.toordinal())
    return Decimal(bound).scaleb(scale)
