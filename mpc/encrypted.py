"""Encrypted columns at the multiplier, and their inner products with its own: step 3 of the inner form.

Ciphertexts are kept as they came (packed), or lane by lane for the kernel's sums of products where they are small: then
a query reads them from memory once, whatever the number of its multipliers. Memory is bounded by tiles of answers and
by segments of blocks, not by the number of rows.

Source: docs/protocols/04-lattice-linear.md, step 3; docs/explanation/ntt.md, "Sums of products".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from kernels.ntt import LANES, MOST_BLOCKS, N, kept
from mpc import lattice
from mpc.lattice import Parameters
from mpc.ring import digits

__all__ = ["Received", "blocks_of", "inner_products", "padded"]

_EXPANDED_BYTES = 256 << 20  # a received column set larger than this is kept packed and expanded for every query
_SEGMENT_BYTES = 256 << 20  # of multipliers and expanded ciphertexts that a query holds at once
_ANSWERS = 256  # totals held at once by a query
_FACTORS = 64  # multipliers held at once


def blocks_of(n: int) -> int:
    """How many blocks of 8192 hold n values."""
    return -(-n // N)


def padded(values: np.ndarray, block: int) -> np.ndarray:
    """Block number `block` of a column, with zeros up to 8192."""
    part = values[block * N : block * N + N]
    if len(part) == N:
        return np.ascontiguousarray(part)
    return np.concatenate([part, np.zeros(N - len(part), dtype=values.dtype)])


@dataclass
class _Column:
    """The ciphertexts of one column: as they came, or expanded, lane by lane."""

    packed: list[tuple[bytes, np.ndarray]] = field(default_factory=list)
    expanded: np.ndarray | None = None


class Received:
    """The multiplier's handle of encrypted columns of n rows; usable many times."""

    def __init__(self, columns: int, rows: int, parameters: Parameters) -> None:
        self.columns = columns
        self.rows = rows
        self.blocks = blocks_of(rows)
        self.parameters = parameters
        expanded = columns * self.blocks * 2 * len(parameters.primes) * N * 8
        self._keep_expanded = expanded <= _EXPANDED_BYTES
        self._held: list[_Column] = []
        self._taken = 0

    def append(self, seed: bytes, body: np.ndarray) -> None:
        """Take the next ciphertext, column by column and block by block; PeerError for residues out of range."""
        block = self._taken % self.blocks
        if block == 0:
            self._held.append(_Column())
            if self._keep_expanded:
                self._held[-1].expanded = kept(len(self.parameters.primes), self.blocks, 2)
        room = self._held[-1].expanded
        if room is None:
            lattice.unpack_rows(self.parameters, body)  # only its check: a bad upload is refused when it comes
            self._held[-1].packed.append((seed, body.copy()))
        else:
            self.parameters.basis.place(room, block, lattice.expanded(self.parameters, seed, body))
        self._taken += 1

    def parts(self, columns: int) -> list[Received]:
        """Handles of so many columns each, of the same ciphertexts."""
        found = []
        for start in range(0, len(self._held), columns):
            found.append(Received(columns, self.rows, self.parameters))
            found[-1]._held = self._held[start : start + columns]
        return found

    @staticmethod
    def joined(handles: Sequence[Received]) -> Received:
        """One handle of all their columns, in order."""
        whole = Received(sum(handle.columns for handle in handles), handles[0].rows, handles[0].parameters)
        whole._held = [held for handle in handles for held in handle._held]
        return whole

    def packed(self, first: int, last: int) -> int:
        """How many of some columns are not kept expanded."""
        return sum(column.expanded is None for column in self._held[first:last])

    def span(self, column: int, start: int, stop: int) -> tuple[np.ndarray, int]:
        """Blocks of one column lane by lane, and where they begin there."""
        held = self._held[column]
        if held.expanded is not None:
            return held.expanded, start
        room = kept(len(self.parameters.primes), stop - start, 2)
        for place, (seed, body) in enumerate(held.packed[start:stop]):
            self.parameters.basis.place(room, place, lattice.expanded(self.parameters, seed, body))
        return room, 0


def inner_products(got: Received, rows: np.ndarray, limbs: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Encrypted inner products of all columns with all digits of all rows (r, n), in the order column, row, digit.

    Of each: the sum of all values of the first half, (primes,), so N times coefficient 0; the second half (primes, N).
    """
    ring = got.parameters.basis
    for columns, places in _tiles(got.columns, len(rows) * limbs):
        shape = len(columns), len(places), len(ring)
        first, second = np.zeros(shape, dtype=np.uint64), np.zeros((*shape, N), dtype=np.uint64)
        room = len(places) + 2 * got.packed(columns.start, columns.stop)
        step = min(MOST_BLOCKS, max(1, _SEGMENT_BYTES // (room * len(ring) * N * 8)))
        for start in range(0, got.blocks, step):
            stop = min(got.blocks, start + step)
            factors = _factors(got.parameters, rows, limbs, places, range(start, stop))
            ring.sums(first, second, [got.span(column, start, stop) for column in columns], factors)
        yield from zip(first.reshape(-1, len(ring)), second.reshape(-1, len(ring), N), strict=True)


def _tiles(columns: int, places: int) -> Iterator[tuple[range, range]]:
    """Rectangles of columns and places that follow each other in the order of the answers."""
    height = _ANSWERS // places if places <= _FACTORS else 1
    for column in range(0, columns, height):
        for place in range(0, places, _FACTORS):
            yield range(column, min(columns, column + height)), range(place, min(places, place + _FACTORS))


def _factors(parameters: Parameters, rows: np.ndarray, limbs: int, places: range, blocks: range) -> np.ndarray:
    """The multiplier's polynomials x_0 - sum x_i X^(N-i) of some digits and blocks, transformed, lane by lane."""
    ring, wanted = parameters.basis, len(blocks) * N
    found = np.empty((len(places), len(ring), N // LANES, len(blocks), 1, LANES), dtype=np.uint64)
    row = -1
    for number, place in enumerate(places):
        if row != place // limbs:
            row = place // limbs
            part = rows[row, blocks.start * N : blocks.stop * N]
            cut = digits(np.concatenate([part, np.zeros(wanted - len(part), np.int64)]), limbs)
        ring.rows(cut[place % limbs], found[number])
    return found
