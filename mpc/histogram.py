"""Histograms of a sum whose two parts lie with two parties, as shares of exact counts: one round, no comparison.

Row i has the index a_i at the multiplier and b_i at the owner, and lands in bin a_i + b_i modulo M. With w of order M
modulo a prime t, the spectrum of the histogram is sum_i w^(k a_i) w^(k b_i), k < M: a sum of products of characters of
either side. A ciphertext has 8192 slots, so 8192 / M rows with M characters each; the owner uploads its characters,
the multiplier multiplies by its own, adds all ciphertexts and answers once for each group of rows it wants counted
apart. Adding up the slots of one character and transforming back are linear, so each side does both to its share.

Which group a row belongs to is the multiplier's own affair: the factors of all other groups are 0 there.

Reveals: nothing but sizes; every message is one of `mpc.linear` and `mpc.ot`. Source:
docs/protocols/15-metrics-on-shares.md, steps 2 and 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.ntt import N
from mpc import linear_cost
from mpc.convert import lift
from mpc.cost import Meter
from mpc.engine import Engine
from mpc.linear import smallest_slot_prime
from party.errors import InternalError

__all__ = ["bins_multiplier", "bins_owner", "declare", "modulus"]

_PIECE = 1024  # ciphertexts of one sum: bounds memory, and the noise that hides the multiplier's factors
_LEAST_BITS = 15  # a prime is 1 modulo 2^14
_MOST_BITS = 25


def modulus(rows: int) -> int:
    """The plaintext prime for counts of so many rows: the lift needs four times as much."""
    bits = max(_LEAST_BITS, (4 * rows).bit_length())
    if bits > _MOST_BITS:
        raise InternalError(f"a histogram of {rows} rows does not fit its plaintext modulus")
    return smallest_slot_prime(bits)


def bins_owner(engine: Engine, index: np.ndarray, size: int, groups: int) -> np.ndarray:
    """Shares modulo 2^64 of the counts by group and bin, uint64 (groups, size), for our part of each row's index.

    index: int64 (n,) in [0, size); size: bins, a power of two of at most 8192. The peer learns n, size and groups.
    Rounds: 1 and those of `mpc.convert.lift`. Bytes: 15 for each row and bin up, 163,840 for each group back.
    """
    _check(index, size)
    t = modulus(len(index))
    table, each = _powers(t, size), N // size
    spectrum = np.zeros((groups, size), dtype=np.uint64)
    for start in range(0, len(index), _PIECE * each):
        part = index[start : start + _PIECE * each]
        values = table[_exponents(part, size, each)].reshape(-1, N)
        spectrum += _by_character(engine.linear.slots_owner(values, t, groups), size)
    return _counts(engine, spectrum, t)


def bins_multiplier(engine: Engine, index: np.ndarray, group: np.ndarray, size: int, groups: int) -> np.ndarray:
    """The same at the other side. group: int64 (n,), of each row, -1 for a row that is not counted."""
    _check(index, size)
    if group.shape != index.shape or (group.size and not -1 <= int(group.min()) <= int(group.max()) < groups):
        raise InternalError("each row is in one of the groups or in none")
    t = modulus(len(index))
    table, each = _powers(t, size), N // size
    spectrum = np.zeros((groups, size), dtype=np.uint64)
    for start in range(0, len(index), _PIECE * each):
        part = slice(start, start + _PIECE * each)
        factors = _Factors(table[_exponents(index[part], size, each)], group[part], groups)
        shares = engine.linear.slots_multiplier(factors, t)
        spectrum += _by_character(shares, size)
    return _counts(engine, spectrum, t)


class _Factors:
    """Our characters (rows, size), 8192 in a ciphertext, for each group, 0 for rows of another; one ciphertext's at a
    time, for all are many."""

    def __init__(self, characters: np.ndarray, group: np.ndarray, groups: int) -> None:
        rows, self._size = characters.shape
        kinds = np.full(rows, -1, dtype=np.int64)
        kinds[: len(group)] = group
        self._characters, self._kinds = characters.reshape(-1, N), kinds.reshape(-1, N // self._size)
        self._groups = np.arange(groups)[:, None]
        self.shape = (groups, *self._characters.shape)

    def __getitem__(self, place: tuple[slice, slice, slice] | tuple[slice, int], /) -> Any:
        row = place[1]
        if isinstance(row, slice):
            return self  # all rows of the one block there is
        chosen = np.repeat(self._kinds[row] == self._groups, self._size, axis=1)
        return chosen * self._characters[row]


def declare(meter: Meter, owner: int, rows: int, size: int, groups: int) -> None:
    """Add the bytes of one histogram, the owner's index being `owner`."""
    each, t = N // size, modulus(rows)
    for start in range(0, rows, _PIECE * each):
        height = -(-min(rows - start, _PIECE * each) // each)
        cost = linear_cost.predict_slots(height, N, t, groups)
        meter.tell(owner, cost.owner)
        meter.tell(1 - owner, cost.multiplier)
    meter.to_arithmetic(groups * size)


def _check(index: np.ndarray, size: int) -> None:
    if not 2 <= size <= N or size & (size - 1):
        raise InternalError(f"{size} bins; a power of two up to {N} is possible")
    if index.ndim != 1 or index.dtype != np.int64 or not len(index):
        raise InternalError(f"indices of {index.dtype}, shape {index.shape}")
    if not 0 <= int(index.min()) <= int(index.max()) < size:
        raise InternalError("an index is not below the number of bins")


def _powers(t: int, size: int) -> np.ndarray:
    """w^0 .. w^(size - 1) modulo t for the first w of order `size` that comes."""
    for base in range(2, t):
        w = pow(base, (t - 1) // size, t)
        if pow(w, size // 2, t) == t - 1:
            break
    powers = [1]
    for _ in range(size - 1):
        powers.append(powers[-1] * w % t)
    return np.array(powers, dtype=np.uint64)


def _exponents(index: np.ndarray, size: int, each: int) -> np.ndarray:
    """k times the index modulo size, (rows filled up to whole ciphertexts, size)."""
    rows = -(-len(index) // each) * each
    whole = np.zeros(rows, dtype=np.int64)
    whole[: len(index)] = index
    return np.asarray(whole[:, None] * np.arange(size) & (size - 1))


def _by_character(slots: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(slots.reshape(len(slots), -1, size).sum(axis=1, dtype=np.uint64))


def _counts(engine: Engine, spectrum: np.ndarray, t: int) -> np.ndarray:
    """The inverse transform of our share, modulo t, and its lift."""
    size = spectrum.shape[1]
    backwards = _powers(t, size)[-np.arange(size) & (size - 1)]
    found = _transform(spectrum % np.uint64(t), backwards, np.uint64(t))
    return lift(engine, found * np.uint64(pow(size, -1, t)) % np.uint64(t), t)


def _transform(values: np.ndarray, powers: np.ndarray, t: np.uint64) -> np.ndarray:
    """sum_k values[..., k] w^(k v) modulo t for powers of w (Cooley and Tukey); t^2 stays under 2^52."""
    size = values.shape[-1]
    if size == 1:
        return values
    even, odd = _transform(np.stack([values[..., ::2], values[..., 1::2]]), powers[::2], t)
    turned = odd * powers[: size // 2] % t
    return np.concatenate([(even + turned) % t, (even + t - turned) % t], axis=-1)
