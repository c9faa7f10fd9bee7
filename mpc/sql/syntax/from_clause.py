"""FROM and JOIN of a joint SELECT: the two aligned tables with their keys, and the owners' further tables."""

from __future__ import annotations

from sqlglot import exp

from mpc.sql import lookups
from mpc.sql.expr import Expr
from mpc.sql.syntax.places import locate
from mpc.sql.syntax.relations import Joining, Local, Setting, source_of
from mpc.sql.syntax.scope import Relation, Scope
from mpc.sql.syntax.sources import Item, Joined, Sources, chained
from party.errors import UsageError

__all__ = ["From"]


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
        joining = Joining(setting, known)
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
