"""Rows of one column sorted into lines: bins of a number, or values of a category, rare ones merged. All local.

Lines stand in this order: bins from the lowest, or values in the order of their text; then `other` (merged and unseen
values), then the rows without a value, where these are enough to be a line of their own. No line has fewer training
rows than min_share and min_rows ask for (`other`: than min_rows), unless it is the only one. Rows without a value that
have no line count as the most frequent one in one-hot columns. For a weight of evidence they have a line however few
they are: what is counted of lines adds up to all rows, and `vfl.evidence` joins what is too small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from mpc import bins
from party.errors import DataError
from vfl import prepare
from vfl.recipes import Recipe

__all__ = ["MOST_LINES", "Lines", "fit"]

MOST_LINES = 256
OTHER = "other"
NONE = -1  # the line of a row that belongs to none
_UNIT = 1_000_000  # smallest shares are whole millionths, as in statistics


@dataclass(frozen=True)
class Lines:
    """edges: the largest value of each bin but the highest, for a number; else values: categories, ascending as text.

    missing: whether rows without a value are a line of their own; else they count to the line `fill`.
    """

    column: str
    edges: tuple[float, ...] | None = None
    values: tuple[str, ...] = ()
    other: bool = False
    missing: bool = False
    fill: int = NONE

    @property
    def bins(self) -> int:
        """Bins, or values and `other`: the lines without that of missing rows."""
        return len(self.values) + self.other if self.edges is None else len(self.edges) + 1

    def __len__(self) -> int:
        return self.bins + self.missing

    @property
    def names(self) -> tuple[str, ...]:
        """`plan=gold`, `plan=other`, `plan:missing`; of bins `age=(30, 45]`."""
        if self.edges is None:
            told = [*self.values, *([OTHER] if self.other else [])]
        else:
            ends = [None, *self.edges, None]
            told = [_interval(*ends[place : place + 2]) for place in range(len(self.edges) + 1)]
        return (*(f"{self.column}={one}" for one in told), *([f"{self.column}:missing"] if self.missing else []))

    def of(self, values: np.ndarray, valid: np.ndarray) -> npt.NDArray[np.int64]:
        """The line of each row, int64 (n,); NONE for a row that belongs to none."""
        last = self.bins if self.missing else self.fill
        if self.edges is not None:
            given, known = prepare.numbers(self.column, values, valid)
            found = np.searchsorted(np.array(self.edges, dtype=np.float64), given)
            return np.where(known, found, last)
        words, known = _texts(self.column, values, valid)
        unseen = self.bins - 1 if self.other else NONE
        if not self.values:
            return np.where(known, unseen, last)
        ordered = np.array(self.values)
        place = np.minimum(np.searchsorted(ordered, words), len(ordered) - 1)
        return np.where(known, np.where(ordered[place] == words, place, unseen), last)

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        edges, told = None if self.edges is None else list(self.edges), {"other": self.other, "missing": self.missing}
        return {"edges": edges, "values": list(self.values), **told, "fill": self.fill}

    @classmethod
    def from_json(cls, column: str, raw: Mapping[str, Any]) -> Lines:
        """Of `to_json`'s object; ValueError, KeyError or TypeError for anything else."""
        edges, values = raw["edges"], raw["values"]
        if edges is not None and (not all(type(x) is float for x in edges) or sorted(set(edges)) != edges):
            raise ValueError("edges ascend")
        if (
            not all(isinstance(x, str) for x in values)
            or sorted(set(values)) != values
            or (edges is not None and values)
        ):
            raise ValueError("values ascend")
        if type(raw["other"]) is not bool or type(raw["missing"]) is not bool:
            raise ValueError("true or false")
        cuts = None if edges is None else tuple(edges)
        found = cls(column, cuts, tuple(values), raw["other"], raw["missing"], raw["fill"])
        if type(found.fill) is not int or not NONE <= found.fill < len(found):
            raise ValueError("no such line")
        return found


