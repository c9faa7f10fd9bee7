"""Answer sets: which rows enter each number that a statement opens, as polynomials, for the guard of the history.

An aggregate opens how many rows enter it and sums over them, so its answer set is the product of its WHERE, FILTER and
the validity of its arguments (`plan`). Where it takes rows in by several ways (`entering`), the sums are over the ways,
each an answer set of its own, and only the number of rows is over all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mpc.sql.algebra import ONE, Poly, number, truth
from mpc.sql.entering import ways_of
from mpc.sql.expr import Expr, never_null
from mpc.sql.products import Builder
from mpc.sql.types import Aggregate, Query
from mpc.sql.uses import columns_of

__all__ = ["AnswerSet", "alike", "sets_of"]

Columns = frozenset[tuple[str, str]]  # party and column
Places = Sequence[tuple[int, Sequence[int]]]

_SUMS = ("sum", "avg", "var_samp", "var_pop", "stddev_samp", "stddev_pop")
_PLAIN = frozenset({"+", "-", "*", "//", "%", "neg", "scale", "number", "abs", "round", "floor", "ceil", "coalesce"})


@dataclass(frozen=True)
class AnswerSet:
    """The rows that enter one number, in every cell of a statement's groups.

    rows: 1 where a row enters. valid: the part of it that says that plain columns are not NULL; None where conditions
    inside an expression choose rows, or COUNT(x) does. missing: these columns. counted: the number of rows is told.
    columns: sums over these columns are told.
    """

    rows: Poly
    valid: Poly | None
    missing: Columns
    counted: bool
    columns: Columns

    @cached_property
    def place(self) -> tuple[object, object]:
        """The set, whatever is told of it and in whatever order its terms were found."""
        return alike(self.rows), None if self.valid is None else alike(self.valid)

    def compared(self, other: AnswerSet, receivers: frozenset[str]) -> tuple[Poly, Poly] | None:
        """What must differ by no row or by enough of them; None where nothing of one kind is told of both sets.

        Missing values of plain columns are no condition, so both are taken where all columns have values. But a party
        knows where its own are missing: sums of the other's columns must not differ by these rows alone.
        """
        if not (self.counted and other.counted) and not (self.columns and other.columns):
            return None
        if self.valid is None or other.valid is None:
            return self.rows, other.rows
        summed, lacking = self.columns & other.columns, self.missing ^ other.missing
        for receiver in receivers:
            if any(owner != receiver for owner, _ in summed) and any(owner == receiver for owner, _ in lacking):
                return self.rows, other.rows
        return self.rows * other.valid, other.rows * self.valid

    def within(self, other: AnswerSet) -> bool:
        """Whether the other is the same set, of which at least as much is told."""
        told = self.counted <= other.counted and self.columns <= other.columns
        return self.place == other.place and told


def alike(poly: Poly) -> object:
    """Equal for polynomials that are, in whatever order their terms were found."""
    return frozenset(poly.terms)


def sets_of(
    query: Query, weight: Poly, places: Places, builder: Builder, parties: tuple[str, str]
) -> tuple[AnswerSet, ...]:
    """The answer sets of a statement, each once. places: of each aggregate the openings of its count and its sums."""
    polys = builder.polys()
    none: Columns = frozenset()
    there, lacking = _known(query.where, parties)
    found: list[AnswerSet] = [AnswerSet(weight, there, lacking, True, none)] if query.groups else []
    for aggregate, (count, sums) in zip(query.aggregates, places, strict=True):
        opened = builder.opened[count]
        rows, function = polys[opened.quantity], aggregate.function
        chosen = weight
        if aggregate.condition is not None:
            chosen = chosen * truth(aggregate.condition, parties)[0]
        summed = none if function == "count" else _summed(aggregate)
        told = [builder.opened[place] if place >= 0 else builder.picks[-1 - place] for place in (count, *sums)]
        gates = {gate for one in told for gate in one.gates} - {opened.quantity}
        if alike(rows) == alike(chosen):
            whole = AnswerSet(rows, there, lacking, True, summed)
        elif function != "count" and all(_plain(arg) for arg in aggregate.args):
            valid = there
            for arg in aggregate.args:
                valid = valid * number(arg, parties)[1]
            whole = AnswerSet(rows, valid, lacking | _nullable(aggregate), True, summed)
        else:
            whole = AnswerSet(rows, None, none, True, summed)
        if gates:
            counted = any(_constants(arg) for arg in aggregate.args)
            found += [AnswerSet(polys[gate], None, none, counted, summed) for gate in sorted(gates)]
            if aggregate.function in _SUMS and () not in ways_of(aggregate):
                whole = replace(whole, columns=none)  # every sum that is told is over one of the ways
        found.append(whole)
    return _merged(found)


def _merged(found: Sequence[AnswerSet]) -> tuple[AnswerSet, ...]:
    known: dict[object, AnswerSet] = {}
    for one in found:
        before = known.get(one.place, one)
        known[one.place] = replace(before, counted=before.counted or one.counted, columns=before.columns | one.columns)
    return tuple(known.values())


def _known(where: Expr | None, parties: tuple[str, str]) -> tuple[Poly, Columns]:
    """The part of a statistic's conditions that says that its columns are not NULL, and these columns."""
    valid, columns = ONE, set[tuple[str, str]]()
    for part in () if where is None else where.args if where.op == "and" else (where,):
        if part.op == "known":
            valid = valid * truth(part, parties)[0]
            columns |= set(_missing(part))
    return valid, frozenset(columns)


def _nullable(aggregate: Aggregate) -> Columns:
    """The columns whose missing values keep a row out."""
    return frozenset(column for arg in aggregate.args for column in _missing(arg))


def _missing(expr: Expr) -> Iterator[tuple[str, str]]:
    if expr.op == "column" and expr.owner is not None and not never_null(expr):
        yield expr.owner, str(expr.value)
    for arg in expr.args:
        yield from _missing(arg)


def _summed(aggregate: Aggregate) -> Columns:
    used = {item for arg in aggregate.args for item in columns_of(arg, "aggregate")}
    return frozenset(
        (owner, column if table is None else f"{table}.{column}")
        for owner, table, column, use in used
        if use in ("aggregate", "rank")
    )


def _plain(expr: Expr) -> bool:
    """Whether an expression is NULL only where a column that gives its value is."""
    if expr.op in ("column", "literal"):
        return expr.kind != "null"
    if expr.op == "case":
        return all(_plain(arg) for arg in (*expr.args[1:-1:2], expr.args[-1]))
    return expr.op in _PLAIN and all(_plain(arg) for arg in expr.args)


def _constants(expr: Expr) -> bool:
    """Whether some row gives an aggregate a number that stands in the statement, so that a sum of it counts rows."""
    if expr.op == "literal":
        return expr.kind != "null" and expr.value not in (0, False)
    if expr.kind == "bool":
        return True
    if expr.op == "case":
        return any(_constants(arg) for arg in (*expr.args[1:-1:2], expr.args[-1]))
    if expr.op == "column":
        return False
    if expr.op == "*":
        return all(_constants(arg) for arg in expr.args)
    return any(_constants(arg) for arg in expr.args)
