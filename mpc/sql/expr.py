"""Typed expressions over a row: what a statement's parts become, the same value on both sides."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

__all__ = ["COMPARISONS", "NULL_IF_AN_ARGUMENT_IS", "Expr", "Kind", "never_null", "owners"]

Kind = Literal["integer", "decimal", "float", "string", "bool", "date", "timestamp", "null"]


@dataclass(frozen=True)
class Expr:
    """One expression over a row, typed. Numbers are integers in units of 10**-scale within [low, high] where known."""

    op: str
    kind: Kind
    args: tuple[Expr, ...] = ()
    value: str | int | bool | None = None
    owner: str | None = None
    scale: int = 0
    low: int | None = None
    high: int | None = None

    @property
    def most(self) -> int | None:
        """The largest magnitude it can take, None when nothing is known."""
        return None if self.low is None or self.high is None else max(abs(self.low), abs(self.high))

    @cached_property
    def size(self) -> int:
        """How large its text would be, in nodes: a short statement may repeat one part of it exponentially often."""
        if self.op == "column":
            return 1  # what is declared of it is not written
        times = (
            3
            if self.op in ("round", "floor", "ceil")
            else 2
            if self.op in ("within", "days", "interval", "trycast")
            else 1
        )  # as `render` writes them
        return 1 + times * sum(arg.size for arg in self.args)

    @cached_property
    def _code(self) -> int:
        return hash((self.op, self.kind, self.args, self.value, self.owner, self.scale, self.low, self.high))

    def __hash__(self) -> int:
        """Each expression is walked once, not once for every expression around it."""
        return self._code


COMPARISONS = ("=", "<>", "<", "<=", ">", ">=")
NULL_IF_AN_ARGUMENT_IS = frozenset(
    {"+", "-", "*", "//", "%", "neg", "scale", "number", "abs", "round", "floor", "ceil", "like", "ilike"}
    | {*COMPARISONS, "and", "or", "not", "less", "equal", "day", "microsecond", "digest"}
    | {"call", "||", "cast", "date_diff"}
)


def never_null(expr: Expr) -> bool:
    """Whether a value is there in every row: of columns declared so, and of what is NULL only where an argument is."""
    if expr.op == "column":
        return any(arg.op == "required" for arg in expr.args)
    if expr.op == "literal":
        return expr.kind != "null"
    if expr.op in ("isnull", "istrue", "isfalse", "matched", "known", "binned", "rank"):
        return True
    if expr.op in ("place", "granted"):
        return never_null(expr.args[0])
    if expr.op == "coalesce":
        return any(never_null(arg) for arg in expr.args)
    if expr.op == "case":
        return all(never_null(arg) for arg in (*expr.args[1:-1:2], expr.args[-1]))
    return expr.op in NULL_IF_AN_ARGUMENT_IS and all(never_null(arg) for arg in expr.args)


def owners(expr: Expr) -> frozenset[str]:
    """The parties whose columns an expression reads."""
    mine = frozenset() if expr.owner is None else frozenset({expr.owner})
    return mine.union(*(owners(arg) for arg in expr.args))
