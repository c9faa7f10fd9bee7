"""The passes of split logistic regression on shares, both roles, read from top to bottom.

Step numbers are those of docs/protocols/09-split-logistic-regression.md. No message is defined here: each step is one
call of `vfl.secure.Arithmetic`, and the page lists what each of them sends. Opened to both sides: three bits on a
checking pass (guard, loss rose, not yet still), under one name. Weights, logits, residuals and gradients stay shared.

Source: Nesterov, 1983 (momentum); the trigonometric series on shares, whitened columns and exact conversions are
argued on the page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mpc import ring
from party.errors import InternalError
from vfl import schedule, series
from vfl.prepare import MATRIX_BITS, Whitened
from vfl.schedule import AHEAD_BITS, WEIGHT_BITS, Scales
from vfl.secure import Arithmetic
from vfl.state import State

__all__ = ["CHECK_BITS", "Ours", "Progress", "first_state", "one_pass", "ours", "told"]

CHECK_BITS = "train: guard, loss-rose and continue bits"
GUARD, ROSE, MOVING = 0, 1, 2
_COMPARE_BITS = 56
_LEAST_AMPLITUDE = 0.1
_RISE = 0.01  # of the mean loss

Progress = Callable[[int, str], None]


@dataclass(frozen=True, repr=False)
class Ours:
    """One side's input of every pass. Blocks of weights are ordered label holder, feature holder."""

    columns: np.ndarray  # int64 (d, n + d): whitened rows at 2^fx, then the penalty's rows at 2^fp
    signs: np.ndarray | None  # float64 (n,), +-1: label holder only
    block: slice  # our weights among all
    peer_block: slice
    scales: Scales
    tolerance: float

    @property
    def rows(self) -> int:
        """Training rows n."""
        return int(self.columns.shape[1]) - len(self.columns)

    @property
    def weights(self) -> int:
        """Weights of both sides."""
        return int(max(self.block.stop, self.peer_block.stop))


def ours(whitened: Whitened, label: np.ndarray | None, theirs: int, scales: Scales, tolerance: float) -> Ours:
    """Our columns in fixed point and our place among the weights; theirs: how many columns the peer has."""
    scales.check()
    data = np.rint(whitened.values.T * 2.0**scales.matrix)
    penalty = np.rint(whitened.penalty * 2.0**scales.penalty)
    columns = np.hstack([data, penalty]).astype(np.int64)
    if not bool(np.all(np.abs(columns) < 1 << (MATRIX_BITS - 1))):
        raise InternalError("a whitened column does not fit its fixed point")
    width = len(columns)
    first = label is not None
    block, peer_block = (
        (slice(0, width), slice(width, width + theirs)) if first else (slice(theirs, theirs + width), slice(0, theirs))
    )
    signs = None if label is None else 2.0 * label - 1.0
    return Ours(np.ascontiguousarray(columns), signs, block, peer_block, scales, tolerance)


def first_state(side: Ours, whitened: Whitened, label: np.ndarray | None, period: int) -> State:
    """Shares to begin with: the intercept at logit(mean y), known to the label holder; all else 0."""
    weights = np.zeros((3, side.weights), dtype=np.uint64)
    if label is not None:
        mean = float(label.mean())
        begin = np.zeros(len(side.columns))
        begin[0] = np.log(mean / (1.0 - mean))
        weights[:, side.block] = ring.encode(np.linalg.pinv(whitened.transform) @ begin, WEIGHT_BITS)
    return State(weights=weights, period=period)


