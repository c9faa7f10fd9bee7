"""Scalar expressions: from sqlglot's syntax tree to our own, typed, by an allow-list of nodes and of their parts.

Whatever is not listed here is refused with its name; so nothing of a peer's text reaches a database.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable

from sqlglot import exp

from mpc.sql import numbers
from mpc.sql.expr import Expr, Kind
from mpc.sql.syntax import casts, functions
from mpc.sql.syntax.places import locate
from mpc.sql.syntax.scope import Scope, refuse
from party.errors import UsageError

__all__ = ["SIZE", "bind", "truth_of"]

SIZE = 20_000  # nodes of one statement's expressions, each written out where it is used

_SUPPORTED = (
    "in a row: + - * // %, comparisons, AND OR NOT, IN, BETWEEN, IS, LIKE, CASE, CAST, and the functions that"
    " docs/reference/sql.md lists"
)


def bind(node: exp.Expression, scope: Scope) -> Expr:
    """The typed expression of one scalar node; UsageError names what is not allowed, and where it stands."""
    try:
        return _bind(node, scope)
    except UsageError as error:
        raise locate(error, node) from None


def _bind(node: exp.Expression, scope: Scope) -> Expr:
    entry = _NODES.get(type(node))
    if entry is None:
        return _function(node, scope)
    parts, build = entry
    for name, part in node.args.items():
        if part not in (None, False, []) and name not in parts:
            raise refuse(node, hint=f"its part {name!r} is not supported")
    found = build(node, scope)
    if found.size > SIZE:
        raise UsageError(
            f"the expression {node.sql(dialect='duckdb')[:80]} is too large when it is written out",
            hint="nest NULLIF, ROUND, CASE and IN less deeply",
        )
    return found


def _function(node: exp.Expression, scope: Scope) -> Expr:
    """A function of one party's columns, as `mpc.sql.syntax.functions` types it."""
    entry = functions.of(node)
    if entry is None:
        raise refuse(node, hint=_SUPPORTED)
    for name, part in node.args.items():
        if part not in (None, False, []) and name not in (*entry.bound, *entry.plain):
            raise refuse(node, hint=f"its part {name!r} is not supported")
    found: list[Expr] = []
    for name in entry.bound:
        part = node.args.get(name)
        found += [bind(each, scope) for each in (part if isinstance(part, list) else [part]) if each is not None]
    return entry.build(node, found)


def truth_of(node: exp.Expression, scope: Scope) -> Expr:
    """A condition of a row."""
    found = bind(node, scope)
    if found.kind not in ("bool", "null"):
        raise locate(UsageError(f"{found.kind} where a condition is due", hint="write a comparison"), node)
    return found


Build = Callable[[exp.Expression, Scope], Expr]


def _sides(node: exp.Expression, scope: Scope) -> tuple[Expr, Expr]:
    return bind(node.this, scope), bind(node.expression, scope)


def _number(expr: Expr, node: exp.Expression) -> Expr:
    if expr.kind == "float":
        raise UsageError(
            f"arithmetic on float {node.sql(dialect='duckdb')[:80]}",
            hint="declare the column decimal(p,s) in party.yaml: sums are exact",
        )
    if not numbers.numeric(expr):
        raise UsageError(f"arithmetic on {expr.kind}: {node.sql(dialect='duckdb')[:80]}")
    return expr


def _truth(expr: Expr, node: exp.Expression) -> Expr:
    if expr.kind not in ("bool", "null"):
        raise UsageError(f"{expr.kind} where a condition is due: {node.sql(dialect='duckdb')[:80]}")
    return expr


def _bool(op: str, *args: Expr, value: str | int | bool | None = None) -> Expr:
    return Expr(op, "bool", args, value, low=0, high=1)


def _arithmetic(op: str) -> Build:
    def build(node: exp.Expression, scope: Scope) -> Expr:
        if isinstance(node.expression, exp.Interval):
            return functions.shifted(op, bind(node.this, scope), node.expression)
        left, right = _sides(node, scope)
        found = functions.dated(op, left, right) or functions.floating(op, left, right)
        if found is not None:
            return found
        left, right = _number(left, node), _number(right, node)
        return numbers.multiply(left, right) if op == "*" else numbers.add(op, left, right)

    return build


