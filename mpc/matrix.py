"""Matrix products of one side's numbers with the other side's, many results in one answer; both roles in this file.

A fourth form of the linear engine (mpc/linear.py has the keys, messages and pacing used here, docs/protocols/
04-lattice-linear.md the argument): the owner has m rows of k words, the multiplier n rows of k integers, and both get
shares of all m x n inner products modulo 2^64. Where `inner_owner` returns one inner product in an answer of 82 kB,
this form returns a tile of them; where the owner's rows are short it sends one ciphertext for many. Whole tables pass
through in strips, so neither memory nor messages grow with the square of anything.

Reveals: as the other forms, sizes only; each answer's coefficients are masked one by one and counted by the same
budget (mpc.lattice.Budget). Source: coefficient packing of matrix products, Huang, Lu, Hong, Ding, "Cheetah", USENIX
Security 2022, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from kernels.ntt import N
from mpc import lattice
from mpc.lattice import ANSWER_BYTES, WIDE, WORD
from mpc.linear import Linear
from mpc.linear_cost import Cost, answer_bytes, upload_cost
from party.errors import InternalError

__all__ = ["BITS", "Strips", "Tile", "predict_matrix", "products", "tile", "whole"]

BITS = 64  # the widest multiplier: any share modulo 2^64, read as signed
_TOGETHER = 64  # ciphertexts or answers that may wait unread at both sides: 13 MB


@dataclass(frozen=True, repr=False)
class Strips:
    """A matrix of `outer` rows and `inner` columns, read in strips of its columns: part(slice) -> (outer, width)."""

    outer: int
    inner: int
    part: Callable[[slice], np.ndarray]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.outer, self.inner


@dataclass(frozen=True)
class Tile:
    """How a product is cut: rows x inner of the owner in one ciphertext, rows x columns of the result in one answer.

    A_ik stands at X^(i inner columns + inner - 1 - k), B_jk at X^(j inner + k): the coefficient of their product at
    i inner columns + j inner + inner - 1 is sum_k A_ik B_jk and nothing else, because rows inner columns <= N and what
    wraps around lands below inner - 1.
    """

    rows: int
    inner: int
    columns: int

    def counts(self, m: int, k: int, n: int) -> tuple[int, int, int]:
        """How many tiles along each dimension."""
        return -(-m // self.rows), -(-k // self.inner), -(-n // self.columns)

    def places(self, rows: int, columns: int) -> np.ndarray:
        """Where the results of a corner tile of so many rows and columns stand, (rows columns,)."""
        i, j = np.arange(rows)[:, None], np.arange(columns)[None, :]
        return np.asarray((i * self.columns + j) * self.inner + self.inner - 1).reshape(-1)

    def left(self, part: np.ndarray) -> np.ndarray:
        """The owner's polynomial of a corner tile (<= rows, <= inner), same dtype, (N,)."""
        out = np.zeros((self.rows, self.columns, self.inner), dtype=part.dtype)
        out[: len(part), 0, self.inner - part.shape[1] :] = part[:, ::-1]
        return _polynomial(out)

    def right(self, part: np.ndarray) -> np.ndarray:
        """The multiplier's polynomial of a corner tile (<= columns, <= inner), same dtype, (N,)."""
        out = np.zeros((self.columns, self.inner), dtype=part.dtype)
        out[: len(part), : part.shape[1]] = part
        return _polynomial(out)


def whole(matrix: np.ndarray) -> Strips:
    """A matrix that is there as a whole."""
    return Strips(matrix.shape[0], matrix.shape[1], lambda part: matrix[:, part])


