"""Calls into kernels/ntt.c: one variant of the library at a time, with the same methods as its twin.

The library checks nothing and releases the interpreter's lock in every call; dtype, shape and contiguity are checked
here. A library of another version than this file is not used.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache, cached_property

import numpy as np

from kernels import native
from kernels.ntt_reference import LANES, Basis, N, Spans, signed_words, tables, word_quotients

__all__ = ["Native", "built"]

_VARIANTS = ("portable", "avx2", "ifma")
_WORD = 1 << 64
_TOGETHER = 8  # blocks that ntt_rows has scratch room for


class _Prime(ctypes.Structure):
    _fields_ = (
        ("p", ctypes.c_uint64),
        ("pd", ctypes.c_double),
        ("p_inverse", ctypes.c_double),
        ("n_inverse", ctypes.c_uint64),
        ("n_inverse_q", ctypes.c_uint64),
        ("last", ctypes.c_uint64),
        ("last_q", ctypes.c_uint64),
        *((name, ctypes.c_void_p) for name in ("root", "root_q", "back", "back_q")),
        *((name, ctypes.c_void_p) for name in ("root_d", "root_f", "back_d", "back_f")),
        ("n_inverse_d", ctypes.c_double),
        ("n_inverse_f", ctypes.c_double),
        *((name, ctypes.c_uint64) for name in ("part", "part_q", "share_high", "share_low", "share_rest")),
        *((name, ctypes.c_uint64) for name in ("bits", "barrett", "one_q", "fold", "fold_q", "fold2", "fold2_q")),
        *((name, ctypes.c_uint64) for name in ("word", "word_q")),
    )


_LAYOUT = 3 * 65536 + ctypes.sizeof(_Prime)  # as ntt_layout() in the source


class _Factor(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("w", "w_q", "v", "v_q", "c"))


@cache
def _kernel_tables(p: int) -> dict[str, np.ndarray]:
    """The tables of one prime as the kernel wants them: Shoup quotients for words, balanced powers for doubles."""
    found: dict[str, np.ndarray] = {}
    for name, powers in (("root", tables(p).root), ("back", tables(p).back)):
        balanced = np.where(powers > p // 2, powers.astype(np.int64) - p, powers.astype(np.int64))
        found[name] = powers
        found[name + "_q"] = word_quotients(powers, p)
        found[name + "_d"] = balanced.astype(np.float64)
        found[name + "_f"] = found[name + "_d"] / float(p)
    return found


class Native(Basis):
    """The same arithmetic by kernels/ntt.c; the interpreter lock is released in every call."""

    def __init__(self, primes: Sequence[int], variant: str) -> None:
        super().__init__(primes)
        library = native.library("ntt")
        if library is None or variant not in built():
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
        factors = {
            "n_inverse": inverse,
            "last": int(self._tables[i]["back"][1]) * inverse % p,
            "part": self.parts[i],
            "fold": (1 << 52) % p,
            "fold2": (1 << 104) % p,
            "word": _WORD % p,
        }
        quotients = {f"{name}_q": (w << 64) // p for name, w in factors.items()}
        return _Prime(
            p=p, pd=p, p_inverse=1.0 / p, n_inverse_d=balanced, n_inverse_f=balanced / p,
            share_high=self.weights[i] >> 128, share_low=self.weights[i] >> 64 & (_WORD - 1),
            share_rest=self.weights[i] & (_WORD - 1), bits=p.bit_length(), barrett=(1 << p.bit_length() + 50) // p,
            one_q=_WORD // p, **factors, **quotients, **pointers,
        )  # fmt: skip

    @cached_property
    def _size(self) -> ctypes.c_size_t:
        return ctypes.c_size_t(len(self))

    def _transform(self, name: str, x: np.ndarray) -> np.ndarray:
        out = _words(x, (*x.shape[:-2], len(self), N)).copy()
        outer = ctypes.c_size_t(out.size // (len(self) * N))
        getattr(self._library, name)(self._code, self._struct, self._size, _at(out), outer)
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
            self._code, self._struct, self._size, _at(out), _at(a), _at(b),
            ctypes.c_size_t(outer), ctypes.c_size_t(again), add,
        )  # fmt: skip

    def dot(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        out = np.empty(len(self), dtype=np.uint64)
        a, b = _words(a, (len(self), N)), _words(b, (len(self), N))
        self._library.ntt_dot(self._code, self._struct, self._size, _at(out), _at(a), _at(b))
        return out

    def place(self, room: np.ndarray, start: int, x: np.ndarray) -> None:
        some, halves = x.shape[:2]
        x, wanted = _words(x, (some, halves, len(self), N)), (len(self), N // LANES, room.shape[2], halves, LANES)
        if room.shape != wanted or not room.flags.c_contiguous or not 0 <= start <= room.shape[2] - some:
            raise ValueError(f"blocks {start} and on of shape {x.shape} do not go into {room.shape}")
        self._library.ntt_place(
            _at(room), ctypes.c_size_t(room.shape[2]), ctypes.c_size_t(start), _at(x),
            ctypes.c_size_t(some), ctypes.c_size_t(halves), self._size,
        )  # fmt: skip

    def rows(self, x: np.ndarray, room: np.ndarray) -> None:
        words, blocks, length = signed_words(x), x.size // N, room.shape[2]
        if x.shape != (blocks * N,) or blocks > length or room.shape != (len(self), N // LANES, length, 1, LANES):
            raise ValueError(f"{x.shape} values do not go into {room.shape}")
        if room.dtype != np.uint64 or not room.flags.c_contiguous:
            raise ValueError(f"no room for words: {room.dtype}")
        scratch = np.empty(_TOGETHER * N, dtype=np.uint64)
        table = (_Factor * len(self))(*(_factor(1, -(1 << 63) % p, p) for p in self.primes))
        self._library.ntt_rows(
            self._code, self._struct, self._size, table, _at(room), ctypes.c_size_t(length), _at(words),
            ctypes.c_size_t(blocks), _at(scratch),
        )  # fmt: skip

    def sums(self, first: np.ndarray, second: np.ndarray, columns: Spans, rows: np.ndarray, blocks: int) -> None:
        self._check_sums((first, second), columns, rows, blocks)
        k = len(columns)
        places = (ctypes.c_void_p * k)(*(room.ctypes.data + start * 2 * LANES * 8 for room, start in columns))
        lengths = (ctypes.c_size_t * k)(*(room.shape[2] for room, _ in columns))
        self._library.ntt_sums(
            self._code, self._struct, self._size, _at(first), _at(second), places, lengths, ctypes.c_size_t(k),
            _at(rows), ctypes.c_size_t(rows.shape[3]), ctypes.c_size_t(len(rows)), ctypes.c_size_t(blocks),
        )  # fmt: skip

    def affine(self, x: np.ndarray, factors: Sequence[int], offsets: Sequence[int]) -> np.ndarray:
        x = _words(x, x.shape)
        table = (_Factor * len(self))(
            *(_factor(f % p, o % p, p) for f, o, p in zip(factors, offsets, self.primes, strict=True))
        )
        out = np.empty((*x.shape[:-1], len(self), x.shape[-1]), dtype=np.uint64)
        outer = x.size // max(1, x.shape[-1])
        self._library.ntt_affine(
            self._code, self._struct, self._size, table, _at(out), _at(x),
            ctypes.c_size_t(outer), ctypes.c_size_t(x.shape[-1]),
        )  # fmt: skip
        return out

    def fraction(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = _words(x, (*x.shape[:-2], len(self), x.shape[-1]))
        high = np.empty(x.shape[:-2] + x.shape[-1:], dtype=np.uint64)
        low = np.empty_like(high)
        outer = high.size // max(1, x.shape[-1])
        self._library.ntt_fraction(
            self._code, self._struct, self._size, _at(high), _at(low), _at(x),
            ctypes.c_size_t(outer), ctypes.c_size_t(x.shape[-1]),
        )  # fmt: skip
        return high, low

    def pack(self, x: np.ndarray, bits: int) -> np.ndarray:
        x = _words(x, x.shape)
        out = np.empty(x.size * bits // 8, dtype=np.uint8)
        self._library.ntt_pack(self._code, _at(out), _at(x), ctypes.c_size_t(x.size), bits)
        return out

    def unpack(self, data: np.ndarray, bits: int) -> np.ndarray:
        data = np.ascontiguousarray(data, dtype=np.uint8)
        out = np.empty(data.size * 8 // bits, dtype=np.uint64)
        self._library.ntt_unpack(self._code, _at(out), _at(data), ctypes.c_size_t(out.size), bits)
        return out


def _factor(w: int, c: int, p: int) -> _Factor:
    v = (w << 52) % p
    return _Factor(w=w, w_q=(w << 64) // p, v=v, v_q=(v << 64) // p, c=c)


def _at(x: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.ctypes.data)


def _words(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Contiguous uint64 of exactly this shape: the kernel checks nothing itself."""
    if x.dtype != np.uint64 or x.shape != shape:
        raise ValueError(f"the kernel expects uint64 of shape {shape}, not {x.dtype} of {x.shape}")
    return np.ascontiguousarray(x)


@cache
def built() -> tuple[str, ...]:
    """The variants that this machine can run, slowest first; empty without the library."""
    library = native.library("ntt")
    if library is None or not hasattr(library, "ntt_layout") or library.ntt_layout() != _LAYOUT:
        return ()  # absent, or built from another version of the source: its structs would not be ours
    return tuple(name for code, name in enumerate(_VARIANTS) if library.ntt_variant(code))
