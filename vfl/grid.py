"""The grid on which logits are counted: z = z_A + z_B, each part rounded by its owner, no row ever out of range.

The feature holder rounds its part to multiples of `step`, the label holder to multiples of step / FINE; the sum of both
is a cell. Ends of both sides' parts, rounded outwards, are told first, so every possible sum has a cell of its own:
nothing wraps, nothing is clipped. Steps 1 and 2 of docs/protocols/15-metrics-on-shares.md.

Reveals: Ends, the lowest and the highest of one's own parts to an eighth of the largest, and whether each class has
enough test rows. The counts themselves stay shared (`mpc.histogram`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mpc.engine import Engine
from mpc.histogram import bins_multiplier, bins_owner
from party.errors import DataError, PeerError
from party.message import Int, Message
from vfl.metrics import sigmoid
from vfl.wanted import ENDS

__all__ = [
    "CHUNKS",
    "FINE",
    "Cyclic",
    "Ends",
    "Grid",
    "Range",
    "Shares",
    "cells_of",
    "counted",
    "ends_of",
    "ends_of_shares",
    "grid",
    "swap_ends",
]

CHUNKS = 4  # the label holder's range in pieces, each counted apart: answers are cheap, uploads are not
FINE = 2  # cells of the label holder in one step
_UNITS = 8
_LEAST, _MOST = -20, 20  # powers of two that the largest part may lie under


@dataclass(frozen=True, repr=False)
class Ends(Message, kind=0x0603):
    """Step 1, both ways: our parts of all logits lie in [low, high] 2^exponent / 8; and at the label holder, whether
    each class has enough test rows."""

    exponent: Annotated[int, Int(_LEAST, _MOST)]
    low: Annotated[int, Int(-_UNITS, _UNITS)]
    high: Annotated[int, Int(-_UNITS, _UNITS)]
    enough: Annotated[int, Int(0, 1)]


@dataclass(frozen=True)
class Range:
    """What `Ends` tells."""

    exponent: int
    low: int
    high: int
    enough: bool

    @property
    def lowest(self) -> float:
        """Below all parts."""
        return self.low * 2.0**self.exponent / _UNITS

    @property
    def width(self) -> float:
        """From there to above all parts."""
        return (self.high - self.low) * 2.0**self.exponent / _UNITS


@dataclass(frozen=True, repr=False)
class Shares:
    """Logits that nobody knows: our shares modulo 2^64 (n,), with so many fraction bits; the logits lie within half a
    period, a power of two, of 0."""

    words: np.ndarray
    fraction_bits: int
    period: int

    def parts(self, label_holder: bool) -> np.ndarray:
        """Our share of logit + period / 2 modulo the period, float64 (n,)."""
        modulus = np.uint64(self.period) << np.uint64(self.fraction_bits)  # divides 2^64
        moved = self.words + (modulus >> np.uint64(1) if label_holder else np.uint64(0))
        return np.asarray((moved & (modulus - np.uint64(1))).astype(np.float64) / 2.0**self.fraction_bits)


@dataclass(frozen=True)
class Grid:
    """Cells of sums: `bins` steps a chunk, cell v around lowest + v step / FINE; the same on both sides."""

    bins: int
    step: float
    ours: float  # where our own parts begin
    theirs: float

    chunks = CHUNKS

    @property
    def chunk(self) -> int:
        """Steps of the label holder's range in one chunk."""
        return self.bins // self.chunks

    @property
    def cells(self) -> int:
        """How many sums there are."""
        return cells_of(self.bins, self.chunks)

    @property
    def centres(self) -> np.ndarray:
        """The logit of each cell."""
        return np.asarray(self.ours + self.theirs + np.arange(self.cells) * (self.step / FINE))

    def guess(self, index: np.ndarray, label: np.ndarray) -> np.ndarray:
        """The label holder's guess of each prediction from its own part: the other side's is 0 on average."""
        return sigmoid(self.places(index, FINE))

    @property
    def variance(self) -> float:
        """Of a logit within its cell: two rounding errors, each uniform over its own step."""
        return self.step**2 * (1 + 1 / FINE**2) / 12

    def rounded(self, logits: np.ndarray, fine: int) -> np.ndarray:
        """Our parts in units of step / fine above our lowest, int64."""
        return np.rint((logits - self.ours) / (self.step / fine)).astype(np.int64)

    def places(self, index: np.ndarray, fine: int) -> np.ndarray:
        """Our parts as they are counted: the logit of each index."""
        return np.asarray(self.ours + index * (self.step / fine))