def one_pass(arithmetic: Arithmetic, side: Ours, state: State) -> State:
    """Steps 1 to 7 once: the state after it. The peer learns the check bits, nothing else."""
    number = state.number + 1
    checking = schedule.checks(number)
    rows, scales = side.rows, side.scales

    # 1. Momentum: v = ((256 + b) w - b w_previous) / 256, the division being 8 more fraction bits.
    b = np.uint64(schedule.momentum(state.k))
    ahead = (np.uint64(256) + b) * state.weights[0] - b * state.weights[1]

    # 2. Logits z = X v and the penalty rows l2 L'L v, by the same products.
    known = ring.matmul(side.columns.T, ahead[side.block], a_bits=MATRIX_BITS)
    mine, other = arithmetic.products(
        side.columns, ahead[side.peer_block], rows + (side.peer_block.stop - side.peer_block.start)
    )
    logits = known[:rows] + mine[:rows] + other[:rows]
    penalty = np.empty(side.weights, dtype=np.uint64)
    penalty[side.block] = known[rows:] + mine[rows:]
    penalty[side.peer_block] = other[rows:]

    # 3. The series on the label-aware window: residual, and on a checking pass guard and loss.
    t = schedule.slot_prime(scales.slots)
    wanted = _wanted(state.period, scales, checking)
    narrow = _series_shares(arithmetic, side, logits, state.period, wanted, t)

    # 4. Lift from mod t to mod 2^64, exactly.
    lifted = arithmetic.lift(narrow.reshape(-1), t).reshape(narrow.shape)
    residual = lifted[0]

    # 5. Gradient: X'r plus the penalty, at the common scale G.
    data = np.empty(side.weights, dtype=np.uint64)
    here, there = arithmetic.gradients(side.columns[:, :rows], residual, side.peer_block.stop - side.peer_block.start)
    data[side.block] = ring.matmul(side.columns[:, :rows], residual, a_bits=MATRIX_BITS) + here
    data[side.peer_block] = there
    gradient = (data << np.uint64(scales.gradient - scales.matrix - scales.residual)) + (
        penalty << np.uint64(scales.gradient - scales.penalty - AHEAD_BITS)
    )

    # 6. Step 1/2, then an exact truncation back to 20 fraction bits.
    kept = ahead << np.uint64(scales.gradient + 2 * scales.exponent + 1 - AHEAD_BITS)
    weights = arithmetic.truncate(kept - gradient, scales.shift)
    after = State(
        weights=np.stack([weights, state.weights[0], state.weights[1]]),
        number=number,
        k=state.k + 1,
        period=state.period,
        loss=state.loss,
        has_loss=state.has_loss,
    )
    if not checking:
        return after

    # 7. Guard, loss and stop: sums and steps compared on shares, three bits opened.
    loss = lifted[2].sum(keepdims=True, dtype=np.uint64)
    moved = (weights << np.uint64(AHEAD_BITS - WEIGHT_BITS)) - ahead
    crowd = lifted[1].sum(keepdims=True, dtype=np.uint64)
    guard, rose, moving = _bits(arithmetic, side, state, (crowd, loss, moved))
    if guard:
        # back two states, twice the period, momentum from 0; the loss of another series is no yardstick
        return _back(state, number, schedule.wider(state.period), loss, has_loss=False)
    if rose:
        return _back(state, number, state.period, state.loss, has_loss=state.has_loss)
    return replace(after, loss=loss, has_loss=True, stopped=not moving and state.k > 0)


def told(before: State, after: State) -> str:
    """What the progress display may say of a pass: only what its opened bits say."""
    if after.period != before.period:
        return f"margins left the window: widened to {after.period}"
    if after.k == 0:
        return "the loss rose: back two passes"
    return "steps are small enough: done" if after.stopped else "fitting"


def _back(state: State, number: int, period: int, loss: np.ndarray, *, has_loss: bool) -> State:
    weights = np.stack([state.weights[2]] * 3)
    return State(weights=weights, number=number, k=0, period=period, loss=loss, has_loss=has_loss)


def _wanted(period: int, scales: Scales, checking: bool) -> list[tuple[series.Series, int, bool]]:
    """(series, fraction bits, times -s) for each output; every value stays under t/4 = 2^(2 fs + 1)."""
    full = scales.residual
    wanted = [(series.residual(period), full, True)]
    if checking:
        wanted.append((series.guard(period), full, False))
        wanted.append((series.loss(period), _loss_bits(period, scales), False))
    return wanted


def _loss_bits(period: int, scales: Scales) -> int:
    return scales.residual - (period.bit_length() - 3)  # the series reaches 0.36 T


