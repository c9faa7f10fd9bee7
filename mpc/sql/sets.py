"""Answer sets: which rows enter each number that a statement opens, as polynomials, for the guard of the history.

An aggregate opens how many rows enter it and sums over them, so its answer set is the product of its WHERE, FILTER and
the validity of its arguments (`plan`). Where it takes rows in by several ways (`entering`), the sums are over the ways,
each an answer set of its own, and only the number of rows is over all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mpc.sql.algebra import Poly, truth
from mpc.sql.products import Builder
from mpc.sql.types import Aggregate, Expr, Query, columns_of

__all__ = ["AnswerSet", "sets_of"]

Places = Sequence[tuple[int, Sequence[int]]]

_PLAIN = frozenset({"+", "-", "*", "//", "%", "neg", "scale", "number", "abs", "round", "floor", "ceil", "coalesce"})


@dataclass(frozen=True)
class AnswerSet:
    """The rows that enter one number, in every cell of a statement's groups.

    rows: 1 where a row enters. chosen: the same without the validity of plain columns, None where conditions inside an
    expression choose rows as well. counted: their number is told. columns: sums over these columns are told.
    """

    rows: Poly
    chosen: Poly | None
    counted: bool
    columns: frozenset[tuple[str, str]]

    @cached_property
    def place(self) -> tuple[object, object]:
        """The set, whatever is told of it and in whatever order its terms were found."""
        return frozenset(self.rows.terms), None if self.chosen is None else frozenset(self.chosen.terms)

    def near(self, other: AnswerSet, grouped_alike: bool) -> bool:
        """Whether it must be known that this set and the other differ by no row or by enough of them.

        They need not where they tell nothing of one kind, and where only missing values of plain columns make the
        difference while no column is summed over both: how many values are missing is no condition of anybody's.
        """
        if not (self.counted and other.counted) and not (self.columns and other.columns):
            return False
        same = self.chosen is not None and other.chosen is not None and self.place[1] == other.place[1]
        return not (same and grouped_alike) or bool(self.columns & other.columns)

    def within(self, other: AnswerSet) -> bool:
        """Whether the other is the same set, of which at least as much is told."""
        told = self.counted <= other.counted and self.columns <= other.columns
        return self.place == other.place and told


def sets_of(
    query: Query, weight: Poly, places: Places, builder: Builder, parties: tuple[str, str]
) -> tuple[AnswerSet, ...]:
    """The answer sets of a statement, each once. places: of each aggregate the openings of its count and its sums."""
    polys = builder.polys()
    found: list[AnswerSet] = [AnswerSet(weight, weight, True, frozenset())] if query.groups else []
    for aggregate, (count, sums) in zip(query.aggregates, places, strict=True):
        opened = builder.opened[count]
        chosen = weight
        if aggregate.condition is not None:
            chosen = chosen * truth(aggregate.condition, parties)[0]
        plain = all(_plain(arg) for arg in aggregate.args)
        whole = AnswerSet(polys[opened.quantity], chosen if plain else None, True, frozenset())
        gates = {gate for place in (count, *sums) for gate in builder.opened[place].gates} - {opened.quantity}
        columns = frozenset() if aggregate.function == "count" else _summed(aggregate)
        if gates:
            told = any(_constants(arg) for arg in aggregate.args)
            found += [AnswerSet(polys[gate], None, told, columns) for gate in sorted(gates)]
        else:
            whole = replace(whole, columns=columns)
        found.append(whole)
    return _merged(found)


def _merged(found: Sequence[AnswerSet]) -> tuple[AnswerSet, ...]:
    known: dict[object, AnswerSet] = {}
    for one in found:
        before = known.get(one.place, one)
        known[one.place] = replace(before, counted=before.counted or one.counted, columns=before.columns | one.columns)
    return tuple(known.values())


def _summed(aggregate: Aggregate) -> frozenset[tuple[str, str]]:
    used = {item for arg in aggregate.args for item in columns_of(arg, "aggregate")}
    return frozenset((owner, column) for owner, column, use in used if use == "aggregate")


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
