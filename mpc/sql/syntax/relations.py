"""FROM and JOIN with the catalogues: what each column of each name in FROM is, as a typed expression of its owner.

Derived tables and WITH names over one party's tables are written out: their columns are expressions of that party, and
their WHERE is a condition of it. A further table of an owner is looked up in by the owner itself (`mpc.sql.lookups`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from mpc.sql import lookups, numbers
from mpc.sql.entering import check_value
from mpc.sql.expr import Expr, owners
from mpc.sql.syntax.bind import bind, truth_of
from mpc.sql.syntax.places import StatementError, locate, placed, word_at
from mpc.sql.syntax.reading import Named, aggregated, bare, name_of
from mpc.sql.syntax.scope import Relation, Scope, catalogue_columns, refuse
from mpc.sql.syntax.sources import HINT, Item, Joined, Sources, chained
from mpc.sql.types import Context
from party.errors import UsageError

__all__ = ["Derived", "Joining", "Local", "Setting", "source_of"]

_LOCAL = "a SELECT over one party's tables: columns, arithmetic, WHERE, JOIN on columns of the same party"


_AGGREGATES: dict[type[exp.Expression], str] = {
    exp.Count: "count", exp.Sum: "sum", exp.Avg: "avg", exp.Min: "min", exp.Max: "max",
}  # fmt: skip
Nested = Callable[[exp.Expression, Scope, Mapping[str, Named], "Setting"], Expr]


@dataclass(frozen=True)
class Setting:
    """What all names of one statement stand in: the catalogues, the whole text, how SELECTs among the expressions are
    typed, and how many tables have been named in all."""

    context: Context
    sql: str
    nested: Nested
    count: list[int] = field(default_factory=lambda: [0])

    def inside(self, names: Mapping[str, Named]) -> Callable[[exp.Expression, Scope], Expr]:
        """The typing of SELECTs among expressions, where WITH gives these names."""
        return lambda node, scope: self.nested(node, scope, names, self)

    def rows(self, party: str, table: str) -> int:
        """At most so many rows has a table."""
        known = next(c for c in self.context.catalogues if c.party == party).table(table)
        return 0 if known is None else known.rows


@dataclass(frozen=True)
class Local:
    """One SELECT over the tables of one party, or one table: what its rows are, before anybody is joined."""

    party: str
    table: str
    columns: Mapping[str, Expr]
    conditions: tuple[Expr, ...] = ()
    keys: tuple[Expr, ...] = ()  # of GROUP BY


def source_of(item: Item, setting: Setting, nullable: bool = False, further: bool = False) -> Local:
    """The rows that one name in FROM stands for. nullable: any column may be NULL, whatever it declares. further: it is
    looked up in, and may be grouped."""
    if item.body is not None and item.sources is not None:
        return Derived(item.sources, setting, nullable, further).local()
    context = setting.context
    catalogue = next((c for c in context.catalogues if c.party == item.party), None)
    table = None if catalogue is None else catalogue.table(item.table)
    if table is None:
        told = UsageError(
            f"no table {item.party}.{item.table}, or none of its columns is granted",
            hint=f"tables are named party.table, with {' or '.join(context.parties)} as party",
        )
        raise locate(told, item.node)
    return Local(item.party, item.table, catalogue_columns(item.party, table, nullable))


class Joining:
    """Joins further tables of one owner to what is known already, in any order that works."""

    def __init__(self, setting: Setting, known: dict[str, Relation]) -> None:
        self.setting, self.context, self.known = setting, setting.context, known
        self.conditions: list[Expr] = []

    def join(self, sources: Sources, joins: list[Joined]) -> None:
        left = list(joins)
        while left:
            for joined in left:
                new = self._unknown(sources, joined)
                if new is not None:
                    self._look_up(sources, joined, new)
                    left.remove(joined)
                    break
            else:
                told = UsageError(
                    f"the join of {left[0].item.alias} does not lead to the table that is joined with the other party",
                    hint="JOIN bank.accounts a ON b.id = a.customer",
                )
                raise locate(told, left[0].item.node)

    def _unknown(self, sources: Sources, joined: Joined) -> Item | None:
        """The one table of a join that is not known yet, if all others are."""
        if joined.node.args.get("using"):
            named = sources.items[: sources.items.index(joined.item) + 1]
            named = [item for item in named if item.party == joined.item.party]
        else:
            columns = joined.node.args["on"].find_all(exp.Column)
            named = list(dict.fromkeys(item for column in columns if (item := sources.named(column)) is not None))
        new = [item for item in named if item.alias not in self.known]
        return new[0] if len(new) == 1 and len(named) > 1 else None

    def _look_up(self, sources: Sources, joined: Joined, item: Item) -> None:
        if joined.kind == "RIGHT" or (joined.kind == "LEFT" and item is not joined.item):
            told = UsageError(
                f"this {joined.kind} JOIN of tables of one party is not supported",
                hint="name the table whose rows count first: FROM bank.customers b LEFT JOIN bank.accounts a ON ...",
            )
            raise locate(told, joined.item.node)
        rows = source_of(item, self.setting, further=True)
        relation = Relation(item.party, item.table, rows.columns)
        pairs = self._pairs(sources, joined, item, relation)
        if rows.keys and {inner for inner, _ in pairs} != set(rows.keys):
            told = UsageError(
                f"{item.alias} is joined on other columns than it is grouped by", hint="join on all columns of GROUP BY"
            )
            raise locate(told, joined.item.node)
        if rows.keys and not all(outer.op == "column" for _, outer in pairs):
            told = UsageError(
                f"{item.alias}, a grouped table, is joined with computed columns",
                hint="join it on columns that are unique in their table",
            )
            raise locate(told, joined.item.node)
        make = lookups.grouped if rows.keys else lookups.lookup
        found = make(item.party, item.table, rows.conditions, pairs)
        columns = {name: lookups.looked(found, column) for name, column in rows.columns.items()}
        self.known[item.alias] = Relation(item.party, item.table, columns, further=True)
        if joined.kind == "INNER":
            self.conditions.append(lookups.matched(found))

    def _pairs(self, sources: Sources, joined: Joined, item: Item, rows: Relation) -> list[tuple[Expr, Expr]]:
        """(column of the further table, column known already) for each equality."""
        inside = Scope({item.alias: rows}, self.context.catalogues)
        outside = Scope(dict(self.known), self.context.catalogues)
        found = []
        using = joined.node.args.get("using")
        if using:
            others = [other for other in sources.items if other.alias in self.known and other.party == item.party]
            if len(others) != 1:
                raise locate(UsageError("USING among more than two tables", hint="write ON"), joined.item.node)
            for name in using:
                column = exp.Column(this=name.copy())
                inner = exp.Column(this=name.copy(), table=exp.to_identifier(others[0].alias, quoted=True))
                found.append((inside.column(column), outside.column(inner)))
            return [self._pair(inner, outer, using[0]) for inner, outer in found]
        for part in chained(joined.node.args["on"], exp.And):
            sides = [part.this, part.expression] if isinstance(part, exp.EQ) else []
            new = [side for side in sides if isinstance(side, exp.Column) and sources.named(side) is item]
            old = [side for side in sides if isinstance(side, exp.Column) and sources.named(side) not in (item, None)]
            if len(new) != 1 or len(old) != 1:
                told = UsageError(
                    f"the join condition {part.sql(dialect='duckdb')[:80]} is not supported",
                    hint="tables of one party are joined on equal columns, each with its table's alias, joined by AND",
                )
                raise locate(told, part)
            found.append(self._pair(inside.column(new[0]), outside.column(old[0]), part))
        return found

    @staticmethod
    def _pair(inner: Expr, outer: Expr, node: exp.Expression) -> tuple[Expr, Expr]:
        if owners(inner) != owners(outer):
            raise locate(UsageError("a table is joined with tables of its own party here", hint=HINT), node)
        if inner.op != "column":
            told = UsageError(
                "a further table is joined on a computed column", hint="join on columns as its table has them"
            )
            raise locate(told, node)
        same = inner.kind == outer.kind and inner.scale == outer.scale
        if not same or inner.kind not in ("integer", "string", "date", "bool", "decimal"):
            told = UsageError(
                f"columns of different types are joined: {inner.kind} and {outer.kind}",
                hint="join columns of one type: keys are texts, so declare `type: string` for what is joined with one",
            )
            raise locate(told, node)
        return inner, outer


class Derived:
    """A SELECT over tables of one party: its columns as expressions, its WHERE as conditions."""

    def __init__(self, sources: Sources, setting: Setting, nullable: bool, further: bool = False) -> None:
        self.sources, self.setting = sources, setting
        group = sources.select.args.get("group") if further else None
        for name, part in sources.select.args.items():
            if part in (None, False, [], group) or name in ("expressions", "from_", "joins", "where", "with_"):
                continue
            word = name.upper().strip("_")
            told = UsageError(f"{word} in a derived table is not supported", hint=_LOCAL)
            raise (
                StatementError(told.message, word_at(setting.sql, word, _start(sources.select)), hint=told.hint)
                if not isinstance(part, exp.Expression)
                else locate(told, part)
            )
        self.first = source_of(sources.first, setting, nullable)
        known = {sources.first.alias: Relation(self.first.party, self.first.table, self.first.columns)}
        self.joining = Joining(setting, known)
        for join in sources.joins:
            if join.item.party != self.first.party:
                told = UsageError("a derived table reads tables of one party", hint=_LOCAL)
                raise locate(told, join.item.node)
        self.joining.join(sources, sources.joins)
        self.scope = Scope(self.joining.known, setting.context.catalogues, nested=setting.inside(sources.names))

        self.keys = tuple(self._key(node) for node in group.expressions) if group is not None else ()

    @placed
    def _key(self, node: exp.Expression) -> Expr:
        found = bind(node, self.scope)
        if found.op != "column":
            raise UsageError("a further table is grouped by its columns", hint="GROUP BY customer")
        return found

    @placed
    def call(self, node: exp.Expression) -> tuple[str, Expr] | None:
        """An aggregate of its rows: the function, and the value of a row; None for anything else."""
        function = _AGGREGATES.get(type(node))
        given = [part for name, part in node.args.items() if part not in (None, False, []) and name != "big_int"]
        if function is None or len(given) != 1 or isinstance(given[0], (list, exp.Distinct)):
            return None
        star = isinstance(node.this, exp.Star) and function == "count"
        value = lookups.TRUE if star else bind(node.this, self.scope)
        if not star and owners(value) != {self.first.party}:
            raise UsageError(f"{function.upper()} of a constant is not supported here", hint="of a column")
        if function in ("sum", "avg"):
            if not (numbers.numeric(value) or value.kind == "float"):
                raise UsageError(f"{function.upper()} of a {value.kind}", hint="of numbers")
            check_value(value)
        return function, value

    def conditions(self) -> tuple[Expr, ...]:
        """What its rows fulfil."""
        where = self.sources.select.args.get("where")
        parts = [] if where is None else chained(where.this, exp.And)
        return (*self.first.conditions, *self.joining.conditions, *(self.truth(part) for part in parts))

    def truth(self, node: exp.Expression) -> Expr:
        """A condition on its rows."""
        return truth_of(node, self.scope)

    def local(self) -> Local:
        """Its rows as the outer SELECT sees them."""
        columns: dict[str, Expr] = {}
        for node in self.sources.select.expressions:
            for name, found in self._columns(node):
                if name.lower() in (known.lower() for known in columns):
                    raise locate(UsageError(f"two columns are named {name!r}", hint="name them with AS"), node)
                columns[name] = found
        return Local(self.first.party, self.first.table, columns, self.conditions(), self.keys)

    @placed
    def _columns(self, node: exp.Expression) -> list[tuple[str, Expr]]:
        star = node if isinstance(node, exp.Star) else node.this if isinstance(node, exp.Column) else None
        if not isinstance(star, exp.Star):
            if self.keys:
                return [(name_of(node), self._of_group(bare(node)))]
            if aggregated(node):
                raise UsageError("an aggregate in a derived table is not supported", hint=_LOCAL)
            return [(name_of(node), bind(bare(node), self.scope))]
        if any(part not in (None, False, []) for part in star.args.values()):
            raise refuse(node, hint="name the columns")
        of = self.sources.named(node) if isinstance(node, exp.Column) else None
        if isinstance(node, exp.Column) and of is None:
            raise refuse(node, hint="name a table of the FROM")
        items = self.sources.items if of is None else [of]
        return [pair for item in items for pair in self.scope.aliases[item.alias].columns.items()]

    def _of_group(self, node: exp.Expression) -> Expr:
        """A key of GROUP BY, or an aggregate of the rows of a group."""
        found = self.call(node)
        if found is not None:
            return lookups.total(*found, self.setting.rows(self.first.party, self.first.table))
        if aggregated(node):
            raise UsageError("not one aggregate", hint="columns of a grouped table: keys, COUNT, SUM, AVG, MIN, MAX")
        key = bind(node, self.scope)
        if key not in self.keys:
            raise UsageError("neither aggregated nor in GROUP BY", hint="group by it")
        return key


def _start(select: exp.Expression) -> int:
    starts = [part.meta["start"] for part in select.walk() if "start" in part.meta]
    return min(starts, default=0)
