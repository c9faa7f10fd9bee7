"""What an owner computes of a column over all its aligned rows, in the clear: ranks, and bins of equal frequency.

Expressions of statistics; no SQL text makes them. The owner's SELECT gives the column itself, in whole units, and this
module makes of it:
- rank: twice the mid-rank among the rows that are not NULL, a whole number from 2 to 2n (ties share the middle of
  their ranks); 0 where NULL;
- bin, bin_above, bin_to: the number of the row's bin, from 0, the value it lies above and the largest it may have; the
  lowest bin has no lower edge and the highest no upper one, so that neither end of the column shows; NULL where NULL;
- binned: whether the row lies in a bin, or is one of enough rows without a value to be a bin of their own.

Bins: value v, with `less` of n rows below it, goes to floor(k less / n) of k, which is the cut at the k - 1 quantiles
(inverted distribution function). From the lowest on, bins under the smallest size take in the next; so no bin is
smaller, whoever asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mpc import bins as bins_of
from mpc.sql.expr import Expr
from party.errors import InternalError

__all__ = ["ORDERED", "SHARE_UNIT", "LocalColumn", "ordered"]

ORDERED = ("rank", "bin", "bin_above", "bin_to", "binned")
SHARE_UNIT = 1_000_000  # smallest shares are whole millionths

Ints = npt.NDArray[np.int64]


class LocalColumn(Protocol):
    """One evaluated column of n aligned rows: int64 values (0 where not valid), uint8 valid; texts as places."""

    @property
    def values(self) -> np.ndarray: ...

    @property
    def valid(self) -> np.ndarray: ...

    @property
    def categories(self) -> tuple[str, ...] | None: ...


@dataclass(frozen=True, eq=False)
class _Computed:
    values: Ints
    valid: npt.NDArray[np.uint8]
    categories: tuple[str, ...] | None = None


def ordered(expr: Expr, column: LocalColumn) -> LocalColumn:
    """The column of an expression: what is made of its argument's over all rows, or the column as it is."""
    if expr.op not in ORDERED:
        return column
    if not np.issubdtype(column.values.dtype, np.integer) or column.categories is not None:
        raise InternalError(f"{expr.op} of a column that is no number")
    present = column.valid == 1
    values = np.asarray(column.values, dtype=np.int64)[present]
    if expr.op == "rank":
        return _spread(_ranks(values), present, np.ones(len(present), dtype=np.uint8))
    bins, rows, share = (int(arg.value or 0) for arg in expr.args[1:])
    if expr.op == "binned":
        missing = len(present) - len(values)
        kept = present | (missing >= _smallest(rows, share, len(present)))
        return _Computed(kept.astype(np.int64), np.ones(len(present), dtype=np.uint8))
    found, counts = np.unique(values, return_counts=True)
    edges = found[bins_of.cut(counts, bins, _smallest(rows, share, len(values)))]
    number = np.searchsorted(edges, values)
    if expr.op == "bin":
        return _spread(number, present, present.astype(np.uint8))
    if expr.op == "bin_above":
        return _edge(number > 0, edges[np.maximum(number - 1, 0)], present)
    return _edge(number < len(edges) - 1, edges[number], present)


def _smallest(rows: int, share: int, total: int) -> int:
    """The fewest rows of a bin: so many, or so many millionths of all."""
    return max(rows, -(-share * total // SHARE_UNIT), 1)


def _ranks(values: Ints) -> Ints:
    """Twice the mid-ranks."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    doubled: Ints = 2 * below + counts + 1
    return doubled[places.reshape(-1)]


def _spread(values: Ints, present: npt.NDArray[np.bool_], valid: npt.NDArray[np.uint8]) -> _Computed:
    whole = np.zeros(len(present), dtype=np.int64)
    whole[present] = values
    return _Computed(whole, valid)


def _edge(has: npt.NDArray[np.bool_], edges: Ints, present: npt.NDArray[np.bool_]) -> _Computed:
    """Edges of rows, NULL for bins without one."""
    valid = np.zeros(len(present), dtype=np.uint8)
    valid[present] = has
    return _spread(np.where(has, edges, 0), present, valid)
