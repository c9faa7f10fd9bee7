"""The values an expression may take, where both sides know them without looking at data."""

from __future__ import annotations

from mpc.sql.expr import Expr

__all__ = ["domain_of"]

_SMALL = 64  # whole numbers of at most this many values are a domain by themselves

Values = tuple[str | int | bool, ...]


def domain_of(expr: Expr) -> Values | None:
    """Booleans, declared domains, constants, CASE of constants, and short ranges of whole numbers; None for others."""
    if expr.op == "granted":
        return domain_of(expr.args[0])
    if expr.kind == "bool":
        return False, True
    if expr.op == "literal" and expr.kind == "string":
        return (str(expr.value),)
    if expr.op == "looked":
        return domain_of(expr.args[1])
    if expr.op == "column":
        declared = next((arg for arg in expr.args if arg.op == "domain"), None)
        if declared is not None:
            return tuple(value.value for value in declared.args if value.value is not None)
    if expr.op == "case":
        branches = [*expr.args[1:-1:2], expr.args[-1]]
        real = [branch for branch in branches if branch.kind != "null"]
        if all(branch.op == "literal" and branch.kind in ("string", "integer") for branch in real):
            return tuple(dict.fromkeys(branch.value for branch in real if branch.value is not None))
    if expr.kind == "integer" and expr.low is not None and expr.high is not None and expr.high - expr.low < _SMALL:
        return tuple(range(expr.low, expr.high + 1))
    return None
