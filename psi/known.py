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

from psi.rows import Bytes2D, Rows, Words
from psi.store import Store

__all__ = ["IDENTITY", "Known", "Sorted", "load", "paired", "save", "split"]

IDENTITY = 16  # bytes of an identifier's keyed digest
_STATE = "known"  # record
_HEAD = struct.Struct("<BQQ6Q")
_THIRTY_TWO = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)

Places = npt.NDArray[np.uint32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, repr=False)
class Sorted:
    """Distinct digests or tags of 9 to 16 bytes, each with a place, in the order of the number their first eight bytes
    make: uint64 (n,), the other bytes as a number uint64 (n,), uint32 (n,)."""

    first: Words
    rest: Words
    places: Places

    @staticmethod
    def none() -> Sorted:
        """Nothing."""
        return Sorted(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.uint32))

    @staticmethod
    def of(rows: Bytes2D, places: Rows | Places) -> Sorted:
        """Rows of bytes (n, 9 to 16), sorted."""
        first, rest = _numbers(rows)
        order = np.argsort(first)
        return Sorted(first[order], rest[order], places[order].astype(np.uint32))

    def __len__(self) -> int:
        return len(self.first)

    def shifted(self, by: int) -> Sorted:
        """The same with later places."""
        return Sorted(self.first, self.rest, self.places + np.uint32(by))

    def placed(self, places: Rows | Places) -> Sorted:
        """The same with other places: what stood at i is at places[i] now."""
        return Sorted(self.first, self.rest, places[self.places].astype(np.uint32))

    def repeats(self) -> bool:
        """Whether two are equal after all."""
        alike = self.first[np.flatnonzero(self.first[1:] == self.first[:-1])]
        some = np.isin(self.first, alike)
        both = np.stack([self.first[some], self.rest[some]], axis=1)
        return len(np.unique(both, axis=0)) < len(both)

    def find(self, first: Words, rest: Words) -> Rows:
        """For each, in ascending order of `first`, its index here or -1."""
        found = np.full(len(first), -1, dtype=np.int64)
        if not len(self):
            return found
        at = np.searchsorted(self.first, first)
        open_ones = np.flatnonzero(at < len(self))
        while len(open_ones):  # once, but for different ones that begin alike
            here = at[open_ones]
            alike = self.first[here] == first[open_ones]
            same = alike & (self.rest[here] == rest[open_ones])
            found[open_ones[same]] = here[same]
            open_ones = open_ones[alike & ~same]
            at[open_ones] += 1
            open_ones = open_ones[at[open_ones] < len(self)]
        return found

    def find_rows(self, rows: Bytes2D) -> Rows:
        """For each row of bytes, in any order, its place or -1."""
        first, rest = _numbers(rows)
        order = np.argsort(first)
        index = self.find(first[order], rest[order])
        found = np.full(len(rows), -1, dtype=np.int64)
        hit = np.flatnonzero(index >= 0)
        found[order[hit]] = self.places[index[hit]]
        return found

    def holds_one_of(self, other: Sorted, gone: Mask) -> bool:
        """Whether any of `other` is here, at a place that is not marked."""
        index = self.find(other.first, other.rest)
        return not bool(gone[self.places[index[index >= 0]]].all())

    def changed(self, gone: Mask, new: Sorted) -> Sorted:
        """Without those whose place is marked, and with `new`; `gone` has an entry for each place given so far."""
        stays = np.flatnonzero(~gone[self.places])
        at = np.searchsorted(self.first[stays], new.first) + np.arange(len(new))
        old = np.ones(len(stays) + len(new), dtype=np.bool_)
        old[at] = False
        columns = []
        for ours, theirs in ((self.first, new.first), (self.rest, new.rest), (self.places, new.places)):
            column = np.empty(len(old), dtype=ours.dtype)
            column[old] = ours[stays]
            column[at] = theirs
            columns.append(column)
        return Sorted(*columns)


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


def paired(own: Sorted, theirs: Sorted) -> Words:
    """Equal tags as (their place << 32) + our place, unsorted."""
    there = theirs.find(own.first, own.rest)
    ours = np.flatnonzero(there >= 0)
    return theirs.places[there[ours]].astype(np.uint64) << _THIRTY_TWO | own.places[ours].astype(np.uint64)


def split(pairs: Words) -> tuple[Rows, Rows]:
    """(their places, our places)."""
    return (pairs >> _THIRTY_TWO).astype(np.int64), (pairs & _LOW).astype(np.int64)


def save(store: Store, known: Known) -> None:
    """As one record."""
    tables = (known.ours, known.theirs, known.own)
    # a tag's other bytes are few: kept in half the room where they fit
    small = [not len(table) or int(table.rest.max()) <= int(_LOW) for table in tables]
    sizes = [size for table, fits in zip(tables, small, strict=True) for size in (len(table), int(fits))]
    parts = [_HEAD.pack(known.receiver, known.next_ours, known.next_theirs, *sizes)]
    for table, fits in zip(tables, small, strict=True):
        rest = table.rest.astype(np.uint32) if fits else table.rest
        parts += [table.first.tobytes(), rest.tobytes(), table.places.tobytes()]
    store.save(_STATE, b"".join([*parts, known.pairs.tobytes()]))


def load(store: Store) -> Known | None:
    """What `save` kept."""
    content = store.load(_STATE)
    if content is None:
        return None
    receiver, next_ours, next_theirs, *sizes = _HEAD.unpack_from(content)
    at = _HEAD.size
    tables = []
    for count, fits in zip(sizes[::2], sizes[1::2], strict=True):
        behind = at + 8 * count
        last = behind + (4 if fits else 8) * count
        rest = np.frombuffer(content, dtype=np.uint32 if fits else np.uint64, count=count, offset=behind)
        tables.append(
            Sorted(
                np.frombuffer(content, dtype=np.uint64, count=count, offset=at),
                rest.astype(np.uint64),
                np.frombuffer(content, dtype=np.uint32, count=count, offset=last),
            )
        )
        at = last + 4 * count
    ours, theirs, own = tables
    pairs = np.frombuffer(content, dtype=np.uint64, offset=at)
    return Known(bool(receiver), next_ours, next_theirs, ours, theirs, own, pairs)


def _numbers(rows: Bytes2D) -> tuple[Words, Words]:
    padded = np.zeros((len(rows), 16), dtype=np.uint8)
    padded[:, : rows.shape[1]] = rows
    numbers = padded.view("<u8")
    return np.ascontiguousarray(numbers[:, 0]), np.ascontiguousarray(numbers[:, 1])
