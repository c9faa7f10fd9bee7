"""Calls into kernels/curve25519.c: packed bytes and arrays in, arrays out, one variant of the library at a time.

The library checks nothing and releases the interpreter's lock; shapes are checked by the facade. A library of another
version than this file is not used.
"""

from __future__ import annotations

import ctypes
import hashlib
from functools import cache

import numpy as np
import numpy.typing as npt

from kernels import native

__all__ = ["hash_to_curve", "lanes", "multiply", "multiply_each", "probe", "variants"]

Points = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]

_VARIANTS = ("portable", "avx2", "ifma")
_VERSION = 1  # as curve25519_version() in the source


@cache
def variants() -> tuple[str, ...]:
    """The variants this machine can run, slowest first; empty without the library."""
    library = native.library("curve25519")
    if library is None or library.curve25519_version() != _VERSION:
        return ()
    return tuple(name for code, name in enumerate(_VARIANTS) if library.curve25519_variant(code))


def lanes(variant: str) -> int:
    """How many points the variant holds in one vector."""
    return int(_library().curve25519_variant(_VARIANTS.index(variant))) % 65536


def multiply(variant: str, scalar: bytes, points: Points) -> tuple[Points, bool, bool]:
    """X25519(scalar, u) of each row, whether all rows were canonical, and whether no product is zero."""
    out = np.empty_like(points)
    flags = (ctypes.c_uint8 * 2)()
    _library().curve25519_multiply(
        _VARIANTS.index(variant), _at(out), _at(points), ctypes.c_size_t(len(points)), scalar, flags
    )
    return out, bool(flags[0]), bool(flags[1])


def multiply_each(variant: str, scalars: Points, points: Points) -> Points:
    """X25519(scalar_i, u_i)."""
    out = np.empty_like(points)
    _library().curve25519_multiply_each(
        _VARIANTS.index(variant), _at(out), _at(points), ctypes.c_size_t(len(points)), _at(scalars)
    )
    return out


def hash_to_curve(variant: str, data: Points, offsets: Offsets, tag: bytes) -> Points:
    """Q.x of each packed item."""
    if len(tag) > 255:
        tag = hashlib.sha512(b"H2C-OVERSIZE-DST-" + tag).digest()
    tag += bytes([len(tag)])
    out = np.empty((len(offsets) - 1, 32), dtype=np.uint8)
    _library().curve25519_map(
        _VARIANTS.index(variant), _at(out), _at(data), _at(offsets), ctypes.c_size_t(len(out)),
        tag, ctypes.c_size_t(len(tag)),
    )  # fmt: skip
    return out


def probe(variant: str, operation: int, limbs: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Field operations on raw limbs, for tests: uint64 (n, 4, limbs, lanes) -> (n, limbs, lanes).

    Operations on elements a, b, c, d: 0 a b; 1 a^2; 2 a b + c d; 3 a b - c d; 4 121665 a + b;
    5 a as the number below p (out of the limbs, frozen, and back).
    """
    code = _VARIANTS.index(variant)
    count, width = divmod(int(_library().curve25519_variant(code)), 65536)
    limbs = np.ascontiguousarray(limbs, dtype=np.uint64)
    if limbs.shape[1:] != (4, count, width):
        raise ValueError(f"{variant} has {count} limbs in {width} lanes")
    out = np.empty((len(limbs), count, width), dtype=np.uint64)
    _library().curve25519_probe(code, operation, _at(out), _at(limbs), ctypes.c_size_t(len(limbs)))
    return out


def _library() -> ctypes.CDLL:
    library = native.library("curve25519")
    if library is None:
        raise RuntimeError("the curve kernel's library is not there")
    return library


def _at(x: npt.NDArray[np.generic]) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.ctypes.data)
