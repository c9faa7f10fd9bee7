"""Columns as statistics name them, party.column, and a query over the two aligned tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlglot import exp

from mpc.sql.expr import Expr, never_null, owners
from mpc.sql.syntax.bind import bind
from mpc.sql.syntax.scope import Scope
from mpc.sql.types import Aggregate, Context, Output, Post, Query
from party.errors import UsageError

__all__ = ["Setting", "known", "required", "split"]

_NOT_EXACT = "declare the column decimal(p,s) in party.yaml: sums are exact"


@dataclass(frozen=True)
class Setting:
    """tables: party -> the name of its aligned table."""

    tables: Mapping[str, str]
    context: Context

    @property
    def scope(self) -> Scope:
        """The two tables, each under its party's name."""
        return Scope.of_tables(self.tables, self.context.catalogues, self.context.unmatched)

    def column(self, name: str) -> Expr:
        """Any granted column, by party.column."""
        party, dot, column = name.partition(".")
        if not dot or party not in self.context.parties:
            raise UsageError(f"{name!r} names no column", hint="columns are named party.column")
        return bind(exp.column(exp.to_identifier(column), table=exp.to_identifier(party)), self.scope)

    def number(self, name: str, kind: str) -> Expr:
        """A column of exact numbers: integers, decimals, booleans as 0 and 1."""
        found = self.column(name)
        if found.kind == "float":
            raise UsageError(f"{kind} of {name}, a float", hint=_NOT_EXACT)
        if found.kind not in ("integer", "decimal", "bool"):
            raise UsageError(f"{kind} of {name}, a {found.kind}", hint=f"{kind} takes numbers and booleans")
        return found

    def category(self, name: str, kind: str) -> Expr:
        """A column whose values are groups, under the grant `group`."""
        found = self.column(name)
        if found.kind not in ("string", "bool", "integer"):
            raise UsageError(
                f"{kind} of the categories of {name}, a {found.kind}", hint="categories are texts, booleans or integers"
            )
        return found

    def flag(self, name: str, kind: str) -> Expr:
        """A column of 0 and 1 as a condition."""
        found = self.column(name)
        if found.kind == "bool":
            return found
        if found.kind == "integer" and (found.low, found.high) == (0, 1):
            one = Expr("literal", "integer", value=1, low=1, high=1)
            return Expr("=", "bool", (found, one), low=0, high=1)
        raise UsageError(
            f"{kind} splits by {name}, which is not declared to hold 0 and 1",
            hint="declare it `type: bool`, or `range: [0, 1]`, in its owner's party.yaml",
        )

    def query(self, keys: Mapping[str, Expr], aggregates: Mapping[str, Aggregate], where: tuple[Expr, ...]) -> Query:
        """The groups of `keys` over the rows where all of `where` hold, with an output for each key and aggregate."""
        outputs = [Output(name, Post("key", value=place)) for place, name in enumerate(keys)]
        outputs += [Output(name, Post("aggregate", value=place)) for place, name in enumerate(aggregates)]
        joined = []
        for catalogue in self.context.catalogues:
            table = catalogue.table(self.tables[catalogue.party])
            joined.append(tuple(name for key in table.key for name in key) if table is not None else ())
        first, second = self.context.parties
        return Query(
            tables=(self.tables[first], self.tables[second]),
            where=None if not where else where[0] if len(where) == 1 else Expr("and", "bool", where, low=0, high=1),
            groups=tuple(keys.values()),
            group_names=tuple(keys),
            aggregates=tuple(aggregates.values()),
            outputs=tuple(outputs),
            join=(joined[0], joined[1]),
        )


def known(expr: Expr, use: str) -> tuple[Expr, ...]:
    """The condition that a column is not NULL, read under this grant; none where it never is."""
    return () if never_null(expr) else (Expr("known", "bool", (expr,), value=use, low=0, high=1),)


def split(flag: Expr) -> Expr:
    """The key of two groups that a 0/1 column makes of the rows where it is not NULL; under the grant `aggregate`.

    Where it is NULL, a row goes to the first; so the query leaves such rows out by `known`.
    """
    none = Expr("literal", "bool", value=False, low=0, high=1)
    whole = flag if never_null(flag) else Expr("coalesce", "bool", (flag, none), low=0, high=1)
    return Expr("granted", "bool", (whole,), value="aggregate", low=0, high=1)


def required(flag: Expr) -> Expr:
    """The same condition, of a column that may not be NULL: the run stops at its owner where it is."""
    if flag.op == "column":
        return flag if never_null(flag) else replace(flag, args=(*flag.args, Expr("required", "bool")))
    return replace(flag, args=tuple(required(arg) if owners(arg) else arg for arg in flag.args))
