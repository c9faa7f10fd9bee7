"""The joint information of a fitted model on shares: X'WX + l2 P, its inverse, and each owner's own variances.

Steps 3 to 6 of docs/protocols/14-inference.md, both roles. Everything is in the whitened coordinates of training
(`vfl.prepare.whiten`), divided by 2^2a: there each side's own block is at most the identity for any data, so every
eigenvalue of the joint matrix H lies in (0, 2] and fixed point is known beforehand. No message is defined here: each
step is one or a few calls of `vfl.secure.Arithmetic`. Opened: one bit to both (`DETERMINED`), each side's own variances
to it alone, by `vfl.inference`.

Source: Schulz 1933 (X <- X (2 I - H X)), scaled as in Pan and Schreiber, SIAM J. Sci. Stat. Comput. 12,
1991.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mpc import ring
from mpc.matrix import BITS, Strips, whole
from vfl.likelihood import ROWS, SLOT_BITS
from vfl.prepare import MATRIX_BITS, Whitened
from vfl.secure import Arithmetic

__all__ = [
    "DETERMINED",
    "STEPS",
    "Block",
    "block_of",
    "column_bits",
    "determined",
    "information",
    "inverse",
    "variances",
]

DETERMINED = "train: whether standard errors are determined"

FULL_BITS = 60  # of H as it is summed up, at most: |entry| <= 1
H_BITS = 33
X_BITS = 17
P_BITS = 25
MU_BITS = 8
UNIT_BITS = 24  # of the products of an owner's unit vectors
SMALLEST = 2.0**-15  # eigenvalues of H that are inverted to full precision: a condition of 2^16
_PLAIN = 2  # unscaled steps at the end: they square what is left
CHECK_BITS = 62  # of its comparison
RESIDUAL = 2.0**-10  # most trace of I - H X: no variance is off by more than this part
_START = 0.5  # X_0 = I / 2
_NOTHING = 1e-9  # rows of the whitening shorter than this part of the longest belong to constant columns
_WEIGHT_BITS = 20  # fraction bits that a row's weight keeps where columns could have more of them


@dataclass(frozen=True, repr=False)
class Block:
    """One side's input: its whitened training rows in fixed point and its place among all weights."""

    columns: np.ndarray  # int64 (d, n), |x| < 2^19
    bits: int  # fx of these columns; the same on both sides
    exponent: int  # a of the whitening; the same on both sides
    own: np.ndarray  # float64 (d, d): what is added to H in the clear, the penalty
    start: int  # of our weights among all
    theirs: int  # weights of the peer

    @property
    def width(self) -> int:
        """Our weights d."""
        return len(self.columns)

    @property
    def ours(self) -> slice:
        """Our weights among all."""
        return slice(self.start, self.start + self.width)

    @property
    def peers(self) -> slice:
        """The peer's weights among all."""
        return slice(self.width, self.width + self.theirs) if self.start == 0 else slice(0, self.theirs)

    @property
    def weight_bits(self) -> int:
        """Fraction bits of a row's weight: what is left of FULL_BITS."""
        return min(FULL_BITS - 2 * self.exponent - 2 * self.bits, 2 * SLOT_BITS)

    @property
    def full_bits(self) -> int:
        """Fraction bits of H as it is summed up."""
        return self.weight_bits + 2 * self.exponent + 2 * self.bits


def block_of(whitened: Whitened, most: int, theirs: int, *, holder: bool) -> Block:
    """Our whitened training rows as a Block; most: fraction bits that both sides' columns can take; theirs: weights of
    the peer; holder: whether we hold the label, and so the first place."""
    bits = column_bits(most, whitened.exponent)
    columns = np.ascontiguousarray(np.rint(whitened.values.T * 2.0**bits).astype(np.int64))
    own = whitened.penalty * 4.0**-whitened.exponent
    # a constant column, with a penalty too small to be seen, would be a direction without information
    lengths = np.linalg.norm(whitened.transform, axis=1)
    empty = lengths < _NOTHING * lengths.max(initial=0.0)
    own[empty, empty] += 1.0
    return Block(columns, bits, whitened.exponent, own, 0 if holder else theirs, theirs)


