"""A statement: one join of the two parties' tables on their declared keys, WHERE, GROUP BY, aggregates."""

from __future__ import annotations

from sqlglot import errors, exp
from sqlglot import parse as parse_statements

from mpc.sql.bind import SIZE, bind
from mpc.sql.outputs import Answer, bare
from mpc.sql.scope import Scope, means, refuse
from mpc.sql.types import Context, Expr, Query, owners
from party.errors import UsageError

__all__ = ["parse"]

TEXT = 20_000  # characters of a statement
_PARTS = ("expressions", "from_", "joins", "where", "group", "having", "order", "limit", "offset")


def parse(sql: str, context: Context) -> Query:
    """The typed query of one statement. Raises UsageError (exit 2) naming the construct that is not allowed."""
    if len(sql) > TEXT:
        raise UsageError(f"the statement has more than {TEXT} characters")
    try:
        statements = [node for node in parse_statements(sql, dialect="duckdb") if node is not None]
    except errors.SqlglotError as error:
        raise UsageError(f"this is not SQL: {str(error).splitlines()[0][:200]}") from None
    except RecursionError:
        raise UsageError("the statement is nested too deeply") from None
    if len(statements) != 1:
        raise UsageError("one SELECT statement at a time")
    (select,) = statements
    if not isinstance(select, exp.Select):
        raise refuse(select, hint="a joint query is one SELECT")
    try:
        return _Statement(select, context).query()
    except RecursionError:
        raise UsageError("the statement is nested too deeply") from None


