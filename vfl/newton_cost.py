"""What second-order training moves, exact to the byte where no step is dropped: for plans and for the test that counts.

A new H (`vfl.newton.inverse_at`) costs the logits, one series, the information matrix and its inverse; a step costs a
pass and one product of a matrix and a vector.
"""

from __future__ import annotations

from mpc import cost, linear_cost
from mpc.linear_cost import predict_slots
from mpc.matrix import predict_matrix
from vfl import information, likelihood, newton
from vfl.cost import Cost, Shape, of_pass
from vfl.likelihood import SLOT_BITS, SLOT_PRIME

__all__ = ["of_inverse", "of_newton_pass", "of_newton_passes"]

_ROUNDS = 84  # of a new H
_SECONDS = 0.5  # of a new H, beside what grows with rows and columns
_STEP = 0.01


def of_newton_pass(shape: Shape, number: int, weight_bits: int = 0) -> Cost:
    """Pass `number` of a training of this shape. weight_bits: `information.Block.weight_bits`; at the most, one
    truncation a row is saved where it is not known."""
    found = of_pass(shape, number)
    if number <= newton.PLAIN:
        return found
    size, meter = sum(shape.columns), cost.Meter()
    meter.to_arithmetic(size)
    product = predict_matrix(1, size, size)
    moved = 2 * (product.owner + product.multiplier) + meter.bytes
    found += Cost(moved, product.rounds + 1, _STEP)
    return found + of_inverse(shape, weight_bits) if newton.refreshes(number) else found


def of_newton_passes(shape: Shape, passes: int) -> Cost:
    """The first so many passes."""
    return sum((of_newton_pass(shape, number) for number in range(1, passes + 1)), Cost(0, 0, 0.0))


def of_inverse(shape: Shape, weight_bits: int = 0) -> Cost:
    """One H and its inverse at the weights that are there."""
    size, rows, meter = sum(shape.columns), shape.rows, cost.Meter()
    products = [linear_cost.predict_matvec(columns, rows + shape.held + columns) for columns in shape.columns]
    for start in range(0, rows, likelihood.ROWS):
        part = min(likelihood.ROWS, rows - start)
        products.append(predict_slots(2 * likelihood.harmonics(shape.period), part, SLOT_PRIME, 1))
    meter.to_arithmetic(rows)
    if weight_bits < 2 * SLOT_BITS:
        meter.to_arithmetic(rows)
    for ours, theirs in (shape.columns, shape.columns[::-1]):
        products += [predict_matrix(1, rows, _pairs(theirs)), predict_matrix(ours, rows, theirs)]
    meter.to_arithmetic(_pairs(size))
    meter.to_arithmetic(_pairs(size))
    for _ in information.STEPS[1:]:
        products += 4 * [predict_matrix(size, size, size)]  # H X and X Q, either of two directions
        meter.to_arithmetic(size * size)
        meter.to_arithmetic(_pairs(size))
    products += 2 * [predict_matrix(1, size * size, 1)]
    meter.negative(2, information.CHECK_BITS)
    meter.open(1, (True, True))
    moved = meter.bytes + sum(part.owner + part.multiplier for part in products)
    grows = 3e-4 * rows * (2 * likelihood.harmonics(shape.period) + size * size / 2) / 8192
    seconds = _SECONDS + grows + 0.011 * len(information.STEPS) * (1 + (size / 24) ** 2)
    return Cost(int(moved), _ROUNDS, seconds)


def _pairs(size: int) -> int:
    return size * (size + 1) // 2
