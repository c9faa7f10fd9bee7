"""What the passes of a training move, exact to the byte, and about how long they take.

Heartbeats, keys and base transfers (`setup_bytes`) come on top of a pass's bytes. Bytes and rounds are those of
docs/protocols/09-split-logistic-regression.md, counted by the same formulas as every other protocol's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kernels.ntt import N
from mpc import cost, linear_cost
from mpc.lattice import NARROW, WIDE
from mpc.linear import slot_set
from mpc.matrix import predict_matrix
from vfl import inference_cost, newton, proximal, schedule, series, window
from vfl.checks import COMPARE_BITS
from vfl.prepare import MATRIX_BITS

__all__ = ["Cost", "Shape", "of_inverse", "of_pass", "of_passes", "of_second", "of_window", "setup_bytes"]


@dataclass(frozen=True)
class Shape:
    """Of one pass: training and held-out rows, columns of label holder (intercept included) and feature holder."""

    rows: int
    held: int
    columns: tuple[int, int]
    period: int
    slots: int
    l1: bool = False
    second: bool = False  # no weights of rows, no early stopping, so that narrow tables end in second-order steps

    @property
    def is_second(self) -> bool:
        """Whether passes are of second order from some number on."""
        return self.second and sum(self.columns) <= schedule.SECOND_WEIGHTS

    def part(self, number: int) -> Shape:
        """The rows of pass `number`: the first of many rows see a quarter."""
        warm = number <= schedule.WARM_PASSES and self.rows >= schedule.WARM_ROWS
        return replace(self, rows=self.rows >> schedule.WARM_SHIFT) if warm else self


@dataclass(frozen=True)
class Cost:
    """Bytes of both sides together, rounds of the side that waits more often, seconds on the reference machine."""

    bytes: int
    rounds: int
    seconds: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.bytes + other.bytes, self.rounds + other.rounds, self.seconds + other.seconds)


def of_pass(shape: Shape, number: int, *, stops: bool = True, checking: bool = False) -> Cost:
    """Pass `number` of a training of this shape. stops: whether held-out rows may end it. checking: always check."""
    shape, checking = shape.part(number), checking or schedule.checks(number)
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


def of_second(shape: Shape, number: int) -> Cost:
    """A pass of second order: a checking one, the product with the inverse, and whether the decrement is still large.
    The inverse itself: `of_inverse`."""
    size, meter = sum(shape.columns), cost.Meter()
    meter.to_arithmetic(size)
    meter.negative(1, newton.DECREMENT_BITS)
    meter.open(1, (True, True))
    moved = 2 * _both(predict_matrix(1, size, size)) + 2 * _both(predict_matrix(1, size, 1))
    return of_pass(shape, number, checking=True) + Cost(moved + meter.bytes, _SECOND_ROUNDS, 0.05)


def of_inverse(shape: Shape) -> Cost:
    """The information at the weights of the moment, and its inverse on shares."""
    bytes_, seconds = inference_cost.information(shape.rows, shape.columns, shape.period), 0.0
    bytes_ += sum(_both(linear_cost.predict_matvec(d, shape.rows + shape.held + d)) for d in shape.columns)
    seconds = inference_cost.seconds(shape.rows, shape.columns, shape.period)
    return Cost(bytes_, _INVERSE_ROUNDS, seconds)


def of_window(shape: Shape) -> Cost:
    """Step 7b, once at the end: every margin against both ends of the window."""
    meter = cost.Meter()
    meter.negative(2 * shape.rows, window.MARGIN_BITS)
    meter.to_arithmetic(2 * shape.rows)
    meter.negative(1, window.COUNT_BITS)
    meter.open(1, (True, True))
    moved = sum(_both(linear_cost.predict_matvec(d, shape.rows + shape.held + d)) for d in shape.columns)
    return Cost(moved + meter.bytes, 2 + meter.rounds, _MARGIN * shape.rows + 0.05)


def of_passes(shape: Shape, passes: int, *, stops: bool = True) -> Cost:
    """The first so many passes, each inverse used to the end, and step 7b."""
    first = schedule.first_second(warm=shape.rows >= schedule.WARM_ROWS)
    last = first + schedule.CHORDS * schedule.INVERSES if shape.is_second else 0
    found = of_window(shape)
    for number in range(1, passes + 1):
        if not first <= number < last:
            found += of_pass(shape, number, stops=stops)
            continue
        found += of_second(shape, number)
        if (number - first) % schedule.CHORDS == 0:
            found += of_inverse(shape)
    return found


def setup_bytes(shape: Shape) -> int:
    """Keys of both sides, and base transfers, once a training."""
    slots = slot_set(schedule.slot_prime(shape.slots))
    keys = 2 * linear_cost.key_bytes(WIDE) + 2 * linear_cost.key_bytes(NARROW)
    return keys + (linear_cost.key_bytes(slots) if slots is not WIDE else 0) + cost.setup_bytes()


def _both(part: linear_cost.Cost) -> int:
    return part.owner + part.multiplier


def _seconds(shape: Shape, height: int, outputs: int) -> float:
    """Fitted on the machine of `pipelines.calibration.REFERENCE`, one core a side."""
    blocks = -(-(shape.rows + shape.held) // N)
    slots = blocks * height * (_SLOT_OWNER + _SLOT_MULTIPLIER * outputs)
    return _PASS + slots + blocks * sum(shape.columns) * _COLUMN + outputs * shape.rows * _LIFT


_SECOND_ROUNDS = 10
_INVERSE_ROUNDS = 80
_MARGIN = 8e-6  # of one row
_PASS = 0.03
_SLOT_OWNER = 3.0e-4  # of one value in 8192 rows
_SLOT_MULTIPLIER = 4.0e-4
_COLUMN = 5.0e-4  # of one column in 8192 rows, products and gradients
_LIFT = 4.0e-7
_SHRINK = 0.04  # of one proximal step, any width
SHRINK_MESSAGES = 22 * proximal.STEPS
_SHRINK_ROUNDS = 10  # product 2, truncation 1, signs 5, selection 2
