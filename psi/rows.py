"""Numpy on rows of bytes: their order, repeats, tags, joins, and the secret permutation. No Python object a row."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from kernels import digest
from kernels.prg import Prg
from psi.messages import CHUNK

__all__ = [
    "Bytes2D",
    "Rows",
    "Words",
    "ascending",
    "heads",
    "join",
    "order_words",
    "repeated",
    "strictly_ascending",
    "tags",
]

Bytes2D = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


def tags(key: bytes, points: Bytes2D, width: int) -> Bytes2D:
    """SHA-256(key of the run, doubly masked point) cut to `width` bytes: one block of the hash a point."""
    return digest.sha256_rows(key, points, width)


def order_words(seed: bytes, count: int, chunk: int = 0) -> Iterator[Words]:
    """The random words of a secret permutation of `count` rows, chunk by chunk, from one chunk on: row i goes where
    its word stands among all, sorted. Equal words (n^2 / 2^65) keep the rows' order."""
    stream = Prg(seed, "psi/permutation")
    for place, at in enumerate(range(0, count, CHUNK)):
        words = stream.words(min(CHUNK, count - at))
        if place >= chunk:
            yield words


def heads(rows: Bytes2D) -> Words:
    """The first eight bytes of each row as a number that sorts as they do: (n,)."""
    if not len(rows):
        return np.empty(0, dtype=np.uint64)
    return np.ascontiguousarray(rows[:, :8]).view(">u8").ravel().astype(np.uint64)


def ascending(rows: Bytes2D) -> Rows:
    """The order that sorts rows by their bytes, equal rows by their place."""
    first = heads(rows)
    order = np.argsort(first, kind="stable")
    sorted_first = first[order]
    same = sorted_first[1:] == sorted_first[:-1]
    if same.any():  # the rest decides, within the runs of equal beginnings only
        tied = np.zeros(len(rows), dtype=np.bool_)
        tied[1:] |= same
        tied[:-1] |= same
        places = np.flatnonzero(tied)
        whole = np.ascontiguousarray(rows[order[places]]).view(f"S{rows.shape[1]}").ravel()
        order[places] = order[places[np.argsort(whole, kind="stable")]]
    return order.astype(np.int64, copy=False)


def strictly_ascending(rows: Bytes2D) -> bool:
    """Whether each row is larger than the one before it: order and repeats in one test."""
    padded = np.zeros((len(rows), -(-rows.shape[1] // 8) * 8), dtype=np.uint8)
    padded[:, : rows.shape[1]] = rows
    columns = padded.view(">u8")
    less, equal = columns[:-1] < columns[1:], columns[:-1] == columns[1:]
    fine = less[:, -1]
    for place in range(columns.shape[1] - 2, -1, -1):
        fine = less[:, place] | equal[:, place] & fine
    return bool(fine.all())


def repeated(rows: Bytes2D) -> npt.NDArray[np.bool_]:
    """For sorted rows: which equal the row before, (n,)."""
    same = np.zeros(len(rows), dtype=np.bool_)
    same[1:] = (rows[1:] == rows[:-1]).all(axis=1)
    return same


def join(ours: Bytes2D, theirs: Bytes2D) -> tuple[Rows, Rows]:
    """Places of equal rows in two sorted arrays of distinct rows: (k,) in ours, (k,) in theirs. Exact."""
    if not len(ours) or not len(theirs):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    wanted, known = heads(ours), heads(theirs)
    at = np.searchsorted(known, wanted)
    longest = int(np.diff(np.flatnonzero(np.r_[True, known[1:] != known[:-1], True])).max())
    found = np.full(len(ours), -1, dtype=np.int64)
    for step in range(longest):  # one, but for different rows that begin alike
        place = np.minimum(at + step, len(theirs) - 1)
        same = np.flatnonzero(known[place] == wanted)
        same = same[(theirs[place[same]] == ours[same]).all(axis=1)]
        found[same] = place[same]
    hit = np.flatnonzero(found >= 0)
    return hit, found[hit]
