"""Integers modulo 2^64 in numpy arrays: wrapping products, matrix products through float64, fixed point.

Arrays of the ring are uint64; numpy's own +, - and * wrap, which is exactly the ring. What is added here are the
signed view, the conversion of real numbers, and a matrix product that is both exact and fast.

Source of the matrix product: cutting operands into limbs that a floating-point unit multiplies without rounding is
folklore; the bound used here is argued at `matmul`.
"""

from __future__ import annotations

import numpy as np

from party.errors import InternalError

__all__ = ["LIMB_BITS", "centre", "decode", "digits", "encode", "matmul", "signed", "unsigned", "weighted"]

LIMB_BITS = 22
_INNER = 2048  # terms that one float64 product may add up: 2^11 products of at most 2^42 stay within 2^53
_PANEL = 1 << 20  # elements of one row panel, so that limb copies stay small


def signed(x: np.ndarray) -> np.ndarray:
    """The same bits as int64: ring elements read as numbers in [-2^63, 2^63)."""
    return np.ascontiguousarray(x).view(np.int64)


def unsigned(x: np.ndarray) -> np.ndarray:
    """Integers of any signed or unsigned dtype as ring elements, uint64."""
    if x.dtype == np.uint64:
        return x
    return np.ascontiguousarray(x, dtype=np.int64).view(np.uint64)


def centre(x: np.ndarray, modulus: int) -> np.ndarray:
    """Residues in [0, modulus) as int64 in (-modulus/2, modulus/2]; modulus below 2^63."""
    values = x.astype(np.int64)
    return np.where(values > modulus // 2, values - modulus, values)


def encode(x: np.ndarray, fraction_bits: int) -> np.ndarray:
    """Real numbers to the nearest multiple of 2^-fraction_bits, as uint64; |x| 2^fraction_bits must stay under 2^62."""
    scaled = np.rint(np.asarray(x, dtype=np.float64) * 2.0**fraction_bits)
    if scaled.size and not bool(np.all(np.abs(scaled) < 2.0**62)):
        raise InternalError(f"a number does not fit fixed point with {fraction_bits} fraction bits")
    return scaled.astype(np.int64).view(np.uint64)


def decode(x: np.ndarray, fraction_bits: int) -> np.ndarray:
    """Ring elements read as signed fixed point, float64."""
    return signed(x).astype(np.float64) * 2.0**-fraction_bits


def digits(x: np.ndarray, count: int) -> list[np.ndarray]:
    """Balanced digits of 22 bits, int64, lowest first: x = sum digit_l 2^(22 l) modulo 2^64.

    Every digit but the last lies in [-2^21, 2^21); the last takes what is left, so |x| < 2^(22 count - 1) leaves it
    within [-2^21, 2^21] as well. Three digits hold any ring element (the last then within [-2^19, 2^19]).
    """
    rest = np.ascontiguousarray(x).view(np.int64)
    half, mask = np.int64(1 << (LIMB_BITS - 1)), np.int64((1 << LIMB_BITS) - 1)
    found = []
    for _ in range(count - 1):
        digit = ((rest + half) & mask) - half
        found.append(digit)
        rest = (rest - digit) >> np.int64(LIMB_BITS)
    return [*found, rest]


def weighted(parts: np.ndarray) -> np.ndarray:
    """Shares of limbs (..., limbs) to shares of numbers: weights 2^(22 l), exact because shares live modulo 2^64."""
    shifts = np.arange(parts.shape[-1], dtype=np.uint64) * np.uint64(LIMB_BITS)
    return np.asarray((parts << shifts).sum(axis=-1, dtype=np.uint64))


def matmul(a: np.ndarray, b: np.ndarray, *, a_bits: int = 64, b_bits: int = 64) -> np.ndarray:
    """a @ b modulo 2^64, exact; a (n, k), b (k, m) or (k,), uint64 or int64; returns uint64.

    a_bits and b_bits are public bounds: read as signed, |a| < 2^(a_bits - 1); smaller bounds need fewer products.
    Each operand is cut into balanced digits of at most 2^21 in absolute value. A float64 product adds at most 2048
    products of at most 2^42, so every partial sum is an integer of at most 2^53 and float64 holds it exactly, in
    whatever order BLAS adds. Digit pairs whose weight is 2^66 or more vanish in the ring and are left out.
    """
    if b.ndim == 1:
        return matmul(a, b[:, None], a_bits=a_bits, b_bits=b_bits)[:, 0]
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise InternalError(f"matrix product of shapes {a.shape} and {b.shape}")
    rows, inner = a.shape
    out = np.zeros((rows, b.shape[1]), dtype=np.uint64)
    panel = max(1, _PANEL // _INNER)
    for start in range(0, inner, _INNER):
        part = slice(start, min(inner, start + _INNER))
        right = [digit.astype(np.float64) for digit in digits(b[part], _limbs(b_bits))]
        step = max(panel, _PANEL // (part.stop - part.start))
        for top in range(0, rows, step):
            left = [digit.astype(np.float64) for digit in digits(a[top : top + step, part], _limbs(a_bits))]
            for i, x in enumerate(left):
                for j, y in enumerate(right):
                    if i + j < 3:
                        product = (x @ y).astype(np.int64).view(np.uint64)
                        out[top : top + step] += product << np.uint64(LIMB_BITS * (i + j))
    return out


def _limbs(bits: int) -> int:
    return min(3, -(-bits // LIMB_BITS))
