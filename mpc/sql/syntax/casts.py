"""CAST and TRY_CAST of one party's columns.

CAST is allowed where it cannot fail. A conversion that may fail would end the run, which the peer sees: by a cast of
its choice it could ask of a single row. So that is TRY_CAST, NULL where a value does not convert.
"""

from __future__ import annotations

from sqlglot import exp

from mpc.sql import numbers
from mpc.sql.expr import Expr
from mpc.sql.syntax.functions import timestamp_of
from mpc.sql.syntax.scope import refuse

__all__ = ["TIMESTAMPS", "cast"]

TIMESTAMPS = (exp.DType.TIMESTAMP, exp.DType.TIMESTAMPNTZ)
_INTEGERS = {exp.DType.TINYINT: 7, exp.DType.SMALLINT: 15, exp.DType.INT: 31, exp.DType.BIGINT: 63}
_NAMES = {
    exp.DType.TINYINT: "TINYINT",
    exp.DType.SMALLINT: "SMALLINT",
    exp.DType.INT: "INTEGER",
    exp.DType.BIGINT: "BIGINT",
}
_HINT = (
    "casts: to an integer type, DECIMAL(p,s), DOUBLE, VARCHAR, DATE, TIMESTAMP or BOOLEAN, between types that convert;"
    " TRY_CAST where a value may not"
)
_MAY_FAIL = "a value may not convert, and that would end the run: write TRY_CAST, which gives NULL there"


def cast(a: Expr, node: exp.Expression) -> Expr:
    """CAST(a AS ...), or TRY_CAST."""
    found = _cast(a, node)
    if found.op in ("trycast", "tryunits", "within") and found is not a and not isinstance(node, exp.TryCast):
        raise refuse(node, hint=_MAY_FAIL)
    return found


def _cast(a: Expr, node: exp.Expression) -> Expr:
    to = node.args["to"]
    target = to.this
    if target in _INTEGERS:
        return _integer(a, node)
    if target == exp.DType.DECIMAL:
        return _decimal(a, node)
    if target == exp.DType.DOUBLE and a.kind in ("integer", "decimal", "float"):
        return a if a.kind == "float" else Expr("float", "float", (a,), "CAST")
    if target == exp.DType.TEXT and a.kind in ("string", "integer", "bool", "date"):
        return a if a.kind == "string" else Expr("cast", "string", (a,), "VARCHAR")
    if target == exp.DType.DATE and a.kind in ("date", "timestamp"):
        return a if a.kind == "date" else Expr("to_date", "date", (a,))
    if target in TIMESTAMPS and a.kind in ("date", "timestamp"):
        return timestamp_of(a)
    if target == exp.DType.BOOLEAN and a.kind == "bool":
        return a
    if target == exp.DType.BOOLEAN and a.kind == "integer":
        return Expr("<>", "bool", (a, numbers.literal("0")), low=0, high=1)
    if a.kind == "string" and target == exp.DType.DOUBLE:
        return Expr("trycast", "float", (a,), "DOUBLE")
    if a.kind == "string" and target == exp.DType.DATE:
        return Expr("trycast", "date", (a,), "DATE")
    if a.kind == "string" and target in TIMESTAMPS:
        return Expr("trycast", "timestamp", (a,), "TIMESTAMP")
    raise refuse(node, hint=_HINT)


def _integer(a: Expr, node: exp.Expression) -> Expr:
    target = node.args["to"].this
    low, high = -(2 ** _INTEGERS[target]), 2 ** _INTEGERS[target] - 1
    if a.kind in ("string", "float"):
        return Expr("trycast", "integer", (a,), _NAMES[target], low=low, high=high)
    if a.kind in ("integer", "bool"):
        return _within(numbers.as_number(a), low, high)
    if a.kind == "decimal":
        return _within(_rounded(a, 0), low, high)
    raise refuse(node, hint=_HINT)


def _decimal(a: Expr, node: exp.Expression) -> Expr:
    sizes = [part.this for part in node.args["to"].expressions]
    if len(sizes) != 2 or not all(isinstance(size, exp.Literal) and str(size.this).isdecimal() for size in sizes):
        raise refuse(node, hint="DECIMAL(p,s)")
    precision, scale = (int(size.this) for size in sizes)
    if not 0 <= scale <= min(precision, 18) or not 1 <= precision <= 38:
        raise refuse(node, hint="DECIMAL(p,s) of at most 38 digits, at most 18 of them behind the point")
    low, high = 1 - 10**precision, 10**precision - 1
    if a.kind in ("string", "float"):
        if precision + scale + 1 > 38:
            raise refuse(node, hint="DECIMAL(p,s) with p + s at most 37")
        return Expr("tryunits", "decimal", (a,), scale=scale, low=low, high=high)
    if a.kind in ("integer", "bool", "decimal"):
        number = numbers.as_number(a)
        moved = numbers.rescale(number, scale) if number.scale <= scale else _rounded(number, scale)
        return _within(moved, low, high)
    raise refuse(node, hint=_HINT)


def _rounded(a: Expr, scale: int) -> Expr:
    """Half away from zero, as DuckDB casts decimals."""
    one = 10 ** (a.scale - scale)
    low, high = (None if end is None else end // one for end in (a.low, a.high))
    low, high = None if low is None else low - 1, None if high is None else high + 1
    return Expr("round", "decimal" if scale else "integer", (a,), a.scale - scale, scale=scale, low=low, high=high)


def _within(a: Expr, low: int, high: int) -> Expr:
    """The same number, NULL where it lies outside of its type; as it is where it cannot."""
    if a.low is not None and a.high is not None and low <= a.low and a.high <= high:
        return a
    if a.kind == "integer" and (low, high) == (-(2**63), 2**63 - 1) and a.op == "column":
        return a  # what a column holds fits
    low = low if a.low is None else max(low, a.low)
    high = high if a.high is None else min(high, a.high)
    return Expr("within", a.kind, (a,), scale=a.scale, low=low, high=high)
