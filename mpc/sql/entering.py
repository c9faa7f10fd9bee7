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
"""

from __future__ import annotations

from mpc.sql.lookups import all_of, looked
from mpc.sql.types import Expr, owners
from party.errors import UsageError

__all__ = ["WAYS", "check_value", "pair_ways", "ways"]

WAYS = 64  # more ways than this are refused
Way = tuple[Expr, ...]  # conditions that all hold
_THRESHOLDS = ("//", "%", "round", "floor", "ceil", "length", "date_diff", "trycast", "tryunits")
_ALWAYS: tuple[Way, ...] = ((),)


def ways(expr: Expr) -> tuple[Way, ...]:
    """Each way in which a row that is not NULL gives an expression something, as conditions; () for every row."""
    if expr.op == "literal":
        return () if expr.kind == "null" or expr.value in (0, False) else _ALWAYS
    if expr.op in ("column", "scalar"):
        return _ALWAYS
    if expr.op == "total":  # a group enters by a way of its rows if one of them does
        (value,) = expr.args
        every = ways(value) if value.op != "literal" else _ALWAYS
        return tuple((Expr("total", "bool", (all_of(way),), "bool_or", low=0, high=1),) if way else () for way in every)
    if expr.op == "looked":
        row, value = expr.args
        return tuple(tuple(looked(row, condition) for condition in way) for way in ways(value))
    if expr.kind == "bool":
        return ((expr,),)
    if expr.op == "number":
        return ways(expr.args[0])
    if expr.op in ("+", "-"):
        return _some(*ways(expr.args[0]), *ways(expr.args[1]))
    if expr.op == "*":
        left, right = expr.args
        return _both(_factor(left, right), _factor(right, left))
    if expr.op == "case":
        return _arms(list(expr.args[:-1:2]), list(expr.args[1:-1:2]), expr.args[-1])
    if expr.op == "coalesce":
        tests = [_bool("not", _bool("isnull", arg)) for arg in expr.args[:-1]]
        return _arms(tests, list(expr.args[:-1]), expr.args[-1])
    inner = ways(expr.args[0]) if expr.args else _ALWAYS
    if expr.op in _THRESHOLDS:
        zero = Expr("literal", expr.kind, value=0, scale=expr.scale, low=0, high=0)
        return _both(inner or _ALWAYS, ((_bool("<>", expr, zero),),))
    return inner


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


def pair_ways(x: Expr, y: Expr) -> tuple[Way, ...]:
    """The ways of COVAR and CORR, which show the sums of x, of y and of x times y."""
    joined = _both(ways(x), ways(y)) or _some(*ways(x), *ways(y))
    for side in (x, y):
        flag = _flag(side)
        if flag is not None:
            joined = _some(*joined, (flag,), (_bool("not", flag),))
    return joined


def _factor(expr: Expr, other: Expr) -> tuple[Way, ...]:
    """The ways of one factor; one that is 0 or 1 is a condition, unless the other is a constant."""
    flag = _flag(expr) if owners(other) else None
    return ways(expr) if flag is None else ((flag,),)


def _flag(expr: Expr) -> Expr | None:
    """The condition that a column of zeros and ones is."""
    if expr.op in ("number", "scale"):
        return _flag(expr.args[0])
    if expr.kind == "bool":
        return expr
    if expr.op == "looked":
        flag = _flag(expr.args[1])
        return None if flag is None else looked(expr.args[0], flag)
    if expr.op == "column" and expr.kind in ("integer", "decimal") and (expr.low, expr.high) == (0, 10**expr.scale):
        return _bool("<>", expr, Expr("literal", expr.kind, value=0, scale=expr.scale, low=0, high=0))
    return None


def _arms(tests: list[Expr], values: list[Expr], default: Expr) -> tuple[Way, ...]:
    found: list[Way] = []
    before: Way = ()
    for test, value in zip(tests, values, strict=True):
        if test.kind == "null" or (test.op == "literal" and not test.value):
            continue  # never true
        if test.op == "literal":
            return _some(*found, *(before + way for way in ways(value)))
        found += [(*before, test, *way) for way in ways(value)]
        before = (*before, _bool("not", _bool("istrue", test)))
    return _some(*found, *(before + way for way in ways(default)))


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