class _Statement:
    def __init__(self, select: exp.Select, context: Context) -> None:
        self.select = select
        self.context = context
        self.size = 0
        for name, part in select.args.items():
            if part in (None, False, []) or name in _PARTS:
                continue
            raise UsageError(f"{name.upper().strip('_')} is not supported")
        self.scope, self.join = self._from()

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
        outputs, order = answer.outputs(), answer.order()
        shown = len(answer.aggregates)  # what HAVING alone reads comes behind them, and is not opened
        having = answer.having()
        tables = tuple(
            next(table for party, table in self.scope.aliases.values() if party == ours)
            for ours in self.context.parties
        )
        if not groups and not answer.aggregates:
            raise UsageError(
                "the statement has no aggregate: rows are never shown",
                hint="ask for COUNT, SUM, AVG, VAR, STDDEV, COVAR or CORR",
            )
        return Query(
            (tables[0], tables[1]), where, groups, names, tuple(answer.aggregates), outputs, self.join, self.keep,
            order, having, shown, answer.limit(),
        )  # fmt: skip

    # --- FROM and JOIN --------------------------------------------------------------------------------------------

    def _from(self) -> tuple[Scope, tuple[tuple[str, ...], tuple[str, ...]]]:
        source, joins = self.select.args.get("from_"), self.select.args.get("joins") or []
        hint = "FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.msisdn"
        if source is None or len(joins) != 1:
            raise UsageError("a joint query joins exactly one table of each party", hint=hint)
        (join,) = joins
        side = join.args.get("side")
        for name, part in join.args.items():
            if part in (None, False, []) or name in ("this", "on", "using") or (name, part) == ("kind", "INNER"):
                continue
            if side in ("LEFT", "RIGHT") and (name == "side" or (name, part) == ("kind", "OUTER")):
                continue
            raise UsageError(f"{part if isinstance(part, str) else name.upper()} JOIN is not supported", hint=hint)
        aliases: dict[str, tuple[str, str]] = {}
        for node in (source.this, join.this):
            alias, place = self._table(node)
            if alias.lower() in (known.lower() for known in aliases):
                raise UsageError(f"two tables are named {alias}", hint="give them different aliases")
            aliases[alias] = place
        if {party for party, _ in aliases.values()} != set(self.context.parties):
            raise UsageError("a joint query joins one table of each party", hint=hint)
        first, last = next(iter(aliases.values()))[0], aliases[alias][0]
        self.keep = {"LEFT": first, "RIGHT": last}.get(side or "")
        unmatched = None if self.keep is None else last if self.keep == first else first
        scope = Scope(aliases, self.context.catalogues, unmatched)
        return scope, self._keys(join, scope)

    def _table(self, node: exp.Expression) -> tuple[str, tuple[str, str]]:
        if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
            raise refuse(node, hint="name a table as party.table")
        for name, part in node.args.items():
            if part not in (None, False, []) and name not in ("this", "db", "alias"):
                raise refuse(node, hint=f"its part {name!r} is not supported")
        party, table = str(node.args["db"].this) if node.args.get("db") else "", str(node.this.this)
        catalogue = next((c for c in self.context.catalogues if c.party == party), None)
        if catalogue is None or catalogue.table(table) is None:
            raise UsageError(
                f"no table {party + '.' if party else ''}{table}, or none of its columns is granted",
                hint=f"tables are named party.table, with {' or '.join(self.context.parties)} as party",
            )
        alias = node.args.get("alias")
        if alias is not None and alias.args.get("columns"):
            raise refuse(alias, hint="column aliases of a table are not supported")
        return str(alias.this.this) if alias is not None else table, (party, table)

    def _keys(self, join: exp.Join, scope: Scope) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The key columns of each party. The condition is the declared keys; several, tried in order, stand with OR."""
        if join.args.get("using"):
            written = [{(str(name.this), str(name.this)) for name in join.args["using"]}]
        else:
            written = [self._pairs(part, scope) for part in _parts(join.args.get("on"), exp.Or)]
        declared = []
        for catalogue in self.context.catalogues:
            name = next(table for party, table in scope.aliases.values() if party == catalogue.party)
            table = catalogue.table(name)
            keys = table.key if table is not None else ()
            if not keys:
                raise UsageError(f"{catalogue.party}.{name} has no key")
            declared.append(keys)
        first, second = declared
        alike = [len(key) for key in first] == [len(key) for key in second]
        if not alike or written != [set(zip(*pair, strict=True)) for pair in zip(first, second, strict=True)]:
            wanted = " and ".join(
                f"{catalogue.party} ({'; else '.join(', '.join(key) for key in keys)})"
                for catalogue, keys in zip(self.context.catalogues, declared, strict=True)
            )
            raise UsageError(
                "the join is not on the declared keys",
                hint=f"join on {wanted}, column by column in order"
                + (", with OR between the keys" if len(first) > 1 else ""),
            )
        return tuple(name for key in first for name in key), tuple(name for key in second for name in key)

    def _pairs(self, condition: exp.Expression, scope: Scope) -> set[tuple[str, str]]:
        """The equalities of one key: (column of the first party, column of the second)."""
        pairs: set[tuple[str, str]] = set()
        for part in _parts(condition, exp.And):
            sides = [part.this, part.expression] if isinstance(part, exp.EQ) else []
            if len(sides) != 2 or not all(isinstance(side, exp.Column) for side in sides):
                raise UsageError(
                    f"the join condition {part.sql(dialect='duckdb')[:80]} is not supported",
                    hint="join on equality of the declared keys; other conditions go into WHERE",
                )
            by_party = {self._key_party(side, scope.aliases): str(side.this.this) for side in sides}
            if len(by_party) != 2:
                raise UsageError("a join condition equates a key of one party with the other's")
            pairs.add((by_party[self.context.parties[0]], by_party[self.context.parties[1]]))
        return pairs

    @staticmethod
    def _key_party(node: exp.Column, aliases: dict[str, tuple[str, str]]) -> str:
        for alias, (party, table) in aliases.items():
            if node.args.get("table") is not None and means(node, alias, party, table):
                return party
        raise UsageError(f"name the table of the join key {node.sql(dialect='duckdb')[:80]}")

    # --- WHERE and GROUP BY -----------------------------------------------------------------------------------------

    def _where(self) -> Expr | None:
        node = self.select.args.get("where")
        return None if node is None else self._condition(node.this)

    def _condition(self, node: exp.Expression) -> Expr:
        """Conjuncts of one party are joined to one condition, so that each party computes one column."""
        parts = [self._bind(part) for part in _parts(node, exp.And)]
        for part in parts:
            if part.kind not in ("bool", "null"):
                raise UsageError(f"{part.kind} where a condition is due")
        whole: dict[frozenset[str], list[Expr]] = {}
        for part in parts:
            whole.setdefault(owners(part) if len(owners(part)) == 1 else frozenset({str(len(whole))}), []).append(part)
        joined = [found[0] if len(found) == 1 else _and(found) for found in whole.values()]
        return joined[0] if len(joined) == 1 else _and(joined)

    def _groups(self) -> tuple[tuple[Expr, ...], tuple[str, ...]]:
        node = self.select.args.get("group")
        if node is None:
            return (), ()
        for name, part in node.args.items():
            if part not in (None, False, []) and name != "expressions":
                raise UsageError(f"GROUP BY {name.upper()} is not supported")
        groups, names = [], []
        for item in node.expressions:
            source = self._select_item(item)
            expr = self._bind(source)
            if len(owners(expr)) != 1:
                raise UsageError(
                    f"GROUP BY {item.sql(dialect='duckdb')[:80]} is not of one party's columns",
                    hint="each key is an expression of one party",
                )
            if expr.kind in ("float", "decimal", "null"):
                raise UsageError(f"GROUP BY a {expr.kind} is not supported", hint="group by CASE or by whole numbers")
            if expr in groups:
                continue
            groups.append(expr)
            names.append(source.sql(dialect="duckdb")[:80])
        return tuple(groups), tuple(names)

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


def _parts(node: exp.Expression | None, kind: type[exp.Connector]) -> list[exp.Expression]:
    """What AND, or OR, connects."""
    if node is None:
        raise UsageError("the join has no condition", hint="join on the declared keys: ON b.phone = t.msisdn")
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, kind):
        return _parts(node.this, kind) + _parts(node.expression, kind)
    return [node]
