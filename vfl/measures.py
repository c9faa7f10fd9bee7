"""Metrics from counts of test rows by score, on shares: nothing is opened here.

counts: shares modulo 2^64 of the rows of each class in each cell, uint64 (2, cells), class 0 first, scores rising. The
label holder knows how many rows each class has and divides by them on shares, so that the other side learns neither.
Steps 4 to 7 of docs/protocols/15-metrics-on-shares.md.

Reveals: nothing but sizes; every message is one of `mpc.linear`, `mpc.ot` and `mpc.compare`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mpc import ring
from mpc.compare import logic_and, logic_every, logic_not, logic_or, negative
from mpc.convert import select, truncate
from mpc.engine import Engine
from mpc.opening import suppress

__all__ = [
    "OPENED_BITS",
    "SHARPENED",
    "auc",
    "auc_of_shares",
    "by_quantiles",
    "cumulative",
    "distinct_cuts",
    "joined",
    "ks",
    "mean",
    "mean_bits",
    "residual_sums",
    "shown_at_once",
    "suppressed",
]

Words = np.ndarray
Bits = np.ndarray

OPENED_BITS = 16  # fraction bits of an opened metric
SHARPENED = 1.25  # what `auc_of_shares` is multiplied by
_MEAN_BITS = 52  # of a mean over rows before it is cut, less where logits are large
_SHARE_BITS, _FINE_BITS = 28, 40  # of a cumulative share of rows; while it is divided
_RING = 62  # shares are taken modulo 2^62 where the lattice takes multipliers of 63 bits
_SLOPE_BITS = 20


# --- 4. shares of each class, AUC and KS ------------------------------------------------------------------------------


def cumulative(engine: Engine, counts: Words, sizes: tuple[int, int] | None) -> Words:
    """Shares of the part of each class's rows up to each cell, 28 fraction bits, uint64 (2, cells).

    sizes: rows of both classes at the label holder, none 0; None at the other side. The reciprocals are uploaded
    encrypted, the other side multiplies them by its share. Bytes: 409,632 from the label holder, 81,920 and 20 a cell
    back, 24 a cell for the truncation. Rounds: 2.
    """
    cells = counts.shape[1]
    sums: Words = np.cumsum(counts, axis=1, dtype=np.uint64)
    if sizes is None:
        columns = np.zeros((2, 2 * cells), dtype=np.int64)
        columns[0, :cells], columns[1, cells:] = _reduced(sums)
        found = engine.linear.matvec_matrix(columns, _RING + 1)
    else:
        parts = np.array([round(2**_FINE_BITS / size) for size in sizes], dtype=np.uint64)
        found = engine.linear.matvec_vector(parts, 2 * cells)
        found = found + (sums * parts[:, None]).reshape(-1)
    return truncate(engine, _whole(found), _FINE_BITS - _SHARE_BITS + 2).reshape(2, cells)


def auc(engine: Engine, shares: Words, owner: bool) -> Words:
    """Share (1,) of the AUC, ties half, 16 fraction bits. shares: from `cumulative`; owner: whether we upload.

    Twice the AUC is the sum over cells of p1[v] (F0[v] + F0[v-1]); products of unlike halves are one inner product.
    Rounds: 2. Bytes: 153,616 a block of 8192 cells from the owner, 245,790 back.
    """
    return _auc(engine, np.diff(shares[1], prepend=np.uint64(0)), shares[0], owner, 2 * _SHARE_BITS + 3 - OPENED_BITS)


def auc_of_shares(engine: Engine, shares: Words, owner: bool) -> Words:
    """The same times `SHARPENED`, counted on a grid of shares, where each logit has moved by the sum of two rounding
    errors that are uniform and independent of everything.

    They blur both classes' densities alike, by a variance of 5/12 of a squared cell each, which makes the AUC smaller.
    Subtracting 2/5 of the second difference of one density takes both blurs back to second order: local, all linear.
    """
    density = np.diff(shares[1], prepend=np.uint64(0))
    around = np.concatenate([np.zeros(1, dtype=np.uint64), density, np.zeros(1, dtype=np.uint64)])
    second = around[2:] + around[:-2] - np.uint64(2) * density
    sharp = np.uint64(5) * density - np.uint64(2) * second
    return _auc(engine, sharp, shares[0], owner, 2 * _SHARE_BITS + 5 - OPENED_BITS)


def _auc(engine: Engine, density: Words, zeros: Words, owner: bool, shift: int) -> Words:
    reach = zeros + np.concatenate([np.zeros(1, dtype=np.uint64), zeros[:-1]])
    total = np.sum(density * reach, keepdims=True, dtype=np.uint64)
    if owner:
        sent = engine.linear.upload(np.concatenate([density, reach])[None, :])
        total = total + engine.linear.inner_owner(sent, 1, _RING + 1)[0]
    else:
        got = engine.linear.receive(1, 2 * len(density))
        row = _reduced(np.concatenate([reach, density]))
        total = total + engine.linear.inner_multiplier(got, row[None, :], _RING + 1)[0]
    return truncate(engine, _whole(total), shift)


def ks(engine: Engine, shares: Words) -> Words:
    """Share (1,) of the largest distance of both classes' parts, 16 fraction bits: a knock-out of both signs.

    Rounds and bytes: `mpc.compare.negative` of 31 bits and `select`, for half of what is left, 1 + log2 cells times.
    """
    difference = shares[1] - shares[0]
    left = np.concatenate([difference, np.uint64(0) - difference])
    while len(left) > 1:
        pairs = len(left) // 2
        low, high = left[: 2 * pairs : 2], left[1 : 2 * pairs : 2]
        more = np.ascontiguousarray(low - high)
        won = select(engine, negative(engine, more, _SHARE_BITS + 3), np.uint64(0) - more)
        left = np.concatenate([low + won, left[2 * pairs :]])
    return truncate(engine, left, _SHARE_BITS - OPENED_BITS)


def _reduced(share: Words) -> np.ndarray:
    """A share modulo 2^62, centred: int64."""
    return ring.signed(share << np.uint64(64 - _RING)) >> np.int64(64 - _RING)


def _whole(share: Words) -> Words:
    """A share modulo 2^62 of a value as one modulo 2^64 of four times the value."""
    return share << np.uint64(64 - _RING)


# --- 5. means over rows -----------------------------------------------------------------------------------------------


def mean_bits(largest: float) -> int:
    """Fraction bits of means of values up to this: the mean stays below 2^61."""
    return min(_MEAN_BITS, 60 - math.ceil(math.log2(largest + 1)))


def mean(counts: Words, values: np.ndarray, rows: int, bits: int) -> Words:
    """Share (1,) of the mean over rows of a public function of the cell, `bits` of fraction. values: (2, cells)."""
    weights = np.rint(values * (2.0**bits / rows)).astype(np.int64).view(np.uint64)
    return np.asarray(np.sum(counts * weights, dtype=np.uint64)).reshape(1)


def residual_sums(engine: Engine, rest: np.ndarray, slopes: np.ndarray | None, count: int, bits: int) -> Words:
    """Shares (count,) of the mean over rows of slope times what rounding left of the logit, `bits` of fraction.

    rest: our rounding errors (n,); slopes: float64 (count, n) within [-1, 1] at the label holder, None at the other
    side. Rounds: 1. Bytes: 153,616 a block of 8192 rows up, 81,930 a slope back.
    """
    rows = len(rest)
    if slopes is None:
        column = ring.encode(rest / rows, bits - _SLOPE_BITS)
        sent = engine.linear.upload(column[None, :])
        return np.asarray(engine.linear.inner_owner(sent, count, _SLOPE_BITS + 2)[0])
    got = engine.linear.receive(1, rows)
    whole = np.rint(slopes * 2.0**_SLOPE_BITS).astype(np.int64)
    found = engine.linear.inner_multiplier(got, whole, _SLOPE_BITS + 2)[0]
    return np.asarray(found + ring.encode(slopes @ rest / rows, bits))


# --- 6. groups by score -----------------------------------------------------------------------------------------------


def by_quantiles(engine: Engine, ranked: Words, columns: Words, rows: int, groups: int) -> Words:
    """Shares (groups, k) of the sums of columns (k, cells) by quantile of the score, highest scores first.

    ranked: shares (cells,) of the rows that set the cuts, `rows` in all. A cell belongs above cut k where at least k of
    `groups` parts of the rows lie below its middle: that is one comparison for each cell and cut.
    """
    cells = len(ranked)
    middle = 2 * np.cumsum(ranked, dtype=np.uint64) - ranked
    cuts = np.arange(1, groups, dtype=np.uint64)[:, None] * np.uint64(2 * rows)
    asked = np.uint64(groups) * middle - (cuts if engine.index == 0 else np.zeros_like(cuts))
    width = (2 * groups * rows).bit_length() + 1
    above = logic_not(engine, negative(engine, asked.reshape(-1), width))
    taken = select(engine, above, np.tile(columns.T, (groups - 1, 1)))
    tails = taken.reshape(groups - 1, cells, -1).sum(axis=1, dtype=np.uint64)
    whole = columns.sum(axis=1, dtype=np.uint64)[None, :]
    ends = np.concatenate([whole, tails, np.zeros_like(whole)])
    return np.ascontiguousarray((ends[:-1] - ends[1:])[::-1])


# --- 7. the smallest cell ---------------------------------------------------------------------------------------------


def shown_at_once(engine: Engine, tables: Sequence[Words], least: int, rows: int) -> Bits:
    """XOR shares (tables,) of which tables may be opened: those of which every cell has at least `least` rows.

    Nothing of such a table is hidden, so no total can show what is.
    """
    width = rows.bit_length() + 2
    cells = np.concatenate([table.reshape(-1) for table in tables])
    few = negative(engine, cells - np.uint64(least) if engine.index == 0 else cells, width)
    enough, place, lists = logic_not(engine, few), 0, []
    for table in tables:
        lists.append(list(enough[place : place + table.size].reshape(-1, 1)))
        place += table.size
    return np.concatenate(logic_every(engine, lists))


def distinct_cuts(engine: Engine, differences: Words, least: int, rows: int) -> Bits:
    """XOR shares (cuts,) of whether two cuts fall together or leave enough rows of each class between them.

    differences: shares (cuts, classes) of the rows above one cut less those above the other.
    """
    flat, width = differences.reshape(-1), rows.bit_length() + 3
    ours = 1 if engine.index == 0 else 0  # one side subtracts public numbers
    one, many = np.uint64(ours), np.uint64(least * ours)
    asked = np.concatenate([flat - many, np.uint64(0) - flat - many, flat - one, np.uint64(0) - flat - one])
    above, below, more, less = logic_not(engine, negative(engine, asked, width)).reshape(4, -1)
    far = above ^ below  # never both
    same = logic_not(engine, more ^ less)
    fine = logic_or(engine, far, same).reshape(differences.shape)
    return logic_every(engine, [list(fine.T)])[0]


def suppressed(engine: Engine, shown: Bits, tables: Sequence[Words]) -> Words:
    """Shares of all tables below each other, (lines, k), those that are not shown as zeros."""
    lines = np.repeat(shown, [len(table) for table in tables])
    return suppress(engine, lines, np.concatenate(tables))


def joined(engine: Engine, shown: Bits, clear: Bits, cuts: Sequence[Sequence[int]]) -> Bits:
    """XOR shares of tables that are shown and whose cuts are all clear of another; cuts: of each table, its cuts."""
    every = [list(clear[list(places)].reshape(-1, 1)) for places in cuts]
    return logic_and(engine, shown, np.concatenate(logic_every(engine, every)))
