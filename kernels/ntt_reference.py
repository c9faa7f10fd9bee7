"""Negacyclic number-theoretic transforms of length 8192 over several primes, in plain numpy: the kernel's twin.

Exact and portable, the oracle of kernels/ntt.c; `kernels.ntt.basis` chooses between the two, which give the same bits.

Arrays are uint64 with the residues of each prime in one row: (..., primes, 8192). The transform's order is the plain
bit-reversed one of the Cooley-Tukey network without a final permutation: place i holds the value at
psi^(2 bitreverse(i) + 1), where psi = g^((p-1)/16384) for the smallest g >= 2 with psi^8192 = -1. Both sides of a
protocol rely on this order: values travel in it.

Columns that meet many products are kept lane by lane, (primes, 1024, blocks, halves, 8): what `place` writes and `sums`
reads. There the same eight values of all blocks stand together, so that their sum never leaves the registers.

Source: Longa and Naehrig, "Speeding up the NTT", CANS 2016, algorithms 1 and 2; Harvey, "Faster arithmetic for
number-theoretic transforms", JSC 60 (2014), for the kernel. Bounds: docs/explanation/ntt.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

__all__ = [
    "LANES",
    "MOST_BLOCKS",
    "Basis",
    "N",
    "Spans",
    "Tables",
    "high_product",
    "kept",
    "signed_words",
    "tables",
    "word_quotients",
]

N = 8192
LANES = 8
MOST_BLOCKS = 4095  # of one call of `sums`: halves of products below 2^52 add up in words
_LOG_N = 13
_WORD = 1 << 64

Spans = Sequence[tuple[np.ndarray, int]]  # columns kept lane by lane, and which block is meant first


@dataclass(frozen=True)
class Tables:
    """Powers of psi and of its inverse for one prime, in bit-reversed order."""

    p: int
    root: np.ndarray
    back: np.ndarray


@cache
def tables(p: int) -> Tables:
    """ValueError for what is not a prime below 2^50 that is 1 modulo 16384."""
    if p >= 1 << 50 or p % (2 * N) != 1:
        raise ValueError(f"{p} is not a prime below 2^50 that is 1 modulo {2 * N}")
    for g in range(2, 1000):
        psi = pow(g, (p - 1) // (2 * N), p)
        if pow(psi, N, p) == p - 1:
            return Tables(p, _reversed_powers(psi, p), _reversed_powers(pow(psi, -1, p), p))
    raise ValueError(f"{p} is not prime")


def _reversed_powers(base: int, p: int) -> np.ndarray:
    """base^bitreverse(i): the second half of a table is the first times the power that its top bit stands for."""
    powers = np.ones(1, dtype=np.uint64)
    for layer in range(_LOG_N):
        step = np.uint64(pow(base, N >> (layer + 1), p))
        powers = np.concatenate([powers, _product(powers, step, np.uint64(p))])
    return powers


def word_quotients(w: np.ndarray, p: int) -> np.ndarray:
    """floor(w 2^64 / p) for w < p < 2^50: a long division, 14 bits a step."""
    rest, quotient = w, np.zeros_like(w)
    for bits in (14, 14, 14, 14, 8):
        rest = rest << np.uint64(bits)
        quotient = quotient << np.uint64(bits) | rest // np.uint64(p)
        rest = rest % np.uint64(p)
    return quotient


def kept(primes: int, blocks: int, halves: int) -> np.ndarray:
    """Room for so many blocks, lane by lane, to be filled by `place`."""
    return np.empty((primes, N // LANES, blocks, halves, LANES), dtype=np.uint64)


def signed_words(x: np.ndarray) -> np.ndarray:
    """x + 2^63 of signed x, so that order and residues are those of words."""
    return np.ascontiguousarray(x, dtype=np.int64).view(np.uint64) ^ np.uint64(1 << 63)


def _product(a: np.ndarray, b: np.ndarray | np.uint64, p: np.ndarray | np.uint64) -> np.ndarray:
    """a b mod p for operands below p: the float64 quotient is off by less than one, the remainder wraps exactly."""
    quotient = np.rint(a.astype(np.float64) * b.astype(np.float64) / p.astype(np.float64)).astype(np.uint64)
    rest = a * b - quotient * p
    return np.asarray(np.minimum(rest, rest + p))


class Basis:
    """Exact arithmetic modulo a few primes below 2^50, each 1 modulo 16384, in plain numpy."""

    variant: str | None = None

    def __init__(self, primes: Sequence[int]) -> None:
        self.primes = tuple(primes)
        self.modulus = 1
        for p in self.primes:
            self.modulus *= p
        found = [tables(p) for p in self.primes]
        self.column = np.array(self.primes, dtype=np.uint64)[:, None]
        self._root = np.stack([table.root for table in found])
        self._back = np.stack([table.back for table in found])
        # the CRT part of each prime, (q/p)^-1 mod p, and its weight floor(2^192 / p), for `fraction`
        self.parts = [pow(self.modulus // p, -1, p) for p in self.primes]
        self.weights = [(1 << 192) // p for p in self.primes]

    def __len__(self) -> int:
        return len(self.primes)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Coefficients (..., primes, 8192) to values in bit-reversed order; returns a new array."""
        lead = x.shape[:-2]
        p = self.column[:, :, None]
        for layer in range(_LOG_N):
            m = 1 << layer
            pairs = x.reshape(*lead, len(self), m, 2, N // (2 * m))
            w = self._root[:, m : 2 * m, None]
            u, v = pairs[..., 0, :], _product(pairs[..., 1, :], w, p)
            total, rest = u + v, u - v
            x = np.stack([np.minimum(total, total - p), np.minimum(rest, rest + p)], axis=-2)
        return x.reshape(*lead, len(self), N)

    def inverse(self, x: np.ndarray) -> np.ndarray:
        """Values in bit-reversed order back to coefficients; returns a new array."""
        lead = x.shape[:-2]
        p = self.column[:, :, None]
        for layer in reversed(range(_LOG_N)):
            m = 1 << layer
            pairs = x.reshape(*lead, len(self), m, 2, N // (2 * m))
            w = self._back[:, m : 2 * m, None]
            u, v = pairs[..., 0, :], pairs[..., 1, :]
            total, rest = u + v, u - v
            rest = _product(np.minimum(rest, rest + p), w, p)
            x = np.stack([np.minimum(total, total - p), rest], axis=-2)
        scale = np.array([[pow(N, -1, prime)] for prime in self.primes], dtype=np.uint64)
        return _product(x.reshape(*lead, len(self), N), scale, self.column)

    def multiply(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """a b, value by value; b may be one polynomial (primes, 8192) for all of a."""
        return _product(a, b, self.column)

    def multiply_add(self, total: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
        """total += a b, in place; b may be one polynomial (primes, 8192) for all of a."""
        self.add(total, self.multiply(a, b))

    def add(self, total: np.ndarray, x: np.ndarray) -> None:
        """total += x, in place."""
        total += x
        np.minimum(total, total - self.column, out=total)

    def subtract(self, total: np.ndarray, x: np.ndarray) -> None:
        """total -= x, in place."""
        total -= x
        np.minimum(total, total + self.column, out=total)

    def dot(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The sum of all 8192 products for each prime, shape (primes,): N times coefficient 0 of the product."""
        return np.asarray(self.multiply(a, b).sum(axis=-1, dtype=np.uint64) % self.column[:, 0])

    def place(self, room: np.ndarray, start: int, x: np.ndarray) -> None:
        """Write x (some, halves, primes, 8192) into `room` (primes, 1024, blocks, halves, 8), from block `start` on."""
        lanes = x.reshape(*x.shape[:2], len(self), N // LANES, LANES)
        room[:, :, start : start + len(x)] = lanes.transpose(2, 3, 0, 1, 4)

    def rows(self, x: np.ndarray, room: np.ndarray) -> None:
        """Write transforms of x(1/X) = x_0 - sum x_i X^(N-i), for signed x (blocks 8192,), lane by lane into `room`.

        1/psi^(2k+1) is psi^(2(N-1-k)+1), and bits reversed and turned over are turned over and reversed: so the values
        of x(1/X) are those of x backwards.
        """
        for block, values in enumerate(x.reshape(-1, N)):
            self.place(room, block, self.forward(self.residues(values))[None, None, :, ::-1])

    def sums(self, first: np.ndarray, second: np.ndarray, columns: Spans, rows: np.ndarray, blocks: int) -> None:
        """Add up products of kept columns with the first blocks of kept rows (r, primes, 1024, length, 1, 8), in place.

        A column comes with the number of its block that meets the rows' first. first (k, r, primes): plus the sum of
        all 8192 values of the products with first halves; second (k, r, primes, 8192): plus those with second halves.
        """
        self._check_sums((first, second), columns, rows, blocks)
        for j, (column, start) in enumerate(columns):
            for i, row in enumerate(rows):
                for block in range(blocks):
                    x = column[:, :, start + block].transpose(2, 0, 1, 3).reshape(2, len(self), N)
                    y = row[:, :, block].reshape(len(self), N)
                    first[j, i] = (first[j, i] + self.dot(x[0], y)) % self.column[:, 0]
                    self.multiply_add(second[j, i], x[1], y)

    def _check_sums(self, totals: tuple[np.ndarray, np.ndarray], columns: Spans, rows: np.ndarray, blocks: int) -> None:
        k, r, chunks = len(columns), len(rows), N // LANES
        wanted = [(totals[0], (k, r, len(self))), (totals[1], (k, r, len(self), N))]
        wanted += [(rows, (r, len(self), chunks, rows.shape[3], 1, LANES))]
        wanted += [(column, (len(self), chunks, column.shape[2], 2, LANES)) for column, _ in columns]
        for array, shape in wanted:
            if array.shape != shape or array.dtype != np.uint64 or not array.flags.c_contiguous:
                raise ValueError(f"sums of products over {array.dtype} of shape {array.shape}, not {shape}")
        long = all(0 <= start <= column.shape[2] - blocks for column, start in columns)
        if not long or not 0 < blocks <= min(MOST_BLOCKS, rows.shape[3]):
            raise ValueError(f"sums of products over {blocks} blocks")

    def affine(self, x: np.ndarray, factors: Sequence[int], offsets: Sequence[int]) -> np.ndarray:
        """x w + c modulo each prime for any words x (..., n); w and c one per prime; returns (..., primes, n)."""
        word = x[..., None, :] % self.column
        w = np.array([[f % p] for f, p in zip(factors, self.primes, strict=True)], dtype=np.uint64)
        c = np.array([[o % p] for o, p in zip(offsets, self.primes, strict=True)], dtype=np.uint64)
        total = _product(word, w, self.column)
        self.add(total, np.broadcast_to(c, total.shape))
        return total

    def residues(self, x: np.ndarray) -> np.ndarray:
        """Signed integers int64 (..., n) modulo each prime, (..., primes, n)."""
        return self.affine(signed_words(x), [1] * len(self), [-(1 << 63)] * len(self))

    def fraction(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """v / q as a binary fraction of 128 bits (high, low words) of v in [0, q): (..., primes, n) -> (..., n)."""
        ones = np.array([[part] for part in self.parts], dtype=np.uint64)
        y = _product(x, ones, self.column)
        high = np.zeros(x.shape[:-2] + x.shape[-1:], dtype=np.uint64)
        low = np.zeros_like(high)
        for i, weight in enumerate(self.weights):
            term = y[..., i, :]
            top, middle, rest = weight >> 128, weight >> 64 & (_WORD - 1), weight & (_WORD - 1)
            # without the third word every fraction would be up to 2^-76 too small, and answers off by one at times
            for add in (term * np.uint64(middle), high_product(term, rest)):
                low += add
                high += low < add
            high += term * np.uint64(top) + high_product(term, middle)
        return high, low

    def pack(self, x: np.ndarray, bits: int) -> np.ndarray:
        """Values below 2^bits (n of them, n * bits a multiple of 64) as little-endian bits, uint8 (n bits / 8,)."""
        rows = np.ascontiguousarray(x).reshape(-1, 64)
        out = np.zeros((len(rows), bits), dtype=np.uint64)
        for j in range(64):
            word, shift = divmod(j * bits, 64)
            out[:, word] |= rows[:, j] << np.uint64(shift)
            if shift + bits > 64:
                out[:, word + 1] |= rows[:, j] >> np.uint64(64 - shift)
        return out.reshape(-1).view(np.uint8)

    def unpack(self, data: np.ndarray, bits: int) -> np.ndarray:
        """The inverse of `pack`, uint64 (n,)."""
        rows = np.ascontiguousarray(data).view(np.uint64).reshape(-1, bits)
        out = np.empty((len(rows), 64), dtype=np.uint64)
        for j in range(64):
            word, shift = divmod(j * bits, 64)
            out[:, j] = rows[:, word] >> np.uint64(shift)
            if shift + bits > 64:
                out[:, j] |= rows[:, word + 1] << np.uint64(64 - shift)
        return (out & np.uint64((1 << bits) - 1)).reshape(-1)


def high_product(x: np.ndarray, w: int) -> np.ndarray:
    """The upper 64 bits of x w for words."""
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    w0, w1 = np.uint64(w & 0xFFFFFFFF), np.uint64(w >> 32)
    x0, x1 = x & mask, x >> half
    middle = (x0 * w0 >> half) + (x1 * w0 & mask) + (x0 * w1 & mask)
    return np.asarray(x1 * w1 + (x1 * w0 >> half) + (x0 * w1 >> half) + (middle >> half))
