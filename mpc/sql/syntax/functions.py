"""Functions of one party's columns, typed: dates, greatest and least, and floats, for conditions only; texts apart.

Each names the parts of sqlglot's node that are expressions, and those that are not; whatever else a node holds is
refused. Functions by which a threshold could be made are written as CASE, so that `mpc.sql.entering` sees their arms.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from mpc.sql import numbers
from mpc.sql.across import ordinal
from mpc.sql.expr import Expr
from mpc.sql.syntax.scope import refuse
from mpc.sql.syntax.texts import NAMED, TEXTS, Build, Function, constant_text

__all__ = ["dated", "floating", "of", "shifted", "timestamp_of"]

_YEARS = (-290308, 294247)
_PARTS = {
    "year": _YEARS, "quarter": (1, 4), "month": (1, 12), "week": (1, 53), "day": (1, 31), "dow": (0, 6),
    "dayofweek": (0, 6), "isodow": (1, 7), "doy": (1, 366), "hour": (0, 23), "minute": (0, 59), "second": (0, 59),
}  # fmt: skip
_TRUNCATIONS = ("year", "quarter", "month", "week", "day", "hour", "minute")
_BETWEEN = {  # how far two dates lie apart at most; NULL beyond
    "year": 12_000, "quarter": 48_000, "month": 144_000, "week": 630_000, "day": 4_400_000,
    "hour": 105_000_000, "minute": 6_300_000_000, "second": 380_000_000_000,
}  # fmt: skip
_SPANS = ("year", "month", "week", "day", "hour", "minute", "second")


def of(node: exp.Expression) -> Function | None:
    """The function that a node calls; None if there is none."""
    if isinstance(node, exp.Anonymous):
        name = str(node.this).lower()
        return NAMED.get(name) or _NAMED.get(name)
    return TEXTS.get(type(node)) or _FUNCTIONS.get(type(node))


# --- dates ------------------------------------------------------------------------------------------------------------


def _moments(node: exp.Expression, args: Sequence[Expr]) -> None:
    for arg in args:
        if arg.kind not in ("date", "timestamp"):
            raise refuse(node, hint="a date or timestamp is due")


def timestamp_of(expr: Expr) -> Expr:
    """A date's first moment."""
    if expr.kind != "date":
        return expr
    if expr.op == "literal":
        return Expr("literal", "timestamp", value=f"{expr.value} 00:00:00")
    return Expr("cast", "timestamp", (expr,), "TIMESTAMP")


def _extracted(unit: str, node: exp.Expression, arg: Expr) -> Expr:
    bounds = _PARTS.get(unit.lower())
    if bounds is None or arg.kind not in ("date", "timestamp"):
        raise refuse(node, hint=f"of a date or timestamp: {', '.join(_PARTS)}")
    return Expr("extract", "integer", (arg,), unit.lower(), low=bounds[0], high=bounds[1])


def _extract(node: exp.Expression, args: Sequence[Expr]) -> Expr:
    return _extracted(str(node.this.this), node, args[0])


def _date_part(node: exp.Expression, args: Sequence[Expr]) -> Expr:
    if len(args) != 2:
        raise refuse(node, hint="date_part('year', x)")
    return _extracted(constant_text(node, args[0]), node, args[1])


def _part(unit: str) -> Build:
    return lambda node, args: _extracted(unit, node, args[0])


def _date_trunc(node: exp.Expression, args: Sequence[Expr]) -> Expr:
    unit = str(node.args["unit"].this).lower()
    if args[0].kind not in ("date", "timestamp") or unit not in _TRUNCATIONS:
        raise refuse(node, hint=f"of a date or timestamp, to one of {', '.join(_TRUNCATIONS)}")
    return Expr("date_trunc", "timestamp", tuple(args), unit)


def _date_diff(node: exp.Expression, args: Sequence[Expr]) -> Expr:
    """How many boundaries of a unit lie between two moments."""
    unit = str(node.args["unit"].this).lower() if node.args.get("unit") is not None else "day"
    _moments(node, args)
    end, start = args
    most = _BETWEEN.get(unit)
    if most is None:
        raise refuse(node, hint=f"between dates or timestamps, in one of {', '.join(_BETWEEN)}")
    if unit == "day" and start.kind == end.kind == "date":
        return numbers.add("-", ordinal(end), ordinal(start))
    found = Expr("date_diff", "integer", (timestamp_of(start), timestamp_of(end)), unit)
    return Expr("within", "integer", (found,), low=-most, high=most)


def _last_day(node: exp.Expression, args: Sequence[Expr]) -> Expr:
    _moments(node, args)
    return Expr("call", "date", tuple(args), "last_day")


def _strftime(node: exp.Expression, args: Sequence[Expr]) -> Expr:
    _moments(node, args[:1])
    if len(constant_text(node, args[1])) > 100:
        raise refuse(node, hint="a format of at most 100 characters")
    return Expr("call", "string", tuple(args), "strftime")


def dated(op: str, left: Expr, right: Expr) -> Expr | None:
    """date - date is a number of days, date + number a date; None for anything else."""
    if op == "-" and left.kind == right.kind == "date":
        return numbers.add("-", ordinal(left), ordinal(right))
    if op == "+" and left.kind == "integer" and right.kind == "date":
        left, right = right, left
    if left.kind == "date" and right.kind == "integer" and op in "+-":
        return Expr("days", "date", (left, right if op == "+" else numbers.negate(right)))
    return None


