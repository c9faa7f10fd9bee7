"""Negacyclic number-theoretic transforms of length 8192: `basis(primes)` is the fastest this machine has.

The twin in numpy (kernels/ntt_reference.py) says what is computed; the kernel (kernels/ntt.c, called by
kernels/ntt_native.py) has the variants portable, avx2 and ifma. All give the same bits: which is checked once in a
process before a variant is used.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from kernels import native
from kernels.ntt_native import Native, built
from kernels.ntt_reference import LANES, MOST_BLOCKS, Basis, N, high_product, kept

__all__ = ["LANES", "MOST_BLOCKS", "Basis", "N", "Native", "basis", "high_product", "kept", "self_test", "variants"]

_TESTED = (0x3FFFFFFFFC001, 0xFFFFFDC001, 114689)  # of 50, 40 and 17 bits


@cache
def variants() -> tuple[str, ...]:
    """The kernel variants that may be used, slowest first; empty without the library."""
    return native.allowed(built())


@cache
def basis(primes: tuple[int, ...]) -> Basis:
    """The fastest implementation for these primes: the kernel's best variant, or the numpy twin."""
    if not variants():
        return Basis(primes)
    self_test(variants()[-1])
    return Native(primes, variants()[-1])


@cache
def self_test(variant: str) -> None:
    """Compare a variant with the twin, once in a process; RuntimeError on a difference.

    Public numbers: pseudo-random ones by multiplication, and the largest and smallest there are.
    """
    twin, kernel = Basis(_TESTED), Native(_TESTED, variant)
    column = twin.column
    x = np.arange(1, N + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    values = np.stack([x % column, np.broadcast_to(column - np.uint64(1), (len(_TESTED), N))])
    values[1, :, ::3] = 0
    found = [_computed(ring, x, values) for ring in (twin, kernel)]
    if not all(np.array_equal(a, b) for a, b in zip(*found, strict=True)):
        raise RuntimeError(
            f"the transform kernel ({variant}) disagrees with its twin; TALLYSTICK_KERNELS=numpy avoids it"
        )


def _computed(ring: Basis, x: np.ndarray, values: np.ndarray) -> list[np.ndarray]:
    total, first, second = values[1].copy(), np.zeros((1, 2, 3), np.uint64), np.zeros((1, 2, 3, N), np.uint64)
    ring.multiply_add(total, values[0], values[1])
    column, rows = kept(3, 1, 2), np.stack([kept(3, 1, 1) for _ in values])
    ring.place(column, 0, values[None])
    ring.rows(x.view(np.int64), rows[0])
    ring.place(rows[1], 0, values[None, 1:])
    ring.sums(first, second, [(column, 0)], rows, 1)
    packed = ring.pack(values.reshape(-1), 50)
    return [
        ring.forward(values), ring.inverse(values), ring.multiply(*values), ring.dot(*values), total,
        ring.affine(x, [p - 1 for p in _TESTED], [5] * len(_TESTED)), *ring.fraction(values),
        packed, ring.unpack(packed, 50), first, second,
    ]  # fmt: skip
