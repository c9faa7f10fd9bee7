"""Weight of evidence of a column's lines, with the label at one party and the column at the other; both roles here.

Steps of docs/protocols/09-split-logistic-regression.md, "Weight of evidence":

1. The label holder uploads its encrypted label of the training rows, once for all columns.
2. The feature holder multiplies by the 0/1 rows of its lines: shares of the rows of label 1 in each line; it knows the
   rows of each line, so both hold shares of both labels' counts.
3. Neighbouring lines are joined until each group has min_rows rows of either label: lines are added up one after the
   other; a group ends where its sums and those of all lines after it reach min_rows in both labels, the last group with
   the last line. Decided on shares: at each line where no group ends, zeros take the place of the sums.
4. The sums are opened to the feature holder, who so learns the groups and both labels' rows in each.
5. Local: neighbouring groups of bins that do not differ at the level `merge` become one (ChiMerge); the weight of
   evidence of a line is log(share of label 0 / share of label 1) of its group. No count is 0, so none is infinite.

Bins stand in ascending order, values of a category with the most frequent first, `other` and then rows without a value
last. Every row lies in a line, so the totals of two columns have no difference to tell.
Peer learns: the feature holder the groups and their counts; the label holder how many lines a column has (`Shape`).
Rounds: 1, 8 and 11 for each line of the longest column, one opening a column. Bytes: 18.8 a row, 81,930 a line, and
some 150 a line and comparison (`predict_counts`). The label holder keeps the same rule for its own columns, in the
clear: `protected`.
Source: Siddiqi, "Credit Risk Scorecards", 2006 (weight of evidence); Kerber, "ChiMerge", AAAI 1992.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from mpc import bins, linear_cost, opening
from mpc.compare import logic_every, logic_not, negative
from mpc.convert import select
from mpc.cost import Meter
from mpc.engine import Engine
from mpc.statistics.distributions import chi_squared_tail
from party.errors import InternalError, PeerError
from vfl.lines import Lines
from vfl.recipes import counts_name

__all__ = [
    "Group",
    "Sorted",
    "count",
    "counts_feature_holder",
    "counts_label_holder",
    "evidence",
    "predict_counts",
    "protected",
]

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint8]

_BITS = 2  # signed width of a 0/1 multiplier
_ROOM = 1 << 23  # values of 0/1 rows made at a time: 64 MiB


@dataclass(frozen=True)
class Group:
    """Lines, by their places, and the training rows of label 0 and 1 in them."""

    places: tuple[int, ...]
    zeros: int
    ones: int


@dataclass(frozen=True, repr=False)
class Sorted:
    """The training rows of one column in lines: the line of each row, int64 (n,), and the order of joining."""

    name: str  # party.column
    line: Ints
    order: tuple[int, ...]

    @classmethod
    def of(cls, name: str, lines: Lines, line: Ints) -> Sorted:
        """Bins as they stand; values by falling frequency, `other` and missing rows last."""
        places = list(range(len(lines)))
        if lines.edges is None:
            sizes = np.bincount(line, minlength=len(lines))
            places[: len(lines.values)] = sorted(places[: len(lines.values)], key=lambda place: (-sizes[place], place))
        return cls(name, line, tuple(places))


# --- the joint protocol -----------------------------------------------------------------------------------------------


def counts_label_holder(engine: Engine, label: np.ndarray, asked: Sequence[tuple[str, int]]) -> None:
    """Steps 1 to 4 for the other party's columns: (party.column, number of lines) each, in the job's order.

    label: 0/1 (n,) of the training rows. We learn nothing.
    """
    total = sum(count for _, count in asked)
    handle = engine.linear.upload(label.astype(np.uint64)[None, :])
    ones = [engine.linear.inner_owner(handle, part, _BITS)[0] for part in _parts(total, len(label))]
    _open(engine, _tables(np.zeros(total, dtype=np.uint64), ones, asked), asked, len(label))


def counts_feature_holder(engine: Engine, columns: Sequence[Sorted], rows: int) -> list[tuple[Group, ...]]:
    """The same for our columns, over so many training rows. The groups of each.

    Raises PeerError when opened counts do not fit our lines.
    """
    got = engine.linear.receive(1, rows)
    asked = [(column.name, len(column.order)) for column in columns]
    flags = _flags(columns)
    ones = []
    for part in _parts(sum(count for _, count in asked), rows):
        chosen = np.stack([next(flags) for _ in range(part)])
        ones.append(engine.linear.inner_multiplier(got, chosen, _BITS)[0])
    sizes = [np.bincount(one.line, minlength=len(one.order))[list(one.order)].astype(np.uint64) for one in columns]
    opened = _open(engine, _tables(np.concatenate(sizes), ones, asked), asked, rows)
    least = max(engine.guard.min_rows, 1)
    return [_groups(*found, least) for found in zip(opened, columns, sizes, strict=True)]


def _parts(total: int, rows: int) -> list[int]:
    """How many lines are multiplied at a time."""
    most = max(1, _ROOM // max(rows, 1))
    return [min(most, total - start) for start in range(0, total, most)]


def _flags(columns: Sequence[Sorted]) -> Iterator[Ints]:
    for column in columns:
        for place in column.order:
            yield (column.line == place).astype(np.int64)


def _tables(sizes: Words, ones: Sequence[Words], asked: Sequence[tuple[str, int]]) -> list[Words]:
    """Shares of both labels' counts, (lines, 2) for each column."""
    found = np.concatenate(ones)
    both = np.stack([sizes - found, found], axis=1)
    return np.split(both, np.cumsum([count for _, count in asked])[:-1])