def shifted(op: str, left: Expr, node: exp.Interval) -> Expr:
    """A date or timestamp and a constant interval: a timestamp."""
    unit = str(node.unit.this if node.unit is not None else "").lower().removesuffix("s")
    amount = node.this
    text = str(amount.this) if isinstance(amount, exp.Literal) else ""
    digits = text.removeprefix("-")
    if unit not in _SPANS or not (digits.isascii() and digits.isdecimal()) or len(digits) > 9 or op not in "+-":
        raise refuse(node, hint=f"a whole constant number of {', '.join(_SPANS)}")
    if left.kind not in ("date", "timestamp"):
        raise refuse(node, hint="is added to a date or timestamp")
    number = int(text) if op == "+" else -int(text)
    return Expr("interval", "timestamp", (left,), f"{number} {unit}")


# --- numbers ----------------------------------------------------------------------------------------------------------


def _bool(op: str, *args: Expr) -> Expr:
    return Expr(op, "bool", args, low=0, high=1)


def _case(*arms: Expr) -> Expr:
    """Condition, value, ..., else: as CASE."""
    values, shape = numbers.unify((*arms[1:-1:2], arms[-1]), "CASE")
    args = [part for pair in zip(arms[:-1:2], values, strict=False) for part in pair]
    return Expr("case", shape.kind, (*args, values[-1]), scale=shape.scale, low=shape.low, high=shape.high)


def _extreme(op: str) -> Build:
    """greatest, least: NULLs are left out."""

    def build(node: exp.Expression, args: Sequence[Expr]) -> Expr:
        found, *others = args
        for other in others:
            values, _ = numbers.unify((found, other), str(node.key).upper())
            a, b = values
            if not (numbers.numeric(a) or a.kind in ("date", "timestamp")) or a.kind == "bool":
                raise refuse(node, hint="of numbers, dates or timestamps")
            found = _case(_bool("isnull", a), b, _bool("isnull", b), a, _bool(op, a, b), a, b)
        return found

    return build


def _sign(node: exp.Expression, args: Sequence[Expr]) -> Expr:
    (a,) = args
    if not numbers.numeric(a) or a.kind == "null":
        raise refuse(node, hint="of a number")
    a, zero = numbers.common(a, numbers.literal("0"))
    one = numbers.literal("1")
    null = Expr("literal", "null")
    return _case(_bool(">", a, zero), one, _bool("<", a, zero), numbers.negate(one), _bool("=", a, zero),
                 numbers.literal("0"), null)  # fmt: skip


def floating(op: str, left: Expr, right: Expr) -> Expr | None:
    """Arithmetic of floats, and division; None for anything else."""
    if op != "/" and "float" not in (left.kind, right.kind):
        return None
    for side in (left, right):
        if side.kind != "float" and (not numbers.numeric(side) or side.kind == "bool"):
            return None
    return Expr("float", "float", (left, right), op)


def _float(name: str) -> Build:
    """A function of numbers that gives a float."""

    def build(node: exp.Expression, args: Sequence[Expr]) -> Expr:
        for arg in args:
            if arg.kind not in ("float", "integer", "decimal"):
                raise refuse(node, hint="of numbers")
        return Expr("float", "float", tuple(args), name)

    return build


def _log(node: exp.Expression, args: Sequence[Expr]) -> Expr:
    """log(x) and log10(x) are of base 10, log2(x) of base 2."""
    if len(args) == 1:
        return _float("log10")(node, args)
    base = args[0].value if args[0].op == "literal" else None
    if base not in (2, 10):
        raise refuse(node, hint="log10(x), log2(x) or ln(x)")
    return _float(f"log{base}")(node, args[1:])


_TWO = ("this", "expression")
_FUNCTIONS: dict[type[exp.Expression], Function] = {
    exp.Extract: Function(("expression",), _extract, ("this",)),
    exp.Year: Function(("this",), _part("year")),
    exp.Quarter: Function(("this",), _part("quarter")),
    exp.Month: Function(("this",), _part("month")),
    exp.Week: Function(("this",), _part("week")),
    exp.Day: Function(("this",), _part("day")),
    exp.DayOfWeek: Function(("this",), _part("dayofweek")),
    exp.DayOfWeekIso: Function(("this",), _part("isodow")),
    exp.DayOfYear: Function(("this",), _part("doy")),
    exp.Hour: Function(("this",), _part("hour")),
    exp.Minute: Function(("this",), _part("minute")),
    exp.Second: Function(("this",), _part("second")),
    exp.TimestampTrunc: Function(("this",), _date_trunc, ("unit",)),
    exp.DateTrunc: Function(("this",), _date_trunc, ("unit",)),
    exp.DateDiff: Function(_TWO, _date_diff, ("unit", "date_part_boundary")),
    exp.LastDay: Function(("this",), _last_day),
    exp.TimeToStr: Function(("this", "format"), _strftime),
    exp.Greatest: Function(("this", "expressions"), _extreme(">="), ("ignore_nulls",)),
    exp.Least: Function(("this", "expressions"), _extreme("<="), ("ignore_nulls",)),
    exp.Sign: Function(("this",), _sign),
    exp.Sqrt: Function(("this",), _float("sqrt")),
    exp.Exp: Function(("this",), _float("exp")),
    exp.Ln: Function(("this",), _float("ln")),
    exp.Log: Function(_TWO, _log),
    exp.Pow: Function(_TWO, _float("pow")),
}  # fmt: skip
_NAMED = {
    "date_part": Function(("expressions",), _date_part, ("this",)),
    "datepart": Function(("expressions",), _date_part, ("this",)),
}
