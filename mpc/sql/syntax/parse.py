"""One joint SELECT: its FROM, WHERE, GROUP BY and aggregates as a typed query."""

from __future__ import annotations

from sqlglot import exp

from mpc.sql.expr import Expr, owners
from mpc.sql.syntax.bind import SIZE, bind
from mpc.sql.syntax.from_clause import From
from mpc.sql.syntax.outputs import Answer
from mpc.sql.syntax.places import StatementError, locate, place_of, placed, word_at
from mpc.sql.syntax.reading import Named, Statement, bare, read, unwrapped
from mpc.sql.syntax.relations import Setting
from mpc.sql.syntax.sources import Sources, chained
from mpc.sql.syntax.subqueries import nested
from mpc.sql.types import Context, Places, Post, Query
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
            hint = "GROUP BY gives each value once" if word == "DISTINCT" else None
            raise StatementError(f"{word} is not supported", word_at(statement.sql, word), hint=hint)
        self.setting = Setting(context, statement.sql, nested)
        self.source = From(Sources(self.select, statement.names, statement.sql, self.setting.count), self.setting)
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
        if not groups and any(_selects(node) for node in self.statement.outputs):
            self._apart(answer, where)
            where = None
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

    def _apart(self, answer: Answer, where: Expr | None) -> None:
        """SELECTs over the same join among the columns: WHERE becomes a condition of each aggregate outside of them."""
        parts = [] if where is None else [where]
        answer.within = lambda condition: _all([*parts, *([] if condition is None else [condition])])

        def post(node: exp.Expression) -> Post:
            return _Inner(self, node).post(answer)

        answer.apart = post

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
                told, hint = f"GROUP BY {word} is not supported", "GROUP BY columns, positions or names of the answer"
                raise StatementError(told, word_at(self.statement.sql, word), hint=hint)
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


class _Inner(_Select):
    """A SELECT of one aggregate over the same join, among the columns of another."""

    def __init__(self, outer: _Select, node: exp.Expression) -> None:
        body = unwrapped(Named(node, outer.statement.names), outer.statement.sql)
        hint = "among the columns: (SELECT an aggregate FROM the same join [WHERE ...]), in a SELECT without GROUP BY"
        select = body.select
        if not isinstance(select, exp.Select) or len(select.expressions) != 1:
            raise locate(UsageError("a SELECT among the columns has one column", hint=hint), node)
        for name, part in select.args.items():
            if part not in (None, False, []) and name not in ("expressions", "from_", "joins", "where", "with_"):
                word = name.upper().strip("_")
                raise locate(UsageError(f"{word} in a SELECT among the columns is not supported", hint=hint), node)
        sources = Sources(select, body.names, outer.statement.sql)
        if len({item.party for item in sources.items}) < 2:
            raise locate(UsageError("a number of one party's table alone is not shown", hint=hint), node)
        super().__init__(Statement(outer.statement.sql, select, body.names, tuple(select.expressions)), outer.context)
        ours, theirs = outer.source, self.source
        if (ours.tables, ours.join, ours.keep) != (theirs.tables, theirs.join, theirs.keep):
            raise locate(UsageError("a SELECT among the columns is over another join", hint=hint), node)

    def post(self, answer: Answer) -> Post:
        """Its column, with its own WHERE as the condition of its aggregates."""
        where = self._where()
        inner = Answer(self.select, self._bind, self._condition, ())
        answer.of_same_rows(inner)
        parts = [] if where is None else [where]
        inner.within = lambda condition: _all([*parts, *([] if condition is None else [condition])])
        return inner.post(bare(self.statement.outputs[0]))


def _selects(node: exp.Expression) -> bool:
    """Whether a column holds a SELECT outside of aggregates."""
    return any(isinstance(part, exp.Subquery) for part in node.walk(prune=lambda part: isinstance(part, exp.AggFunc)))


def _all(parts: list[Expr]) -> Expr | None:
    return None if not parts else parts[0] if len(parts) == 1 else _and(parts)


def _and(parts: list[Expr]) -> Expr:
    return Expr("and", "bool", tuple(parts), low=0, high=1)
