"""Step 7: the bits of a checking pass, and what follows from them. Opened to both sides, under one name:

guard (margins leave the window), rose (the training loss rose), from pass 8 on moving (some step is still large) and,
where rows are held out, worse (their loss is not below the best so far). Sums and steps themselves stay shared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from mpc.garbled import Asked
from vfl import schedule
from vfl.proximal import STEP_BITS
from vfl.schedule import WEIGHT_BITS
from vfl.sides import Ours
from vfl.state import State

__all__ = ["CHECK_BITS", "COMPARE_BITS", "Sums", "asked", "decide", "gradient_limit", "shrunk_limit"]

CHECK_BITS = "train: guard, loss-rose and continue bits"
GUARD, ROSE, MOVING, WORSE = 0, 1, 2, 3
COMPARE_BITS = 64  # the ring's own width: signs are right as long as no sum wraps
_RISE = 0.01  # of the mean loss


@dataclass(frozen=True, repr=False)
class Sums:
    """Shares of what is compared: sums of guard and loss over rows, of the loss over held-out rows; the gradient."""

    crowd: np.ndarray
    loss: np.ndarray
    held: np.ndarray
    step: np.ndarray  # (D,), what is compared with the limit of a step
    limit: float  # that limit, at the scale of step


def asked(side: Ours, before: State, sums: Sums) -> Asked:
    """What is negative where a bit is 1, in the order of the bits. Why no sum leaves the ring: step 7 of the page."""
    number = before.number + 1
    part, scales = side.part(number), side.scales
    public = 0 if part.signs is None else 1  # one side adds the constants

    def constant(value: float) -> np.ndarray:
        return np.array([int(value) * public], dtype=np.uint64)

    nothing = np.zeros(1, dtype=np.uint64)
    most = constant(max(2.0, 3e-4 * part.rows) * 2.0**scales.residual)
    weight = part.rows * 2.0 ** (scales.mean - scales.most)
    rise = constant(_RISE * weight * 2.0 ** scales.loss(before.period))
    since = sums.loss - before.loss if before.has_loss else nothing
    groups = [[most - sums.crowd], [rise - since]]
    if schedule.may_stop(number):
        still = constant(min(sums.limit, 2.0**62))  # nothing that is compared is larger
        groups.append([still - sums.step, still + sums.step])
    if side.settings.patience:
        groups.append([before.best_loss - sums.held - constant(1) if before.has_best else nothing])
    values = [np.concatenate(group) for group in groups]
    edges = np.cumsum([0, *map(len, values)]).tolist()
    return Asked(np.concatenate(values), COMPARE_BITS, tuple(slice(*edge) for edge in pairwise(edges)))


def gradient_limit(side: Ours, before: State) -> float:
    """The stop's limit for the gradient at scale G: the step is -gradient / 2^(shift + 20), truncation's shift."""
    return _limit(side, before) * 2.0 ** (side.scales.shift + before.halvings + WEIGHT_BITS)


def shrunk_limit(side: Ours, before: State) -> float:
    """With l1: for what z + y changes in a pass, WEIGHT_BITS + STEP_BITS. Momentum is part of that change, so it is
    twice the other: four times stopped tables at 1.0 % of the weights, twice at 0.3 %."""
    return _limit(side, before) * 2.0 ** (1 + WEIGHT_BITS + STEP_BITS)


def _limit(side: Ours, before: State) -> float:
    """Of a step of one weight."""
    part, scales = side.part(before.number + 1), side.scales
    limit = schedule.stop_limit(part.rows, side.weights, side.settings.tolerance)
    return float(limit * 2.0 ** ((scales.mean + part.shift) / 2 - scales.exponent))


def decide(side: Ours, states: tuple[State, State], sums: Sums, bits: np.ndarray) -> State:
    """The state to go on with, from the state before a pass and the one after it, and the bits of what was asked."""
    before, after = states
    number = after.number
    opened = bits if schedule.may_stop(number) else np.insert(bits, MOVING, 1)
    if opened[GUARD]:
        # back two states, twice the period, momentum from 0; the loss of another series is no yardstick
        wider = schedule.wider(before.period)
        return _back(before, number, period=wider, loss=sums.loss, has_loss=False, has_best=False, waited=0)
    if opened[ROSE]:
        side.scales.check(before.halvings + 1)
        return _back(before, number, halvings=before.halvings + 1)
    last = side.part(number) is side.parts[-1]  # a model of fewer rows is not the end
    same = side.part(number) is side.part(number + 1)  # nor are their sums a yardstick for more
    # with l1 the loss may rise for good, but never over that of the start: the first one is the yardstick
    loss = before.loss if side.shrink and before.has_loss else sums.loss
    after = replace(after, loss=loss, has_loss=same, stopped=last and not opened[MOVING] and before.k > 0)
    if not side.settings.patience or not last:
        return after
    if not opened[WORSE]:
        return replace(after, best=after.now, best_loss=sums.held, has_best=True, waited=0)
    waited = after.waited + 1
    return replace(after, waited=waited, stopped=waited >= side.settings.patience)


def _back(state: State, number: int, **change: object) -> State:
    found = replace(state, weights=np.stack([state.weights[2]] * 3), number=number, k=0)
    if state.split.ndim > 1:
        found = replace(found, split=np.stack([state.split[2]] * 3))
    return replace(found, **change)  # type: ignore[arg-type]
