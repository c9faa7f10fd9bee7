"""What changed in our table since a series last ran: which known keys are there, in which row, and which are new."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kernels import digest
from psi.identifiers import Batch, Counts
from psi.known import WIDTH, Known
from psi.masking import Source, repeated_keys
from psi.messages import CHUNK
from psi.rows import Bytes2D, Rows

_BLOCK = 64  # bytes

__all__ = ["Added", "Changes", "find_changes", "identities"]


def identities(key: bytes, batch: Batch) -> Bytes2D:
    """The keyed digest by which a series knows an identifier again, (n, WIDTH); `key` never leaves this home.

    SHA-256 over the key, filled up to a block of the hash, and the identifier: the key's block is hashed once a batch.
    """
    return digest.sha256_cut(key.ljust(_BLOCK, b"\0"), batch.data, batch.offsets, WIDTH)


class Added:
    """The identifiers that are new, with their digests: a `Source` of its own."""

    def __init__(self, whole: Source, parts: list[Batch], found: list[Bytes2D]) -> None:
        self.settings = whole.settings
        self.duplicates = whole.duplicates
        self._batch = _concatenated(parts)
        self._identities = np.concatenate([np.empty((0, WIDTH), np.uint8), *found])

    def batches(self) -> Iterator[Batch]:
        """In chunks."""
        offsets, rows = self._batch.offsets, self._batch.rows
        for at in range(0, len(rows), CHUNK):
            cut = offsets[at : at + CHUNK + 1]
            yield Batch(self._batch.data[cut[0] : cut[-1]], cut - cut[0], rows[at : at + CHUNK])

    @property
    def counts(self) -> Counts:
        """Of the new ones alone."""
        return Counts(len(self._batch.rows), 0, 0)

    def identities(self, rows: Rows) -> Bytes2D:
        """The digests of these rows of the table."""
        order = np.argsort(self._batch.rows)
        return self._identities[order[np.searchsorted(self._batch.rows, rows, sorter=order)]]


@dataclass(frozen=True, repr=False)
class Changes:
    """rows: int64 (places,), the row of each known key, -1 where it is gone. removed: places that have become empty.
    others: (d, 2), rows that repeat a known key, behind its first. added: the new identifiers. total, nulls,
    unreadable: of the whole table."""

    rows: Rows
    removed: Rows
    others: Rows
    added: Added
    total: int
    nulls: int
    unreadable: int


def find_changes(identifiers: Source, known: Known, key: bytes) -> Changes:
    """Read the table once. Raises DataError for repeated keys where they are an error."""
    parts, found = [], []
    rows = np.full(known.next_ours, -1, dtype=np.int64)
    others = [np.empty((0, 2), dtype=np.int64)]
    for batch in identifiers.batches():
        ours = identities(key, batch)
        place, number = known.ours.find_rows(ours, known.ours_gone), batch.rows
        new = place < 0
        if new.any():
            parts.append(_chosen(batch, new))
            found.append(ours[new])
            place, number = place[~new], number[~new]
        first = rows[place] < 0
        rows[place[first][::-1]] = number[first][::-1]  # of a repeated key the first row stays
        again = np.flatnonzero(rows[place] != number)
        others.append(np.column_stack([rows[place[again]], number[again]]))
    repeats = np.concatenate(others)
    if identifiers.duplicates == "error" and len(repeats):
        raise repeated_keys(len(repeats), repeats[:, 1].tolist())
    counts = identifiers.counts
    return Changes(
        rows,
        np.flatnonzero((rows < 0) & ~known.ours_gone),
        repeats,
        Added(identifiers, parts, found),
        counts.total,
        counts.nulls,
        counts.failures,
    )


def _chosen(batch: Batch, mask: np.ndarray) -> Batch:
    """The marked identifiers of a batch."""
    starts, lengths = batch.offsets[:-1][mask], np.diff(batch.offsets)[mask]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    taken = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
    return Batch(batch.data[taken], offsets, batch.rows[mask])


def _concatenated(parts: list[Batch]) -> Batch:
    lengths = np.concatenate([np.empty(0, np.int64), *(np.diff(part.offsets) for part in parts)])
    return Batch(
        np.concatenate([np.empty(0, np.uint8), *(part.data for part in parts)]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.concatenate([np.empty(0, np.int64), *(part.rows for part in parts)]),
    )
