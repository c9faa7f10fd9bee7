"""Negacyclic number-theoretic transforms of length 8192 over several primes, and the bulk arithmetic around them.

`Basis` is the plain numpy twin: exact, portable, the oracle of the C kernel in kernels/ntt.c. `basis(primes)` returns
the fastest implementation this machine has; all give the same bits.

Arrays are uint64 with the residues of each prime in one row: (..., primes, 8192). The transform's order is the plain
bit-reversed one of the Cooley-Tukey network without a final permutation: place i holds the value at
psi^(2 bitreverse(i) + 1), where psi = g^((p-1)/16384) for the smallest g >= 2 with psi^8192 = -1. Both sides of a
protocol rely on this order: values travel in it.

Source: Longa and Naehrig, "Speeding up the NTT", CANS 2016, algorithms 1 and 2; Harvey, "Faster arithmetic for
number-theoretic transforms", JSC 60 (2014), for the kernel. Bounds: docs/explanation/ntt.md.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from kernels import native

__all__ = ["Basis", "N", "Native", "basis", "variants"]

N = 8192
_LOG_N = 13
_VARIANTS = ("portable", "avx2")
_WORD = 1 << 64


def _reversed_powers(base: int, p: int) -> list[int]:
    powers = [1]
    for _ in range(N - 1):
        powers.append(powers[-1] * base % p)
    return [powers[int(f"{i:0{_LOG_N}b}"[::-1], 2)] for i in range(N)]


@dataclass(frozen=True)
class _Tables:
    """Powers of psi and of its inverse for one prime, in bit-reversed order."""

    p: int
    root: np.ndarray
    back: np.ndarray


@cache
def _tables(p: int) -> _Tables:
    if p >= 1 << 50 or p % (2 * N) != 1:
        raise ValueError(f"{p} is not a prime below 2^50 that is 1 modulo {2 * N}")
    for g in range(2, 1000):
        psi = pow(g, (p - 1) // (2 * N), p)
        if pow(psi, N, p) == p - 1:
            forth, back = _reversed_powers(psi, p), _reversed_powers(pow(psi, -1, p), p)
            return _Tables(p, np.array(forth, dtype=np.uint64), np.array(back, dtype=np.uint64))
    raise ValueError(f"{p} is not prime")


class Basis:
    """Exact arithmetic modulo a few primes below 2^50, each 1 modulo 16384, in plain numpy."""

    variant: str | None = None

    def __init__(self, primes: Sequence[int]) -> None:
        self.primes = tuple(primes)
        self.modulus = 1
        for p in self.primes:
            self.modulus *= p
        tables = [_tables(p) for p in self.primes]
        self.column = np.array(self.primes, dtype=np.uint64)[:, None]
        self._root = np.stack([table.root for table in tables])
        self._back = np.stack([table.back for table in tables])
        # the CRT part of each prime, (q/p)^-1 mod p, and its weight floor(2^192 / p), for `fraction`
        self.parts = [pow(self.modulus // p, -1, p) for p in self.primes]
        self.weights = [(1 << 192) // p for p in self.primes]

    def __len__(self) -> int:
        return len(self.primes)

    def _product(self, a: np.ndarray, b: np.ndarray, p: np.ndarray) -> np.ndarray:
        """a b mod p for operands below p: the float64 quotient is off by less than one, the remainder wraps exactly."""
        quotient = np.rint(a.astype(np.float64) * b.astype(np.float64) / p.astype(np.float64)).astype(np.uint64)
        rest = a * b - quotient * p
        return np.asarray(np.minimum(rest, rest + p))

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Coefficients (..., primes, 8192) to values in bit-reversed order; returns a new array."""
        lead = x.shape[:-2]
        p = self.column[:, :, None]
        for layer in range(_LOG_N):
            m = 1 << layer
            pairs = x.reshape(*lead, len(self), m, 2, N // (2 * m))
            w = self._root[:, m : 2 * m, None]
            u, v = pairs[..., 0, :], self._product(pairs[..., 1, :], w, p)
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
            rest = self._product(np.minimum(rest, rest + p), w, p)
            x = np.stack([np.minimum(total, total - p), rest], axis=-2)
        scale = np.array([[pow(N, -1, prime)] for prime in self.primes], dtype=np.uint64)
        return self._product(x.reshape(*lead, len(self), N), scale, self.column)

    def multiply(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """a b, value by value; b may be one polynomial (primes, 8192) for all of a."""
        return self._product(a, b, self.column)

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

    def affine(self, x: np.ndarray, factors: Sequence[int], offsets: Sequence[int]) -> np.ndarray:
        """x w + c modulo each prime for any words x (..., n); w and c one per prime; returns (..., primes, n)."""
        word = x[..., None, :] % self.column
        w = np.array([[f % p] for f, p in zip(factors, self.primes, strict=True)], dtype=np.uint64)
        c = np.array([[o % p] for o, p in zip(offsets, self.primes, strict=True)], dtype=np.uint64)
        total = self._product(word, w, self.column)
        self.add(total, np.broadcast_to(c, total.shape))
        return total

    def residues(self, x: np.ndarray) -> np.ndarray:
        """Signed integers int64 (..., n) modulo each prime, (..., primes, n)."""
        shifted = np.ascontiguousarray(x, dtype=np.int64).view(np.uint64) ^ np.uint64(1 << 63)
        return self.affine(shifted, [1] * len(self), [-(1 << 63)] * len(self))

    def fraction(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """v / q as a binary fraction of 128 bits (high, low words) of v in [0, q): (..., primes, n) -> (..., n)."""
        ones = np.array([[part] for part in self.parts], dtype=np.uint64)
        y = self._product(x, ones, self.column)
        high = np.zeros(x.shape[:-2] + x.shape[-1:], dtype=np.uint64)
        low = np.zeros_like(high)
        for i, weight in enumerate(self.weights):
            term = y[..., i, :]
            top, middle, rest = weight >> 128, weight >> 64 & (_WORD - 1), weight & (_WORD - 1)
            # without the third word every fraction would be up to 2^-76 too small, and answers off by one at times
            for add in (term * np.uint64(middle), _high_product(term, rest)):
                low += add
                high += low < add
            high += term * np.uint64(top) + _high_product(term, middle)
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


def _high_product(x: np.ndarray, w: int) -> np.ndarray:
    """The upper 64 bits of x w for words."""
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    w0, w1 = np.uint64(w & 0xFFFFFFFF), np.uint64(w >> 32)
    x0, x1 = x & mask, x >> half
    middle = (x0 * w0 >> half) + (x1 * w0 & mask) + (x0 * w1 & mask)
    return np.asarray(x1 * w1 + (x1 * w0 >> half) + (x0 * w1 >> half) + (middle >> half))


class _Prime(ctypes.Structure):
    _fields_ = (
        ("p", ctypes.c_uint64),
        ("pd", ctypes.c_double),
        ("p_inverse", ctypes.c_double),
        ("n_inverse", ctypes.c_uint64),
        ("n_inverse_q", ctypes.c_uint64),
        *((name, ctypes.c_void_p) for name in ("root", "root_q", "back", "back_q")),
        *((name, ctypes.c_void_p) for name in ("root_d", "root_f", "back_d", "back_f")),
        ("n_inverse_d", ctypes.c_double),
        ("n_inverse_f", ctypes.c_double),
        ("part", ctypes.c_uint64),
        ("part_q", ctypes.c_uint64),
        ("share_high", ctypes.c_uint64),
        ("share_low", ctypes.c_uint64),
        ("share_rest", ctypes.c_uint64),
    )


_LAYOUT = 2 * 65536 + ctypes.sizeof(_Prime)  # as ntt_layout() in the source


class _Factor(ctypes.Structure):
    _fields_ = (("w", ctypes.c_uint64), ("w_q", ctypes.c_uint64), ("c", ctypes.c_uint64))


@cache
def _kernel_tables(p: int) -> dict[str, np.ndarray]:
    """The tables of one prime as the kernel wants them: Shoup quotients for words, balanced powers for doubles."""
    tables = _tables(p)
    found: dict[str, np.ndarray] = {}
    for name, powers in (("root", tables.root), ("back", tables.back)):
        balanced = np.where(powers > p // 2, powers.astype(np.int64) - p, powers.astype(np.int64))
        found[name] = powers
        found[name + "_q"] = np.array([(int(w) << 64) // p for w in powers], dtype=np.uint64)
        found[name + "_d"] = balanced.astype(np.float64)
        found[name + "_f"] = found[name + "_d"] / float(p)
    return found


class Native(Basis):
    """The same arithmetic by kernels/ntt.c; the interpreter lock is released in every call."""

    def __init__(self, primes: Sequence[int], variant: str) -> None:
        super().__init__(primes)
        library = native.library("ntt")
        if library is None or variant not in variants():
            raise ValueError(f"the {variant} kernel is not available here")
        self.variant = variant
        self._library = library
        self._code = _VARIANTS.index(variant)
        # the struct points into these tables: hold them here (two threads may each make a copy at first use)
        self._tables = [_kernel_tables(p) for p in self.primes]
        self._struct = (_Prime * len(self))(*(self._prime(i) for i in range(len(self))))

    def _prime(self, i: int) -> _Prime:
        p = self.primes[i]
        inverse = pow(N, -1, p)
        balanced = float(inverse - p if inverse > p // 2 else inverse)
        pointers = {name: table.ctypes.data for name, table in self._tables[i].items()}
        return _Prime(
            p=p, pd=p, p_inverse=1.0 / p, n_inverse=inverse, n_inverse_q=(inverse << 64) // p, n_inverse_d=balanced,
            n_inverse_f=balanced / p, part=self.parts[i], part_q=(self.parts[i] << 64) // p,
            share_high=self.weights[i] >> 128, share_low=self.weights[i] >> 64 & (_WORD - 1),
            share_rest=self.weights[i] & (_WORD - 1), **pointers,
        )  # fmt: skip

    @cached_property
    def _size(self) -> ctypes.c_size_t:
        return ctypes.c_size_t(len(self))

    def _transform(self, name: str, x: np.ndarray) -> np.ndarray:
        out = _words(x, (*x.shape[:-2], len(self), N)).copy()
        outer = ctypes.c_size_t(out.size // (len(self) * N))
        getattr(self._library, name)(self._struct, self._size, _at(out), outer, self._code)
        return out

    def forward(self, x: np.ndarray) -> np.ndarray:
        return self._transform("ntt_forward", x)

    def inverse(self, x: np.ndarray) -> np.ndarray:
        return self._transform("ntt_inverse", x)

    def multiply(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        out = np.empty(a.shape, dtype=np.uint64)
        self._multiply(out, a, b, 0)
        return out

    def multiply_add(self, total: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
        self._multiply(total, a, b, 1)

    def _multiply(self, out: np.ndarray, a: np.ndarray, b: np.ndarray, add: int) -> None:
        a, b = _words(a, (*out.shape[:-2], len(self), N)), _words(b, (*b.shape[:-2], len(self), N))
        outer, again = a.size // (len(self) * N), b.size // (len(self) * N)
        if not out.flags.c_contiguous or again not in (1, outer):
            raise ValueError(f"product of arrays of shapes {a.shape} and {b.shape}")
        self._library.ntt_multiply(
            self._struct, self._size, _at(out), _at(a), _at(b),
            ctypes.c_size_t(outer), ctypes.c_size_t(again), add, self._code,
        )  # fmt: skip

    def dot(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        out = np.empty(len(self), dtype=np.uint64)
        a, b = _words(a, (len(self), N)), _words(b, (len(self), N))
        self._library.ntt_dot(self._struct, self._size, _at(out), _at(a), _at(b), self._code)
        return out

    def affine(self, x: np.ndarray, factors: Sequence[int], offsets: Sequence[int]) -> np.ndarray:
        x = _words(x, x.shape)
        table = (_Factor * len(self))(
            *(_Factor(f % p, (f % p << 64) // p, o % p) for f, o, p in zip(factors, offsets, self.primes, strict=True))
        )
        out = np.empty((*x.shape[:-1], len(self), x.shape[-1]), dtype=np.uint64)
        outer = x.size // max(1, x.shape[-1])
        self._library.ntt_affine(
            self._struct, self._size, table, _at(out), _at(x), ctypes.c_size_t(outer), ctypes.c_size_t(x.shape[-1])
        )
        return out

    def fraction(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = _words(x, (*x.shape[:-2], len(self), x.shape[-1]))
        high = np.empty(x.shape[:-2] + x.shape[-1:], dtype=np.uint64)
        low = np.empty_like(high)
        outer = high.size // max(1, x.shape[-1])
        self._library.ntt_fraction(
            self._struct, self._size, _at(high), _at(low), _at(x), ctypes.c_size_t(outer), ctypes.c_size_t(x.shape[-1])
        )
        return high, low

    def pack(self, x: np.ndarray, bits: int) -> np.ndarray:
        x = _words(x, x.shape)
        out = np.empty(x.size * bits // 8, dtype=np.uint8)
        self._library.ntt_pack(_at(out), _at(x), ctypes.c_size_t(x.size), bits)
        return out

    def unpack(self, data: np.ndarray, bits: int) -> np.ndarray:
        data = np.ascontiguousarray(data, dtype=np.uint8)
        out = np.empty(data.size * 8 // bits, dtype=np.uint64)
        self._library.ntt_unpack(_at(out), _at(data), ctypes.c_size_t(out.size), bits)
        return out


def _at(x: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.ctypes.data)


def _words(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Contiguous uint64 of exactly this shape: the kernel checks nothing itself."""
    if x.dtype != np.uint64 or x.shape != shape:
        raise ValueError(f"the kernel expects uint64 of shape {shape}, not {x.dtype} of {x.shape}")
    return np.ascontiguousarray(x)


@cache
def variants() -> tuple[str, ...]:
    """The kernel variants this machine can run, slowest first; empty without the library."""
    library = native.library("ntt")
    if library is None or not hasattr(library, "ntt_layout") or library.ntt_layout() != _LAYOUT:
        return ()  # absent, or built from another version of the source: its structs would not be ours
    return _VARIANTS[: 1 + int(library.ntt_best_variant())]


@cache
def basis(primes: tuple[int, ...]) -> Basis:
    """The fastest implementation for these primes: the kernel's best variant, or the numpy twin."""
    return Native(primes, variants()[-1]) if variants() else Basis(primes)
