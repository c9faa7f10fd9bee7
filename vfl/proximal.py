"""L1 on shares: after a pass's gradient step the weights are shrunk, all of them, by a few steps of ADMM.

Step 6a of docs/protocols/09-split-logistic-regression.md, both roles. In whitened coordinates u the penalty l1 |L u| is
not separable, but everything that is not is known to a block's owner. With w = L u, H = 4^a L^-2 and c the point that
the gradient step of size 1/2 reached, the proximal point of one block minimises

    (w - L c)' H (w - L c) + l1 |w|,

for the step's metric is that of 2 H. One step of ADMM with the copy z of w and the scaled multiplier y:

    w = L c + M (z - y - L c),  M = rho (2 H + rho)^-1;  t = w + y;  z = soft(t, l1 / rho);  y = t - z.

1. [w; L^-1 w] is one product of the owner's matrix `Shrink.matrix` with the shared [z - y; c]: the own share in the
   clear, the peer's by `Arithmetic.matrices`, both blocks in one call; then one exact truncation.
2. soft(t, k) = [t > k] (t - k) + [t < -k] (t + k): two signs an element, which stay shared, and two selections.

STEPS of them a pass, from the z and y of the pass before. L, M, H and k are functions of the owner's columns and the
job's penalties; nothing is opened and no message is defined here. Intercept: k = 0.

Source: Parikh and Boyd, "Proximal algorithms", 2014, sections 4.4 and 6.5.2; elastic net: Zou and Hastie, 2005.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpc import ring
from mpc.matrix import whole
from party.errors import DataError
from vfl.prepare import Whitened
from vfl.schedule import WEIGHT_BITS
from vfl.secure import Arithmetic

__all__ = ["FACTOR_BITS", "SIGN_BITS", "STEPS", "STEP_BITS", "Shrink", "product", "shrink_of", "soft"]

STEPS = 4  # of ADMM in a pass: with one, momentum makes strong penalties and collinear columns diverge
STEP_BITS = 28  # fraction bits of the owner's matrix: what the truncation takes off
FACTOR_BITS = 36  # its entries' signed width: under 2^7
SIGN_BITS = 48  # |t| + l1 / rho < 2^27, with 20 fraction bits
_LEAST_RHO = 2.0**-9  # of 4^a: then no entry of (1 - M) L is over 16, however collinear the columns
_MOST_THRESHOLD = 2.0**12  # more shrinks nothing more: y is a gradient over rho, at most n / rho <= 2^11, at rest
_NOTHING = 1e-6  # of the largest root: directions without data


@dataclass(frozen=True, repr=False)
class Shrink:
    """One side's block: what its matrix is made of, and its place among the weights of both."""

    axes: np.ndarray  # float64 (d, d), eigenvectors of L
    roots: np.ndarray  # float64 (d,), its eigenvalues, 0 for directions without data
    exponent: int  # a
    rho: float
    threshold: np.ndarray  # uint64 (d,), l1 / rho in WEIGHT_BITS, 0 for the intercept; known to the owner alone
    block: slice
    peer_block: slice

    def matrix(self, halvings: int = 0) -> np.ndarray:
        """[[M, (1 - M) L], [L^-1 M, 1 - M]] with STEP_BITS, int64 (2d, 2d); all four are functions of L alone.

        halvings: of the gradient step, whose metric is then 2^halvings times as large. Raises DataError where an entry
        has no room.
        """
        held = self.roots > 0.0
        inverse = np.where(held, 1.0 / np.where(held, self.roots, 1.0), 0.0)
        m = self.rho / (2.0 ** (halvings + 1) * 4.0**self.exponent * inverse**2 + self.rho)
        parts = [[m, (1.0 - m) * self.roots], [inverse * m, 1.0 - m]]
        every = np.block([[(self.axes * values) @ self.axes.T for values in row] for row in parts])
        found = np.rint(every * 2.0**STEP_BITS)
        if float(np.abs(found).max()) >= 2.0 ** (FACTOR_BITS - 1):
            raise DataError(
                f"the step is too small for l1 after {halvings} halvings: the loss keeps rising",
                hint="winsorise, use milder weights of rows, or train with l2 alone",
            )
        return found.astype(np.int64)

    def digest_parts(self) -> tuple[np.ndarray, ...]:
        """Arrays that all our factors follow from, and the factors themselves: for the name of a run."""
        return self.axes, self.roots, self.matrix(), self.threshold


def shrink_of(whitened: Whitened, l1: float, blocks: tuple[slice, slice], *, intercept: bool) -> Shrink:
    """Our block's. blocks: ours and the peer's. rho is five times l1, between 0.3 and 1 times the mean of 2 H's
    diagonal: less converges sooner where l1 is small, more is needed where it is large."""
    roots, axes = np.linalg.eigh(whitened.transform)
    held = roots > _NOTHING * max(float(roots.max(initial=0.0)), 0.0)
    roots = np.where(held, roots, 0.0)
    scale = 4.0**whitened.exponent
    size = 2.0 * float((scale / roots[held] ** 2).sum()) / max(1, len(roots))
    rho = max(min(max(5.0 * l1, 0.3 * size), size), _LEAST_RHO * scale)
    threshold = np.full(len(roots), min(l1 / rho, _MOST_THRESHOLD))
    if intercept:
        threshold[0] = 0.0
    return Shrink(axes, roots, whitened.exponent, rho, ring.encode(threshold, WEIGHT_BITS), *blocks)


def product(arithmetic: Arithmetic, shrink: Shrink, split: np.ndarray, moved: np.ndarray, halvings: int) -> np.ndarray:
    """1. Shares of [w, L^-1 w] of both blocks, WEIGHT_BITS + STEP_BITS fraction bits, uint64 (2, D).

    split: our shares of z and y, (2, D); moved: of c, (D,). |w| and |c| stay under 2^14.
    """
    factors, given = shrink.matrix(halvings), np.stack([split[0] - split[1], moved])
    ours, theirs = given[:, shrink.block].reshape(-1), given[:, shrink.peer_block].reshape(-1)
    mine, other = arithmetic.matrices(whole(theirs[None, :]), whole(factors), (1, len(theirs)), FACTOR_BITS)
    found = np.empty_like(given)
    found[:, shrink.block] = (ring.matmul(factors, ours, a_bits=FACTOR_BITS) + other[0]).reshape(2, -1)
    found[:, shrink.peer_block] = mine[0].reshape(2, -1)
    return found


def soft(arithmetic: Arithmetic, shrink: Shrink, split: np.ndarray, w: np.ndarray) -> np.ndarray:
    """2. Shares of the new z and y, uint64 (2, D), from the old ones and w, (D,). Zeros of z are exact."""
    t = w + split[1]
    threshold = np.zeros_like(t)  # each side adds its own block's
    threshold[shrink.block] = shrink.threshold
    above, below = t - threshold, t + threshold
    both = np.concatenate([above, below])
    signs = arithmetic.negative(np.concatenate([np.uint64(0) - above, below]), SIGN_BITS)
    z = arithmetic.select(signs, both).reshape(2, -1).sum(axis=0, dtype=np.uint64)
    return np.stack([z, t - z])
