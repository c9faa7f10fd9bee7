"""What a series knows after one of its runs: our identifiers and the peer's tags, each with its place, and the pairs.

Places number the keys of one side in the order in which their points were sent, over all runs of the series; a key
that has gone leaves its place empty. Most of it is as an earlier run has left it, its base, sorted and not touched
again; what has come since stands beside it, and a mark for each place tells what is gone. So a small change costs
little to find and to keep. When the changes have grown to an eighth, a new base is made. Identifiers are known by a
keyed digest whose key never leaves this home.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from party.errors import InternalError
from psi.rows import Bytes2D, Rows, Words
from psi.run import SERIES_TAG
from psi.store import Store

__all__ = ["WIDTH", "Known", "Sorted", "Table", "load", "merged", "pack", "save", "split", "still"]

WIDTH = SERIES_TAG  # bytes of an identifier's keyed digest, and of a tag
_BASE, _CHANGES = ("base-ours", "base-theirs", "base-own", "base-pairs"), "known"  # records
_HEAD = struct.Struct("<8Q")
_PART = 8  # a new base when the changes are this part of it
_THIRTY_TWO = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, repr=False)
class Sorted:
    """Distinct digests or tags of WIDTH bytes, each with a place, in the order of the number their first eight bytes
    make: uint64 (n,); the number of the other four << 32, + place: uint64 (n,)."""

    first: Words
    tail: Words

    @staticmethod
    def none() -> Sorted:
        """Nothing."""
        return Sorted(np.empty(0, np.uint64), np.empty(0, np.uint64))

    @staticmethod
    def of(rows: Bytes2D, places: Rows) -> Sorted:
        """Rows of bytes (n, WIDTH), sorted."""
        first, rest = _numbers(rows)
        order = np.argsort(first)
        return Sorted(first[order], (rest | places.astype(np.uint64))[order])

    @property
    def places(self) -> Rows:
        """The place of each: int64 (n,)."""
        return (self.tail & _LOW).astype(np.int64)

    def __len__(self) -> int:
        return len(self.first)

    def placed(self, places: Rows) -> Sorted:
        """The same with other places: what stood at i is at places[i] now."""
        return Sorted(self.first, self.tail & ~_LOW | places[self.places].astype(np.uint64))

    def without(self, gone: Mask) -> Sorted:
        """Those whose place is not marked."""
        stays = ~gone[self.places]
        return Sorted(self.first[stays], self.tail[stays])

    def merged(self, new: Sorted) -> Sorted:
        """With `new`."""
        at = np.searchsorted(self.first, new.first)
        return Sorted(np.insert(self.first, at, new.first), np.insert(self.tail, at, new.tail))

    def repeats(self) -> bool:
        """Whether two are equal after all."""
        alike = self.first[np.flatnonzero(self.first[1:] == self.first[:-1])]
        some = np.isin(self.first, alike)
        both = np.stack([self.first[some], self.tail[some] & ~_LOW], axis=1)
        return len(np.unique(both, axis=0)) < len(both)

    def find(self, sought: Sorted) -> Rows:
        """The place of each, -1 where it is not here. By halving: for few, and for tags that a peer has chosen."""
        return self._found(sought.first, sought.tail & ~_LOW, np.searchsorted(self.first, sought.first))

    def find_rows(self, rows: Bytes2D) -> Rows:
        """For each row of bytes, in any order, its place or -1. By first bits: for many digests of our own."""
        first, rest = _numbers(rows)
        return self._found(first, rest, self._starts.take((first >> self._shift).astype(np.int64)).astype(np.int64))

    def _found(self, first: Words, rest: Words, at: Rows) -> Rows:
        """The place of what equals each of (first, rest), none of which stands before `at`; or -1."""
        if not len(self):
            return np.full(len(first), -1, dtype=np.int64)
        found, more = self._step(first, rest, at)
        left = more
        while len(more):
            first, rest, at = first[more], rest[more], at[more] + 1
            found[left], more = self._step(first, rest, at)
            left = left[more]
        return found

    def _step(self, first: Words, rest: Words, at: Rows) -> tuple[Rows, Rows]:
        """The places of those that stand at `at`, -1 for the others; and which of these may stand further on."""
        here, tail = self.first.take(at, mode="clip"), self.tail.take(at, mode="clip")
        same = (here == first) & (tail & ~_LOW == rest)
        place = np.where(same, (tail & _LOW).view(np.int64), -1)
        return place, np.flatnonzero(~same & (here <= first) & (at < len(self) - 1))

    @cached_property
    def _shift(self) -> np.uint64:
        return np.uint64(64 - max(len(self).bit_length(), 1))

    @cached_property
    def _starts(self) -> npt.NDArray[np.uint32]:
        """Where each range of first bits begins, about one entry a range."""
        ranges = 1 << (64 - int(self._shift))
        counts = np.bincount((self.first >> self._shift).astype(np.int64), minlength=ranges)
        starts = np.zeros(ranges, dtype=np.uint32)
        np.cumsum(counts[:-1], out=starts[1:])
        return starts


@dataclass(frozen=True, repr=False)
class Table:
    """Keys of one side: those of the base, and those that have come since. A key that came back stands in both, the
    place it had before marked as gone."""

    base: Sorted
    added: Sorted

    def find(self, sought: Sorted, gone: Mask) -> Rows:
        """The place of each, -1 where it is not here or gone."""
        found = _alive(self.base.find(sought), gone)
        return np.where(found < 0, _alive(self.added.find(sought), gone), found)

    def find_rows(self, rows: Bytes2D, gone: Mask) -> Rows:
        """For each row of bytes, in any order, its place, -1 where it is not here or gone."""
        found = _alive(self.base.find_rows(rows), gone)
        left = np.flatnonzero(found < 0)
        found[left] = _alive(self.added.find_rows(rows[left]), gone)
        return found

    def changed(self, gone: Mask, new: Sorted) -> Table:
        """With `new`; `gone` has an entry for each place given so far."""
        return Table(self.base, self.added.without(gone).merged(new))

    def rebased(self, gone: Mask) -> Table:
        """As a base of its own."""
        return Table(self.base.without(gone).merged(self.added.without(gone)), Sorted.none())

    def __len__(self) -> int:
        return len(self.base) + len(self.added)


def _alive(places: Rows, gone: Mask) -> Rows:
    """-1 for those that are gone."""
    return np.where(gone[places], -1, places) if len(gone) else places


@dataclass(frozen=True, repr=False)
class Known:
    """ours: keyed digests of our identifiers. theirs: the peer's tags. own: our tags, and pairs: (their place << 32) +
    our place of each match, ascending, those of the base and those since; both at the tag receiver only. ours_gone and
    theirs_gone mark each place given so far. base: the run of the series whose state the base is, None for a new one.
    """

    receiver: bool
    base: int | None
    ours_gone: Mask
    theirs_gone: Mask
    ours: Table
    theirs: Table
    own: Table
    pairs: Words
    new_pairs: Words

    @property
    def next_ours(self) -> int:
        """Places given so far."""
        return len(self.ours_gone)

    @property
    def next_theirs(self) -> int:
        """Places given so far."""
        return len(self.theirs_gone)

    def matched(self) -> Words:
        """All pairs that are gone on neither side, ascending."""
        parts = (still(pairs, self.theirs_gone, self.ours_gone) for pairs in (self.pairs, self.new_pairs))
        return merged(*parts)

    def compact(self) -> Known:
        """The same, on a new base if the changes have grown too much beside the old one."""
        kept = len(self.ours.base) + len(self.theirs.base)
        left = int((~self.ours_gone).sum() + (~self.theirs_gone).sum())
        dead = len(self.ours) + len(self.theirs) - left
        if self.base is not None and _PART * (len(self.ours.added) + len(self.theirs.added) + dead) <= kept:
            return self
        ours, own = self.ours.rebased(self.ours_gone), self.own.rebased(self.ours_gone)
        theirs, pairs = self.theirs.rebased(self.theirs_gone), self.matched()
        return replace(self, base=None, ours=ours, theirs=theirs, own=own, pairs=pairs, new_pairs=pairs[:0])


def pack(theirs: Rows, ours: Rows) -> Words:
    """Places side by side as pairs, ascending, without those where either is -1."""
    both = (theirs >= 0) & (ours >= 0)
    return np.sort(theirs[both].astype(np.uint64) << _THIRTY_TWO | ours[both].astype(np.uint64))


def merged(pairs: Words, new: Words) -> Words:
    """Two ascending lists of pairs as one."""
    return np.insert(pairs, np.searchsorted(pairs, new), new)


def split(pairs: Words) -> tuple[Rows, Rows]:
    """(their places, our places)."""
    return (pairs >> _THIRTY_TWO).astype(np.int64), (pairs & _LOW).astype(np.int64)


def still(pairs: Words, theirs_gone: Mask, ours_gone: Mask) -> Words:
    """Those that are gone on neither side."""
    there, here = split(pairs)
    return pairs[~(theirs_gone[there] | ours_gone[here])]


def save(store: Store, known: Known, version: int) -> None:
    """The state after run `version` of a series: what has changed since its base, and the base itself if it is new."""
    tables = (known.ours, known.theirs, known.own)
    if known.base is None:
        for name, part in zip(_BASE, (*(_packed(table.base) for table in tables), known.pairs), strict=True):
            store.save(name, part.tobytes())
    since = (*(_packed(table.added) for table in tables), known.new_pairs)
    marks = (known.ours_gone, known.theirs_gone)
    base = version if known.base is None else known.base
    head = _HEAD.pack(base, known.receiver, *map(len, since), *map(len, marks))
    parts = [head, *(part.tobytes() for part in since), *(np.packbits(mark).tobytes() for mark in marks)]
    store.save(_CHANGES, b"".join(parts))


def load(store: Callable[[int], Store], version: int) -> Known:
    """What `save` kept; InternalError where it, or its base, is gone. `store` opens the store of a run's state."""
    content = _record(store(version), _CHANGES)
    base, receiver, *sizes = _HEAD.unpack_from(content)
    since, at = [], _HEAD.size
    for size in sizes[:4]:
        since.append(np.frombuffer(content, dtype=np.uint64, count=size, offset=at))
        at += 8 * size
    marks = []
    for size in sizes[4:]:
        packed = np.frombuffer(content, dtype=np.uint8, count=-(-size // 8), offset=at)
        marks.append(np.unpackbits(packed, count=size).view(np.bool_))
        at += len(packed)
    before = [np.frombuffer(_record(store(base), name), dtype=np.uint64) for name in _BASE]
    ours, theirs, own = (Table(_unpacked(old), _unpacked(new)) for old, new in zip(before[:3], since[:3], strict=True))
    return Known(bool(receiver), base, marks[0], marks[1], ours, theirs, own, before[3], since[3])


def _record(store: Store, name: str) -> bytes:
    content = store.load(name)
    if content is None:
        raise InternalError("the state of this series is gone", hint="run again with --realign")
    return content


def _packed(table: Sorted) -> Words:
    return np.concatenate([table.first, table.tail])


def _unpacked(words: Words) -> Sorted:
    first, tail = np.split(words, 2)
    return Sorted(first, tail)


def _numbers(rows: Bytes2D) -> tuple[Words, Words]:
    """The first eight bytes of each as a number, and the other four << 32."""
    words = np.ascontiguousarray(rows).view("<u4").reshape(-1, WIDTH // 4)
    first = np.ascontiguousarray(words[:, :2]).view("<u8").ravel()
    return first, words[:, 2].astype(np.uint64) << _THIRTY_TWO
