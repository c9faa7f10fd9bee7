"""The passes of split logistic regression on shares, both roles, read from top to bottom.

Step numbers are those of docs/protocols/09-split-logistic-regression.md. No message is defined here: each step is one
call of `vfl.secure.Arithmetic`, and the page lists what each of them sends. Opened to both sides: the bits of a
checking pass (`vfl.checks`), under one name. Weights, logits, residuals and gradients stay shared.

Source: Nesterov, 1983 (momentum); the trigonometric series on shares, whitened columns and exact conversions are
argued on the page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mpc import ring
from party.errors import InternalError
from vfl import checks, proximal, schedule, series, waves
from vfl.prepare import MATRIX_BITS
from vfl.schedule import AHEAD_BITS
from vfl.secure import Arithmetic
from vfl.sides import Ours, Part
from vfl.state import State

__all__ = ["Progress", "forward", "one_pass", "told"]

Progress = Callable[[int, str], None]


def one_pass(arithmetic: Arithmetic, side: Ours, state: State, *, checking: bool = False) -> State:
    """Steps 1 to 7 once: the state after it. The peer learns the check bits, nothing else. checking: always check."""
    number = state.number + 1
    checking = checking or schedule.checks(number)
    part, scales = side.part(number), side.scales
    rows, theirs = part.rows, side.peer_block.stop - side.peer_block.start

    # 1. Momentum: v = ((256 + b) w - b w_previous) / 256, the division being 8 more fraction bits.
    b = np.uint64(schedule.momentum(state.k))
    ahead = (np.uint64(256) + b) * state.weights[0] - b * state.weights[1]

    # 2. Logits z = X v and the penalty rows l2 L'L v, by the same products.
    logits, penalty = forward(arithmetic, side, part, ahead)

    # 3. The series on the label-aware window: residual, and on a checking pass guard and loss.
    t = schedule.slot_prime(scales.slots)
    wanted = _wanted(state.period, side, checking)
    narrow = _series_shares(arithmetic, _waving(side, part, logits, (state.period, t)), wanted, checking)

    # 4. Lift from mod t to mod 2^64, exactly.
    lifted = arithmetic.lift(narrow.reshape(-1), t).reshape(narrow.shape)
    residual = lifted[0, :rows]

    # 5. Gradient: X'r plus the penalty, at the common scale G.
    data = np.empty(side.weights, dtype=np.uint64)
    here, there = arithmetic.gradients(part.columns[:, :rows], residual, theirs)
    data[side.block] = ring.matmul(part.columns[:, :rows], residual, a_bits=MATRIX_BITS) + here
    data[side.peer_block] = there
    gradient = (data << np.uint64(scales.gradient - scales.data + part.shift)) + (
        penalty << np.uint64(scales.gradient - scales.penalty - AHEAD_BITS)
    )

    # 6. Step 1/2, halved where the loss rose before, then an exact truncation back to 20 fraction bits.
    shift = scales.shift + state.halvings
    kept = ahead << np.uint64(shift - (AHEAD_BITS - schedule.WEIGHT_BITS))
    if not checking:
        moved = arithmetic.truncate(kept - gradient, shift)
        return _moved(state, moved) if side.shrink is None else _shrunk(arithmetic, side, state, moved, None)

    # 7. Guard, loss, held-out loss and stop, compared on shares beside the truncation; their bits opened.
    sums = checks.Sums(
        crowd=lifted[1, :rows].sum(keepdims=True, dtype=np.uint64),
        loss=lifted[2, :rows].sum(keepdims=True, dtype=np.uint64),
        held=lifted[2, rows:].sum(keepdims=True, dtype=np.uint64),
        step=gradient,
        limit=checks.gradient_limit(side, state),
    )
    if side.shrink is not None:
        return _shrunk(arithmetic, side, state, arithmetic.truncate(kept - gradient, shift), sums)
    asked = checks.asked(side, state, sums)
    weights, bits = arithmetic.truncate_and_test(kept - gradient, shift, asked, checks.CHECK_BITS)
    return checks.decide(side, (state, _moved(state, weights)), sums, bits)


def forward(arithmetic: Arithmetic, side: Ours, part: Part, ahead: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Step 2: shares of the logits of a part's rows, training rows first, at the scale of logits, and of the penalty's
    gradient (D,). ahead: shares of weights (D,) with AHEAD_BITS."""
    seen = part.rows + part.held
    known = ring.matmul(part.columns.T, ahead[side.block], a_bits=MATRIX_BITS)
    theirs = side.peer_block.stop - side.peer_block.start
    mine, other = arithmetic.products(part.columns, ahead[side.peer_block], seen + theirs)
    logits = known[:seen] + mine[:seen] + other[:seen]
    if part.offset is not None:
        logits += ring.encode(part.offset, side.scales.logit)
    penalty = np.empty(side.weights, dtype=np.uint64)
    penalty[side.block] = known[seen:] + mine[seen:]
    penalty[side.peer_block] = other[seen:]
    return logits, penalty


