"""Names: what a column of a statement means in the two joined tables, and how a construct is refused."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from mpc.sql.types import Expr, Kind
from party.catalogue import Catalogue, Column
from party.errors import UsageError

__all__ = ["Scope", "means", "refuse"]


def refuse(node: exp.Expr, hint: str | None = None) -> UsageError:
    """The error for a construct outside the allow-list."""
    name = str(node.this) if isinstance(node, exp.Anonymous) else type(node).__name__
    return UsageError(f"{name} is not supported: {node.sql(dialect='duckdb')[:80]}", hint=hint)


@dataclass(frozen=True)
class Scope:
    """The two joined tables under their aliases: alias -> (party, table name). unmatched: the party whose columns are
    NULL in rows of the other that have no match."""

    aliases: dict[str, tuple[str, str]]
    catalogues: tuple[Catalogue, Catalogue]
    unmatched: str | None = None

    def column(self, node: exp.Column) -> Expr:
        """The granted column that a name means."""
        self._parts_of(node)
        found: list[tuple[str, Column]] = []
        for alias, (party, table) in self.aliases.items():
            if not means(node, alias, party, table):
                continue
            columns = next(c for c in self.catalogues if c.party == party).table(table)
            if columns is not None:
                found += [(party, column) for column in _named(columns.columns, str(node.this.this))]
        text = node.sql(dialect="duckdb")
        if not found:
            raise UsageError(
                f"no column {text}, or it is not granted to the other party",
                hint="`tally tables PEER` lists the columns that may be used",
            )
        if len(found) > 1:
            raise UsageError(f"column {text} is ambiguous", hint="write it with its table's alias")
        party, column = found[0]
        return _column(party, column, column.nullable or party == self.unmatched)

    @staticmethod
    def _parts_of(node: exp.Column) -> None:
        if isinstance(node.this, exp.Star) or node.args.get("catalog") is not None:
            raise refuse(node)


def _named(columns: tuple[Column, ...], name: str) -> list[Column]:
    exact = [column for column in columns if column.name == name]
    return exact or [column for column in columns if column.name.lower() == name.lower()]


def _column(party: str, column: Column, nullable: bool) -> Expr:
    low, high, scale = None, None, 0
    if column.type in ("integer", "decimal"):
        low, high = column.low, column.high
        scale = column.scale if column.type == "decimal" else 0
        if column.type == "decimal" and (low is None or high is None):
            low, high = 1 - 10**column.precision, 10**column.precision - 1
    elif column.type == "bool":
        low, high = 0, 1
    domain = Expr("domain", "string", tuple(_value(value) for value in column.domain)) if column.domain else None
    declared = Expr("declared", "integer", value=column.precision)
    args = (declared,) if domain is None else (declared, domain)
    if not nullable:
        args = (*args, Expr("required", "bool"))
    return Expr("column", column.type, args, column.name, party, scale, low, high)


def _value(value: str | int | bool) -> Expr:
    kind: Kind = "bool" if isinstance(value, bool) else "integer" if isinstance(value, int) else "string"
    return Expr("literal", kind, value=value)


def means(node: exp.Column, alias: str, party: str, table: str) -> bool:
    """Whether a column's qualifier, if it has one, names this table: by its alias or as party.table."""
    named, schema = node.args.get("table"), node.args.get("db")
    if named is None:
        return True
    if schema is not None:
        return (str(schema.this), str(named.this)) == (party, table)
    return str(named.this).lower() == alias.lower()