def _open(engine: Engine, tables: list[Words], asked: Sequence[tuple[str, int]], rows: int) -> list[Words]:
    """Steps 3 and 4: at the feature holder the opened sums, (lines, 2) for each column."""
    least, width = max(engine.guard.min_rows, 1), rows.bit_length() + 2
    # 3. Where do all lines after this one reach min_rows? All lines of all columns at once.
    after = [np.cumsum(table[:0:-1], axis=0)[::-1] for table in tables]
    rest = _enough(engine, np.concatenate(after), least, width)
    left = np.split(rest, np.cumsum([len(one) for one in after])[:-1])
    sums = [np.zeros_like(table) for table in tables]
    running = np.zeros((len(tables), 2), dtype=np.uint64)
    for place in range(max(len(table) for table in tables)):
        running += np.stack([table[place] if place < len(table) else np.zeros(2, np.uint64) for table in tables])
        going = [nth for nth, table in enumerate(tables) if place < len(table) - 1]
        if going:
            both = _enough(engine, running[going], least, width)
            further = np.stack([left[nth][place] for nth in going])
            ends = logic_every(engine, [[*both.T, *further.T]])[0]
            taken = select(engine, ends, running[going])
            running[going] -= taken
            for nth, found in zip(going, taken, strict=True):
                sums[nth][place] = found
        for nth, table in enumerate(tables):
            if place == len(table) - 1:
                sums[nth][place] = running[nth]
    # 4. Open to the column's owner, under the name of its column.
    found = []
    for (name, _), table in zip(asked, sums, strict=True):
        opened = opening.open_to(engine, table, counts_name(name), (name.partition(".")[0],))
        if opened is not None:
            found.append(opened)
    return found


def _enough(engine: Engine, counts: Words, least: int, width: int) -> Bits:
    """XOR shares (n, 2) of [count >= least], from shares (n, 2) of counts under 2^(width - 2)."""
    least = min(least, 1 << (width - 2))
    moved = counts - np.uint64(least) if engine.index == 0 else counts
    return logic_not(engine, negative(engine, moved, width))


def _groups(opened: Words, column: Sorted, sizes: Words, least: int) -> tuple[Group, ...]:
    """The groups of what was opened of one column, checked against the rows of our lines."""
    found: list[Group] = []
    start = 0
    for place, pair in enumerate(opened):
        if not pair.any() and place < len(opened) - 1:
            continue
        zeros, ones = int(pair[0]), int(pair[1])
        alone = start == 0 and place == len(opened) - 1
        if zeros + ones != int(sizes[start : place + 1].sum()) or (min(zeros, ones) < least and not alone):
            raise PeerError(f"counts of labels do not fit the bins of {column.name}")
        found.append(Group(column.order[start : place + 1], zeros, ones))
        start = place + 1
    return tuple(found)