def _moved(state: State, weights: np.ndarray) -> State:
    stack = np.stack([weights, state.weights[0], state.weights[1]])
    return replace(state, weights=stack, number=state.number + 1, k=state.k + 1)


def _shrunk(arithmetic: Arithmetic, side: Ours, state: State, moved: np.ndarray, sums: checks.Sums | None) -> State:
    """6a. The proximal steps of L1 from the point that the gradient step reached; on a checking pass, with sums, step 7
    beside the last truncation: the step that is compared is what z + y changes in this pass."""
    if side.shrink is None:
        raise InternalError("no l1 to shrink by")
    split, bits, found = state.split[0], None, moved
    for number in range(1, proximal.STEPS + 1):
        full = proximal.product(arithmetic, side.shrink, split, moved, state.halvings)
        if sums is not None and number == proximal.STEPS:
            change = split[1] - state.split[0].sum(axis=0, dtype=np.uint64)
            step = full[0] + (change << np.uint64(proximal.STEP_BITS))
            asked = checks.asked(side, state, replace(sums, step=step, limit=checks.shrunk_limit(side, state)))
            found, bits = arithmetic.truncate_and_test(full, proximal.STEP_BITS, asked, checks.CHECK_BITS)
        else:
            found = arithmetic.truncate(full, proximal.STEP_BITS)
        split = proximal.soft(arithmetic, side.shrink, split, found[0])
    after = _moved(state, found[1])
    after = replace(after, split=np.stack([split, state.split[0], state.split[1]]))
    return after if sums is None or bits is None else checks.decide(side, (state, after), sums, bits)


def told(before: State, after: State) -> str:
    """What the progress display may say of a pass: only what its opened bits say."""
    if after.period != before.period:
        return f"margins left the window: widened to {after.period}"
    if after.stopped:
        return "the held-out loss no longer falls: done" if after.waited else "steps are small enough: done"
    return "the loss rose: back two passes" if after.k == 0 and after.number > 1 else "fitting"


def _wanted(period: int, side: Ours, checking: bool) -> list[waves.Output]:
    """Every value stays under t/4 = 2^(2 fs + 1)."""
    wanted = [waves.Output(series.residual(period), side.scales.residual, turned=True)]
    if checking:
        wanted.append(waves.Output(series.guard(period), side.scales.residual, weighed=False))
        wanted.append(waves.Output(series.loss(period), side.scales.loss(period)))
    return wanted


def _waving(side: Ours, part: Part, logits: np.ndarray, at: tuple[int, int]) -> waves.Side:
    period, t = at
    return waves.Side(logits, side.scales.logit, period, side.scales.slots, t, part.signs, part.weights)


def _series_shares(arithmetic: Arithmetic, at: waves.Side, wanted: list[waves.Output], checking: bool) -> np.ndarray:
    """Shares mod t of the wanted series at every row, uint64 (outputs, n)."""
    outputs = 3 if checking else 1
    if at.signs is None:
        return arithmetic.slots_owner(waves.Values(at, wanted[0].of), at.t, outputs)
    shares = arithmetic.slots_multiplier(waves.Factors(at, wanted), at.t) + waves.constants(at, wanted)
    return np.asarray(shares % np.uint64(at.t))
