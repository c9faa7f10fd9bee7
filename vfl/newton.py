"""Second order for narrow tables: passes multiplied by the inverse of the joint information, all on shares.

A pass of `vfl.passes` steps by half the whitened gradient, which is slow along columns that are collinear across the
parties. Here that step is multiplied by 2 X, X = H^-1 from `vfl.information`: with H at the current weights this is a
Newton step, with an older H a chord step. The gradient is the engine's own: whatever a pass computes, its series,
lift, penalty and check bits, is taken over, and only the multiplication is added: D inner products of two shared
vectors, one ciphertext and one answer each way.

Opened besides what passes open: the bit of `vfl.information.DETERMINED` for each H. Everything else stays shared.
`vfl.train` calls `advance` once a pass and keeps each state, the share of X in it, so that a run that was cut goes on.
Step 8 of docs/protocols/14-inference.md. Source: Newton's method for the logistic model, McCullagh and Nelder, 1989,
section 2.5; chord steps, Kelley, "Iterative Methods for Linear and Nonlinear Equations", 1995, section 5.4.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mpc import ring
from mpc.matrix import BITS, whole
from party.errors import DataError, InternalError
from vfl import information, likelihood, passes
from vfl.information import X_BITS, Block
from vfl.prepare import MATRIX_BITS
from vfl.schedule import AHEAD_BITS, WEIGHT_BITS
from vfl.secure import Arithmetic
from vfl.sides import MOST_WEIGHTS, Ours
from vfl.state import State

__all__ = ["CHORDS", "LEAST_STEPS", "MOST_WEIGHTS", "PLAIN", "advance", "inverse_at", "refreshes", "step"]

PLAIN = 6  # passes before: from far away a Newton step may overshoot
CHORDS = 2  # steps with each H
LEAST_STEPS = 4  # before the small gradient of a pass may end the training: it is small along collinear columns anyway


def refreshes(number: int) -> bool:
    """Whether pass `number`, from 1, begins with a new H where no pass before was dropped."""
    return number > PLAIN and (number - PLAIN - 1) % CHORDS == 0


def advance(arithmetic: Arithmetic, side: Ours, state: State) -> State:
    """One pass: a plain one, or from pass PLAIN + 1 on a second-order step, with a new H for every CHORDS of them.

    A step that a check bit drops (margins left the window, the loss rose) goes back as a plain pass does, and a new H
    follows. It ends where a checking pass finds its steps small, as a plain training does, but not before LEAST_STEPS.
    Peer learns the pass's check bits and one bit for each H. Raises DataError where H cannot be inverted.
    """
    if side.second is None:
        raise InternalError("no second-order training")
    if state.number < PLAIN:
        return passes.one_pass(arithmetic, side, state)
    inverse, used = state.inverse, state.chords
    if inverse.ndim == 1 or used >= CHORDS or state.k == 0:
        inverse, used = inverse_at(arithmetic, side, side.second, state), 0
    after = step(arithmetic, side, state, inverse)
    early = after.number < PLAIN + LEAST_STEPS
    return replace(after, inverse=inverse, chords=used + 1, stopped=after.stopped and not early)


def inverse_at(arithmetic: Arithmetic, side: Ours, block: Block, state: State) -> np.ndarray:
    """Shares of H^-1 at the state's weights, uint64 (D, D). Raises DataError where both sides learn that H has none."""
    ahead = state.weights[0] << np.uint64(AHEAD_BITS - WEIGHT_BITS)
    part, width = side.parts[-1], side.peer_block.stop - side.peer_block.start
    rows, seen = part.rows, part.rows + part.held
    known = ring.matmul(part.columns.T, ahead[side.block], a_bits=MATRIX_BITS)
    mine, other = arithmetic.products(part.columns, ahead[side.peer_block], seen + width)
    logits = known[:rows] + mine[:rows] + other[:rows]
    if part.offset is not None:
        logits += ring.encode(part.offset[:rows], side.scales.logit)
    modulus = np.uint64(state.period) << np.uint64(side.scales.logit)  # divides 2^64: each share is reduced by itself
    angles = (logits & (modulus - np.uint64(1))).astype(np.float64) * (2 * np.pi / float(modulus))
    factors = None if part.signs is None else np.ones(rows)
    weights = likelihood.weights(arithmetic, angles, state.period, block.weight_bits, factors)
    h = information.information(arithmetic, block, weights)
    inverse = information.inverse(arithmetic, h)
    if not information.determined(arithmetic, h, inverse):
        raise DataError(
            "columns are perfectly or nearly collinear, within one party or across both: no second-order step",
            hint="leave one of such columns out, raise l2, or train without `method: newton`",
        )
    return inverse


def step(arithmetic: Arithmetic, side: Ours, state: State, inverse: np.ndarray) -> State:
    """One pass whose step is multiplied by twice the inverse. The peer learns the pass's check bits, if it checks."""
    # without momentum: a pass moves by minus half the whitened gradient, and may end the training where that is small
    still = np.stack([state.weights[0], state.weights[0], state.weights[2]])
    after = passes.one_pass(arithmetic, side, replace(state, weights=still, k=max(state.k, 1)))
    if after.k == 0:
        return after
    moved = after.weights[0] - state.weights[0]
    size = len(moved)
    mine, other = arithmetic.matrices(whole(moved[None, :]), whole(inverse.view(np.int64)), (1, size), BITS)
    full = ring.matmul(inverse, moved) + mine[0] + other[0]  # the inverse is symmetric
    weights = state.weights[0] + arithmetic.truncate(full, X_BITS - 1)
    return replace(after, weights=np.stack([weights, state.weights[0], state.weights[1]]))
