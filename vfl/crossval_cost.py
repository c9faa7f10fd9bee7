"""What cross-validation puts on the wire and takes, before anything runs: passes, logits and metrics of every fold."""

from __future__ import annotations

from dataclasses import replace

from mpc import linear_cost
from vfl import schedule
from vfl.cost import Cost, Shape, of_passes, setup_bytes
from vfl.folds import CrossValidation
from vfl.metrics_cost import declared

__all__ = ["of_fold", "predict_folds"]

_SECOND_BYTES = 5e-8  # of a byte of logits and metrics
_STEPS = 4  # scale and resumption, keys


def predict_folds(wanted: CrossValidation, shape: Shape, label: int, passes: int) -> Cost:
    """All penalties and folds, each of so many passes. shape: of the training on all rows; label: the label holder's
    index."""
    cost = Cost(0, 0, 0.0)
    for number in range(wanted.folds):
        rows = len(range(number, shape.rows, wanted.folds))
        one = of_fold(wanted, shape, rows, label, passes)
        cost += Cost(len(wanted.l2) * one.bytes, len(wanted.l2) * one.rounds, len(wanted.l2) * one.seconds)
    return cost


def of_fold(wanted: CrossValidation, shape: Shape, aside: int, label: int, passes: int) -> Cost:
    """One penalty on one fold of so many rows; exact but for two small messages each way before the first pass."""
    rows = shape.rows - aside
    part = replace(shape, rows=rows, slots=schedule.slot_bits(rows))
    products = [linear_cost.predict_matvec(columns, aside) for columns in shape.columns]
    meter = declared(wanted.wanted, (shape.rows, aside), label, (True, True), chunks=1)
    moved = sum(one.owner + one.multiplier for one in products) + meter.bytes
    rounds = max(one.rounds for one in products) + meter.rounds + _STEPS
    return of_passes(part, passes) + Cost(moved + setup_bytes(part), rounds, _SECOND_BYTES * moved)
