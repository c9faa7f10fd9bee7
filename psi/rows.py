"""Rows of bytes as numpy arrays: order, repeats, lookup, the tags and the secret permutation of the alignment."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from kernels.prg import Prg

__all__ = ["Bytes2D", "Rows", "ascending", "find", "permutation", "repeats", "strictly_ascending", "tags"]

Bytes2D = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


def tags(key: bytes, points: Bytes2D, width: int) -> Bytes2D:
    """SHA-256(key of the run, doubly masked point) cut to `width` bytes: one block of the hash a point."""
    packed, sha256 = points.tobytes(), hashlib.sha256
    cut = b"".join([sha256(key + packed[at : at + 32]).digest()[:width] for at in range(0, len(packed), 32)])
    return np.frombuffer(cut, dtype=np.uint8).reshape(len(points), width)


def permutation(seed: bytes, count: int) -> Rows:
    """The order of `count` random 64-bit words: equal words (count^2 / 2^65) keep their order."""
    return np.argsort(Prg(seed, "psi/permutation").words(count), kind="stable").astype(np.int64)


def find(wanted: Bytes2D, among: Bytes2D) -> Rows:
    """For each row of `wanted` the row of `among` that equals it, or -1. Exact: whole rows are compared."""
    if not len(wanted) or not len(among):
        return np.full(len(wanted), -1, dtype=np.int64)
    kind = f"S{wanted.shape[1]}"  # numpy drops trailing zeros alike on both sides of equal width
    keys = np.ascontiguousarray(among).view(kind).ravel()
    order = np.argsort(keys, kind="stable")
    rows = np.ascontiguousarray(wanted).view(kind).ravel()
    at = np.minimum(np.searchsorted(keys, rows, sorter=order), len(keys) - 1)
    place = order[at]
    return np.where(keys[place] == rows, place, -1).astype(np.int64)


def _columns(points: Bytes2D) -> npt.NDArray[np.uint64]:
    """Points as four numbers each, first byte most significant: (n, 4)."""
    return np.ascontiguousarray(points).view(">u8").astype(np.uint64)


def ascending(points: Bytes2D) -> Rows:
    """The order that sorts rows by their bytes."""
    columns = _columns(points)
    order = np.argsort(columns[:, 0], kind="stable")
    if (np.diff(columns[order, 0]) == 0).any():
        order = np.lexsort(columns.T[::-1])
    return order.astype(np.int64)


def strictly_ascending(points: Bytes2D) -> bool:
    columns = _columns(points)
    less, equal = columns[:-1] < columns[1:], columns[:-1] == columns[1:]
    ascending = less[:, 3]
    for place in (2, 1, 0):
        ascending = less[:, place] | equal[:, place] & ascending
    return bool(ascending.all())


def repeats(heads: npt.NDArray[np.uint64]) -> bool:
    order = np.lexsort((heads[:, 1], heads[:, 0]))
    return bool((heads[order[1:]] == heads[order[:-1]]).all(axis=1).any())
