"""What the passes of a training move, exact to the byte, and about how long they take.

Heartbeats, keys and base transfers (`setup_bytes`) come on top of a pass's bytes. Bytes and rounds are those of
docs/protocols/09-split-logistic-regression.md, counted by the same formulas as every other protocol's.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels.ntt import N
from mpc import cost, linear_cost
from mpc.lattice import NARROW, WIDE
from mpc.linear import slot_set
from mpc.matrix import predict_matrix
from vfl import proximal, schedule, series
from vfl.checks import COMPARE_BITS
from vfl.prepare import MATRIX_BITS

__all__ = ["Cost", "Shape", "of_pass", "of_passes", "setup_bytes"]


@dataclass(frozen=True)
class Shape:
    """Of one pass: training and held-out rows, columns of label holder (intercept included) and feature holder."""

    rows: int
    held: int
    columns: tuple[int, int]
    period: int
    slots: int
    l1: bool = False

    def part(self, number: int) -> Shape:
        """The rows of pass `number`: the first of many rows see a quarter."""
        warm = number <= schedule.WARM_PASSES and self.rows >= schedule.WARM_ROWS
        rows = self.rows >> schedule.WARM_SHIFT if warm else self.rows
        return Shape(rows, self.held, self.columns, self.period, self.slots, self.l1)


@dataclass(frozen=True)
class Cost:
    """Bytes of both sides together, rounds of the side that waits more often, seconds on the reference machine."""

    bytes: int
    rounds: int
    seconds: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.bytes + other.bytes, self.rounds + other.rounds, self.seconds + other.seconds)


def of_pass(shape: Shape, number: int, *, stops: bool = True) -> Cost:
    """Pass `number` of a training of this shape. stops: whether held-out rows may end it."""
    shape, checking = shape.part(number), schedule.checks(number)
    seen, weights = shape.rows + shape.held, sum(shape.columns)
    t, outputs = schedule.slot_prime(shape.slots), 3 if checking else 1
    height = 2 * series.window(shape.period).harmonics
    lattice = [linear_cost.predict_matvec(columns, seen + columns) for columns in shape.columns]
    lattice.append(linear_cost.predict_slots(height, seen, t, outputs))
    for columns in shape.columns:
        lattice.append(linear_cost.predict_upload(1, shape.rows))
        lattice.append(linear_cost.predict_inner(1, columns, MATRIX_BITS))
    meter = cost.Meter()
    meter.to_arithmetic(outputs * seen)
    if checking:
        groups = [1, 1] + [2 * weights] * schedule.may_stop(number) + [1] * (stops and shape.held > 0)
        meter.truncate_and_test(2 * weights if shape.l1 else weights, COMPARE_BITS, groups)
    elif not shape.l1:
        meter.to_arithmetic(weights)
    shrunk = shrinking(shape.columns, checking=checking) if shape.l1 else Cost(0, 0, 0.0)
    moved = meter.bytes + sum(part.owner + part.multiplier for part in lattice) + shrunk.bytes
    # products and gradients go both ways at once; then the slots, the lift, the truncation, and what was found
    rounds = max(lattice[0].rounds, lattice[1].rounds) + 1 + lattice[2].rounds + 2 + checking + shrunk.rounds
    return Cost(moved, rounds, _seconds(shape, height, outputs) + shrunk.seconds)


def shrinking(columns: tuple[int, int], *, checking: bool = False) -> Cost:
    """What l1 adds to a pass: a truncation of all weights, and the steps of `vfl.proximal`. checking: the last
    truncation is the one beside the check bits, counted there."""
    weights, meter = sum(columns), cost.Meter()
    both = [predict_matrix(1, 2 * d, 2 * d) for d in columns]
    meter.to_arithmetic(weights)
    for step in range(1, proximal.STEPS + 1):
        if not checking or step < proximal.STEPS:
            meter.to_arithmetic(2 * weights)
        meter.negative(2 * weights, proximal.SIGN_BITS)
        meter.select(2 * weights)
    moved = meter.bytes + proximal.STEPS * sum(part.owner + part.multiplier for part in both)
    return Cost(moved, _SHRINK_ROUNDS * proximal.STEPS - checking, _SHRINK * proximal.STEPS)


def of_passes(shape: Shape, passes: int, *, stops: bool = True) -> Cost:
    """The first so many passes."""
    return sum((of_pass(shape, number, stops=stops) for number in range(1, passes + 1)), Cost(0, 0, 0.0))


def setup_bytes(shape: Shape) -> int:
    """Keys of both sides, and base transfers, once a training."""
    slots = slot_set(schedule.slot_prime(shape.slots))
    keys = 2 * linear_cost.key_bytes(WIDE) + 2 * linear_cost.key_bytes(NARROW)
    return keys + (linear_cost.key_bytes(slots) if slots is not WIDE else 0) + cost.setup_bytes()


def _seconds(shape: Shape, height: int, outputs: int) -> float:
    """Fitted on the machine of `pipelines.calibration.REFERENCE`, one core a side."""
    blocks = -(-(shape.rows + shape.held) // N)
    slots = blocks * height * (_SLOT_OWNER + _SLOT_MULTIPLIER * outputs)
    return _PASS + slots + blocks * sum(shape.columns) * _COLUMN + outputs * shape.rows * _LIFT


_PASS = 0.03
_SLOT_OWNER = 3.0e-4  # of one value in 8192 rows
_SLOT_MULTIPLIER = 4.0e-4
_COLUMN = 5.0e-4  # of one column in 8192 rows, products and gradients
_LIFT = 4.0e-7
_SHRINK = 0.04  # of one proximal step, any width
SHRINK_MESSAGES = 22 * proximal.STEPS
_SHRINK_ROUNDS = 10  # product 2, truncation 1, signs 5, selection 2
