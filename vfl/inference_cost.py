"""What inference puts on the wire, from sizes alone: for plans and for the test that counts."""

from __future__ import annotations

from mpc.cost import Meter
from mpc.linear_cost import Cost, predict_slots
from mpc.matrix import predict_matrix
from vfl import likelihood
from vfl.information import CHECK_BITS, STEPS
from vfl.likelihood import SLOT_BITS, SLOT_PRIME

__all__ = ["information", "predict", "seconds"]

_REACH = 24 + 24  # one `Reach`


def predict(rows: int, widths: tuple[int, int], period: int, weight_bits: int = 0) -> int:
    """Bytes of both directions for so many training rows; widths: weights of the label holder (its intercept
    included) and of the feature holder. Keys of the parameter sets and base transfers come on top, as in training."""
    size, meter, found = sum(widths), Meter(), 2 * _REACH
    meter.to_arithmetic(1)  # the sum of the losses
    meter.open(1, (True, False))
    for theirs in widths:
        found += _both(predict_matrix(1, _pairs(theirs), theirs))  # variances
    meter.to_arithmetic(size)
    meter.open(widths[0], (True, False))
    meter.open(widths[1], (False, True))
    return found + meter.bytes + information(rows, widths, period, weight_bits, outputs=2)


def information(rows: int, widths: tuple[int, int], period: int, weight_bits: int = 0, *, outputs: int = 1) -> int:
    """Bytes of both directions for the information of so many rows, its inverse, and the bit whether it is one."""
    size, meter, found = sum(widths), Meter(), 0
    for start in range(0, rows, likelihood.ROWS):
        part = min(likelihood.ROWS, rows - start)
        found += _both(predict_slots(2 * likelihood.harmonics(period), part, SLOT_PRIME, outputs))
    meter.to_arithmetic(outputs * rows)
    if weight_bits < 2 * SLOT_BITS:
        meter.to_arithmetic(rows)
    # own blocks, then across
    for ours, theirs in (widths, widths[::-1]):
        found += _both(predict_matrix(1, rows, _pairs(theirs))) + _both(predict_matrix(ours, rows, theirs))
    meter.to_arithmetic(_pairs(size))
    meter.to_arithmetic(_pairs(size))
    for _ in STEPS[1:]:
        found += 4 * _both(predict_matrix(size, size, size))  # H X and X Q, either of two directions
        meter.to_arithmetic(size * size)
        meter.to_arithmetic(_pairs(size))
    found += 2 * _both(predict_matrix(1, size * size, 1))
    meter.negative(2, CHECK_BITS)
    meter.open(1, (True, True))
    return found + meter.bytes


def seconds(rows: int, widths: tuple[int, int], period: int) -> float:
    """About how long it takes on two cores without other work."""
    size = sum(widths)
    products = rows * (2 * likelihood.harmonics(period) + size * size / 2) / 8192
    return 1.0 + 3e-4 * products + 4e-6 * rows + 0.011 * len(STEPS) * (1 + (size / 24) ** 2)


def _pairs(size: int) -> int:
    return size * (size + 1) // 2


def _both(cost: Cost) -> int:
    return cost.owner + cost.multiplier