@cache
def tile(m: int, k: int, n: int) -> Tile:
    """The cut of (m, k) times (n, k) with the fewest bytes in both directions; the same on both sides."""
    rows = _even(m)[:, None]
    columns = _even(n)[None, :]
    fits = rows * columns <= N
    inner = np.minimum(k, N // np.where(fits, rows * columns, N))
    ups = -(-m // rows) * -(-k // inner)
    backs = -(-m // rows) * -(-n // columns)
    cost = np.where(fits, ups * WIDE.body_bytes + backs * (N + rows * columns) * ANSWER_BYTES, np.inf)
    i, j = np.unravel_index(int(np.argmin(cost)), cost.shape)
    return Tile(int(rows[i, 0]), int(inner[i, j]), int(columns[0, j]))


def products(
    linear: Linear, owned: Strips, factors: Strips, theirs: tuple[int, int], bits: int
) -> tuple[np.ndarray, np.ndarray]:
    """Both directions at once: our shares of (owned @ theirs.T, theirs @ factors.T) modulo 2^64.

    owned: uint64 (m, k), encrypted by us and multiplied by the peer's factors (n', k); factors: int64 (n, k'), |x| at
    most 2^(bits - 1), which meet the peer's owned (m', k'). theirs: (m', n'). Returns uint64 (m, n') and (m', n). The
    peer learns the shapes. Rounds: 2. Bytes: `predict_matrix` for either direction.
    """
    m_theirs, n_theirs = theirs
    up, down = (owned.outer, owned.inner, n_theirs), (m_theirs, factors.inner, factors.outer)
    _check(bits, up, down)
    # where little is sent both sides send first and work at the same time; else index 0 sends first
    first = linear.index == 0 or max(_messages(up), _messages(down)) <= _TOGETHER
    last = linear.index == 1 or max(_messages(up), _messages(down)) <= _TOGETHER
    if first:
        _upload(linear, owned, up)
    totals = _multiply(linear, factors, down, bits)
    if not first:
        _upload(linear, owned, up)
    if last:
        other = _answer(linear, totals, down)
        return _collect(linear, up), other
    mine = _collect(linear, up)
    return mine, _answer(linear, totals, down)


def predict_matrix(m: int, k: int, n: int) -> Cost:
    """One direction of `products`: an owner of (m, k) and a multiplier of (n, k)."""
    cut = tile(m, k, n)
    rows, strips, columns = cut.counts(m, k, n)
    up = upload_cost(WIDE, rows * strips)
    back = answer_bytes(rows * columns, m * n)
    return Cost(up.owner, up.multiplier + back, up.rounds + 1)


# --- the two roles, one direction -------------------------------------------------------------------------------


def _upload(linear: Linear, owned: Strips, shape: tuple[int, int, int]) -> None:
    """2. Encrypt tile by tile, strip by strip along k, and send."""
    cut = tile(*shape)
    rows, strips, _ = cut.counts(*shape)

    def plain() -> Iterator[np.ndarray]:
        for strip in range(strips):
            part = owned.part(slice(strip * cut.inner, min(owned.inner, (strip + 1) * cut.inner)))
            if part.dtype != np.uint64 or part.shape[0] != owned.outer:
                raise InternalError(f"a strip of {part.dtype}, shape {part.shape}, to encrypt")
            for row in range(rows):
                yield lattice.encode(WIDE, cut.left(part[row * cut.rows : (row + 1) * cut.rows]), WORD)

    linear.send(WIDE, plain(), rows * strips)


def _multiply(linear: Linear, factors: Strips, shape: tuple[int, int, int], bits: int) -> np.ndarray:
    """3. Multiply each ciphertext as it comes with all our tiles of its strip: sums (rows, columns, 2, primes, N)."""
    cut = tile(*shape)
    rows, strips, columns = cut.counts(*shape)
    linear.budget.spend(WIDE, cut.inner * cut.columns * strips, bits, shape[0] * shape[2])
    ring = WIDE.basis
    totals = np.zeros((rows, columns, 2, len(ring), N), dtype=np.uint64)
    held: list[np.ndarray] = []

    for number, (seed, body) in enumerate(linear.ciphertexts(WIDE, rows * strips)):
        strip, row = divmod(number, rows)
        if row == 0:
            part = factors.part(slice(strip * cut.inner, min(factors.inner, (strip + 1) * cut.inner)))
            _check_width(part, factors.outer, bits)
            held[:] = [
                ring.forward(ring.residues(cut.right(part[j * cut.columns : (j + 1) * cut.columns])))
                for j in range(columns)
            ]
        cipher = lattice.expanded(WIDE, seed, body)
        for column, factor in enumerate(held):
            ring.multiply_add(totals[row, column], cipher, factor)
    return totals


def _answer(linear: Linear, totals: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """4. Re-randomise, mask each coefficient that is a result, send: our shares (m, n)."""
    m, _, n = shape
    cut, public = tile(*shape), linear.theirs[WIDE.name]
    shares = np.empty((m, n), dtype=np.uint64)
    answers: list[tuple[np.ndarray, np.ndarray]] = []
    for i, j, height, width in _corners(cut, shape):
        places = cut.places(height, width)
        first, second, share = public.answer_all(linear.secrets, totals[i, j], places, WORD)
        answers.append((first, second))
        here = slice(i * cut.rows, i * cut.rows + height), slice(j * cut.columns, j * cut.columns + width)
        shares[here] = share.reshape(height, width)
    linear.send_rows(answers)
    return shares


def _collect(linear: Linear, shape: tuple[int, int, int]) -> np.ndarray:
    """5. Decrypt the coefficients that were sent: our shares (m, n)."""
    m, _, n = shape
    cut, key = tile(*shape), linear.key(WIDE)
    shares = np.empty((m, n), dtype=np.uint64)
    corners = list(_corners(cut, shape))
    answers = linear.rows([height * width for *_, height, width in corners])
    for (i, j, height, width), (first, second) in zip(corners, answers, strict=True):
        share = key.all(first, second, WORD, cut.places(height, width))
        here = slice(i * cut.rows, i * cut.rows + height), slice(j * cut.columns, j * cut.columns + width)
        shares[here] = share.reshape(height, width)
    return shares


# --- sizes ------------------------------------------------------------------------------------------------------


def _even(count: int) -> np.ndarray:
    """Sizes of tiles worth trying: all small ones, and for each small number of tiles the size that covers `count`."""
    few = range(1, min(count, 2 + math.isqrt(count)) + 1)
    return np.array(sorted({-(-count // tiles) for tiles in few} | set(few)), dtype=np.int64)


def _left(count: int, size: int, place: int) -> int:
    return min(size, count - place * size)


def _corners(cut: Tile, shape: tuple[int, int, int]) -> Iterator[tuple[int, int, int, int]]:
    """(tile row, tile column, rows, columns) of each answer, in order."""
    m, _, n = shape
    rows, _, columns = cut.counts(*shape)
    for i in range(rows):
        for j in range(columns):
            yield i, j, _left(m, cut.rows, i), _left(n, cut.columns, j)


def _messages(shape: tuple[int, int, int]) -> int:
    """Ciphertexts up or answers back, whichever are more."""
    rows, strips, columns = tile(*shape).counts(*shape)
    return rows * max(strips, columns)


def _polynomial(values: np.ndarray) -> np.ndarray:
    out = np.zeros(N, dtype=values.dtype)
    out[: values.size] = values.reshape(-1)
    return out


def _check(bits: int, *shapes: Sequence[int]) -> None:
    if not 1 <= bits <= BITS:
        raise InternalError(f"multipliers of {bits} bits; 1 to {BITS} are possible")
    if any(size < 1 for shape in shapes for size in shape):
        raise InternalError(f"matrix products of shapes {shapes}")


def _check_width(part: np.ndarray, outer: int, bits: int) -> None:
    if part.dtype != np.int64 or part.shape[0] != outer:
        raise InternalError(f"a strip of {part.dtype}, shape {part.shape}, to multiply with")
    top = 1 << (bits - 1)
    if part.size and not -top <= int(part.min()) <= int(part.max()) < top:
        raise InternalError(f"a multiplier does not fit its declared width of {bits} bits")
