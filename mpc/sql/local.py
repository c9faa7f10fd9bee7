"""An owner's own half of a statement in the clear: columns of its local step to features and group places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mpc.sql.expr import Expr, never_null
from mpc.sql.ordered import ORDERED, LocalColumn, ordered
from mpc.sql.products import CELLS, cells_of
from mpc.sql.types import Feature, GroupKey, Plan, Source, Test
from party.errors import DataError, InternalError

__all__ = [
    "Groups",
    "LocalColumn",
    "LocalColumns",
    "closed",
    "codes",
    "column_length",
    "compared",
    "feature",
    "groups",
    "has_rest",
    "read",
]

Ints = npt.NDArray[np.int64]


LocalColumns = Mapping[str, LocalColumn]


@dataclass(frozen=True, eq=False)
class Groups:
    """The place of each row among this owner's groups, (n,) int64; and the labels where they are not public: () of the
    place of groups of too few rows."""

    places: Ints
    count: int
    labels: tuple[tuple[str | int | bool | None, ...], ...] | None = None


def column_length(columns: LocalColumns) -> int:
    """The common number of rows."""
    lengths = {len(column.values) for column in columns.values()} | {len(column.valid) for column in columns.values()}
    if len(lengths) != 1:
        raise InternalError("the columns of a local step differ in length")
    return lengths.pop()


def read(source: Source, columns: LocalColumns) -> tuple[Ints, Ints]:
    """Values, 0 where NULL, and validity; DataError where a value lies outside what the plan was proved for."""
    if source.name not in columns:
        raise InternalError(f"the local step gave no column {source.name}")
    column = ordered(source.expr, columns[source.name])
    whole = bool(column.valid.all())
    if never_null(source.expr) and not whole:
        raise missing(source.expr)
    valid = column.valid.astype(np.int64)
    if source.use == "present":
        return np.zeros(len(valid), dtype=np.int64), valid
    if not np.issubdtype(column.values.dtype, np.integer) and column.values.dtype != np.bool_:
        raise InternalError(f"the local step gave {column.values.dtype} for column {source.name}")
    values: Ints = column.values.astype(np.int64, copy=False)
    if not whole:
        values = values * valid
    low, high = (0, 1) if source.use == "truth" else (source.expr.low, source.expr.high)
    if low is not None and high is not None and len(values):
        inside = values if whole else values[valid == 1]
        if inside.min(initial=low) < low or inside.max(initial=high) > high:
            raise DataError(
                f"a value of {_names(source.expr)} is outside its declared range",
                hint="correct the table, or `range` in party.yaml",
            )
    return values, valid


def missing(expr: Expr) -> DataError:
    """A value that must be there is not: the plan counts on it."""
    hint = "correct the table, or `nullable: false` in party.yaml"
    if expr.op == "granted":
        hint = "every aligned row needs a value of it here: fill it in, or take such rows out of the table"
    return DataError(f"a value of {_names(expr)} is missing", hint=hint)


def _names(expr: Expr) -> str:
    def walk(node: Expr) -> set[str]:
        own = {str(node.value)} if node.op == "column" else set()
        return own.union(*(walk(arg) for arg in node.args))

    return ", ".join(sorted(walk(expr))) or "a value"


def compared(test: Test, owner: int, sources: tuple[Source, ...], columns: LocalColumns) -> Ints:
    """Our numbers of one comparison, int64 (n,), counted from its low; 0 where NULL."""
    values, valid = read(sources[test.y if owner else test.x], columns)
    return (values - test.low) * valid


def feature(
    one: Feature, sources: tuple[Source, ...], columns: LocalColumns, joints: Sequence[np.ndarray], places: Ints
) -> Ints:
    """One row vector, int64 (n,): the product of its factors, cut to its digit where it has one.

    joints: our shares of the joint bits. places: of each row among our groups.
    """
    rows = column_length(columns)
    vector: np.ndarray = np.ones(rows, dtype=np.int64)
    reach = 1
    for op, number in one.factors:
        if op == "u":
            factor = _first(vector, codes(columns[sources[number].name])[0], places)
        elif op == "j":
            factor = joints[number].astype(np.int64)
        else:
            values, valid = read(sources[number], columns)
            factor = {"v": values, "n": valid, "t": values, "f": valid - values}[op]
        most = max(int(factor.max(initial=0)), -int(factor.min(initial=0)))
        if reach * most >= 2**63 and vector.dtype != object:
            vector = vector.astype(object)  # Python's integers: squares of wide columns, cut to digits below
        vector = vector * factor
        reach *= max(most, 1)
    if one.shift:
        vector = vector >> one.shift if one.shift < 63 or vector.dtype == object else vector >> 63
    if one.width:
        vector = vector & (2**one.width - 1)
    return vector.astype(np.int64, copy=False)


def _first(weight: Ints, values: Ints, places: Ints) -> Ints:
    """1 at the first row of each value, in each group, among the rows of a weight that is not 0."""
    entering = np.flatnonzero(weight)
    found = np.zeros(len(weight), dtype=np.int64)
    _, first = np.unique(places[entering] * (int(values.max(initial=0)) + 1) + values[entering], return_index=True)
    found[entering[first]] = 1
    return found


def groups(plan: Plan, owner: int, columns: LocalColumns, rows: int) -> Groups:
    """The groups of one owner's keys over its aligned rows: by declared domains, or by the values that occur."""
    keys = [key for key in plan.keys if key.owner == owner]
    count = cells_of(plan.keys, owner)
    use = "label" if count is None else "code"
    by_expr = {source.expr: source for source in plan.sources[owner] if source.use == use}
    places = np.zeros(rows, dtype=np.int64)
    if count is not None:
        for key in keys:
            column = columns[by_expr[key.expr].name]
            found, size = column.values.astype(np.int64), len(key.domain or ())
            if rows and ((found < 0) & (column.valid == 1)).any():
                raise DataError(
                    f"{key.name} takes a value outside its declared domain",
                    hint="correct the table, or `domain` in party.yaml",
                )
            if key.places == size and not (column.valid == 1).all():
                raise missing(key.expr)
            places = places * key.places + np.where(column.valid == 1, found, size)
        return Groups(places, count)
    labels: list[tuple[str | int | bool | None, ...]] = [()]
    small = has_rest(keys, owner, plan.min_rows)
    for nth, key in enumerate(keys):
        found, values = codes(ordered(key.expr, columns[by_expr[key.expr].name]), key.expr.kind == "bool")
        seen, places = np.unique(places * len(values) + found, return_inverse=True)
        of, which = np.divmod(seen, len(values))
        if small:  # the rest is at 0, and what is too small stays so under further keys
            kept = (np.bincount(places, minlength=len(seen)) >= plan.min_rows) & ((of > 0) | (nth == 0))
            places = np.where(kept, np.cumsum(kept), 0)[places]
            of, which = of[kept], which[kept]
        labels = [(*labels[one], values[place]) for one, place in zip(of.tolist(), which.tolist(), strict=True)]
        labels = [(), *labels] if small else labels
        if len(labels) > CELLS:
            raise DataError(
                f"{key.name} makes more than {CELLS} groups",
                hint="group by a coarser expression, or declare its domain",
            )
    return Groups(places.astype(np.int64), len(labels), tuple(labels))