def _divide(op: str) -> Build:
    def build(node: exp.Expression, scope: Scope) -> Expr:
        left, right = (numbers.as_number(_number(side, node)) for side in _sides(node, scope))
        divisor = right.value if right.op == "literal" and right.kind == "integer" else None
        if left.kind != "integer" or not isinstance(divisor, int) or divisor <= 0:
            raise refuse(node, hint="only integers, by a positive integer constant")
        low, high = (None, None) if left.low is None or left.high is None else (left.low, left.high)
        if op == "%":
            bounds = (
                None if low is None else min(0, max(low, 1 - divisor)),
                None if high is None else max(0, divisor - 1),
            )
            return Expr(op, "integer", (left, right), low=bounds[0], high=bounds[1])
        ends = [None if end is None else (abs(end) // divisor) * (1 if end >= 0 else -1) for end in (low, high)]
        return Expr(op, "integer", (left, right), low=ends[0], high=ends[1])

    return build


def comparable(left: Expr, right: Expr, node: exp.Expression) -> tuple[Expr, Expr]:
    """Two sides of a comparison at one scale; literals take the other side's type."""
    if "null" in (left.kind, right.kind):
        return left, right
    for one, other in ((left, right), (right, left)):
        if one.kind in ("date", "timestamp") and other.op == "literal" and other.kind == "string":
            text = _moment(str(other.value), one.kind, node)
            return (one, text) if one is left else (text, one)
        if one.kind == "timestamp" and other.kind == "date":
            midnight = functions.timestamp_of(other)
            return (one, midnight) if one is left else (midnight, one)
    if left.kind == "float" or right.kind == "float":
        for side in (left, right):
            if side.kind not in ("float", "integer", "decimal"):
                raise refuse(node, hint="a float is compared with numbers")
        return left, right
    if left.kind in ("integer", "decimal") and right.kind in ("integer", "decimal"):
        a, b = numbers.common(left, right)
        return a, b
    if left.kind != right.kind:
        raise UsageError(f"{left.kind} compared with {right.kind}: {node.sql(dialect='duckdb')[:80]}")
    return left, right


def _moment(text: str, kind: Kind, node: exp.Expression) -> Expr:
    try:
        if kind == "date":
            return Expr("literal", "date", value=datetime.date.fromisoformat(text).isoformat())
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            raise ValueError("time zone")
        return Expr("literal", "timestamp", value=moment.isoformat(sep=" "))
    except ValueError:
        raise UsageError(f"{text[:40]!r} is not a {kind}: {node.sql(dialect='duckdb')[:80]}") from None


def _comparison(op: str) -> Build:
    def build(node: exp.Expression, scope: Scope) -> Expr:
        return _bool(op, *comparable(*_sides(node, scope), node))

    return build


def _logic(op: str) -> Build:
    def build(node: exp.Expression, scope: Scope) -> Expr:
        return _bool(op, *(_truth(side, node) for side in _sides(node, scope)))

    return build


def _not(node: exp.Expression, scope: Scope) -> Expr:
    return _bool("not", _truth(bind(node.this, scope), node))


def _nested(node: exp.Expression, scope: Scope) -> Expr:
    if scope.nested is None:
        raise refuse(node)
    return scope.nested(node, scope)


def _in(node: exp.Expression, scope: Scope) -> Expr:
    if node.args.get("query") is not None:
        return _nested(node, scope)
    this = bind(node.this, scope)
    found = [_bool("=", *comparable(this, bind(item, scope), item)) for item in node.expressions]
    if not found:
        raise refuse(node)
    return found[0] if len(found) == 1 else _bool("or", *found)


def _between(node: exp.Expression, scope: Scope) -> Expr:
    this = bind(node.this, scope)
    low = _bool(">=", *comparable(this, bind(node.args["low"], scope), node))
    high = _bool("<=", *comparable(this, bind(node.args["high"], scope), node))
    return _bool("and", low, high)


def _is(node: exp.Expression, scope: Scope) -> Expr:
    this = bind(node.this, scope)
    if isinstance(node.expression, exp.Null):
        return _bool("isnull", this)
    if isinstance(node.expression, exp.Boolean):
        return _bool("istrue" if node.expression.this else "isfalse", _truth(this, node))
    raise refuse(node)


def _like(op: str) -> Build:
    def build(node: exp.Expression, scope: Scope) -> Expr:
        text, pattern = _sides(node, scope)
        if text.kind != "string" or pattern.op != "literal" or pattern.kind != "string":
            raise refuse(node, hint="a string column and a constant pattern")
        tree = _bool(op, text, pattern)
        return _bool("not", tree) if node.args.get("negate") else tree

    return build


def _case(node: exp.Expression, scope: Scope) -> Expr:
    subject = None if node.this is None else bind(node.this, scope)
    conditions, branches = [], []
    for arm in node.args["ifs"]:
        test = bind(arm.this, scope)
        conditions.append(_truth(test, arm) if subject is None else _bool("=", *comparable(subject, test, arm)))
        branches.append(bind(arm.args["true"], scope))
    default = node.args.get("default")
    return _choice(conditions, [*branches, bind(default, scope) if default is not None else Expr("literal", "null")])


def _if(node: exp.Expression, scope: Scope) -> Expr:
    other = node.args.get("false")
    branches = [bind(node.args["true"], scope), bind(other, scope) if other is not None else Expr("literal", "null")]
    return _choice([_truth(bind(node.this, scope), node)], branches)


def _choice(conditions: list[Expr], branches: list[Expr]) -> Expr:
    unified, shape = numbers.unify(tuple(branches), "CASE")
    args = [part for pair in zip(conditions, unified, strict=False) for part in pair] + [unified[-1]]
    return Expr("case", shape.kind, tuple(args), scale=shape.scale, low=shape.low, high=shape.high)


def _coalesce(node: exp.Expression, scope: Scope) -> Expr:
    branches = tuple(bind(part, scope) for part in (node.this, *node.expressions))
    unified, shape = numbers.unify(branches, "COALESCE")
    return Expr("coalesce", shape.kind, unified, scale=shape.scale, low=shape.low, high=shape.high)


def _nullif(node: exp.Expression, scope: Scope) -> Expr:
    this, other = _sides(node, scope)
    return _choice([_bool("=", *comparable(this, other, node))], [Expr("literal", "null"), this])


def _abs(node: exp.Expression, scope: Scope) -> Expr:
    a = numbers.as_number(_number(bind(node.this, scope), node))
    return Expr("abs", a.kind, (a,), scale=a.scale, low=None if a.most is None else 0, high=a.most)


def _rounded(op: str) -> Build:
    def build(node: exp.Expression, scope: Scope) -> Expr:
        a = numbers.as_number(_number(bind(node.this, scope), node))
        digits = node.args.get("decimals")
        places = 0 if digits is None else bind(digits, scope).value if isinstance(digits, exp.Literal) else None
        if not isinstance(places, int) or isinstance(places, bool) or a.kind == "null":
            raise refuse(node, hint="round to a constant number of digits")
        cut = a.scale - places
        if cut <= 0:
            return a
        one = 10**cut
        low, high = (None if end is None else end // one for end in (a.low, a.high))
        low, high = None if low is None else low - 1, None if high is None else high + 1
        return Expr(op, a.kind, (a,), cut, scale=places, low=low, high=high)

    return build


def _cast(node: exp.Expression, scope: Scope) -> Expr:
    a = bind(node.this, scope)
    if a.op == "literal" and a.kind == "string" and node.args["to"].this in (exp.DType.DATE, *casts.TIMESTAMPS):
        return _moment(str(a.value), "date" if node.args["to"].this == exp.DType.DATE else "timestamp", node)
    return casts.cast(a, node)


def _literal(node: exp.Expression, scope: Scope) -> Expr:
    if node.args.get("is_string"):
        return Expr("literal", "string", value=str(node.this))
    return numbers.literal(str(node.this))


def _negative(node: exp.Expression, scope: Scope) -> Expr:
    return numbers.negate(_number(bind(node.this, scope), node))


_TWO = ("this", "expression")
_NODES: dict[type[exp.Expression], tuple[tuple[str, ...], Build]] = {
    exp.Paren: (("this",), lambda node, scope: bind(node.this, scope)),
    exp.Column: (("this", "table", "db"), lambda node, scope: scope.column(node)),
    exp.Literal: (("this", "is_string"), _literal),
    exp.Boolean: (("this",), lambda node, scope: _bool("literal", value=bool(node.this))),
    exp.Null: ((), lambda node, scope: Expr("literal", "null")),
    exp.Neg: (("this",), _negative),
    exp.Add: (_TWO, _arithmetic("+")),
    exp.Sub: (_TWO, _arithmetic("-")),
    exp.Mul: (_TWO, _arithmetic("*")),
    exp.IntDiv: (_TWO, _divide("//")),
    exp.Mod: (_TWO, _divide("%")),
    exp.EQ: (_TWO, _comparison("=")),
    exp.NEQ: (_TWO, _comparison("<>")),
    exp.LT: (_TWO, _comparison("<")),
    exp.LTE: (_TWO, _comparison("<=")),
    exp.GT: (_TWO, _comparison(">")),
    exp.GTE: (_TWO, _comparison(">=")),
    exp.And: (_TWO, _logic("and")),
    exp.Or: (_TWO, _logic("or")),
    exp.Not: (("this",), _not),
    exp.In: (("this", "expressions", "query"), _in),
    exp.Subquery: (("this",), _nested),
    exp.Between: (("this", "low", "high"), _between),
    exp.Is: (_TWO, _is),
    exp.Like: ((*_TWO, "negate"), _like("like")),
    exp.ILike: ((*_TWO, "negate"), _like("ilike")),
    exp.Case: (("this", "ifs", "default"), _case),
    exp.If: (("this", "true", "false"), _if),
    exp.Coalesce: (("this", "expressions"), _coalesce),
    exp.Nullif: (_TWO, _nullif),
    exp.Abs: (("this",), _abs),
    exp.Round: (("this", "decimals"), _rounded("round")),
    exp.Floor: (("this",), _rounded("floor")),
    exp.Ceil: (("this",), _rounded("ceil")),
    exp.Cast: (("this", "to", "_type"), _cast),
    exp.TryCast: (("this", "to", "safe", "_type"), _cast),
    exp.Div: ((*_TWO, "typed", "safe"), _arithmetic("/")),
    exp.DateAdd: (_TWO, _arithmetic("+")),
}
