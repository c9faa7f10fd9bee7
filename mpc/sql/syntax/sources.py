"""FROM and JOIN by their words alone: which table of which party each name stands for, and what joins what.

No catalogue is needed, so a statement's tables are known before the parties talk. One JOIN equates columns of both
parties: its two tables are aligned. All others join further tables of one owner, which that owner does by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlglot import exp

from mpc.sql.syntax.places import locate, located, placed
from mpc.sql.syntax.reading import Named, read, unwrapped
from mpc.sql.syntax.scope import refuse
from party.errors import UsageError

__all__ = ["Item", "Joined", "Sources", "Tables", "chained", "tables_of"]

ITEMS = 64  # tables that one statement names, those inside derived tables and WITH too
HINT = "FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.msisdn"


@dataclass(frozen=True, eq=False)
class Item:
    """One name in FROM: the party and table whose rows it holds; `body`: the SELECT that makes it, if it is derived."""

    alias: str
    node: exp.Expression
    party: str
    table: str
    body: Named | None = None
    sources: Sources | None = None  # of the body


@dataclass(frozen=True, eq=False)
class Joined:
    """One JOIN. kind: INNER, LEFT or RIGHT."""

    node: exp.Join
    item: Item
    kind: str


@dataclass(frozen=True)
class Tables:
    """The table of each party that is aligned, in the order in which they are named; the party that keeps its rows."""

    tables: dict[str, str]
    keep: str | None


def tables_of(sql: str) -> Tables:
    """What a statement aligns. Raises StatementError with line and column."""
    with located(sql):
        return _one([Sources(each.select, each.names, each.sql).aligned() for each in read(sql)])


def _one(found: list[Tables]) -> Tables:
    first = found[0]
    keeps = {tables.keep for tables in found} - {None}
    if any(tables.tables != first.tables for tables in found) or len(keeps) > 1:
        raise UsageError(
            "the SELECTs of a UNION ALL join different tables, or keep rows of different parties",
            hint="ask two statements: one alignment serves all SELECTs of one",
        )
    return Tables(first.tables, next(iter(keeps), None))


class Sources:
    """What one SELECT reads from."""

    def __init__(
        self, select: exp.Select, names: Mapping[str, Named], sql: str, count: list[int] | None = None
    ) -> None:
        self.select, self.names, self.sql = select, names, sql
        self.count = count if count is not None else [0]
        source = select.args.get("from_")
        if source is None:
            raise locate(UsageError("a SELECT without FROM is not supported", hint=HINT), select)
        self.first = self._item(source.this)
        self.joins = [self._joined(join) for join in select.args.get("joins") or []]
        self.items = [self.first, *(join.item for join in self.joins)]
        seen: set[str] = set()
        for item in self.items:
            if item.alias.lower() in seen:
                raise locate(
                    UsageError(f"two tables are named {item.alias}", hint="give them different aliases"), item.node
                )
            seen.add(item.alias.lower())

    # --- names ------------------------------------------------------------------------------------------------------

    @placed
    def _item(self, node: exp.Expression) -> Item:
        self.count[0] += 1
        if self.count[0] > ITEMS:
            raise UsageError(f"the statement names more than {ITEMS} tables", hint="ask for less in one statement")
        for name, part in node.args.items():
            if part not in (None, False, []) and name not in ("this", "db", "alias", "with_"):
                raise refuse(node, hint=f"its part {name!r} is not supported")
        alias = node.args.get("alias")
        if alias is not None and alias.args.get("columns"):
            raise refuse(alias, hint="column aliases of a table are not supported")
        if isinstance(node, exp.Subquery):
            if alias is None:
                raise UsageError("a derived table needs a name", hint="(SELECT ...) b")
            return self._derived(str(alias.this.this), node, Named(node, self.names))
        if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
            raise refuse(node, hint="name a table as party.table")
        table = str(node.this.this)
        name = str(alias.this.this) if alias is not None else table
        if node.args.get("db"):
            return Item(name, node, str(node.args["db"].this), table)
        if (given := self.names.get(table.lower())) is not None:
            return self._derived(name, node, given)
        raise UsageError(f"the table {table!r} names no party", hint="write party.table, such as bank.customers")

    def _derived(self, alias: str, node: exp.Expression, named: Named) -> Item:
        body = unwrapped(named, self.sql)
        if not isinstance(body.select, exp.Select):
            raise locate(refuse(body.select, hint="a derived table is one SELECT"), body.select)
        inner = Sources(body.select, body.names, self.sql, self.count)
        return Item(alias, node, inner.first.party, inner.first.table, body, inner)

    def _joined(self, join: exp.Join) -> Joined:
        side, item = join.args.get("side"), self._item(join.this)
        for name, part in join.args.items():
            if part in (None, False, []) or name in ("this", "on", "using") or (name, part) == ("kind", "INNER"):
                continue
            if side in ("LEFT", "RIGHT") and (name == "side" or (name, part) == ("kind", "OUTER")):
                continue
            word = part if isinstance(part, str) else name.upper()
            raise locate(
                UsageError(f"{word} JOIN is not supported", hint=f"JOIN, LEFT JOIN, RIGHT JOIN ... ON, as in {HINT}"),
                join.this,
            )
        if join.args.get("on") is None and not join.args.get("using"):
            raise locate(
                UsageError("the join has no condition", hint="JOIN ... ON, as in ON b.phone = t.msisdn"), join.this
            )
        return Joined(join, item, side or "INNER")

    def named(self, column: exp.Expression) -> Item | None:
        """The item that a column's qualifier names, by alias or as party.table; None without one."""
        table, schema = column.args.get("table"), column.args.get("db")
        if table is None:
            return None
        for item in self.items:
            if schema is not None:
                whole = item.body is None and (str(schema.this), str(table.this)) == (item.party, item.table)
            else:
                whole = str(table.this).lower() == item.alias.lower()
            if whole:
                return item
        return None

    # --- the join of the two parties ----------------------------------------------------------------------------------

    def cross(self) -> Joined:
        """The JOIN that equates columns of both parties."""
        found = [join for join in self.joins if self._across(join)]
        told = UsageError("a joint query joins one table of each party with the other's", hint=HINT)
        if len(found) == 1:
            return found[0]
        raise locate(told, found[1].item.node if found else self.joins[-1].item.node if self.joins else self.first.node)

    def _across(self, join: Joined) -> bool:
        if join.node.args.get("using"):
            before = self.items[: self.items.index(join.item)]
            return {item.party for item in before}.isdisjoint({join.item.party})
        columns = join.node.args["on"].find_all(exp.Column)
        parties = {item.party for column in columns if (item := self.named(column)) is not None}
        return len(parties) > 1 or not parties  # without a name it is taken for this one, and refused by `pair`

    def pair(self) -> tuple[Item, Item]:
        """The two items that are joined across, in the order of their names in FROM."""
        join = self.cross()
        if join.node.args.get("using"):
            before = self.items[: self.items.index(join.item)]
            found = [before[0], join.item]
            if len(before) > 1:
                raise locate(
                    UsageError("USING between the parties, where one joins several tables", hint="write ON"),
                    join.item.node,
                )
        else:
            columns = list(join.node.args["on"].find_all(exp.Column))
            for column in columns:
                if self.named(column) is None:
                    told = UsageError(
                        f"name the table of the join key {column.sql(dialect='duckdb')[:80]}", hint="b.phone = t.msisdn"
                    )
                    raise locate(told, column)
            named = {self.named(column) for column in columns}
            found = [item for item in self.items if item in named]
        if len(found) != 2 or found[0].party == found[1].party:
            told = UsageError("a join condition equates keys of one table of each party", hint=HINT)
            raise locate(told, join.node.args.get("on") or join.item.node)
        return found[0], found[1]

    def aligned(self) -> Tables:
        """The tables to align, and whose rows stay without a match."""
        first, second = self.pair()
        return Tables({item.party: item.table for item in (first, second)}, self.keep())

    def keep(self) -> str | None:
        """The party whose rows stay without a match, by LEFT or RIGHT JOIN."""
        join, (first, second) = self.cross(), self.pair()
        theirs = join.item.party
        other = first.party if second.party == theirs else second.party
        return {"LEFT": other, "RIGHT": theirs}.get(join.kind)


def chained(node: exp.Expression, kind: type[exp.Connector]) -> list[exp.Expression]:
    """What AND, or OR, connects."""
    found: list[exp.Expression] = []
    left = [node]
    while left:
        part = left.pop()
        while isinstance(part, exp.Paren):
            part = part.this
        if isinstance(part, kind):
            left += [part.expression, part.this]
        else:
            found.append(part)
    return found
