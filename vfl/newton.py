"""Second order: passes multiplied by the inverse of the joint information, all on shares. The end of most trainings.

A pass of `vfl.passes` steps by half the whitened gradient, which is slow along columns that are collinear across the
parties, and a small step there says little of the way that is left. Where there are few enough weights, steps of the
passes from `schedule.first_second` on are multiplied by 2 X, X = H^-1 from `vfl.information`: with H at the current
weights this is a Newton step, with an older H a chord step. The gradient is the engine's own: whatever a pass computes,
its series, lift, penalty and check bits, is taken over, and only the multiplication is added: D inner products of two
shared vectors, one ciphertext and one answer each way. Half of gradient times step is how far the loss lies above its
minimum (Newton's decrement): training ends where that is at most the tolerance a row.

Opened besides what passes open: for each H the bit whether it has an inverse (`INVERTIBLE`), and whether the decrement
is still large, under the name of the check bits. Everything else stays shared. Step 8 of page 14 of docs/protocols.
Source: Newton's method for the logistic model, McCullagh and Nelder, 1989, section 2.5; chord steps, Kelley, "Iterative
Methods for Linear and Nonlinear Equations", 1995, section 5.4; the decrement, Boyd and Vandenberghe, "Convex
Optimization", 2004, section 9.5.1.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mpc import ring
from mpc.matrix import BITS, whole
from vfl import information, likelihood, passes, schedule, waves
from vfl.checks import CHECK_BITS
from vfl.information import X_BITS, Block
from vfl.schedule import WEIGHT_BITS
from vfl.secure import Arithmetic
from vfl.sides import Ours
from vfl.state import State
from vfl.window import logits_at

__all__ = ["DECREMENT_BITS", "INVERTIBLE", "advance", "inverse_at", "ready", "step"]

INVERTIBLE = "train: whether columns are too collinear for second order"
DECREMENT_BITS = 60  # of its comparison
_NONE = -1  # H has no inverse: plain passes to the end


def advance(arithmetic: Arithmetic, side: Ours, state: State) -> State:
    """One pass: of second order where it is time for that (`ready`), else a plain one."""
    if side.second is not None and ready(side, state):
        return step(arithmetic, side, side.second, state)
    return passes.one_pass(arithmetic, side, state)


def ready(side: Ours, state: State) -> bool:
    """Whether the next pass is a second-order one: after the plain ones, all rows being seen."""
    first = schedule.first_second(warm=len(side.parts) > 1)
    return state.number + 1 >= first and 0 <= state.chords < schedule.CHORDS * schedule.INVERSES


def step(arithmetic: Arithmetic, side: Ours, block: Block, state: State) -> State:
    """One pass whose step is multiplied by twice the inverse of H, which is computed anew every three steps.

    A step that a check bit drops (margins left the window, the loss rose) goes back as a plain pass does, and a new H
    follows. Where H has no inverse this pass and all later ones are plain. Peer learns the check bits and, with a new
    H, whether it has an inverse.
    """
    if state.chords % schedule.CHORDS == 0:
        inverse = inverse_at(arithmetic, side, block, state)
        if inverse is None:
            return passes.one_pass(arithmetic, side, replace(state, chords=_NONE))
        state = replace(state, inverse=inverse)
    # without momentum a pass moves by minus half the whitened gradient, and does not end the training by itself
    after = passes.one_pass(arithmetic, side, replace(state, k=0), checking=True)
    if after.k == 0:
        if after.halvings > state.halvings:
            # a step of second order brings many rows far out at once, beyond the return zone that the guard sees
            after = replace(after, period=schedule.wider(state.period), halvings=state.halvings, has_loss=False)
        return after.without_inverse()
    moved = after.weights[0] - state.weights[0]
    size = len(moved)
    inverse = state.inverse
    mine, other = arithmetic.matrices(whole(moved[None, :]), whole(inverse.view(np.int64)), (1, size), BITS)
    full = ring.matmul(inverse, moved) + mine[0] + other[0]  # the inverse is symmetric
    taken = arithmetic.truncate(full, X_BITS - 1)
    stopped = not _far(arithmetic, side, state.halvings, (moved, taken))
    weights = np.stack([state.weights[0] + taken, state.weights[0], state.weights[1]])
    return replace(after, weights=weights, chords=state.chords + 1, stopped=stopped)


def inverse_at(arithmetic: Arithmetic, side: Ours, block: Block, state: State) -> np.ndarray | None:
    """Shares of H^-1 at the state's weights, uint64 (D, D); None where both sides learn that H has none."""
    part = side.parts[-1]
    logits = logits_at(arithmetic, side, state.weights[0])
    angles = waves.angles_of(logits, state.period, side.scales.logit)
    factors = None if part.signs is None else np.ones(part.rows)
    weights = likelihood.weights(arithmetic, angles, state.period, block.weight_bits, factors)
    h = information.information(arithmetic, block, weights)
    inverse = information.inverse(arithmetic, h)
    return inverse if information.determined(arithmetic, h, inverse, INVERTIBLE) else None


def _far(arithmetic: Arithmetic, side: Ours, halvings: int, steps: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether the loss lay further above its minimum than the tolerance a row: 2^2a moved . taken > n tol; one bit.

    moved: shares of minus half the whitened gradient over 2^2a; taken: of the Newton step, both with WEIGHT_BITS and
    both halved as often as the step was.
    """
    moved, taken = steps
    mine, other = arithmetic.matrices(whole(moved[None, :]), whole(taken.view(np.int64)[None, :]), (1, 1), BITS)
    product = (moved * taken).sum(dtype=np.uint64, keepdims=True) + mine[0] + other[0]
    public = 1 if arithmetic.index == 0 else 0
    limit = (
        side.parts[-1].rows
        * side.settings.tolerance
        * 2.0 ** (2 * WEIGHT_BITS - 2 * side.scales.exponent - 2 * halvings)
    )
    share = np.array([int(min(limit, 2.0 ** (DECREMENT_BITS - 2))) * public], dtype=np.uint64) - product
    return bool(arithmetic.open_bits(arithmetic.negative(share, DECREMENT_BITS), CHECK_BITS).any())