class Cyclic(Grid):
    """The grid of `Shares`: parts are uniform, sums go round at the period, and so do cells."""

    chunks = 1

    @classmethod
    def over(cls, period: int, bins: int) -> Cyclic:
        """The period in `bins` steps. Parts are rounded down, so a cell's logit lies half of both steps higher."""
        step = period / bins
        return cls(bins, step, -period / 2, step * (1 + 1 / FINE) / 2)

    def rounded(self, logits: np.ndarray, fine: int) -> np.ndarray:
        """Our parts in units of step / fine, rounded down, int64."""
        return np.minimum(np.floor(logits / (self.step / fine)).astype(np.int64), self.bins * fine - 1)

    def places(self, index: np.ndarray, fine: int) -> np.ndarray:
        """The middle of what is rounded to each index."""
        return np.asarray((index + 0.5) * (self.step / fine))

    def guess(self, index: np.ndarray, label: np.ndarray) -> np.ndarray:
        """A share tells nothing of a prediction: the rate of events."""
        return np.full(len(label), float(label.mean()))


def cells_of(bins: int, chunks: int) -> int:
    """Sums of a grid with so many bins a chunk."""
    return FINE * (bins // chunks * (chunks - 1) + bins)


def ends_of_shares(enough: bool) -> Range:
    """Shares have no range to tell."""
    return Range(0, -_UNITS, _UNITS, enough)


def ends_of(logits: np.ndarray, enough: bool) -> Range:
    """Where our parts (n,) lie, outwards to an eighth of a power of two. Raises DataError beyond 2^20."""
    if not bool(np.isfinite(logits).all()):
        raise DataError("a logit is not finite")
    most = max(float(np.abs(logits).max()), 2.0**_LEAST)
    exponent = math.ceil(math.log2(most))
    if exponent > _MOST:
        raise DataError("logits beyond 2^20 cannot be measured", hint="winsorise, or raise train.l2")
    unit = 2.0**exponent / _UNITS
    low = max(-_UNITS, math.floor(float(logits.min()) / unit))
    high = min(_UNITS, math.ceil(float(logits.max()) / unit))
    if low == high:  # all parts are one multiple of the unit
        low, high = (low - 1, high) if high == _UNITS else (low, high + 1)
    return Range(exponent, low, high, enough)


def swap_ends(engine: Engine, ours: Range) -> Range:
    """Tell where our parts lie, for the peer's. One round."""
    engine.guard.disclose(ENDS, engine.channel.peer, 1)
    theirs = engine.channel.swap(Ends(ours.exponent, ours.low, ours.high, int(ours.enough)))
    if theirs.low >= theirs.high:
        raise PeerError(f"{engine.channel.peer} tells a range of logits that is empty")
    return Range(theirs.exponent, theirs.low, theirs.high, bool(theirs.enough))


def grid(ours: Range, theirs: Range, bins: int, label_holder: bool) -> Grid:
    """The finest grid of `bins` bins a chunk that has a cell for every sum."""
    label, feature = (ours, theirs) if label_holder else (theirs, ours)
    step = max(feature.width / (bins - bins // CHUNKS), label.width / (bins - 1))
    return Grid(bins, step, ours.lowest, theirs.lowest)


def counted(engine: Engine, on: Grid, index: np.ndarray, kinds: np.ndarray | None, count: int) -> np.ndarray:
    """Shares modulo 2^64 of the rows of each kind in each cell, uint64 (count, cells).

    index: ours (n,), by `Grid.rounded`; kinds: int64 (n,) at the label holder, who counts rows apart by them; None at
    the feature holder. Rounds and bytes: `mpc.histogram` with `bins` bins and chunks FINE count groups.
    """
    pieces = on.chunks * FINE
    if kinds is None:
        found = bins_owner(engine, index, on.bins, count * pieces)
    else:
        steps, part = np.divmod(index, FINE)
        chunk, within = np.divmod(steps, on.chunk)
        group = np.where(kinds < 0, -1, kinds * pieces + chunk * FINE + part)
        found = bins_multiplier(engine, within, group, on.bins, count * pieces)
    table = found.reshape(count, on.chunks, FINE, on.bins).transpose(0, 1, 3, 2).reshape(count, on.chunks, -1)
    cells = np.zeros((count, on.cells), dtype=np.uint64)
    for chunk_number in range(on.chunks):
        start = chunk_number * on.chunk * FINE
        cells[:, start : start + FINE * on.bins] += table[:, chunk_number]
    return cells
