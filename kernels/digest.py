"""SHA-256 of many short messages that begin alike, cut to a width: by kernels/digest.c, or by hashlib without it.

Each function returns SHA-256(prefix || item_i)[:width] as uint8 (n, width). The kernel releases the interpreter's
lock and checks nothing, so shapes are checked here.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
from collections.abc import Iterable
from functools import cache

import numpy as np
import numpy.typing as npt

from kernels import native

__all__ = ["active", "sha256_cut", "sha256_rows", "variants"]

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]

_VARIANTS = ("portable", "sha")
_VERSION = 1  # as digest_version() in the source


@cache
def variants() -> tuple[str, ...]:
    """The kernel variants this machine can run, slowest first; empty without the library."""
    library = native.library("digest")
    if library is None or library.digest_version() != _VERSION:
        return ()
    return _VARIANTS[: 1 + int(library.digest_best_variant())]


def active() -> str:
    """One line for manifests."""
    return f"sha256: {variants()[-1] if variants() else 'hashlib, no library'}"


def sha256_cut(prefix: bytes, data: Bytes, offsets: Offsets, width: int, variant: str | None = None) -> Bytes:
    """Item i is data[offsets[i] : offsets[i + 1]]: uint8 (total,), int64 (n + 1,) -> (n, width).

    `variant` is for tests and benchmarks: one of variants(), or "hashlib".
    """
    check_packed(data, offsets)
    if variant == "hashlib" or not variants():
        raw, bounds = data.tobytes(), offsets.tolist()
        items = (raw[start:end] for start, end in itertools.pairwise(bounds))
        return _hashlib(prefix, items, len(offsets) - 1, width)
    data, offsets = np.ascontiguousarray(data), np.ascontiguousarray(offsets)
    at = ctypes.c_void_p(offsets.ctypes.data)
    return _native(prefix, data, (at, 0, len(offsets) - 1), width, variant)


def sha256_rows(prefix: bytes, rows: Bytes, width: int, variant: str | None = None) -> Bytes:
    """Each row of uint8 (n, k) is an item: -> (n, width)."""
    if rows.dtype != np.uint8 or rows.ndim != 2:
        raise ValueError("rows are uint8 of shape (n, k)")
    if variant == "hashlib" or not variants():
        return _hashlib(prefix, (row.tobytes() for row in rows), len(rows), width)
    rows = np.ascontiguousarray(rows)
    return _native(prefix, rows, (None, rows.shape[1], len(rows)), width, variant)


def check_packed(data: Bytes, offsets: Offsets) -> None:
    """Raise ValueError unless these are packed items that lie inside their buffer."""
    if data.dtype != np.uint8 or data.ndim != 1 or offsets.dtype != np.int64 or offsets.ndim != 1 or not len(offsets):
        raise ValueError("packed items are uint8 (total,) and int64 offsets (n + 1,)")
    if offsets[0] < 0 or offsets[-1] > len(data) or (np.diff(offsets) < 0).any():
        raise ValueError("offsets of packed items ascend within the data")


def _hashlib(prefix: bytes, items: Iterable[bytes], count: int, width: int) -> Bytes:
    start = hashlib.sha256(prefix)
    out = np.empty((count, _checked(width)), dtype=np.uint8)
    for row, item in zip(out, items, strict=True):
        state = start.copy()
        state.update(item)
        row[:] = np.frombuffer(state.digest()[:width], dtype=np.uint8)
    return out


def _native(
    prefix: bytes, data: Bytes, layout: tuple[ctypes.c_void_p | None, int, int], width: int, variant: str | None
) -> Bytes:
    library = native.library("digest")
    if library is None or (variant is not None and variant not in variants()):
        raise ValueError(f"the {variant} kernel is not available here")
    at, row, count = layout
    out = np.empty((count, _checked(width)), dtype=np.uint8)
    library.digest_sha256(
        _VARIANTS.index(variant or variants()[-1]), ctypes.c_void_p(out.ctypes.data), ctypes.c_size_t(width),
        prefix, ctypes.c_size_t(len(prefix)), ctypes.c_void_p(data.ctypes.data), at,
        ctypes.c_size_t(row), ctypes.c_size_t(count),
    )  # fmt: skip
    return out


def _checked(width: int) -> int:
    if not 0 < width <= 32:
        raise ValueError("a cut digest has 1 to 32 bytes")
    return width
