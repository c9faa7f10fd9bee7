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
from vfl.schedule import WEIGHT_BITS
from vfl.sides import Ours
from vfl.state import State

__all__ = ["CHECK_BITS", "COMPARE_BITS", "Sums", "asked", "decide"]

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
    gradient: np.ndarray  # (D,), at scale G


def asked(side: Ours, before: State, sums: Sums) -> Asked:
    """What is negative where a bit is 1, in the order of the bits.

    The step is -gradient / 2^(shift + 20) with the truncation's shift: its limit becomes one of the gradient. Step 7 of
    the page says why no sum leaves the ring.
    """
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
        limit = schedule.stop_limit(part.rows, side.weights, side.settings.tolerance)
        scale = (scales.mean + part.shift) / 2 - scales.exponent + scales.shift + before.halvings + WEIGHT_BITS
        still = constant(min(limit * 2.0**scale, 2.0**62))  # no gradient is larger
        groups.append([still - sums.gradient, still + sums.gradient])
    if side.settings.patience:
        groups.append([before.best_loss - sums.held - constant(1) if before.has_best else nothing])
    values = [np.concatenate(group) for group in groups]
    edges = np.cumsum([0, *map(len, values)]).tolist()
    return Asked(np.concatenate(values), COMPARE_BITS, tuple(slice(*edge) for edge in pairwise(edges)))


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
