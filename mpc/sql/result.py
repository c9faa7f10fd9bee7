"""From opened integers to the answer: closed forms in exact arithmetic, floats only at the very end."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from mpc.sql.domains import domain_of
from mpc.sql.types import Aggregate, Post

__all__ = ["Cell", "Exact", "Number", "Result", "close", "evaluate", "shown"]

_EPOCH = datetime.date(1970, 1, 1)

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class Exact:
    """value * 10**-scale; a decimal is shown as text with its digits, an integer as an integer."""

    value: int
    scale: int = 0
    decimal: bool = False

    @property
    def fraction(self) -> Fraction:
        return Fraction(self.value, 10**self.scale)


Number = Exact | float | None


@dataclass(frozen=True)
class Result:
    """The answer at a receiver: rows as objects in the order of the group keys; decimals as strings, NULL as None."""

    columns: tuple[str, ...]
    rows: tuple[dict[str, Cell], ...]
    suppressed_groups: int


def close(aggregate: Aggregate, count: int, sums: Sequence[int]) -> Number | Cell:
    """The value of one aggregate from its opened count and sums, in units of their scales.

    NULL when no row enters, and for sample statistics of one row, as SQL says; CORR of a constant is NULL too.
    """
    name = aggregate.function
    if name == "count":
        return Exact(count)
    if count == 0:
        return Exact(0) if name == "count_distinct" else None
    x = aggregate.args[0]
    if name == "sum":
        return Exact(sums[0], x.scale, x.kind == "decimal")
    if name == "count_distinct":
        return Exact(sums[0])
    if name in ("min", "max", "quantile_cont", "quantile_disc"):
        return _ranked(aggregate, count, sums)
    unit = Fraction(1, 10**x.scale)
    if name == "avg":
        return float(Fraction(sums[0], count) * unit)
    if name == "corr":
        return _correlation(count, sums)
    if name.startswith("regr"):
        return _regression(aggregate, count, sums)
    if name.endswith("samp") and count < 2:
        return None
    below = count * (count - 1 if name.endswith("samp") else count)
    if name.startswith("covar"):
        y = aggregate.args[1]
        return float(Fraction(count * sums[2] - sums[0] * sums[1], below) * unit * Fraction(1, 10**y.scale))
    variance = Fraction(count * sums[1] - sums[0] ** 2, below) * unit * unit
    return _root(variance) if name.startswith("stddev") else float(variance)


def _correlation(count: int, sums: Sequence[int]) -> float | None:
    sum_x, sum_y, sum_xy, sum_xx, sum_yy = sums
    spread = (count * sum_xx - sum_x**2) * (count * sum_yy - sum_y**2)
    if spread <= 0:
        return None
    joint = count * sum_xy - sum_x * sum_y
    return math.copysign(_root(Fraction(joint**2, spread)), joint) if joint else 0.0


def _regression(aggregate: Aggregate, count: int, sums: Sequence[int]) -> float | None:
    """Of the first argument, y, on the second, x; NULL where x is constant, and R2 is 1 where y is."""
    y, x = aggregate.args
    sum_y, sum_x, sum_xy, *squares = sums
    sum_xx = squares[-1]
    spread = count * sum_xx - sum_x**2
    if spread == 0:
        return None
    joint = count * sum_xy - sum_x * sum_y
    if aggregate.function == "regr_r2":
        other = count * squares[0] - sum_y**2
        return float(Fraction(joint**2, spread * other)) if other else 1.0
    slope = Fraction(joint, spread)
    if aggregate.function == "regr_slope":
        return float(slope * Fraction(10**x.scale, 10**y.scale))
    return float((sum_y - slope * sum_x) / count / 10**y.scale)


def _ranked(aggregate: Aggregate, count: int, found: Sequence[int]) -> Number | Cell:
    """MIN, MAX and quantiles from the values found, in the type of the column. Between two values a quantile of
    integers is a float, of decimals a decimal with as many digits as it takes."""
    x, value = aggregate.args[0], found[0]
    if x.kind == "date":
        return datetime.date.fromordinal(_EPOCH.toordinal() + value).isoformat()
    if x.kind == "timestamp":
        moment = datetime.datetime(_EPOCH.year, 1, 1) + datetime.timedelta(microseconds=value)
        return moment.isoformat(sep=" ")
    if x.kind == "string":
        return sorted(map(str, domain_of(x) or ()))[value]
    if aggregate.function != "quantile_cont":
        return bool(value) if x.kind == "bool" else Exact(value, x.scale, x.kind == "decimal")
    fraction = aggregate.args[1]
    place = Fraction(int(fraction.value or 0), 10**fraction.scale) * (count - 1)
    exact = value + (found[-1] - value) * (place - math.floor(place))
    if x.kind != "decimal":
        return float(exact)
    scale = x.scale
    while exact.denominator != 1:
        exact, scale = exact * 10, scale + 1
    return Exact(int(exact), scale, True)


def _root(value: Fraction) -> float:
    return math.sqrt(value)


def evaluate(post: Post, aggregates: Sequence[Number | Cell], keys: Sequence[Cell]) -> Number | Cell:
    """One column of one row. Arithmetic with NULL, and division by zero, give NULL."""
    if post.op == "key":
        return keys[post.value]
    if post.op == "aggregate":
        return aggregates[post.value]
    if post.op == "literal":
        return Exact(post.value, post.scale, post.scale > 0)
    args = [evaluate(arg, aggregates, keys) for arg in post.args]
    args = [Exact(arg) if isinstance(arg, int) else arg for arg in args]
    numbers = [arg for arg in args if isinstance(arg, (Exact, float))]
    if len(numbers) != len(args):
        return None
    if post.op == "neg":
        (a,) = numbers
        return Exact(-a.value, a.scale, a.decimal) if isinstance(a, Exact) else -a
    if post.op == "float":
        return _float(numbers[0])
    return _binary(post.op, *numbers)


def _binary(op: str, a: Exact | float, b: Exact | float) -> Exact | float | None:
    if op == "/":
        if _float(b) == 0.0:
            return None
        if isinstance(a, Exact) and isinstance(b, Exact):
            return float(a.fraction / b.fraction)
        return _float(a) / _float(b)
    if isinstance(a, Exact) and isinstance(b, Exact):
        decimal = a.decimal or b.decimal
        if op == "*":
            return Exact(a.value * b.value, a.scale + b.scale, decimal)
        scale = max(a.scale, b.scale)
        left, right = a.value * 10 ** (scale - a.scale), b.value * 10 ** (scale - b.scale)
        return Exact(left + right if op == "+" else left - right, scale, decimal)
    x, y = _float(a), _float(b)
    value = x * y if op == "*" else x + y if op == "+" else x - y
    return value if math.isfinite(value) else None


def _float(value: Exact | float) -> float:
    return float(value.fraction) if isinstance(value, Exact) else value


def shown(value: Number | Cell) -> Cell:
    """As the contract shows it: integers however large, decimals as text at their scale."""
    if not isinstance(value, Exact):
        return value
    if not value.decimal:
        return value.value
    digits = f"{abs(value.value):0{value.scale + 1}d}"
    sign = "-" if value.value < 0 else ""
    whole, part = digits[: len(digits) - value.scale], digits[len(digits) - value.scale :]
    return f"{sign}{whole}.{part}" if value.scale else f"{sign}{whole}"
