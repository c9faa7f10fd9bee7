"""Which columns an expression reads, of which tables, and for what: the grants that a statement needs."""

from __future__ import annotations

from collections.abc import Iterator

from mpc.sql.expr import COMPARISONS, Expr, owners

__all__ = ["columns_of"]

_OWN = {"rank": ("rank",), **dict.fromkeys(("bin", "bin_above", "bin_to", "binned"), ("group", "rank"))}


def columns_of(expr: Expr, use: str, table: str | None = None) -> Iterator[tuple[str, str | None, str, str]]:
    """Every column an expression reads: (owner, table, column, use); None is the aligned table. Conditions count as
    `filter`, whatever they stand in, what is compared with the other party's columns as `compare`, and columns on which
    an owner joins its own tables as `join`. What statistics are made of says its own uses."""
    if expr.op == "column" and expr.owner is not None:
        yield expr.owner, table, str(expr.value), use
        return
    own = (str(expr.value),) if expr.op in ("known", "granted") else _OWN.get(expr.op)
    if own is not None:
        columns = {found[:3] for arg in expr.args for found in columns_of(arg, use, table)}
        yield from ((*column, word) for column in columns for word in own)
        return
    if _may_be_null(expr) and use in ("aggregate", "rank"):
        yield from (found for arg in expr.args for found in columns_of(arg, "filter", table))  # NULL where it fails
    if expr.op in ("looked", "matched"):
        found = expr.args[0]
        there = str(found.value)
        yield from columns_of(found.args[0], "filter", there)
        for key, here in zip(found.args[1::2], found.args[2::2], strict=True):
            yield from columns_of(key, "join", there)
            yield from columns_of(here, "join", table)
        if expr.op == "looked":
            yield from columns_of(expr.args[1], use, there)
        return
    if expr.op == "total" and expr.value in ("min", "max"):
        yield from columns_of(expr.args[0], "rank", table)
    if expr.op in ("scalar", "member"):
        there = str(expr.args[0].value)
        yield from columns_of(expr.args[1], "filter", there)
        if expr.op == "member":
            yield from columns_of(expr.args[3], "join", table)
        inner = "join" if expr.op == "member" else "rank" if expr.value in ("min", "max") else "aggregate"
        for arg in expr.args[2:3]:
            yield from columns_of(arg, inner, there)
        return
    if expr.op in COMPARISONS and len(owners(expr)) > 1:
        use = "compare"
    elif expr.op == "abs" and len(owners(expr)) > 1:
        yield from (found for arg in expr.args for found in columns_of(arg, "compare", table))  # which one is larger
    elif use == "aggregate" and expr.kind == "bool":
        use = "filter"  # SUM(x > 1) counts by a condition, as COUNT(*) FILTER (WHERE x > 1) does
    for place, arg in enumerate(expr.args):
        condition = expr.op == "case" and place % 2 == 0 and place < len(expr.args) - 1
        yield from columns_of(arg, "filter" if condition else use, table)


def _may_be_null(expr: Expr) -> bool:
    """Whether it may be NULL where its arguments are not: whoever counts it counts by a condition."""
    if expr.op == "float":
        return expr.value not in ("CAST", "+", "-", "*")
    return expr.op in ("within", "trycast", "tryunits", "days", "interval")
