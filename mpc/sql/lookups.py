"""Further tables of one owner, which it reads by itself: expressions over their rows, and what must be read for them.

An expression stands over the rows of one table, the aligned one at first. `looked(lookup, inner)` is the value of
`inner`, over the rows of a further table, in the row there whose keys equal expressions over the rows here; NULL where
there is none. `matched(lookup)` says whether there is one. `scalar` and `member` read a whole table: a number of it,
or whether a value is among those of a column. Their keys must be unique where more than one row would answer: the
owner checks that on its whole table before anything is sent, so that an error says nothing of the aligned rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mpc.sql import numbers
from mpc.sql.expr import NULL_IF_AN_ARGUMENT_IS, Expr, Kind
from mpc.sql.types import Plan

__all__ = [
    "TRUE",
    "Reads",
    "Unique",
    "all_of",
    "further",
    "grouped",
    "looked",
    "lookup",
    "matched",
    "null_of_nulls",
    "parts_of",
    "reads",
    "reads_of",
    "total",
]

TRUE = Expr("literal", "bool", value=True, low=0, high=1)
_STRICT = (NULL_IF_AN_ARGUMENT_IS - {"and", "or"}) | {
    "lower", "upper", "trim", "length", "substring", "extract", "date_trunc", "to_date", "float", "trycast", "tryunits",
    "within", "interval", "days",
}  # fmt: skip


def further(party: str, table: str) -> Expr:
    """All rows of a further table."""
    return Expr("further", "null", value=table, owner=party)


def lookup(party: str, table: str, conditions: Iterable[Expr], pairs: Iterable[tuple[Expr, Expr]]) -> Expr:
    """The row of a further table that fulfils the conditions and whose keys equal expressions here.

    pairs: (key over the rows there, expression over the rows here).
    """
    return Expr("lookup", "null", (all_of(conditions), *(expr for pair in pairs for expr in pair)), table, party)


def grouped(party: str, table: str, conditions: Iterable[Expr], pairs: Iterable[tuple[Expr, Expr]]) -> Expr:
    """The rows of a further table that fulfil the conditions, those of equal keys together: `total` sums them up."""
    found = lookup(party, table, conditions, pairs)
    return Expr("grouped", "null", found.args, found.value, found.owner)


def total(function: str, value: Expr, rows: int) -> Expr:
    """count, sum, avg, min or max of a value over at most so many rows; TRUE counts them."""
    if function == "count":
        return Expr("total", "integer", (value,), function, low=0, high=rows)
    if function == "avg" or (function == "sum" and value.kind == "float"):
        return Expr("total", "float", (value,), function)
    if function == "sum":
        number = numbers.as_number(value)
        bounds: tuple[int | None, int | None] = (None, None)
        if number.low is not None and number.high is not None:
            bounds = min(0, number.low * rows), max(0, number.high * rows)
        kind: Kind = "decimal" if number.kind == "decimal" else "integer"
        return Expr("total", kind, (value,), function, scale=number.scale, low=bounds[0], high=bounds[1])
    return Expr("total", value.kind, (value,), function, scale=value.scale, low=value.low, high=value.high)


def all_of(conditions: Iterable[Expr]) -> Expr:
    """All conditions as one."""
    parts = tuple(conditions)
    return TRUE if not parts else parts[0] if len(parts) == 1 else Expr("and", "bool", parts, low=0, high=1)


def looked(found: Expr, inner: Expr) -> Expr:
    """A value over the row that a lookup finds."""
    return Expr("looked", inner.kind, (found, inner), scale=inner.scale, low=inner.low, high=inner.high)


def matched(found: Expr) -> Expr:
    """Whether a lookup finds a row."""
    return Expr("matched", "bool", (found,), low=0, high=1)


def null_of_nulls(expr: Expr) -> bool:
    """Whether an expression is surely NULL where all columns here are."""
    if expr.op == "column" or (expr.op == "literal" and expr.kind == "null"):
        return True
    if expr.op == "looked":
        return any(null_of_nulls(here) for here in expr.args[0].args[2::2])
    return expr.op in _STRICT and any(null_of_nulls(arg) for arg in expr.args)


# --- what must be read ---------------------------------------------------------------------------------------------


def _parts(expr: Expr, table: str | None) -> Iterator[tuple[Expr, str | None]]:
    """The parts of an expression over the rows of a table, None for the aligned one, each with its own table."""
    if expr.op in ("looked", "matched"):
        found = expr.args[0]
        there = str(found.value)
        yield from ((key, there) for key in (found.args[0], *found.args[1::2]))
        yield from ((here, table) for here in found.args[2::2])
        if expr.op == "looked":
            yield expr.args[1], there
    elif expr.op == "scalar":
        yield from ((arg, str(expr.args[0].value)) for arg in expr.args[1:])
    elif expr.op == "member":
        yield expr.args[3], table
        yield from ((arg, str(expr.args[0].value)) for arg in expr.args[1:3])
    elif expr.op != "column":
        yield from ((arg, table) for arg in expr.args)


def _all(exprs: Iterable[Expr]) -> Iterator[tuple[Expr, str | None]]:
    """Every expression inside, once, with its table."""
    seen: set[tuple[Expr, str | None]] = set()
    left: list[tuple[Expr, str | None]] = [(expr, None) for expr in exprs]
    while left:
        pair = left.pop()
        if pair not in seen:
            seen.add(pair)
            yield pair
            left += _parts(*pair)


def parts_of(exprs: Iterable[Expr]) -> Iterator[Expr]:
    """Every expression inside of some over an aligned table, those over rows of further tables too."""
    return (expr for expr, _ in _all(exprs))


@dataclass(frozen=True)
class Unique:
    """Columns whose values must not occur twice together, NULL apart, in a whole table.

    Of the whole table and of no condition: else the statement could choose rows whose doubling ends the run.
    """

    table: str
    keys: tuple[Expr, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the keys, as they are told when a key occurs twice."""
        return tuple(sorted({str(expr.value) for expr, _ in _all(self.keys) if expr.op == "column"}))


