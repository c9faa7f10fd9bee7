"""Names: what a column of a statement means in the joined tables, and how a construct is refused."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlglot import exp

from mpc.sql.expr import Expr, Kind
from party.catalogue import Catalogue, Column, Table
from party.errors import UsageError

__all__ = ["Relation", "Scope", "catalogue_columns", "means", "refuse"]


def refuse(node: exp.Expr, hint: str | None = None) -> UsageError:
    """The error for a construct outside the allow-list."""
    name = str(node.this) if isinstance(node, exp.Anonymous) else type(node).__name__
    return UsageError(f"{name} is not supported: {node.sql(dialect='duckdb')[:80]}", hint=hint)


@dataclass(frozen=True)
class Relation:
    """What a name in FROM stands for: name -> expression of its owner. further: the owner looks up in this table."""

    party: str
    table: str
    columns: Mapping[str, Expr]
    further: bool = False


@dataclass(frozen=True)
class Scope:
    """The names in FROM, by alias. unmatched: the party whose columns are NULL in rows of the other that have no match.
    nested: types a SELECT that stands among the expressions; None where there may be none."""

    aliases: Mapping[str, Relation]
    catalogues: tuple[Catalogue, Catalogue]
    unmatched: str | None = None
    nested: Callable[[exp.Expression, Scope], Expr] | None = None

    @classmethod
    def of_tables(
        cls, tables: Mapping[str, str], catalogues: tuple[Catalogue, Catalogue], unmatched: str | None = None
    ) -> Scope:
        """One table of each party, under the party's name."""
        found = {}
        for party, name in tables.items():
            table = next(c for c in catalogues if c.party == party).table(name)
            columns = {} if table is None else catalogue_columns(party, table, party == unmatched)
            found[party] = Relation(party, name, columns)
        return cls(found, catalogues, unmatched)

    def column(self, node: exp.Expr) -> Expr:
        """The granted column that a name means."""
        if isinstance(node.this, exp.Star) or node.args.get("catalog") is not None:
            raise refuse(node)
        found: list[Expr] = []
        meant: list[Relation] = []
        for alias, relation in self.aliases.items():
            if means(node, alias, relation.party, relation.table):
                meant.append(relation)
                found += _named(relation.columns, str(node.this.this))
        text = node.sql(dialect="duckdb")
        if not found:
            raise self._unknown(text, str(node.this.this), meant)
        if len(found) > 1:
            raise UsageError(f"column {text} is ambiguous", hint="write it with its table's alias")
        return found[0]

    def _unknown(self, text: str, name: str, meant: list[Relation]) -> UsageError:
        """The error for a name that means nothing here: of the alias, or of the column with what may be used there."""
        if not meant:
            return UsageError(
                f"no column {text}: FROM has no such table here", hint=f"names in FROM: {', '.join(self.aliases)}"
            )
        parties = {relation.party for relation in meant}
        owner = parties.pop() if len(parties) == 1 else None
        other = next((known.party for known in self.catalogues if known.party != owner), None)
        known = [column for relation in meant for column in relation.columns]
        close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
        opened = "their owners open" if owner is None else f"{owner}'s policy.yaml opens"
        return UsageError(
            f"no column {text}, or it is not granted to {other if owner else 'the other party'}",
            hint=f"did you mean {close[0]}?" if close else f"columns that {opened}: {', '.join(known[:20]) or 'none'}",
        )


def catalogue_columns(party: str, table: Table, nullable: bool = False) -> dict[str, Expr]:
    """All granted columns of a table. nullable: any may be NULL, whatever it declares."""
    return {column.name: _column(party, column, nullable or column.nullable) for column in table.columns}


def _named(columns: Mapping[str, Expr], name: str) -> list[Expr]:
    if name in columns:
        return [columns[name]]
    return [column for known, column in columns.items() if known.lower() == name.lower()]


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


def means(node: exp.Expr, alias: str, party: str, table: str) -> bool:
    """Whether a column's qualifier, if it has one, names this table: by its alias or as party.table."""
    named, schema = node.args.get("table"), node.args.get("db")
    if named is None:
        return True
    if schema is not None:
        return (str(schema.this), str(named.this)) == (party, table)
    return str(named.this).lower() == alias.lower()
