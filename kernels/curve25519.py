"""Curve25519 in batches, u-coordinates only: the facade that psi and the base oblivious transfer use.

Points and scalars are uint8 arrays of shape (n, 32), little-endian as in RFC 7748; items are packed, see `pack`. The
work is done by kernels/curve25519.c in the fastest variant the machine can run, on as many threads as we may use;
without the library by `cryptography` and batched integers in worker processes, which a RuntimeWarning announces.
`active()` names it for manifests. Nothing is sent to a peer here. At first use the kernel is checked against the plain
twin on random public points (`curve25519_reference`); a difference raises RuntimeError.

`executor`: None for our own threads or processes; else any concurrent.futures.Executor, to which a module-level
function with arguments of bytes is submitted. The executor may pickle them, and ITS WORKERS SEE THE SCALAR and the
items: give one only when all its workers are your own organisation's.

Sources: RFC 7748 section 5; RFC 9380 suite curve25519_XMD:SHA-512_ELL2_NU_, of which Q (not P = 8Q) is returned.
How the kernel computes, and why nothing overflows: docs/explanation/curve.md.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from kernels import curve25519_scalar as scalar_backend
from kernels.curve25519_batches import gather, workers
from kernels.curve25519_compute import Batch, Points, Products, clamped, is_canonical, random_scalar, tested
from kernels.curve25519_native import variants

__all__ = [
    "Checked",
    "Kernel",
    "active",
    "base_multiply_each",
    "clamped",
    "hash_to_curve",
    "is_canonical",
    "multiply",
    "multiply_checked",
    "multiply_each",
    "pack",
    "random_scalar",
    "self_test",
    "variants",
]

Offsets = npt.NDArray[np.int64]

_NO_OFFSETS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Checked:
    """Products of a batch and what a peer's list is refused for; the flags are over the whole batch, without a branch.

    points: uint8 (n, 32). canonical: every input had bit 255 clear and was below p. nonzero: no product is zero.
    """

    points: Points
    canonical: bool
    nonzero: bool


@dataclass(frozen=True)
class Kernel:
    """The operations by one variant of the library, or by the fallback (None). Tests and benchmarks pick one."""

    variant: str | None

    def __post_init__(self) -> None:
        if self.variant is not None and self.variant not in variants():
            raise ValueError(f"the {self.variant} kernel is not available here")

    def multiply_checked(self, scalar: bytes, points: Points, executor: Executor | None = None) -> Checked:
        """See the function of this name, as for the other methods."""
        if len(scalar) != 32:
            raise ValueError("a scalar has 32 bytes")
        return Checked(*self._run(scalar_backend.MULTIPLY, scalar, _checked(points), executor))

    def multiply(self, scalar: bytes, points: Points, executor: Executor | None = None) -> Points:
        return self.multiply_checked(scalar, points, executor).points

    def multiply_each(self, scalars: Points, points: Points, executor: Executor | None = None) -> Points:
        if len(scalars) != len(points):
            raise ValueError("as many scalars as points")
        return self._run(scalar_backend.MULTIPLY_EACH, _checked(scalars), _checked(points), executor).points

    def base_multiply_each(self, scalars: Points, executor: Executor | None = None) -> Points:
        return self._run(scalar_backend.BASE_EACH, b"", _checked(scalars), executor).points

    def hash_to_curve(self, data: Points, offsets: Offsets, dst: bytes, executor: Executor | None = None) -> Points:
        if data.dtype != np.uint8 or data.ndim != 1 or offsets.dtype != np.int64 or offsets.ndim != 1:
            raise ValueError("packed items are uint8 (total,) and int64 offsets (n + 1,)")
        if not len(offsets) or offsets[0] < 0 or offsets[-1] > len(data) or (offsets[1:] < offsets[:-1]).any():
            raise ValueError("offsets of packed items ascend within the data")
        batch = Batch(scalar_backend.HASH, dst, np.ascontiguousarray(data), np.ascontiguousarray(offsets))
        return gather(self.variant, batch, executor).points

    def _run(self, operation: int, first: bytes | Points, second: Points, executor: Executor | None) -> Products:
        return gather(self.variant, Batch(operation, first, second, _NO_OFFSETS), executor)


@cache
def best() -> Kernel:
    """The fastest this machine can do. Without the library that is the fallback: ten times slower, so it warns once."""
    if variants():
        return Kernel(variants()[-1])
    masked = os.environ.get("TALLYSTICK_KERNELS", "").lower() == "numpy"
    remedy = "unset TALLYSTICK_KERNELS" if masked else "install a C compiler and reinstall tallystick"
    warnings.warn(f"no native curve kernel: alignment is many times slower; {remedy}", RuntimeWarning, stacklevel=3)
    return Kernel(None)


def active() -> str:
    """The kernel in use, as manifests and `tally check` name it."""
    if variants():
        return f"curve25519: {variants()[-1]}, {workers()} threads"
    return f"curve25519: cryptography X25519 and integer Elligator2, {workers()} processes, no library"


def multiply(scalar: bytes, points: Points, executor: Executor | None = None) -> Points:
    """X25519(scalar, u) of each row: (n, 32) -> (n, 32). Small-order rows give all zeros: the caller refuses them.

    The scalar is clamped by X25519 itself. Non-canonical rows are reduced silently: `multiply_checked` tells.
    """
    return best().multiply(scalar, points, executor)


def multiply_checked(scalar: bytes, points: Points, executor: Executor | None = None) -> Checked:
    """The same, with whether all rows were canonical and no product is zero."""
    return best().multiply_checked(scalar, points, executor)


def multiply_each(scalars: Points, points: Points, executor: Executor | None = None) -> Points:
    """X25519(scalar_i, u_i) of each pair of rows: (n, 32), (n, 32) -> (n, 32)."""
    return best().multiply_each(scalars, points, executor)


def base_multiply_each(scalars: Points, executor: Executor | None = None) -> Points:
    """X25519(scalar_i, 9) of each row: (n, 32) -> (n, 32)."""
    return best().base_multiply_each(scalars, executor)


def hash_to_curve(data: Points, offsets: Offsets, dst: bytes, executor: Executor | None = None) -> Points:
    """The map's own output Q.x of each item: uint8 (total,), int64 (n + 1,) -> (n, 32); `dst` separates domains.

    Item i is data[offsets[i] : offsets[i + 1]], see `pack`. Q lies anywhere on the curve, seven in eight carry torsion:
    only masked by a clamped scalar may it be sent.
    """
    return best().hash_to_curve(data, offsets, dst, executor)


def pack(items: Sequence[bytes]) -> tuple[Points, Offsets]:
    """Byte strings one after another, uint8 (total,), and where each begins, int64 (n + 1,)."""
    offsets = np.zeros(len(items) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, items), dtype=np.int64, count=len(items)), out=offsets[1:])
    return np.frombuffer(b"".join(items), dtype=np.uint8), offsets


def self_test() -> None:
    """Compare the active kernel with the plain twin on random public points, once in a process; RuntimeError on a
    difference. A first batch does it, too."""
    tested(best().variant)


def _checked(points: Points) -> Points:
    if points.dtype != np.uint8 or points.ndim != 2 or points.shape[1] != 32:
        raise ValueError("points and scalars are uint8 arrays of shape (n, 32)")
    return np.ascontiguousarray(points)