def fit(column: str, recipe: Recipe, table: tuple[np.ndarray, np.ndarray], least: int) -> Lines:
    """The lines of a column's training rows. table: (values (n,), valid (n,)) of these rows; least: rows of a line.

    Raises DataError for dates, floats without bins, texts with them, and more than MOST_LINES values.
    """
    values, valid = table
    known = int(np.count_nonzero(valid))
    floor = max(least, 1)
    least = max(floor, -(-round((recipe.min_share or 0) * _UNIT) * known // _UNIT))
    missing = len(values) - known
    apart = 1 if recipe.woe else least
    if recipe.edges or recipe.bins or (recipe.woe and values.dtype.kind in "iuf"):
        lines = _bins(column, recipe, table, (least, missing >= apart))
    else:
        words, known_rows = _texts(column, values, valid)
        found, counts = np.unique(words[known_rows], return_counts=True)
        told = dict(zip(found.tolist(), counts.tolist(), strict=True))
        lines = _values(column, told, missing >= apart, (least, floor))
    if recipe.woe and known < len(values):
        lines = replace(lines, missing=True)
    if lines.missing or recipe.woe:
        return lines
    sizes = np.bincount(lines.of(values, valid)[valid], minlength=len(lines))
    return replace(lines, fill=int(sizes.argmax()))


def _bins(column: str, recipe: Recipe, table: tuple[np.ndarray, np.ndarray], sizes: tuple[int, bool]) -> Lines:
    least, missing = sizes
    given, known = prepare.numbers(column, *table)
    found, counts = np.unique(given[known], return_counts=True)
    if recipe.edges:
        ends = np.searchsorted(found, [float(edge) for edge in recipe.edges], side="right") - 1
        bounds = np.unique(np.append(ends[ends >= 0], len(found) - 1)) if len(found) else ends[:0]
        cuts = [float(edge) for edge in recipe.edges]
        kept = bins.joined(counts, bounds, least)[:-1]
        # the job's own edge, not the largest value below it
        edges = [cuts[int(np.flatnonzero(ends == place)[-1])] for place in kept]
    else:
        edges = found[bins.cut(counts, recipe.cuts or 1, least)[:-1]].tolist()
    # where all values together are too few to be a bin beside the missing rows, there is one line of all
    return Lines(column, edges=tuple(edges), missing=not known.any() or (missing and int(known.sum()) >= least))


def _values(column: str, counts: dict[str, int], missing: bool, sizes: tuple[int, int]) -> Lines:
    """Values of fewer than `least` rows become `other`, then the rarest, while it has fewer than `floor` itself.

    sizes: (least, floor). A value that is called other is one of them.
    """
    least, floor = sizes
    merged = [value for value, count in counts.items() if count < least or value == OTHER]
    kept = sorted((count, value) for value, count in counts.items() if value not in set(merged))
    rest = sum(counts[value] for value in merged)
    while 0 < rest < floor and kept:
        rest += kept.pop(0)[0]
    own = not counts or (missing and not 0 < rest < floor)
    if len(kept) >= MOST_LINES:
        raise DataError(
            f"column {column} has {len(kept)} values, more than {MOST_LINES - 1} of which are not rare",
            hint="set min_share, so that rarer values are merged",
        )
    return Lines(column, values=tuple(sorted(value for _, value in kept)), other=rest > 0, missing=own)


def _texts(column: str, values: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values as text, and which rows have one: texts, integers and booleans (0 and 1)."""
    known = np.asarray(valid, dtype=bool)
    words = np.full(len(values), "", dtype=object)
    held = values[known]
    kind = values.dtype.kind
    if kind == "b":
        held = held.astype(np.int8)
    if kind not in "biuUO" or (kind == "O" and not all(isinstance(value, str) for value in held)):
        raise DataError(
            f"column {column} is no category: values are texts, integers or booleans",
            hint="numbers are cut by `bins` or `edges`; of a date make a number first",
        )
    words[known] = held.astype(str)
    return words.astype(str), known


def _interval(above: float | None, to: float | None) -> str:
    ends = ["" if end is None else f"{int(end)}" if end.is_integer() else f"{end}" for end in (above, to)]
    if to is None:
        return "all" if above is None else f"> {ends[0]}"
    return f"<= {ends[1]}" if above is None else f"({ends[0]}, {ends[1]}]"
