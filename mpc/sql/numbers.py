"""Typed expressions built with their intervals: numbers are integers in units of 10**-scale."""

from __future__ import annotations

from mpc.sql.expr import Expr, Kind
from party.errors import UsageError

__all__ = ["add", "as_number", "common", "literal", "multiply", "negate", "numeric", "rescale", "unify"]

Bounds = tuple[int | None, int | None]


def numeric(expr: Expr) -> bool:
    """Whether exact arithmetic is possible: integers, decimals, and booleans as 0 and 1."""
    return expr.kind in ("integer", "decimal", "bool", "null")


def literal(text: str) -> Expr:
    """An integer or decimal literal from its SQL text."""
    whole, dot, fraction = text.partition(".")
    digits = whole + fraction
    if not digits.isdigit() or len(digits) > 36 or not digits.isascii():
        raise UsageError(f"the number {text[:40]} is not supported", hint="write it in digits, as in 12.50")
    value = int(digits)
    kind: Kind = "decimal" if dot else "integer"
    return Expr("literal", kind, value=value, scale=len(fraction), low=value, high=value)


def as_number(expr: Expr) -> Expr:
    """A boolean as 0 or 1; other numbers as they are."""
    if expr.kind == "bool":
        return Expr("number", "integer", (expr,), low=0, high=1)
    return expr


def rescale(expr: Expr, scale: int) -> Expr:
    """The same number with more digits after the point."""
    if expr.scale == scale or expr.kind == "null":
        return expr
    factor = 10 ** (scale - expr.scale)
    low, high = (None if bound is None else bound * factor for bound in (expr.low, expr.high))
    if expr.op == "literal":
        return Expr("literal", "decimal", value=int(expr.value or 0) * factor, scale=scale, low=low, high=high)
    return Expr("scale", "decimal", (expr,), value=scale - expr.scale, scale=scale, low=low, high=high)


def common(*exprs: Expr) -> tuple[Expr, ...]:
    """All at the largest of their scales."""
    scale = max(expr.scale for expr in exprs)
    return tuple(rescale(as_number(expr), scale) for expr in exprs)


def _kind(*exprs: Expr) -> Kind:
    return "decimal" if any(expr.kind == "decimal" for expr in exprs) else "integer"


def add(op: str, left: Expr, right: Expr) -> Expr:
    """left + right or left - right."""
    a, b = common(left, right)
    low, high = (None, None)
    if None not in (a.low, a.high, b.low, b.high):
        if op == "+":
            low, high = a.low + b.low, a.high + b.high  # type: ignore[operator]  # checked in the line above
        else:
            low, high = a.low - b.high, a.high - b.low  # type: ignore[operator]
    return Expr(op, _kind(a, b), (a, b), scale=a.scale, low=low, high=high)


def negate(expr: Expr) -> Expr:
    """-expr."""
    a = as_number(expr)
    low, high = (None, None) if a.low is None or a.high is None else (-a.high, -a.low)
    if a.op == "literal":
        return Expr("literal", a.kind, value=-int(a.value or 0), scale=a.scale, low=low, high=high)
    return Expr("neg", _kind(a), (a,), scale=a.scale, low=low, high=high)


def multiply(left: Expr, right: Expr) -> Expr:
    """left * right; scales add."""
    a, b = as_number(left), as_number(right)
    bounds: Bounds = (None, None)
    if a.low is not None and a.high is not None and b.low is not None and b.high is not None:
        corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
        bounds = min(corners), max(corners)
    return Expr("*", _kind(a, b), (a, b), scale=a.scale + b.scale, low=bounds[0], high=bounds[1])


def unify(exprs: tuple[Expr, ...], where: str) -> tuple[tuple[Expr, ...], Expr]:
    """Branches of CASE or COALESCE brought to one kind: the branches, and a bare expression of kind, scale, bounds."""
    real = [expr for expr in exprs if expr.kind != "null"]
    if not real:
        raise UsageError(f"{where} of NULLs only has no type")
    kinds = {expr.kind for expr in real}
    if kinds <= {"integer", "decimal"}:
        branches = common(*exprs)
        real = [expr for expr in branches if expr.kind != "null"]
        low, high = _hull(real)
        return branches, Expr(where, _kind(*real), scale=max(expr.scale for expr in real), low=low, high=high)
    if len(kinds) > 1:
        raise UsageError(f"{where} mixes {' and '.join(sorted(kinds))}", hint="give all branches one type")
    low, high = _hull(real)
    return exprs, Expr(where, real[0].kind, low=low, high=high)


def _hull(exprs: list[Expr]) -> Bounds:
    lows = [expr.low for expr in exprs]
    highs = [expr.high for expr in exprs]
    if None in lows or None in highs:
        return None, None
    return min(low for low in lows if low is not None), max(high for high in highs if high is not None)