def column_bits(most: int, exponent: int) -> int:
    """fx here, of at most so many: enough stays for the weights."""
    return max(0, min(most, (FULL_BITS - 2 * exponent - _WEIGHT_BITS) // 2))


def information(arithmetic: Arithmetic, block: Block, row_weights: np.ndarray) -> np.ndarray:
    """Shares of H = 2^-2a (X'WX + penalty) with H_BITS fraction bits, uint64 (D, D), symmetric.

    row_weights: our share of W with `block.weight_bits`, (n,). Own blocks: our own share in the clear; the peer uploads
    its share and we multiply by products of two columns. Across: either side uploads its share times its columns.
    """
    d, rows, columns = block.width, len(row_weights), block.columns
    total = block.width + block.theirs
    found = np.zeros((total, total), dtype=np.uint64)
    upper, upper_theirs = np.triu_indices(d), np.triu_indices(block.theirs)

    def pairs(part: slice) -> np.ndarray:
        product: np.ndarray = columns[upper[0], part] * columns[upper[1], part]
        return product

    def weighted(part: slice) -> np.ndarray:
        return _weighted(columns, row_weights, part)

    # own blocks
    mine, other = arithmetic.matrices(
        whole(row_weights[None, :]),
        Strips(len(upper[0]), rows, pairs),
        (1, len(upper_theirs[0])),
        2 * MATRIX_BITS - 1,
    )
    found[block.ours, block.ours] = _full(other[0], d) + _clear(columns, row_weights)
    found[block.peers, block.peers] = _full(mine[0], block.theirs)
    # across
    mine, other = arithmetic.matrices(
        Strips(d, rows, weighted), whole(columns), (block.theirs, block.theirs), MATRIX_BITS
    )
    found[block.ours, block.peers] = mine + other.T
    found[block.peers, block.ours] = found[block.ours, block.peers].T
    kept = _truncated(arithmetic, found, block.full_bits - H_BITS)
    kept[block.ours, block.ours] += ring.encode(block.own, H_BITS)
    return kept


def schedule(smallest: float = SMALLEST) -> tuple[float, ...]:
    """The factors mu of all steps X <- mu X (2 I - H X).

    If every eigenvalue p of H X lies in [r, 2 - r], those of the next lie in [mu r (2 - r), mu]; with mu at most
    2 / (1 + r (2 - r)) that is again such an interval, four times as far from 0. Near 1 two steps without a factor.
    """
    unit, found, least = 2.0**-MU_BITS, [], _START * smallest
    while least < 0.97:
        reached = least * (2 - least)
        mu = math.floor(2 / (1 + reached) / unit) * unit
        found.append(mu)
        least = min(mu * reached, 2 - mu)
    return (*found, *[1.0] * _PLAIN)


STEPS = schedule()


def inverse(arithmetic: Arithmetic, h: np.ndarray) -> np.ndarray:
    """Shares of X = H^-1 with X_BITS fraction bits, uint64 (D, D), symmetric, from shares of H; eigenvalues in (0, 2].

    A fixed number of steps whatever the data; an eigenvalue under SMALLEST is not inverted to the end, and no number
    overflows even at 0, because then X grows by 2 mu a step, 2^19 in all. `determined` tells.
    """
    size = len(h)
    public = 1 if arithmetic.index == 0 else 0  # one side adds the constants
    unit = np.eye(size)
    # the first step is local: X_1 = mu X_0 (2 I - H X_0), X_0 = I / 2
    mu = STEPS[0]
    share = ring.encode(unit * public * mu, H_BITS + MU_BITS + 2) - h * np.uint64(round(mu * 2**MU_BITS))
    x = _truncated(arithmetic, share, H_BITS + MU_BITS + 2 - X_BITS)
    for mu in STEPS[1:]:
        p = _product(arithmetic, h, x) * np.uint64(round(mu * 2**MU_BITS))
        q = ring.encode(unit * public * 2 * mu, H_BITS + X_BITS + MU_BITS) - p
        q = arithmetic.truncate(q.reshape(-1), H_BITS + X_BITS + MU_BITS - P_BITS).reshape(size, size)
        x = _truncated(arithmetic, _product(arithmetic, x, q), P_BITS)
    return x


def determined(arithmetic: Arithmetic, h: np.ndarray, x: np.ndarray, what: str = DETERMINED) -> bool:
    """Whether X is the inverse: |trace(I - H X)| <= RESIDUAL, computed exactly; one bit, opened to both as `what`.

    After a step without a factor every eigenvalue of I - H X is a square, so the trace bounds each, and with them the
    relative error of every variance.
    """
    size = len(h)
    # H is symmetric: the trace is the inner product of all entries
    owned, factors = h.reshape(1, -1), x.view(np.int64).reshape(1, -1)
    mine, other = arithmetic.matrices(whole(owned), whole(factors), (1, 1), BITS)
    trace = (h * x).sum(dtype=np.uint64, keepdims=True).reshape(1) + mine[0] + other[0]
    public = 1 if arithmetic.index == 0 else 0
    unit = 1 << (H_BITS + X_BITS)
    residual = np.array([size * unit * public], dtype=np.uint64) - trace
    limit = np.array([int(RESIDUAL * unit) * public], dtype=np.uint64)
    bad = arithmetic.negative(np.concatenate([limit - residual, limit + residual]), CHECK_BITS)
    return not bool(arithmetic.open_bits(bad, what).any())


def variances(arithmetic: Arithmetic, block: Block, x: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of u_j' X u_j with X_BITS fraction bits for every unit vector: of ours (d,), of the peer's (theirs,).

    units: our vectors, float64 (d, d), one a row, of length 1 or 0; they stay with us. The peer uploads its share of
    our block of X, we multiply by products of entries.
    """
    d = block.width
    upper, upper_theirs = np.triu_indices(d), np.triu_indices(block.theirs)
    twice = np.where(upper[0] == upper[1], 1.0, 2.0)
    factors = np.rint(units[:, upper[0]] * units[:, upper[1]] * twice * 2.0**UNIT_BITS).astype(np.int64)
    ours = x[block.ours, block.ours][upper]
    theirs = x[block.peers, block.peers][upper_theirs]
    mine, other = arithmetic.matrices(whole(theirs[None, :]), whole(factors), (1, block.theirs), UNIT_BITS + 2)
    known = ring.matmul(factors, ours, a_bits=UNIT_BITS + 2) + other[0]
    both = np.concatenate([known, mine[0]] if block.start == 0 else [mine[0], known])
    kept = arithmetic.truncate(both, UNIT_BITS)
    return kept[block.ours], kept[block.peers]


# --- parts ------------------------------------------------------------------------------------------------------


def _weighted(columns: np.ndarray, row_weights: np.ndarray, part: slice) -> np.ndarray:
    product: np.ndarray = columns[:, part].view(np.uint64) * row_weights[part]
    return product


def _clear(columns: np.ndarray, row_weights: np.ndarray) -> np.ndarray:
    """X'WX modulo 2^64 of our own columns and our own share."""
    found = np.zeros((len(columns), len(columns)), dtype=np.uint64)
    for start in range(0, columns.shape[1], ROWS):
        part = slice(start, start + ROWS)
        weighted = _weighted(columns, row_weights, part)
        found += ring.matmul(columns[:, part], weighted.T, a_bits=MATRIX_BITS)
    return found


def _full(upper: np.ndarray, size: int) -> np.ndarray:
    """The symmetric matrix whose upper triangle this is."""
    found = np.zeros((size, size), dtype=np.uint64)
    found[np.triu_indices(size)] = upper
    found.T[np.triu_indices(size)] = upper
    return found


def _truncated(arithmetic: Arithmetic, share: np.ndarray, shift: int) -> np.ndarray:
    """A symmetric matrix without its low bits: the upper triangle truncated, the lower one its mirror."""
    size = len(share)
    return _full(arithmetic.truncate(share[np.triu_indices(size)], shift), size)


def _product(arithmetic: Arithmetic, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Shares of left @ right from shares of both, uint64 (D, D)."""
    size = len(left)
    mine, other = arithmetic.matrices(
        whole(left), whole(np.ascontiguousarray(right.T).view(np.int64)), (size, size), BITS
    )
    return np.asarray(ring.matmul(left, right) + mine + other)
