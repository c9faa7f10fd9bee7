"""What a series knows after one of its runs: our identifiers and the peer's tags, each with its place, and the pairs.

Places number the keys of one side in the order in which their points were sent, over all runs of the series; a key
that has gone leaves its place empty. Everything is sorted, so that a small change is found and merged without touching
the rest: about 60 bytes a key in memory. Identifiers are known by a keyed digest whose key never leaves this home.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from psi.journal import Journal
from psi.rows import Bytes2D, Rows, Words, ascending, heads, join

__all__ = ["IDENTITY", "Known", "Sorted", "load", "paired", "save", "split"]

IDENTITY = 16  # bytes of an identifier's keyed digest
_HEAD = struct.Struct("<BQQ")
_THIRTY_TWO = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


@dataclass(frozen=True, repr=False)
class Sorted:
    """Distinct rows of bytes in ascending order, each with a place: uint8 (n, width), uint32 (n,)."""

    rows: Bytes2D
    places: npt.NDArray[np.uint32]

    @staticmethod
    def of(rows: Bytes2D, places: Rows | npt.NDArray[np.uint32]) -> Sorted:
        """Sort them."""
        order = ascending(rows)
        return Sorted(rows[order], places[order].astype(np.uint32))

    def without(self, gone: npt.NDArray[np.bool_]) -> Sorted:
        """Those whose place is not marked."""
        if not gone.any():
            return self
        stays = ~gone[self.places]
        return Sorted(self.rows[stays], self.places[stays])

    def merged(self, other: Sorted) -> Sorted:
        """Both; a row of `other` goes behind an equal one."""
        if not len(other.rows) or not len(self.rows):
            return self if len(self.rows) else other
        at = np.searchsorted(heads(self.rows), heads(other.rows))
        rows = np.insert(self.rows, at, other.rows, axis=0)
        places = np.insert(self.places, at, other.places)
        first = heads(rows)
        return Sorted(rows, places) if (first[1:] > first[:-1]).all() else Sorted.of(rows, places)


@dataclass(frozen=True, repr=False)
class Known:
    """ours: keyed digests of our identifiers. theirs: the peer's tags. own: our tags, and pairs: (their place << 32) +
    our place of each match, ascending; both at the tag receiver only. next_ours, next_theirs: places given so far."""

    receiver: bool
    next_ours: int
    next_theirs: int
    ours: Sorted
    theirs: Sorted
    own: Sorted
    pairs: Words

    def alive_theirs(self) -> npt.NDArray[np.bool_]:
        """For each place of the peer's whether a key stands there now."""
        alive = np.zeros(self.next_theirs, dtype=np.bool_)
        alive[self.theirs.places] = True
        return alive


def paired(own: Sorted, theirs: Sorted) -> Words:
    """Equal tags as (their place << 32) + our place, unsorted."""
    ours, there = join(own.rows, theirs.rows)
    return theirs.places[there].astype(np.uint64) << _THIRTY_TWO | own.places[ours].astype(np.uint64)


def split(pairs: Words) -> tuple[Rows, Rows]:
    """(their places, our places)."""
    return (pairs >> _THIRTY_TWO).astype(np.int64), (pairs & _LOW).astype(np.int64)


def save(journal: Journal, known: Known) -> None:
    """As one entry, on disk."""
    head = _HEAD.pack(known.receiver, known.next_ours, known.next_theirs)
    parts: list[bytes | np.ndarray] = [head]
    for table in (known.ours, known.theirs, known.own):
        parts += [table.rows, table.places]
    journal.append([*parts, known.pairs])
    journal.sync()


def load(journal: Journal) -> Known:
    """The last entry of a journal."""
    entry = len(journal) - 1
    receiver, next_ours, next_theirs = _HEAD.unpack(journal.read(entry, 0))
    tables = []
    for part in (1, 3, 5):
        places = np.frombuffer(journal.read(entry, part + 1), dtype=np.uint32)
        content = np.frombuffer(journal.read(entry, part), dtype=np.uint8)
        tables.append(Sorted(content.reshape(len(places), -1) if len(places) else content.reshape(0, 1), places))
    pairs = np.frombuffer(journal.read(entry, 7), dtype=np.uint64)
    ours, theirs, own = tables
    return Known(bool(receiver), next_ours, next_theirs, ours, theirs, own, pairs)