@dataclass(frozen=True)
class Reads:
    """What expressions over an aligned table read: its columns, further whole tables with columns, keys to check."""

    here: tuple[str, ...]
    there: dict[str, tuple[str, ...]]
    unique: tuple[Unique, ...]


def reads_of(plan: Plan, party: str) -> Reads:
    """What a party reads, and checks, for its local step of a plan."""
    index = plan.parties.index(party)
    return reads((source.expr for source in plan.sources[index]), plan.tables[index])


def reads(exprs: Iterable[Expr], aligned: str) -> Reads:
    """What an owner reads, and checks, to compute expressions over its aligned table of this name."""
    here: set[str] = set()
    there: dict[str, set[str]] = {}
    unique: set[Unique] = set()
    for expr, table in _all(exprs):
        if expr.op == "column":
            (here if table is None else there.setdefault(table, set())).add(str(expr.value))
        elif expr.op in ("looked", "matched"):
            row = expr.args[0]
            there.setdefault(str(row.value), set())
            if row.op == "lookup":
                unique.add(Unique(str(row.value), row.args[1::2]))
            else:  # many rows there for one here: each of them decides on one row only
                whole = table or aligned
                there.setdefault(whole, set()).update(str(column.value) for column in row.args[2::2])
                unique.add(Unique(whole, row.args[2::2]))
        elif expr.op in ("scalar", "member"):
            there.setdefault(str(expr.args[0].value), set())
            if expr.op == "member":
                whole = table or aligned
                there.setdefault(whole, set()).add(str(expr.args[3].value))
                unique.add(Unique(whole, (expr.args[3],)))
    tables = {table: tuple(sorted(there[table])) for table in sorted(there)}
    return Reads(tuple(sorted(here)), tables, tuple(sorted(unique, key=repr)))