def _series_shares(
    arithmetic: Arithmetic,
    side: Ours,
    logits: np.ndarray,
    period: int,
    wanted: list[tuple[series.Series, int, bool]],
    t: int,
) -> np.ndarray:
    """Shares mod t of the wanted series at every row, uint64 (outputs, n).

    cos and sin of k z, z = z_A + z_B, are sums of two products each: the feature holder uploads 2K values a row, the
    label holder folds its own angle, the label and the coefficients into its factors. Constants are added exactly.
    """
    scales = side.scales
    harmonics = series.window(period).harmonics
    modulus = np.uint64(period) << np.uint64(scales.logit)  # divides 2^64, so each share may be reduced by itself
    angles = (logits & (modulus - np.uint64(1))).astype(np.float64) * (2 * np.pi / float(modulus))
    waves = np.exp(1j * angles[None, :] * np.arange(1, harmonics + 1)[:, None])
    size = np.maximum(
        np.sqrt(np.hypot(wanted[0][0].cosine, wanted[0][0].sine)), _LEAST_AMPLITUDE
    )  # splits each coefficient evenly between the two factors
    if side.signs is None:
        values = np.concatenate([size[:, None] * waves.real, size[:, None] * waves.imag]) * 2.0**scales.slots
        return arithmetic.slots_owner(_residues(values, t), t, len(wanted))
    signs = side.signs
    factors = np.empty((len(wanted), 2 * harmonics, len(signs)), dtype=np.uint64)
    constants = np.empty((len(wanted), len(signs)), dtype=np.uint64)
    for place, (of, bits, turned) in enumerate(wanted):
        even = (of.cosine / size)[:, None] * 2.0 ** (bits - scales.slots)
        odd = (of.sine / size)[:, None] * signs * 2.0 ** (bits - scales.slots)
        prefix = -signs if turned else np.ones_like(signs)
        factors[place, :harmonics] = _residues(prefix * (even * waves.real + odd * waves.imag), t)
        factors[place, harmonics:] = _residues(prefix * (odd * waves.real - even * waves.imag), t)
        constants[place] = _residues(prefix * of.constant * 2.0**bits, t)
    return np.asarray((arithmetic.slots_multiplier(factors, t) + constants) % np.uint64(t))


def _residues(values: np.ndarray, t: int) -> np.ndarray:
    rounded = np.rint(values).astype(np.int64)
    reduced: np.ndarray = np.where(rounded < 0, rounded + t, rounded)
    return reduced.view(np.uint64)


def _bits(
    arithmetic: Arithmetic, side: Ours, state: State, shares: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> tuple[bool, bool, bool]:
    """[guard too high], [loss rose], [some step is still large], opened to both sides."""
    crowd, loss, moved = shares
    rows, scales = side.rows, side.scales
    public = 1 if arithmetic.index == 0 else 0  # one side adds the constants

    def constant(value: float) -> np.ndarray:
        return np.array([int(value) * public], dtype=np.uint64)

    most = constant(max(2.0, 3e-4 * rows) * 2.0**scales.residual)
    rise = constant(_RISE * rows * 2.0 ** _loss_bits(state.period, scales))
    since = loss - state.loss if state.has_loss else np.zeros(1, dtype=np.uint64)
    limit = schedule.stop_limit(rows, side.weights, side.tolerance) * 2.0 ** (AHEAD_BITS - scales.exponent)
    still = constant(limit)
    asked = np.concatenate([most - crowd, rise - since, still - moved, still + moved])
    found = arithmetic.negative(asked, _COMPARE_BITS)
    if schedule.may_stop(state.number + 1):
        beyond = arithmetic.to_arithmetic(found[2:]).sum(keepdims=True, dtype=np.uint64)
        moving = arithmetic.negative(np.uint64(0) - beyond, 32)
    else:
        moving = np.array([public], dtype=np.uint8)
    opened = arithmetic.open_bits(np.concatenate([found[:2], moving]).astype(np.uint8), CHECK_BITS)
    return bool(opened[GUARD]), bool(opened[ROSE]), bool(opened[MOVING])
