"""From text to SELECTs: one statement, its branches under UNION ALL, the names that WITH gives, nested SELECTs merged.

A SELECT whose FROM is nothing but another SELECT (a derived table or a WITH name) adds columns, conditions on groups,
ORDER BY or LIMIT to that one: the two are merged into one, so that what follows sees a single joint SELECT.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from sqlglot import errors, exp
from sqlglot import parse as parse_statements

from mpc.sql.syntax.places import StatementError, locate, place_of, word_at
from mpc.sql.syntax.scope import refuse
from party.errors import UsageError

__all__ = ["Named", "Statement", "aggregated", "bare", "name_of", "read", "unwrapped"]

TEXT = 20_000  # characters of a statement
NODES = 20_000  # of a statement that is merged from nested ones
BRANCHES = 32  # of one UNION ALL
DEPTH = 32  # of SELECTs around one another


@dataclass(frozen=True, eq=False)
class Named:
    """A SELECT with the names that WITH gives inside it: name in small letters -> its SELECT."""

    select: exp.Expression
    names: Mapping[str, Named] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Statement:
    """One joint SELECT. `outputs`: the columns of the answer, which are those of the outermost SELECT; `select` holds
    all the rest, and the names that its own GROUP BY, HAVING and ORDER BY may use. `sql`: the whole text."""

    sql: str
    select: exp.Select
    names: Mapping[str, Named]
    outputs: tuple[exp.Expression, ...]


def read(sql: str) -> tuple[Statement, ...]:
    """The SELECTs of one statement, several under UNION ALL. Raises StatementError, not yet with line and column."""
    if len(sql) > TEXT:
        raise StatementError(f"the statement has more than {TEXT} characters", 0)
    try:
        statements = [node for node in parse_statements(sql, dialect="duckdb") if node is not None]
    except errors.SqlglotError as error:
        raise _unreadable(error, sql) from None
    if len(statements) != 1:
        start = place_of(statements[1]) if len(statements) > 1 else None
        raise StatementError("one SELECT statement at a time", start or 0)
    found = _branches(Named(cast(exp.Expression, statements[0])), sql)
    if len(found) > BRANCHES:
        raise StatementError(f"UNION ALL of more than {BRANCHES} SELECTs", 0, hint="ask several statements")
    return tuple(_merged(branch, sql) for branch in found)


def unwrapped(named: Named, sql: str) -> Named:
    """Without brackets around it, and with its own WITH among its names."""
    node, names = named.select, dict(named.names)
    while True:
        given = node.args.get("with_")
        if given is not None:
            if given.args.get("recursive"):
                raise StatementError("WITH RECURSIVE is not supported", word_at(sql, "RECURSIVE"))
            for each in given.expressions:
                name, alias = str(each.alias), each.args.get("alias")
                if alias is not None and alias.args.get("columns"):
                    raise locate(refuse(alias, hint="name the columns inside, with AS"), each)
                names[name.lower()] = Named(each.this, dict(names))
        if not isinstance(node, exp.Subquery):
            return Named(node, names)
        for name, part in node.args.items():
            if part not in (None, False, []) and name not in ("this", "alias", "with_"):
                raise locate(refuse(node, hint=f"{name.upper().strip('_')} outside of the brackets"), node)
        node = node.this


def _branches(named: Named, sql: str) -> list[Named]:
    """The SELECTs that UNION ALL connects, in order."""
    found: list[Named] = []
    left = [named]
    while left:
        whole = unwrapped(left.pop(), sql)
        node = whole.select
        if isinstance(node, exp.Select):
            found.append(whole)
        elif type(node) is exp.Union and node.args.get("distinct") is False:
            for name, part in node.args.items():
                if part in (None, False, []) or name in ("this", "expression", "with_"):
                    continue
                word = name.upper()
                told = f"{word} over UNION ALL is not supported"
                raise StatementError(
                    told, word_at(sql, word, place_of(node.expression) or 0), hint=f"{word} inside of each SELECT"
                )
            left += [Named(node.expression, whole.names), Named(node.this, whole.names)]
        else:
            hint = "UNION ALL keeps all rows" if type(node) is exp.Union else "a joint query is one SELECT"
            raise locate(refuse(node, hint=hint), node)
    return found


def _unreadable(error: errors.SqlglotError, sql: str) -> StatementError:
    told = (getattr(error, "errors", None) or [{}])[0]
    line, column = told.get("line"), told.get("col")
    if line is None or column is None:
        return StatementError(f"this is not SQL: {str(error).splitlines()[0][:200]}", 0)
    before = sum(len(text) + 1 for text in sql.split("\n")[: line - 1])
    start = max(before + column - max(len(told.get("highlight") or ""), 1), 0)
    what = re.sub(r"<class '[\w.]*?(\w+)'>", r"\1", str(told.get("description")))
    return StatementError(f"this is not SQL: {what[:200]}", start)


# --- nested SELECTs ---------------------------------------------------------------------------------------------------


def _merged(named: Named, sql: str, depth: int = 0) -> Statement:
    select = named.select
    if depth > DEPTH:
        raise StatementError("the statement is nested too deeply", 0)
    if not isinstance(select, exp.Select):
        raise locate(refuse(select, hint="a joint query is one SELECT"), select)
    source = select.args.get("from_")
    inner = None if source is None or select.args.get("joins") else _inner(source.this, named)
    if source is None or inner is None:
        return Statement(sql, select, named.names, tuple(select.expressions))
    below = _merged(unwrapped(inner, sql), sql, depth + 1)
    return _Outer(select, str(source.this.alias_or_name), below).merged()


def _inner(node: exp.Expression, named: Named) -> Named | None:
    """The SELECT that stands in FROM, by itself or by a name that WITH gives."""
    if isinstance(node, exp.Subquery):
        return Named(node, named.names)
    if isinstance(node, exp.Table) and not node.args.get("db"):
        return named.names.get(node.name.lower())
    return None


class _Outer:
    """A SELECT around another."""

    def __init__(self, select: exp.Select, alias: str, below: Statement) -> None:
        self.select, self.alias, self.below = select, alias, below
        self.columns = {name_of(node).lower(): node for node in below.outputs}
        self.sizes = {name: sum(1 for _ in column.walk()) for name, column in self.columns.items()}
        self.nodes = 0
        for name, part in select.args.items():
            if part in (None, False, []) or name in ("expressions", "from_", "where", "order", "limit", "offset"):
                continue
            if name != "with_":
                raise locate(_around(name.upper().strip("_")), part if isinstance(part, exp.Expression) else select)

    def merged(self) -> Statement:
        select = self.below.select.copy()
        outputs = self._outputs()
        limited = select.args.get("limit") or select.args.get("offset")
        for name in ("where", "order", "limit", "offset"):
            node = self.select.args.get(name)
            if node is None:
                continue
            if limited is not None:
                told = UsageError(f"{name.upper()} around a SELECT with LIMIT is not supported", hint="write it inside")
                raise locate(told, node)
            if name == "where":
                self._where(node.this, select)
            elif name == "order":
                select.set("order", self._order(node, outputs))
            else:
                select.set(name, node.copy())
        return replace(self.below, select=select, outputs=outputs)

    def _outputs(self) -> tuple[exp.Expression, ...]:
        found: list[exp.Expression] = []
        for node in self.select.expressions:
            whole = node if isinstance(node, exp.Star) else node.this if isinstance(node, exp.Column) else None
            if isinstance(whole, exp.Star):
                if any(part not in (None, False, []) for part in whole.args.values()):
                    raise locate(refuse(node, hint="name the columns"), node)
                found += self.below.outputs
            else:
                whole = exp.alias_(self._inlined(bare(node)), name_of(node), quoted=True, copy=False)
                found.append(cast(exp.Expression, whole))
        return tuple(found)

    def _where(self, node: exp.Expression, select: exp.Select) -> None:
        """Conditions on keys select rows, those on aggregates groups."""
        while isinstance(node, exp.Paren):
            node = node.this
        if isinstance(node, exp.And):
            self._where(node.this, select)
            self._where(node.expression, select)
            return
        if select.args.get("group") is None:
            told = UsageError("a condition on the one row of an answer is not supported", hint="look at the answer")
            raise locate(told, node)
        condition = self._inlined(node)
        if condition.find(exp.AggFunc) is None:
            select.where(condition, copy=False)
        else:
            select.having(condition, copy=False)

    def _order(self, node: exp.Expression, outputs: tuple[exp.Expression, ...]) -> exp.Expression:
        order = node.copy()
        names = {name_of(output).lower(): bare(output) for output in outputs}
        for item, source in zip(order.expressions, node.expressions, strict=True):
            of = source.this
            if isinstance(of, exp.Literal) and not of.args.get("is_string") and str(of.this).isdecimal():
                place = int(of.this)
                if not 1 <= place <= len(outputs):
                    raise locate(UsageError(f"ORDER BY {place}: there is no such column in the answer"), of)
                by: exp.Expression = bare(outputs[place - 1]).copy()
            elif isinstance(of, exp.Column) and not of.args.get("table") and of.name.lower() in names:
                by = names[of.name.lower()].copy()
            else:
                by = self._inlined(of)
            item.set("this", exp.Paren(this=by))
        return order

    def _inlined(self, node: exp.Expression) -> exp.Expression:
        """The node with the inner SELECT's expressions in place of its names."""
        if (found := node.find(exp.AggFunc, exp.Query)) is not None:
            raise locate(_around("an aggregate" if isinstance(found, exp.AggFunc) else "a SELECT"), found)
        self.nodes += sum(self.sizes.get(column.name.lower(), 1) for column in node.find_all(exp.Column))
        if self.nodes > NODES:
            raise locate(UsageError("the statement is too large when it is written out"), node)
        whole = exp.Paren(this=node.copy())
        for column in list(whole.find_all(exp.Column)):
            column.replace(exp.Paren(this=self._column(column).copy()))
        result: exp.Expression = whole.this
        return result

    def _column(self, column: exp.Column) -> exp.Expression:
        table = column.args.get("table")
        known = table is None or (table.name.lower() == self.alias.lower() and not column.args.get("db"))
        found = self.columns.get(column.name.lower()) if known else None
        if found is None:
            told = UsageError(
                f"no column {column.sql(dialect='duckdb')[:80]} in the inner SELECT",
                hint=f"it has {', '.join(self.columns)[:200]}",
            )
            raise locate(told, column)
        return bare(found)


def _around(what: str) -> UsageError:
    return UsageError(
        f"{what} around a joint SELECT is not supported",
        hint="around one: columns and arithmetic on them, WHERE, ORDER BY, LIMIT",
    )


def aggregated(node: exp.Expression) -> bool:
    """Whether a node holds an aggregate, those of SELECTs inside it apart."""
    return any(isinstance(part, exp.AggFunc) for part in node.walk(prune=lambda part: isinstance(part, exp.Query)))


def name_of(node: exp.Expression) -> str:
    """The name of a column of the answer."""
    if isinstance(node, exp.Alias):
        return node.alias
    if isinstance(node, exp.Column):
        return str(node.this.this)
    if isinstance(node, exp.Count) and isinstance(node.this, exp.Star):
        return "count_star()"
    return node.sql(dialect="duckdb", normalize_functions="lower")[:200]


def bare(node: exp.Expression) -> exp.Expression:
    """Without its alias."""
    return node.this if isinstance(node, exp.Alias) else node
