"""Bins and classes: histograms, Kolmogorov-Smirnov, weight of evidence, population stability; merging of bins.

A bin takes the values above its lower and up to its upper edge. Counts are whole numbers and shares fractions; floats
come with the logarithms. A share of a count that is 0 would have no logarithm: half a row is then added to both counts
of the bin.
Sources: Siddiqi, "Credit Risk Scorecards", 2006 (weight of evidence, information value, population stability); Kerber,
"ChiMerge", AAAI 1992.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from mpc import bins as bins_of
from mpc.sql.domains import domain_of
from mpc.sql.expr import Expr
from mpc.sql.result import Cell, Result
from mpc.statistics.distributions import chi_squared_tail
from mpc.statistics.grouped import cuts
from mpc.statistics.setting import Setting
from mpc.statistics.tables import Details, Table, in_units
from mpc.statistics.wanted import Wanted
from party.errors import PeerError

__all__ = ["close"]

_EDGES = ["bin", "above", "to"]
_SUMMARY = {
    "ks": ["column", "by", "rows_0", "rows_1", "ks", "at", "bins", "complete"],
    "woe": ["column", "by", "rows_0", "rows_1", "iv", "bins", "complete"],
    "stability": ["column", "by", "rows_0", "rows_1", "psi", "bins", "complete"],
}
_DETAILS = {
    "ks": ["rows_0", "rows_1", "share_0", "share_1", "difference"],  # shares up to the bin's upper edge
    "woe": ["rows_0", "rows_1", "share_0", "share_1", "woe", "iv"],
    "stability": ["rows_0", "rows_1", "share_0", "share_1", "psi"],
}


def close(kind: str, wanted: Wanted, results: Mapping[str, Result], setting: Setting) -> Table:
    """A histogram's table of bins; else a row for each column, with the bins as details."""
    if kind == "histogram":
        rows = [row for name, result in results.items() for row in _histogram(name, wanted, result, setting)]
        return Table(columns=["column", *_EDGES, "rows"], rows=rows)
    summary: list[list[Cell]] = []
    details: list[list[Cell]] = []
    for name, result in results.items():
        bins, complete = _bins(name, result, setting)
        if wanted.merge is not None:
            bins = _merged(bins, wanted.merge)
        numbers, columns = _FORMS[kind](bins, complete)
        told = _told(bins, setting.column(name))
        edge = told[numbers[1]][2] if kind == "ks" and numbers[1] is not None else None
        found: list[Cell] = [numbers[0], edge] if kind == "ks" else [numbers[0]]
        used = [one for one in bins if one.shown]
        totals: list[Cell] = [sum(one.zeros or 0 for one in used), sum(one.ones or 0 for one in used)]
        summary.append([name, wanted.by, *totals, *found, len(bins), complete])
        details += [
            [name, *where, one.zeros, one.ones, *cells] for where, one, cells in zip(told, bins, columns, strict=True)
        ]
    columns_of = ["column", *_EDGES, *_DETAILS[kind]]
    return Table(columns=list(_SUMMARY[kind]), rows=summary, details=Details(columns=columns_of, rows=details))


# --- bins -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bin:
    """first and last: numbers of the owner's bins in it; above and to in units, None at an open end. value: of a
    category. missing: the rows without a value. zeros, ones: rows of each class, None where hidden."""

    first: int = 0
    last: int = 0
    above: int | None = None
    to: int | None = None
    value: Cell = None
    missing: bool = False
    zeros: int | None = None
    ones: int | None = None

    @property
    def shown(self) -> bool:
        return self.zeros is not None and self.ones is not None


def _bins(name: str, result: Result, setting: Setting) -> tuple[list[_Bin], bool | None]:
    """The bins in order, the rows without a value last; and whether all of every bin is shown, None if that shows not:
    a category that is missing may be hidden, or have no rows."""
    least = setting.context.min_rows
    found: dict[Cell, _Bin] = {}
    numbered = bool(result.rows) and "bin" in result.rows[0]
    for row in result.rows:
        label = row["bin"] if numbered else row["value"]
        one = found.get(label)
        if one is None:
            nothing = 0 if least == 1 else None  # an empty cell of all that are shown, or one that may be hidden
            one = _Bin(zeros=nothing, ones=nothing, missing=label is None)
            if numbered and label is not None:
                one = replace(one, first=int(label), last=int(label), above=_whole(row["above"]), to=_whole(row["to"]))
            else:
                one = replace(one, value=label)
        elif numbered and (one.above, one.to) != (_whole(row["above"]), _whole(row["to"])):
            raise PeerError(f"a bin of {name} has two lower or upper edges")
        count = int(row["rows"] or 0)
        found[label] = replace(one, ones=count) if row["class"] else replace(one, zeros=count)
    bins = [one for one in found.values() if not one.missing]
    missing = [one for one in found.values() if one.missing]
    if numbered:
        bins.sort(key=lambda one: one.first)
        _check(name, bins)
        whole: bool | None = (
            bool(bins) and [one.first for one in bins] == list(range(len(bins))) and bins[-1].to is None
        )
    else:
        whole = {one.value for one in bins} >= set(domain_of(setting.column(name)) or (None,)) or None
    if least == 1:
        return [*bins, *missing], True
    return [*bins, *missing], whole if all(one.shown for one in bins) else False


def _check(name: str, bins: Sequence[_Bin]) -> None:
    """The peer's labels must be bins: one after the other, the ends open."""
    for one, after in pairwise(bins):
        good = one.to is not None and after.above is not None and one.to <= after.above
        if not good or (after.first == one.last + 1 and one.to != after.above):
            raise PeerError(f"the bins of {name} are not in order")
    for one in bins:
        ends = (one.above is None) == (one.first == 0)
        if not ends or one.first < 0 or (one.above is not None and one.to is not None and one.above >= one.to):
            raise PeerError(f"the bins of {name} are not in order")


