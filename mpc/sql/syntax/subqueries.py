"""SELECTs among the expressions: a number of one party's tables, or whether a value is among those of its column.

The owner computes them by itself over all rows of its table, aligned or not, and nobody is shown the number itself.
But a condition on it moves every row at once, so it can be searched for: a number that fewer than `min_rows` rows enter
is NULL, in each of the ways in which they can (`mpc.sql.entering`), and MIN and MAX need the grant `rank`. The column
before IN must be unique in its table, so that one row of the other table never decides on many aligned ones.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from mpc.sql import lookups, numbers
from mpc.sql.entering import ways
from mpc.sql.expr import Expr, owners
from mpc.sql.syntax.bind import bind
from mpc.sql.syntax.places import locate, placed
from mpc.sql.syntax.reading import Named, bare, unwrapped
from mpc.sql.syntax.relations import Derived, Setting
from mpc.sql.syntax.scope import Scope, refuse
from mpc.sql.syntax.sources import Sources
from party.errors import UsageError

__all__ = ["Subqueries", "nested"]

_HINT = (
    "among expressions: (SELECT one of COUNT, SUM, AVG, MIN, MAX FROM tables of one party [WHERE ...]),"
    " and x IN (SELECT column FROM tables of the same party [WHERE ...]);"
    " among the columns, without GROUP BY: (SELECT an aggregate FROM the same join [WHERE ...])"
)


def nested(node: exp.Expression, scope: Scope, names: Mapping[str, Named], setting: Setting) -> Expr:
    """The typed expression of a SELECT in brackets, or of IN over one."""
    return Subqueries(scope, names, setting).bound(node)


class Subqueries:
    """The SELECTs inside one scope."""

    def __init__(self, scope: Scope, names: Mapping[str, Named], setting: Setting) -> None:
        self.scope, self.names, self.setting = scope, names, setting

    @placed
    def bound(self, node: exp.Expression) -> Expr:
        """A number, or a condition."""
        return self._member(node) if isinstance(node, exp.In) else self._scalar(node)

    def _rows(self, node: exp.Expression, distinct: bool = False) -> Derived:
        """FROM and WHERE of a SELECT over one party's tables."""
        body = unwrapped(Named(node, self.names), self.setting.sql)
        if not isinstance(body.select, exp.Select):
            raise refuse(body.select, hint=_HINT)
        select = body.select
        if distinct and select.args.get("distinct") is not None and not select.args["distinct"].args.get("on"):
            select = select.copy()
            select.set("distinct", None)  # what is IN a set is so however often it occurs
        sources = Sources(select, body.names, self.setting.sql, self.setting.count)
        if len({item.party for item in sources.items}) > 1:
            raise UsageError("a SELECT over both parties' tables is not supported here", hint=_HINT)
        if len(body.select.expressions) != 1:
            raise UsageError("a SELECT among the expressions has one column", hint=_HINT)
        return Derived(sources, self.setting, False)

    def _scalar(self, node: exp.Expression) -> Expr:
        rows = self._rows(node)
        call, conditions = bare(rows.sources.select.expressions[0]), list(rows.conditions())
        if isinstance(call, exp.Filter):
            conditions.append(rows.truth(call.expression.this))
            call = call.this
        found = rows.call(call)
        if found is None:
            raise locate(UsageError("a SELECT among the expressions is of one aggregate", hint=_HINT), call)
        function, value = found
        shape = lookups.total(function, value, self.setting.rows(rows.first.party, rows.first.table))
        least = numbers.literal(str(max(self.setting.context.min_rows, 1)))
        table = lookups.further(rows.first.party, rows.first.table)
        entering = self._entering(function, value) if self.setting.context.min_rows > 1 else ()
        args = (table, lookups.all_of(conditions), value, least, *entering)
        return Expr("scalar", shape.kind, args, function, scale=shape.scale, low=shape.low, high=shape.high)

    @staticmethod
    def _entering(function: str, value: Expr) -> tuple[Expr, ...]:
        """A condition for each way in which a row enters."""
        if value is lookups.TRUE:
            return (lookups.TRUE,)
        present = Expr("not", "bool", (Expr("isnull", "bool", (value,), low=0, high=1),), low=0, high=1)
        every = ways(value, zero=function in ("min", "max", "count")) or ((),)
        return tuple(dict.fromkeys(lookups.all_of([present, *way]) for way in every))

    def _member(self, node: exp.Expression) -> Expr:
        here = bind(node.this, self.scope)
        if here.op != "column" or here.owner is None:
            told = UsageError(
                f"{node.this.sql(dialect='duckdb')[:80]} IN (SELECT ...) is not supported",
                hint="before IN (SELECT ...) stands a column of an aligned table",
            )
            raise locate(told, node.this)
        rows = self._rows(node.args["query"], distinct=True)
        column = bind(bare(rows.sources.select.expressions[0]), rows.scope)
        if rows.first.party != here.owner or owners(column) != {here.owner}:
            raise locate(UsageError("IN (SELECT ...) over the other party's table is not supported", hint=_HINT), node)
        if column.kind != here.kind or column.scale != here.scale:
            told = UsageError(f"a {here.kind} IN (SELECT a {column.kind})", hint="both are of one type")
            raise locate(told, node)
        table = lookups.further(here.owner, rows.first.table)
        return Expr("member", "bool", (table, lookups.all_of(rows.conditions()), column, here), low=0, high=1)
