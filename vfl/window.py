"""The end of every training: does any training row's margin lie outside the window in which the series is right?

The guard of a checking pass sees crowds in the return zone; a few rows may pass it by, far from all others: mislabelled
ones where labels are all but separable. So before weights are opened every margin is compared with both ends of the
window, exactly, on shares. One bit is opened to both, under the name of the check bits: is any outside? Then the window
is doubled and training goes on. Step 7b of docs/protocols/09-split-logistic-regression.md.

Messages are those of products, comparisons and one opening; they reveal sizes and that bit.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mpc import ring
from vfl import schedule, series
from vfl.checks import CHECK_BITS
from vfl.passes import forward
from vfl.schedule import AHEAD_BITS, WEIGHT_BITS
from vfl.secure import Arithmetic
from vfl.sides import Ours
from vfl.state import State

__all__ = ["COUNT_BITS", "MARGIN_BITS", "logits_at", "outside", "widened"]

MARGIN_BITS = 62  # of a comparison: logits with some 43 fraction bits
COUNT_BITS = 32


def widened(arithmetic: Arithmetic, side: Ours, state: State) -> State | None:
    """None where all margins lie inside; else the state to go on with, at twice the period. Raises DataError where
    there is no wider one: the labels are separable."""
    if not outside(arithmetic, side, state):
        return None
    stack = np.stack([state.whitened] * 3)
    fresh = {"period": schedule.wider(state.period), "has_loss": False, "has_best": False, "waited": 0}
    after = replace(state, weights=stack, number=state.number + 1, k=0, stopped=False, **fresh)  # type: ignore[arg-type]
    if state.split.ndim > 1:
        after = replace(after, split=np.stack([state.split[0]] * 3))
    return after.without_inverse()


def outside(arithmetic: Arithmetic, side: Ours, state: State) -> bool:
    """Whether any training row's margin at the model's weights is outside the window of the state's period."""
    part, at = side.parts[-1], series.window(state.period)
    logits = logits_at(arithmetic, side, state.whitened)
    low, high = (np.zeros(part.rows, dtype=np.uint64) for _ in range(2))
    if part.signs is not None:
        # the margin is the label's sign times the logit: the label holder turns the window instead
        ends = np.where(part.signs[: part.rows] > 0, [[at.low], [at.high]], [[-at.high], [-at.low]])
        low, high = ring.encode(ends, side.scales.logit)
    bits = arithmetic.negative(np.concatenate([logits - low, high - logits]), MARGIN_BITS)
    count = arithmetic.to_arithmetic(bits).sum(dtype=np.uint64, keepdims=True)
    return bool(arithmetic.open_bits(arithmetic.negative(np.uint64(0) - count, COUNT_BITS), CHECK_BITS).any())


def logits_at(arithmetic: Arithmetic, side: Ours, weights: np.ndarray) -> np.ndarray:
    """Shares of all training rows' logits, uint64 (n,) at the scale of logits, from shares of weights (D,)."""
    part = side.parts[-1]
    logits, _ = forward(arithmetic, side, part, weights << np.uint64(AHEAD_BITS - WEIGHT_BITS))
    return logits[: part.rows]
