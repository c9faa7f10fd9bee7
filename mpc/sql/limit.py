"""LIMIT: which of the groups come first, decided on shares, without opening the others.

Each pair of groups is compared, part by part of ORDER BY; a group's place is the number of shown groups before it. A
group key is compared by who knows it, a sum by a comparison on shares. Of groups that ORDER BY leaves equal, the order
of the cells decides. The work grows with the square of the groups, so they are few.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mpc.compare import at_least, logic_and, logic_not, negative
from mpc.convert import select, to_arithmetic
from mpc.engine import Engine
from mpc.sql.answer import Labels, digits
from mpc.sql.having import shared_sum
from mpc.sql.products import cells_of
from mpc.sql.types import Limit, Plan, Rank
from party.errors import UsageError

__all__ = ["GROUPS", "check_cells", "key_values", "limit_bits"]

Words = npt.NDArray[np.uint64]
Bits = npt.NDArray[np.uint8]

GROUPS = 128  # 8,128 pairs


def check_cells(cells: int) -> None:
    """UsageError for more groups than LIMIT compares."""
    if cells > GROUPS:
        raise UsageError(
            f"LIMIT over {cells} possible groups, at most {GROUPS}", hint="group by coarser keys, or leave LIMIT out"
        )


def key_values(plan: Plan, sizes: tuple[int, int], rank: Rank, labels: Labels | None, us: int) -> list[Any] | None:
    """The value of a rank's group key in each cell, at the one side that speaks for it: its owner, or for declared
    domains, which both know, the first; None at the other side, and for a rank that is no key."""
    if rank.key is None:
        return None
    key = plan.keys[rank.key]
    declared = cells_of(plan.keys, key.owner) is not None
    if us != (0 if declared else key.owner):
        return None
    place_of = [other for other in plan.keys if other.owner == key.owner].index(key)
    found: list[Any] = []
    for cell in range(sizes[0] * sizes[1]):
        if declared:
            digit, domain = digits(plan, sizes, cell, key.owner)[place_of], key.domain or ()
            found.append(domain[digit] if digit < len(domain) else None)
        else:
            group = cell // sizes[1] if key.owner == 0 else cell % sizes[1]
            label = labels[group] if labels is not None and group < len(labels) else ()
            found.append(label[place_of] if label else None)
    return found


def limit_bits(
    engine: Engine,
    limit: Limit,
    shown: Bits,
    quantities: Sequence[Words],
    values: Sequence[list[Any] | None],
    known: Sequence[Bits],
) -> Bits:
    """XOR shares of which shown cells LIMIT and OFFSET leave.

    shown: XOR shares (cells,). values: for each rank that is a group key its value in each cell, None where only the
    peer knows it. known: for each rank XOR shares of where it is not NULL. Peer learns nothing. Rounds: for each rank
    a comparison and an AND, then an AND, a conversion, a comparison. Bytes: two comparisons a pair of cells and rank.
    """
    cells = len(shown)
    first, second = np.triu_indices(cells, 1)
    before: Bits = _public(engine, np.ones(len(first), dtype=np.bool_))
    for place in reversed(range(len(limit.ranks))):
        rank, here = limit.ranks[place], values[place]
        if rank.key is None:
            key = _key(engine, rank, known[place], quantities)
            difference = key[first] - key[second]
            bits = (2 * rank.bound + 2).bit_length() + 1
            less, more = negative(engine, np.stack([difference, np.uint64(0) - difference]), bits)
        else:
            less, more = _by_value(engine, rank, here, first, second)
        equal = logic_not(engine, less ^ more)
        before = less ^ logic_and(engine, equal, before)
    ahead = logic_and(engine, np.stack([shown[first], shown[second]]), np.stack([before, logic_not(engine, before)]))
    counted = to_arithmetic(engine, ahead)
    rank_of: Words = np.zeros(cells, dtype=np.uint64)
    np.add.at(rank_of, second, counted[0])
    np.add.at(rank_of, first, counted[1])
    end = limit.offset + limit.count
    bits = max(cells, 1).bit_length() + 1
    left = shown
    if end < cells:
        left = logic_and(engine, left, logic_not(engine, at_least(engine, rank_of, end, bits)))
    if limit.offset:
        left = logic_and(engine, left, at_least(engine, rank_of, min(limit.offset, cells), bits))
    return left


def _key(engine: Engine, rank: Rank, known: Bits, quantities: Sequence[Words]) -> Words:
    """Shares of a number a cell, in the order that is wanted: NULL is one more than the largest, or less than all."""
    total = shared_sum(engine, rank, quantities)
    if rank.descending:
        total = np.uint64(0) - total
    null = np.uint64(0)
    if engine.index == 0:
        null = np.uint64((-(rank.bound + 1) if rank.nulls_first else rank.bound + 1) % 2**64)
    return select(engine, known, total - null) + null


def _by_value(
    engine: Engine, rank: Rank, values: list[Any] | None, first: np.ndarray, second: np.ndarray
) -> tuple[Bits, Bits]:
    """Shares of whether the first cell of a pair comes before, or after, the second, by a group key."""
    if values is None:
        return np.zeros(len(first), dtype=np.uint8), np.zeros(len(first), dtype=np.uint8)
    present = sorted({value for value in values if value is not None}, reverse=rank.descending)
    places = {value: place for place, value in enumerate(present)}
    places[None] = -1 if rank.nulls_first else len(present)
    place = np.array([places[value] for value in values])
    return (place[first] < place[second]).astype(np.uint8), (place[first] > place[second]).astype(np.uint8)


def _public(engine: Engine, bits: npt.NDArray[np.bool_]) -> Bits:
    return bits.astype(np.uint8) if engine.index == 0 else np.zeros(len(bits), dtype=np.uint8)
