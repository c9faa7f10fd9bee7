"""One joint SELECT: its FROM, WHERE, GROUP BY and aggregates as a typed query."""

from __future__ import annotations

from sqlglot import exp

from mpc.sql.bind import SIZE, bind
from mpc.sql.outputs import Answer
from mpc.sql.places import StatementError, place_of, placed, word_at
from mpc.sql.reading import Statement, bare, read
from mpc.sql.relations import From
from mpc.sql.sources import Sources, chained
from mpc.sql.types import Context, Expr, Places, Query, owners
from party.errors import UsageError

__all__ = ["parse"]

_PARTS = ("expressions", "from_", "joins", "where", "group", "having", "order", "limit", "offset", "with_")


def parse(sql: str, context: Context) -> tuple[Query, ...]:
    """The typed queries of one statement, several under UNION ALL.

    Raises StatementError (exit 2), not yet with line and column, naming the construct that is not allowed.
    """
    return tuple(_Select(statement, context).query() for statement in read(sql))


class _Select:
    def __init__(self, statement: Statement, context: Context) -> None:
        self.statement, self.context = statement, context
        self.select = statement.select
        self.size = 0
        for name, part in self.select.args.items():
            if part in (None, False, []) or name in _PARTS:
                continue
            word = name.upper().strip("_")
            raise StatementError(f"{word} is not supported", word_at(statement.sql, word))
        self.source = From(Sources(self.select, statement.names, statement.sql), context)
        self.scope = self.source.scope

    def _bind(self, node: exp.Expression) -> Expr:
        found = bind(node, self.scope)
        self.size += found.size
        if self.size > SIZE:
            raise UsageError("the statement is too large when it is written out", hint="ask for less in one statement")
        return found

    def query(self) -> Query:
        where = self._where()
        groups, names = self._groups()
        answer = Answer(self.select, self._bind, self._condition, groups)
        outputs, order = answer.outputs(self.statement.outputs), answer.order()
        shown = len(answer.aggregates)  # what HAVING alone reads comes behind them, and is not opened
        having = answer.having()
        if not groups and not answer.aggregates:
            raise UsageError(
                "the statement has no aggregate: rows are never shown",
                hint="ask for COUNT, SUM, AVG, VAR, STDDEV, COVAR or CORR",
            )
        return Query(
            self.source.tables, where, groups, names, tuple(answer.aggregates), outputs, self.source.join,
            self.source.keep, order, having, shown, answer.limit(), self._places(answer),
        )  # fmt: skip

    def _places(self, answer: Answer) -> Places:
        where, group = self.select.args.get("where"), self.select.args.get("group")
        keys = tuple(place_of(item) for item in group.expressions) if group is not None else ()
        outputs = tuple(place_of(node) for node in self.statement.outputs)
        return Places(None if where is None else place_of(where.this), keys, tuple(answer.places), outputs)

    # --- WHERE and GROUP BY -----------------------------------------------------------------------------------------

    def _where(self) -> Expr | None:
        """WHERE, with what derived tables and the owners' own joins demand of a row."""
        node = self.select.args.get("where")
        parts = [] if node is None else [self._truth(part) for part in chained(node.this, exp.And)]
        whole = [*self.source.conditions, *parts]
        return self._joined(whole) if whole else None

    def _condition(self, node: exp.Expression) -> Expr:
        return self._joined([self._truth(part) for part in chained(node, exp.And)])

    @staticmethod
    def _joined(parts: list[Expr]) -> Expr:
        """Conjuncts of one party are joined to one condition, so that each party computes one column."""
        whole: dict[frozenset[str], list[Expr]] = {}
        for part in parts:
            whole.setdefault(owners(part) if len(owners(part)) == 1 else frozenset({str(len(whole))}), []).append(part)
        joined = [found[0] if len(found) == 1 else _and(found) for found in whole.values()]
        return joined[0] if len(joined) == 1 else _and(joined)

    @placed
    def _truth(self, node: exp.Expression) -> Expr:
        found = self._bind(node)
        if found.kind not in ("bool", "null"):
            raise UsageError(f"{found.kind} where a condition is due", hint="write a comparison")
        return found

    def _groups(self) -> tuple[tuple[Expr, ...], tuple[str, ...]]:
        node = self.select.args.get("group")
        if node is None:
            return (), ()
        for name, part in node.args.items():
            if part not in (None, False, []) and name != "expressions":
                word = name.upper()
                raise StatementError(f"GROUP BY {word} is not supported", word_at(self.statement.sql, word))
        groups, names = [], []
        for item in node.expressions:
            source, expr = self._key(item)
            if expr in groups:
                continue
            groups.append(expr)
            names.append(source.sql(dialect="duckdb")[:80])
        return tuple(groups), tuple(names)

    @placed
    def _key(self, item: exp.Expression) -> tuple[exp.Expression, Expr]:
        source = self._select_item(item)
        expr = self._bind(source)
        if len(owners(expr)) != 1:
            raise UsageError(
                f"GROUP BY {item.sql(dialect='duckdb')[:80]} is not of one party's columns",
                hint="each key is an expression of one party",
            )
        if expr.kind in ("float", "decimal", "null"):
            raise UsageError(f"GROUP BY a {expr.kind} is not supported", hint="group by CASE or by whole numbers")
        return source, expr

    def _select_item(self, item: exp.Expression) -> exp.Expression:
        """GROUP BY 2 and GROUP BY alias mean a column of the answer."""
        listed = self.select.expressions
        if isinstance(item, exp.Literal) and not item.args.get("is_string"):
            place = int(item.this) if str(item.this).isdigit() else 0
            if not 1 <= place <= len(listed):
                raise UsageError(f"GROUP BY {item.this}: there is no such column in the answer")
            return bare(listed[place - 1])
        if isinstance(item, exp.Column) and item.args.get("table") is None:
            for node in listed:
                if isinstance(node, exp.Alias) and node.alias.lower() == str(item.this.this).lower():
                    return bare(node)
        return item


def _and(parts: list[Expr]) -> Expr:
    return Expr("and", "bool", tuple(parts), low=0, high=1)
