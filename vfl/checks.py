"""Step 7: the bits of a checking pass, and what follows from them. Opened to both sides, under one name:

guard (margins leave the window), rose (the training loss rose), moving (some step is still large) and, where rows are
held out, worse (their loss is not below the best so far). Sums and steps themselves stay shared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vfl import schedule
from vfl.schedule import AHEAD_BITS
from vfl.secure import Arithmetic
from vfl.sides import Ours
from vfl.state import State

__all__ = ["CHECK_BITS", "Sums", "decide"]

CHECK_BITS = "train: guard, loss-rose and continue bits"
GUARD, ROSE, MOVING, WORSE = 0, 1, 2, 3
_COMPARE_BITS = 56
_RISE = 0.01  # of the mean loss


@dataclass(frozen=True, repr=False)
class Sums:
    """Shares of what is compared: sums of the guard and the loss over rows, of the loss over held-out rows; steps."""

    crowd: np.ndarray
    loss: np.ndarray
    held: np.ndarray
    moved: np.ndarray  # (D,)


def decide(arithmetic: Arithmetic, side: Ours, states: tuple[State, State], sums: Sums) -> State:
    """The state to go on with, from the state before a pass and the one after it."""
    before, after = states
    number = after.number
    opened = _opened(arithmetic, side, states, sums)
    if opened[GUARD]:
        # back two states, twice the period, momentum from 0; the loss of another series is no yardstick
        wider = schedule.wider(before.period)
        return _back(before, number, period=wider, loss=sums.loss, has_loss=False, has_best=False, waited=0)
    if opened[ROSE]:
        side.scales.check(before.halvings + 1)
        return _back(before, number, halvings=before.halvings + 1)
    last = side.part(number) is side.parts[-1]  # a model of fewer rows is not the end
    same = side.part(number) is side.part(number + 1)  # nor are their sums a yardstick for more
    after = replace(after, loss=sums.loss, has_loss=same, stopped=last and not opened[MOVING] and before.k > 0)
    if not side.settings.patience or not last:
        return after
    if not opened[WORSE]:
        return replace(after, best=after.weights[0], best_loss=sums.held, has_best=True, waited=0)
    waited = after.waited + 1
    return replace(after, waited=waited, stopped=waited >= side.settings.patience)


def _back(state: State, number: int, **change: object) -> State:
    found = replace(state, weights=np.stack([state.weights[2]] * 3), number=number, k=0)
    return replace(found, **change)  # type: ignore[arg-type]


def _opened(arithmetic: Arithmetic, side: Ours, states: tuple[State, State], sums: Sums) -> np.ndarray:
    before, after = states
    part, scales = side.part(after.number), side.scales
    public = 1 if arithmetic.index == 0 else 0  # one side adds the constants

    def constant(value: float) -> np.ndarray:
        return np.array([int(value) * public], dtype=np.uint64)

    nothing = np.zeros(1, dtype=np.uint64)
    most = constant(max(2.0, 3e-4 * part.rows) * 2.0**scales.residual)
    weight = part.rows * 2.0 ** (scales.mean - scales.most)
    rise = constant(_RISE * weight * 2.0 ** scales.loss(before.period))
    since = sums.loss - before.loss if before.has_loss else nothing
    asked = [most - sums.crowd, rise - since]
    if schedule.may_stop(after.number):
        limit = schedule.stop_limit(part.rows, side.weights, side.settings.tolerance)
        still = constant(limit * 2.0 ** ((scales.mean + part.shift) / 2 + AHEAD_BITS - scales.exponent))
        asked += [still - sums.moved, still + sums.moved]
    found = arithmetic.negative(np.concatenate(asked), _COMPARE_BITS)
    if schedule.may_stop(after.number):
        beyond = arithmetic.to_arithmetic(found[2:]).sum(keepdims=True, dtype=np.uint64)
        moving = arithmetic.negative(np.uint64(0) - beyond, 32)
    else:
        moving = np.array([public], dtype=np.uint8)
    bits = [found[:2], moving]
    if side.settings.patience:
        best = before.best_loss - sums.held - constant(1) if before.has_best else nothing
        bits.append(arithmetic.negative(best, _COMPARE_BITS))
    return arithmetic.open_bits(np.concatenate(bits).astype(np.uint8), CHECK_BITS)
