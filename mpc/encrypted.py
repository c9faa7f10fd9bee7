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

from kernels.ntt import MOST_BLOCKS, N, kept
from mpc import lattice
from mpc.lattice import Parameters
from mpc.ring import digits

__all__ = ["Received", "blocks_of", "inner_products", "padded"]

_EXPANDED_BYTES = 256 << 20  # a received column set larger than this is kept packed and expanded for every query
_SEGMENT_BYTES = 64 << 20  # of multipliers and expanded ciphertexts that a query holds at once
_ANSWERS = 256  # totals held at once by a query
_FACTORS = 64  # multipliers held at once
_TOGETHER = 8  # ciphertexts written side by side

Packed = tuple[bytes, np.ndarray]  # seed and body


def blocks_of(n: int) -> int:
    """How many blocks of 8192 hold n values."""
    return -(-n // N)


def padded(values: np.ndarray, block: int, blocks: int = 1) -> np.ndarray:
    """Some blocks of a column from number `block` on, with zeros after its end."""
    part = values[block * N : (block + blocks) * N]
    if len(part) == blocks * N:
        return np.ascontiguousarray(part)
    return np.concatenate([part, np.zeros(blocks * N - len(part), dtype=values.dtype)])


def _expand(parameters: Parameters, packed: Sequence[Packed], room: np.ndarray, start: int) -> None:
    """Write ciphertexts lane by lane as the blocks of `room` from `start` on; PeerError as `lattice.unpack_rows`."""
    for first in range(0, len(packed), _TOGETHER):
        some = packed[first : first + _TOGETHER]
        halves = np.empty((len(some), 2, len(parameters.primes), N), dtype=np.uint64)
        for both, (seed, body) in zip(halves, some, strict=True):
            both[0], both[1] = lattice.unpack_rows(parameters, body), lattice.expand(parameters, seed)
        parameters.basis.place(room, start + first, halves)


@dataclass
class _Column:
    """The ciphertexts of one column: packed, or all of them lane by lane."""

    packed: list[Packed] = field(default_factory=list)
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
        self._taken += 1
        if block == 0:
            room = kept(len(self.parameters.primes), self.blocks, 2) if self._keep_expanded else None
            self._held.append(_Column(expanded=room))
        column = self._held[-1]
        if column.expanded is None:
            lattice.unpack_rows(self.parameters, body)  # only its check: a bad upload is refused when it comes
            column.packed.append((seed, body.copy()))
            return
        column.packed.append((seed, body))
        if len(column.packed) == _TOGETHER or block == self.blocks - 1:
            _expand(self.parameters, column.packed, column.expanded, block + 1 - len(column.packed))
            column.packed = []

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

    def is_packed(self, column: int) -> bool:
        """Whether a column is expanded anew for every query."""
        return self._held[column].expanded is None

    def span(self, column: int, blocks: range, rooms: dict[int, np.ndarray]) -> tuple[np.ndarray, int]:
        """Blocks of one column lane by lane, and where they begin there; what is packed is expanded into its room."""
        held = self._held[column]
        if held.expanded is not None:
            return held.expanded, blocks.start
        _expand(self.parameters, held.packed[blocks.start : blocks.stop], rooms[column], 0)
        return rooms[column], 0


def inner_products(got: Received, rows: np.ndarray, limbs: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Encrypted inner products of all columns with all digits of all rows (r, n), in the order column, row, digit.

    Of each: the sum of all values of the first half, (primes,), so N times coefficient 0; the second half (primes, N).
    """
    ring = got.parameters.basis
    size = len(ring)
    for columns, places in _tiles(got.columns, len(rows) * limbs):
        shape = len(columns), len(places), size
        first, second = np.zeros(shape, dtype=np.uint64), np.zeros((*shape, N), dtype=np.uint64)
        packed = [column for column in columns if got.blocks and got.is_packed(column)]  # no rows: nothing is held
        step = max(1, _SEGMENT_BYTES // ((len(places) + 2 * len(packed)) * size * N * 8))
        step = min(step, MOST_BLOCKS, max(1, got.blocks))
        rooms = {column: kept(size, step, 2) for column in packed}
        factors = np.empty((len(places), *kept(size, step, 1).shape), dtype=np.uint64)
        for start in range(0, got.blocks, step):
            blocks = range(start, min(got.blocks, start + step))
            _transform(got.parameters, rows, limbs, (places, blocks), factors)
            spans = [got.span(column, blocks, rooms) for column in columns]
            ring.sums(first, second, spans, factors, len(blocks))
        yield from zip(first.reshape(-1, size), second.reshape(-1, size, N), strict=True)


def _tiles(columns: int, places: int) -> Iterator[tuple[range, range]]:
    """Rectangles of columns and places that follow each other in the order of the answers."""
    height = _ANSWERS // places if places <= _FACTORS else 1
    for column in range(0, columns, height):
        for place in range(0, places, _FACTORS):
            yield range(column, min(columns, column + height)), range(place, min(places, place + _FACTORS))


def _transform(
    parameters: Parameters, rows: np.ndarray, limbs: int, part: tuple[range, range], factors: np.ndarray
) -> None:
    """Write the multiplier's polynomials x_0 - sum x_i X^(N-i) of some digits and blocks into `factors`."""
    places, blocks = part
    row = -1
    for room, place in zip(factors, places, strict=True):
        if row != place // limbs:
            row = place // limbs
            cut = digits(padded(rows[row], blocks.start, len(blocks)), limbs)
        parameters.basis.rows(cut[place % limbs], room)
