"""Which rows really enter a sum: the conditions under which a row gives it something, one list for each way.

`min_rows` counts the rows that enter an aggregate: not NULL, condition true. A condition stands in WHERE and FILTER,
and inside the aggregated expression as well: SUM(CASE WHEN c THEN x ELSE 0 END) takes in only the rows where c is true,
and SUM(CASE WHEN c THEN x ELSE y END) takes in x from some rows and y from the others. Each way is counted by itself,
because who knows what the other ways gave is left with this one. A way that gives 0 or NULL takes in nothing.

- An arm of CASE, IF, NULLIF or COALESCE is taken by the rows where its condition is true and none before it.
- A condition used as a number, and `// % round floor ceil length` (of which a threshold can be made), give something
  where they are not 0.
- A boolean column, or one declared 0 to 1, that is multiplied by another column is a condition too. By itself it is a
  value like any other: SUM(defaulted) takes in every row that is not NULL.
- COVAR and CORR show the sum of a 0/1 column times the other one, and so, with the plain sum, that of the other rows:
  both kinds of rows are counted.
- What has two values by one condition, as 2 * flag, 1 - flag or CASE of two constants, gives something where it is not
  0, by either of them.
- MIN, MAX, quantiles and COUNT(DISTINCT) show that a 0 is there: an arm that gives 0 takes in rows, too.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace

from mpc.sql.expr import Expr, never_null, owners
from mpc.sql.lookups import all_of, looked
from mpc.sql.types import Aggregate
from party.errors import UsageError

__all__ = ["WAYS", "check_value", "chosen", "ways", "ways_of"]

WAYS = 64  # more ways than this are refused
Way = tuple[Expr, ...]  # conditions that all hold
_THRESHOLDS = ("//", "%", "round", "floor", "ceil", "length", "trycast", "tryunits")
_LINEAR = ("neg", "scale", "abs", "within")  # 0 where their argument is
_SHOWING = ("min", "max", "quantile_cont", "quantile_disc", "count_distinct")  # a 0 is a value like any other
_NATURAL = frozenset(
    {"column", "literal", "number", "scale", "neg", "+", "-", "*", "//", "round", "floor", "ceil", "lower", "upper"}
    | {"trim", "length", "substring", "extract", "date_trunc", "to_date", "cast", "day", "microsecond"}
)
_ALWAYS: tuple[Way, ...] = ((),)


def ways_of(aggregate: Aggregate) -> tuple[Way, ...]:
    """The ways in which rows enter an aggregate."""
    if aggregate.function in _SHOWING:
        return ways(aggregate.args[0], zero=True)
    return ways(aggregate.args[0]) if len(aggregate.args) == 1 else _pair_ways(*aggregate.args)


def ways(expr: Expr, zero: bool = False, flags: bool = False) -> tuple[Way, ...]:
    """Each way in which a row that is not NULL gives an expression something, as conditions; () for every row.

    zero: a 0 is something, too. flags: a column of zeros and ones is a condition, since another column is multiplied.
    """
    if expr.op == "literal":
        return () if expr.kind == "null" or (expr.value in (0, False) and not zero) else _ALWAYS
    two = _two_values(expr)
    if two is not None and (flags or not two.plain):
        return _some(*((two.yes,) for _ in "y" if two.high or zero), *((two.no,) for _ in "n" if two.low or zero))
    if expr.op in ("column", "scalar"):
        return _ALWAYS
    if expr.op == "total":  # a group enters by a way of its rows if one of them does
        (value,) = expr.args
        every = ways(value, expr.value in ("min", "max", "count")) if value.op != "literal" else _ALWAYS
        return tuple((Expr("total", "bool", (all_of(way),), "bool_or", low=0, high=1),) if way else () for way in every)
    if expr.op == "looked":
        row, value = expr.args
        return tuple(tuple(looked(row, condition) for condition in way) for way in ways(value, zero, flags))
    if expr.kind == "bool":
        return ((expr,), (_bool("not", expr),)) if zero else ((expr,),)
    if expr.op == "number":
        return ways(expr.args[0], zero, flags)
    if expr.op in ("+", "-"):
        left, right = (ways(arg, zero, flags) for arg in expr.args)
        return _both(left, right) if zero else _some(*left, *right)
    if expr.op == "*":
        one, other = expr.args
        return _both(ways(one, zero, flags or bool(owners(other))), ways(other, zero, flags or bool(owners(one))))
    if expr.op == "case":
        return _arms(list(expr.args[:-1:2]), [ways(arg, zero, flags) for arg in (*expr.args[1:-1:2], expr.args[-1])])
    if expr.op == "coalesce":
        args = expr.args[: next((n for n, arg in enumerate(expr.args) if never_null(arg)), len(expr.args)) + 1]
        tests = [_bool("not", _bool("isnull", arg)) for arg in args[:-1]]
        return _arms(tests, [ways(arg, zero, flags) for arg in args])
    if expr.op in (*_THRESHOLDS, *_LINEAR):
        inner = ways(expr.args[0], zero, flags)
    else:
        inner = _ALWAYS
        for arg in expr.args:  # a function of several: whatever each of them is made of
            inner = _both(inner, ways(arg, zero=True))
    if expr.op in _THRESHOLDS or expr.op == "date_diff":
        nothing = Expr("literal", expr.kind, value=0, scale=expr.scale, low=0, high=0)
        return _both(inner or _ALWAYS, ((_bool("<>", expr, nothing),),))
    return inner


def chosen(expr: Expr) -> bool:
    """Whether conditions, thresholds or texts of the statement decide which values an expression takes: then it may
    have one value more for a single row. Parts of texts and dates, and arithmetic, take the values of their columns."""
    if expr.op == "looked":
        return chosen(expr.args[1])
    return expr.op not in _NATURAL or any(chosen(arg) for arg in expr.args if expr.op != "column")


def check_value(expr: Expr) -> None:
    """Refuse numbers made of computed texts or floats: they could be 1 for one row alone, and no arm would tell."""
    if expr.op in ("column", "literal", "scalar") or expr.kind == "bool":
        return
    if expr.kind in ("string", "float") or (expr.op == "call" and expr.kind == "integer"):
        raise UsageError(
            f"a number made of a computed {'float' if expr.kind == 'float' else 'text'} is aggregated",
            hint="use it in a condition; of floats, TRY_CAST(column AS DECIMAL(p,s)) can be aggregated",
        )
    if expr.op == "looked":
        check_value(expr.args[1])
        return
    if expr.op == "length":
        text = expr.args[0]
        while text.op in ("lower", "upper", "trim", "substring"):
            text = text.args[0]
        check_value(text)
        return
    for place, arg in enumerate(expr.args):
        if expr.op != "case" or place % 2 or place == len(expr.args) - 1:
            check_value(arg)


def _pair_ways(x: Expr, y: Expr) -> tuple[Way, ...]:
    """The ways of COVAR and CORR, which show the sums of x, of y and of x times y."""
    joined = _both(ways(x), ways(y)) or _some(*ways(x), *ways(y))
    for side in (x, y):
        two = _two_values(side)
        if two is not None:
            joined = _some(*joined, (two.yes,), (two.no,))
    return joined


@dataclass(frozen=True)
class _Two:
    """`high` where a condition holds and `low` elsewhere, NULL apart. plain: the condition is a column of 0 and 1."""

    yes: Expr
    no: Expr
    high: int = 1
    low: int = 0
    plain: bool = False

    def mapped(self, function: Callable[[int], int]) -> _Two:
        return replace(self, high=function(self.high), low=function(self.low))


def _two_values(expr: Expr) -> _Two | None:
    """A column of zeros and ones, a condition as a number, CASE of two constants, and each with a constant."""
    if expr.op == "column":
        whole = 10**expr.scale
        if expr.kind == "bool":
            return _Two(expr, _bool("not", expr), plain=True)
        if expr.kind in ("integer", "decimal") and (expr.low, expr.high) == (0, whole):
            flag = _bool("<>", expr, Expr("literal", expr.kind, value=0, scale=expr.scale, low=0, high=0))
            return _Two(flag, _bool("not", flag), whole, plain=True)
        return None
    if expr.op == "looked":
        row, inner = expr.args[0], _two_values(expr.args[1])
        return None if inner is None else replace(inner, yes=looked(row, inner.yes), no=looked(row, inner.no))
    if expr.kind == "bool":
        return None if expr.op in ("literal", "total") else _Two(expr, _bool("not", expr))
    if expr.op in ("number", "neg", "abs", "scale"):
        found = _two_values(expr.args[0])
        factor = {"neg": -1, "scale": 10 ** int(expr.value or 0) if expr.op == "scale" else 1}.get(expr.op, 1)
        return None if found is None else found.mapped(lambda v: abs(v) if expr.op == "abs" else v * factor)
    if expr.op in ("+", "-", "*"):
        left, right = (_two_values(arg) if _constant(arg) is None else _constant(arg) for arg in expr.args)
        if isinstance(left, _Two) and isinstance(right, int):
            return left.mapped(lambda v: _ARITHMETIC[expr.op](v, right))
        if isinstance(left, int) and isinstance(right, _Two):
            return right.mapped(lambda v: _ARITHMETIC[expr.op](left, v))
        return None
    if expr.op == "case" and len(expr.args) == 3 and expr.args[0].kind == "bool" and expr.args[0].op != "literal":
        high, low = (_constant(arg) for arg in expr.args[1:])
        if high is not None and low is not None:
            test = expr.args[0]
            return _Two(test, _bool("not", _bool("istrue", test)), high, low)
    return None


_ARITHMETIC: dict[str, Callable[[int, int], int]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def _constant(expr: Expr) -> int | None:
    """The value of a number that stands in the statement."""
    known = expr.op == "literal" and expr.kind in ("integer", "decimal")
    return int(expr.value or 0) if known else None


def _arms(tests: list[Expr], values: list[tuple[Way, ...]]) -> tuple[Way, ...]:
    """tests, and the ways of the value of each and of what is left."""
    found: list[Way] = []
    before: Way = ()
    for test, value in zip(tests, values, strict=False):
        if test.kind == "null" or (test.op == "literal" and not test.value):
            continue  # never true
        if test.op == "literal":
            return _some(*found, *(before + way for way in value))
        found += [(*before, test, *way) for way in value]
        before = (*before, _bool("not", _bool("istrue", test)))
    return _some(*found, *(before + way for way in values[-1]))


def _both(left: tuple[Way, ...], right: tuple[Way, ...]) -> tuple[Way, ...]:
    return _some(*(one + other for one in left for other in right))


def _some(*found: Way) -> tuple[Way, ...]:
    distinct = tuple(dict.fromkeys(tuple(dict.fromkeys(way)) for way in found))
    if len(distinct) > WAYS:
        raise UsageError(
            f"an aggregated expression has {len(distinct)} ways to take in a row, at most {WAYS} are allowed",
            hint="use fewer arms of CASE in one aggregate, or several aggregates with FILTER",
        )
    return distinct


def _bool(op: str, *args: Expr) -> Expr:
    return Expr(op, "bool", args, low=0, high=1)
