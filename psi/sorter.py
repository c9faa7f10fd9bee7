"""Sorting more records than memory should hold: sorted chunks on disk, cut at the same places, merged range by range.

Records have a fixed width and begin with at least eight bytes that look random: masked points, tags, random words. So
the 32 ranges of the leading five bits hold about the same number of records each, and one range is all that is in
memory at a time: n / 32 records, 11 MB for ten million masked points.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from psi.journal import Journal
from psi.rows import Bytes2D, ascending, heads

__all__ = ["RANGES", "Sorter"]

RANGES = 32
_SHIFT = np.uint64(64 - 5)
_BOUNDS = np.arange(1, RANGES, dtype=np.uint64) << _SHIFT


class Sorter:
    """Records of `width` bytes in a journal, one entry a chunk: the chunk's ranges and a note that goes with it."""

    def __init__(self, journal: Journal, width: int) -> None:
        self._journal = journal
        self._width = width

    @property
    def chunks(self) -> int:
        """How many chunks are there: after a crash, all whose `append` had returned, and perhaps one more."""
        return len(self._journal)

    def append(self, records: Bytes2D, note: bytes = b"") -> None:
        """Sort one chunk, uint8 (k, width), and keep it; records and note are on disk together or not at all."""
        chunk = records[ascending(records)]
        cuts = [0, *np.searchsorted(heads(chunk), _BOUNDS).tolist(), len(chunk)]
        self._journal.append([*(chunk[cuts[place] : cuts[place + 1]] for place in range(RANGES)), note])

    def note(self, chunk: int) -> bytes:
        """What was kept with a chunk."""
        return self._journal.read(chunk, RANGES)

    def unsorted(self) -> Iterator[Bytes2D]:
        """All records, a chunk at a time, in no order that means anything."""
        for chunk in range(self.chunks):
            parts = [self._journal.read(chunk, place) for place in range(RANGES)]
            yield np.frombuffer(b"".join(parts), dtype=np.uint8).reshape(-1, self._width)

    def ranges(self) -> Iterator[Bytes2D]:
        """All records in ascending order, range by range; equal beginnings keep the order of chunks."""
        for place in range(RANGES):
            parts = [self._journal.read(chunk, place) for chunk in range(self.chunks)]
            records = np.frombuffer(b"".join(parts), dtype=np.uint8).reshape(-1, self._width)
            del parts
            yield records[ascending(records)]