def predict_counts(rows: int, asked: Sequence[int], label_index: int) -> Meter:
    """Bytes and waits of steps 1 to 4 for columns of so many lines each; keys and base transfers come on top."""
    meter, width = Meter(), rows.bit_length() + 2
    up = linear_cost.predict_upload(1, rows)
    meter.tell(label_index, up.owner)
    if up.multiplier:
        meter.tell(1 - label_index, up.multiplier)
    for part in _parts(sum(asked), rows):
        meter.tell(1 - label_index, linear_cost.predict_inner(1, part, _BITS).multiplier)
    meter.negative(2 * (sum(asked) - len(asked)), width)
    for place in range(max(asked) - 1):
        going = sum(place < count - 1 for count in asked)
        meter.negative(2 * going, width)
        meter.logic_every([4], going)
        meter.select(going, 2)
    for count in asked:
        meter.open(2 * count, (label_index == 1, label_index == 0))
    return meter


# --- in the clear -----------------------------------------------------------------------------------------------------


def count(column: Sorted, label: np.ndarray) -> list[tuple[int, int]]:
    """Training rows of label 0 and 1 in each line, in the order of joining."""
    found = [np.bincount(column.line[label == value], minlength=len(column.order)) for value in (0, 1)]
    return [(int(found[0][place]), int(found[1][place])) for place in column.order]


def protected(column: Sorted, counts: Sequence[tuple[int, int]], min_rows: int) -> tuple[Group, ...]:
    """Step 3 in the clear: the plain twin, and the rule that the label holder keeps for its own columns."""
    found: list[Group] = []
    start, zeros, ones = 0, 0, 0
    for place, pair in enumerate(counts):
        zeros, ones = zeros + pair[0], ones + pair[1]
        after = [sum(one[label] for one in counts[place + 1 :]) for label in (0, 1)]
        if place == len(counts) - 1 or min(zeros, ones, *after) >= max(min_rows, 1):
            found.append(Group(column.order[start : place + 1], zeros, ones))
            start, zeros, ones = place + 1, 0, 0
    return tuple(found)


def evidence(lines: Lines, groups: Sequence[Group], merge: float | None) -> tuple[Lines, tuple[float, ...]]:
    """Step 5: the lines, of bins those that are left, and the weight of evidence of each."""
    if sorted(place for group in groups for place in group.places) != list(range(len(lines))):
        raise InternalError("groups of other lines")
    if merge is not None and lines.edges is not None:
        groups = _merged(groups, lines.bins, merge)
    zeros, ones = sum(group.zeros for group in groups), sum(group.ones for group in groups)
    weights = [0.0] * len(lines)
    for group in groups:
        for place in group.places:
            weights[place] = math.log((group.zeros * ones) / (group.ones * zeros)) if len(groups) > 1 else 0.0
    if lines.edges is None:
        return lines, tuple(weights)
    lasts = [
        max(place for place in group.places if place < lines.bins) for group in groups if group.places[0] < lines.bins
    ]
    kept = [weights[place] for place in lasts] + weights[lines.bins :]
    return replace(lines, edges=tuple(lines.edges[place] for place in lasts[:-1])), tuple(kept)


def _merged(groups: Sequence[Group], ordered: int, level: float) -> tuple[Group, ...]:
    """Neighbouring groups of the first `ordered` lines that differ least become one, until all neighbours differ."""
    found = list(groups)
    while True:
        pairs = [
            (bins.chi_squared((one.zeros, one.ones), (other.zeros, other.ones)), place)
            for place, (one, other) in enumerate(pairwise(found))
            if other.places[-1] < ordered
        ]
        if not pairs or chi_squared_tail(float(min(pairs)[0]), 1) <= level:
            return tuple(found)
        place = min(pairs)[1]
        one, other = found[place : place + 2]
        found[place : place + 2] = [Group(one.places + other.places, one.zeros + other.zeros, one.ones + other.ones)]