def _whole(value: Cell) -> int | None:
    return None if value is None else int(value)


def _told(bins: Sequence[_Bin], x: Expr) -> list[list[Cell]]:
    """The bin in words, its lower and its upper edge."""
    found: list[list[Cell]] = []
    for one in bins:
        above, to = in_units(one.above, x), in_units(one.to, x)
        if one.missing:
            found.append([None, None, None])
        elif x.kind in ("string", "bool"):
            found.append([one.value, None, None])
        else:
            found.append([_interval(above, to), above, to])
    return found


def _interval(above: Cell, to: Cell) -> str:
    if to is None:
        return "all" if above is None else f"> {above}"
    return f"<= {to}" if above is None else f"({above}, {to}]"


def _histogram(name: str, wanted: Wanted, result: Result, setting: Setting) -> list[list[Cell]]:
    edges: list[Cell] = [*cuts(name, wanted, setting)]
    x = setting.column(name)
    if x.kind == "integer" and all("." not in str(edge) for edge in edges):
        edges = [int(str(edge)) for edge in edges]
    counts = {row["bin"]: row["rows"] for row in result.rows}
    nothing = 0 if setting.context.min_rows == 1 else None
    ends = zip([None, *edges], [*edges, None], strict=True)
    return [[name, _interval(*end), *end, counts.get(place, nothing)] for place, end in enumerate(ends)]


# --- closed forms -----------------------------------------------------------------------------------------------------

Numbers = tuple[float | None, int | None]


def _ks(bins: Sequence[_Bin], complete: bool | None) -> tuple[Numbers, list[list[Cell]]]:
    """The largest distance of both cumulative shares, at the upper edges of the bins, and at which bin."""
    zeros, ones = (sum(found) for found in _counts(bins))
    if not complete or not zeros or not ones:
        return (None, None), [[None, None, None] for _ in bins]
    upto0 = upto1 = 0
    best, at = Fraction(-1), 0
    cells: list[list[Cell]] = []
    for place, one in enumerate(bins):
        upto0, upto1 = upto0 + (one.zeros or 0), upto1 + (one.ones or 0)
        share0, share1 = Fraction(upto0, zeros), Fraction(upto1, ones)
        cells.append([float(share0), float(share1), float(share0 - share1)])
        if abs(share0 - share1) > best:
            best, at = abs(share0 - share1), place
    return (float(best), at), cells


def _woe(bins: Sequence[_Bin], complete: bool | None) -> tuple[Numbers, list[list[Cell]]]:
    """log of the share of group 0 over the share of group 1, and the sum of (share 0 - share 1) times it."""
    return _divergence(bins, weight=True)


def _stability(bins: Sequence[_Bin], complete: bool | None) -> tuple[Numbers, list[list[Cell]]]:
    """The sum of (share 1 - share 0) times the log of their quotient."""
    return _divergence(bins, weight=False)


def _divergence(bins: Sequence[_Bin], weight: bool) -> tuple[Numbers, list[list[Cell]]]:
    zeros, ones = (sum(found) for found in _counts(bins))
    total = 0.0
    cells: list[list[Cell]] = []
    for one in bins:
        if one.zeros is None or one.ones is None or not zeros or not ones:
            cells.append([None] * (4 if weight else 3))
            continue
        more = Fraction(1, 2) if not one.zeros or not one.ones else 0
        share0, share1 = (one.zeros + more) / Fraction(zeros), (one.ones + more) / Fraction(ones)
        logarithm = math.log(share0 / share1)
        part = float(share0 - share1) * logarithm
        total += part
        shares: list[Cell] = [one.zeros / zeros, one.ones / ones]
        cells.append([*shares, logarithm, part] if weight else [*shares, part])
    return (total if zeros and ones else None, None), cells


def _counts(bins: Sequence[_Bin]) -> tuple[list[int], list[int]]:
    """Rows of each class in the bins that show both."""
    used = [one for one in bins if one.shown]
    return [one.zeros or 0 for one in used], [one.ones or 0 for one in used]


_FORMS = {"ks": _ks, "woe": _woe, "stability": _stability}


# --- ChiMerge ---------------------------------------------------------------------------------------------------------


def _merged(bins: list[_Bin], level: float) -> list[_Bin]:
    """Neighbouring bins of a number column that differ least become one, the least significant pair first, until every
    two neighbours differ at the level of significance. Hidden bins, and the rows without a value, stay as they are."""
    found = list(bins)
    while True:
        pairs = [
            (_chi(found[place], found[place + 1]), place)
            for place in range(len(found) - 1)
            if _neighbours(found[place], found[place + 1])
        ]
        if not pairs:
            return found
        least, place = min(pairs)
        if chi_squared_tail(float(least), 1) <= level:
            return found
        left, right = found[place], found[place + 1]
        found[place : place + 2] = [
            replace(
                left,
                last=right.last,
                to=right.to,
                zeros=(left.zeros or 0) + (right.zeros or 0),
                ones=(left.ones or 0) + (right.ones or 0),
            )
        ]


def _neighbours(one: _Bin, other: _Bin) -> bool:
    numbers = one.value is None and other.value is None and not one.missing and not other.missing
    return numbers and one.shown and other.shown and other.first == one.last + 1


def _chi(one: _Bin, other: _Bin) -> Fraction:
    """Pearson's statistic of two bins by two classes."""
    return bins_of.chi_squared((one.zeros or 0, one.ones or 0), (other.zeros or 0, other.ones or 0))
