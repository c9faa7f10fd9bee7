"""FROM and JOIN with the catalogues: what each column of each name in FROM is, as a typed expression of its owner.

Derived tables and WITH names over one party's tables are written out: their columns are expressions of that party, and
their WHERE is a condition of it. A further table of an owner is looked up in by the owner itself (`mpc.sql.lookups`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from mpc.sql import lookups
from mpc.sql.bind import bind, truth_of
from mpc.sql.places import StatementError, locate, placed, word_at
from mpc.sql.reading import Named, aggregated, bare, name_of
from mpc.sql.scope import Relation, Scope, catalogue_columns, refuse
from mpc.sql.sources import HINT, Item, Joined, Sources, chained
from mpc.sql.types import Context, Expr, owners
from party.errors import UsageError

__all__ = ["Derived", "From", "Local", "Setting", "source_of"]

_LOCAL = "a SELECT over one party's tables: columns, arithmetic, WHERE, JOIN on columns of the same party"


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


def source_of(item: Item, setting: Setting, nullable: bool = False) -> Local:
    """The rows that one name in FROM stands for. nullable: any column may be NULL, whatever it declares."""
    if item.body is not None and item.sources is not None:
        return Derived(item.sources, setting, nullable).local()
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


class _Joining:
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
        rows = source_of(item, self.setting)
        relation = Relation(item.party, item.table, rows.columns)
        pairs = self._pairs(sources, joined, item, relation)
        found = lookups.lookup(item.party, item.table, rows.conditions, pairs)
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
                f"a {inner.kind} is joined with a {outer.kind}",
                hint="join columns of one type: keys are texts, so declare `type: string` for what is joined with one",
            )
            raise locate(told, node)
        return inner, outer


class Derived:
    """A SELECT over tables of one party: its columns as expressions, its WHERE as conditions."""

    def __init__(self, sources: Sources, setting: Setting, nullable: bool) -> None:
        self.sources = sources
        for name, part in sources.select.args.items():
            if part in (None, False, []) or name in ("expressions", "from_", "joins", "where", "with_"):
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
        self.joining = _Joining(setting, known)
        for join in sources.joins:
            if join.item.party != self.first.party:
                told = UsageError("a derived table reads tables of one party", hint=_LOCAL)
                raise locate(told, join.item.node)
        self.joining.join(sources, sources.joins)
        self.scope = Scope(self.joining.known, setting.context.catalogues, nested=setting.inside(sources.names))

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
        return Local(self.first.party, self.first.table, columns, self.conditions())

    @placed
    def _columns(self, node: exp.Expression) -> list[tuple[str, Expr]]:
        star = node if isinstance(node, exp.Star) else node.this if isinstance(node, exp.Column) else None
        if not isinstance(star, exp.Star):
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


def _start(select: exp.Expression) -> int:
    starts = [part.meta["start"] for part in select.walk() if "start" in part.meta]
    return min(starts, default=0)


class From:
    """FROM and JOIN of a joint SELECT: the scope of its columns, tables, keys, and conditions of the owners."""

    def __init__(self, sources: Sources, setting: Setting) -> None:
        self.sources, self.context = sources, setting.context
        context = setting.context
        pair = sources.pair()
        for item in sources.items:
            if item.party not in context.parties:
                source_of(item, setting)
        self.keep = sources.keep()
        unmatched = next((party for party in context.parties if self.keep not in (None, party)), None)
        by_party = {item.party: item for item in pair}
        self.pair = by_party[context.parties[0]], by_party[context.parties[1]]
        self.tables = self.pair[0].table, self.pair[1].table
        known: dict[str, Relation] = {}
        conditions: list[Expr] = []
        for item in pair:
            rows = source_of(item, setting, item.party == unmatched)
            if item.party == unmatched:
                _check_kept(rows, item)
            known[item.alias] = Relation(item.party, item.table, rows.columns)
            conditions += rows.conditions
        joining = _Joining(setting, known)
        cross = sources.cross()
        others = [join for join in sources.joins if join is not cross]
        self._check_order(others, cross, unmatched)
        joining.join(sources, others)
        self.conditions = (*conditions, *joining.conditions)
        self.scope = Scope(
            {item.alias: known[item.alias] for item in sources.items},
            context.catalogues,
            unmatched,
            setting.inside(sources.names),
        )
        self.join = self._keys(cross)

    def _check_order(self, others: list[Joined], cross: Joined, unmatched: str | None) -> None:
        """A table that drops rows of the side whose rows may be missing is joined behind the parties' own join."""
        order = self.sources.joins
        for join in others:
            if join.kind == "INNER" and join.item.party == unmatched and order.index(join) < order.index(cross):
                told = UsageError(
                    f"the JOIN of {join.item.alias} stands before the {cross.kind} JOIN of the parties",
                    hint="write it behind, or as LEFT JOIN",
                )
                raise locate(told, join.item.node)

    # --- the keys -----------------------------------------------------------------------------------------------------

    def _keys(self, join: Joined) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The key columns of each party. The condition is the declared keys; several, tried in order, stand with OR."""
        if join.node.args.get("using"):
            written = [{self._alike(name) for name in join.node.args["using"]}]
        else:
            written = [self._pairs(part) for part in chained(join.node.args["on"], exp.Or)]
        declared = []
        for catalogue, item in zip(self.context.catalogues, self.pair, strict=True):
            table = catalogue.table(item.table)
            keys = table.key if table is not None else ()
            if not keys:
                told = UsageError(
                    f"{catalogue.party}.{item.table} has no key",
                    hint=f"{catalogue.party} declares it in party.yaml and grants `join` on it",
                )
                raise locate(told, item.node)
            declared.append(keys)
        first, second = declared
        alike = [len(key) for key in first] == [len(key) for key in second]
        if not alike or written != [set(zip(*pair, strict=True)) for pair in zip(first, second, strict=True)]:
            wanted = " and ".join(
                f"{catalogue.party} ({'; else '.join(', '.join(key) for key in keys)})"
                for catalogue, keys in zip(self.context.catalogues, declared, strict=True)
            )
            told = UsageError(
                "the join is not on the declared keys",
                hint=f"join on {wanted}, column by column in order"
                + (", with OR between the keys" if len(first) > 1 else ""),
            )
            raise locate(told, join.node.args.get("on") or join.item.node)
        return tuple(name for key in first for name in key), tuple(name for key in second for name in key)

    def _pairs(self, condition: exp.Expression) -> set[tuple[str, str]]:
        """The equalities of one key: (column of the first party, column of the second)."""
        pairs: set[tuple[str, str]] = set()
        for part in chained(condition, exp.And):
            sides = [part.this, part.expression] if isinstance(part, exp.EQ) else []
            if len(sides) != 2 or not all(isinstance(side, exp.Column) for side in sides):
                told = UsageError(
                    f"the join condition {part.sql(dialect='duckdb')[:80]} is not supported",
                    hint="join on equality of the declared keys; other conditions go into WHERE",
                )
                raise locate(told, part)
            by_party = dict(self._key(side) for side in sides)
            if len(by_party) != 2:
                told = UsageError(
                    "a join condition equates a key of one party with the other's", hint="b.phone = t.msisdn"
                )
                raise locate(told, part)
            pairs.add((by_party[self.context.parties[0]], by_party[self.context.parties[1]]))
        return pairs

    def _alike(self, name: exp.Expression) -> tuple[str, str]:
        """The equality that one name in USING stands for."""
        first, second = (
            self._key(exp.Column(this=name.copy(), table=exp.to_identifier(item.alias, quoted=True)))[1]
            for item in self.pair
        )
        return first, second

    def _key(self, node: exp.Expression) -> tuple[str, str]:
        """Party and column of one side of a join condition: a column as its table has it, under any name."""
        try:
            found = self.scope.column(node)
        except UsageError as error:
            raise locate(error, node) from None
        if found.op != "column" or found.owner is None:
            told = UsageError(
                f"{node.sql(dialect='duckdb')[:80]} is no column of an aligned table", hint="join on the declared keys"
            )
            raise locate(told, node)
        return found.owner, str(found.value)


def _check_kept(rows: Local, item: Item) -> None:
    """Rows kept without a match are NULL in all columns of the other side: a derived table must say the same."""
    if rows.conditions:
        told = UsageError(
            f"the WHERE of {item.alias} would decide which rows of the other party have a match",
            hint="use JOIN, or put the condition into FILTER or CASE",
        )
        raise locate(told, item.node)
    for name, column in rows.columns.items():
        if not lookups.null_of_nulls(column):
            told = UsageError(
                f"the column {name} of {item.alias} may have a value where there is no match",
                hint="compute it in the outer SELECT",
            )
            raise locate(told, item.node)