def has_rest(keys: Sequence[GroupKey], owner: int, min_rows: int) -> bool:
    """Whether the first place of an owner's groups holds all its groups of fewer than min_rows rows, which nobody may
    be shown: else their number would tell the peer of a single row, by a key that is made for it. Bins have enough."""
    computed = any(key.expr.op in ORDERED for key in keys if key.owner == owner)
    return min_rows > 1 and cells_of(tuple(keys), owner) is None and not computed


def closed(plan: Plan, sizes: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Which cells are never shown, bool (groups of 0, groups of 1): those of an owner's groups of too few rows."""
    found = np.zeros(sizes, dtype=np.bool_)
    found[0, :] |= has_rest(plan.keys, 0, plan.min_rows)
    found[:, 0] |= has_rest(plan.keys, 1, plan.min_rows)
    return found


def codes(column: LocalColumn, truth: bool = False) -> tuple[Ints, list[str | int | bool | None]]:
    """Places of values in ascending order, NULL last, and the values."""
    present = column.valid == 1
    found, codes = np.unique(column.values[present], return_inverse=True)
    values: list[str | int | bool | None]
    if column.categories is not None:
        values = [column.categories[place] for place in found.tolist()]
    else:
        values = [bool(value) if truth else int(value) for value in found.tolist()]
    places = np.full(len(present), len(values), dtype=np.int64)
    places[present] = codes
    return places, [*values, None]
