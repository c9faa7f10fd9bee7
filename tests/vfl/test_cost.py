"""Declared bytes and messages of a pass against counted ones, on the real engine."""

import numpy as np

from tests.vfl import tables
from tests.vfl.real import Pair
from vfl import passes, prepare, schedule, series, sides, spec
from vfl.prepare import Known
from vfl.secure import Secure
from vfl.sides import Settings
from vfl.state import State


def test_a_pass_costs_what_it_declares():
    ours, theirs, label = tables.synthetic(1200, 3, 3)
    white = [prepare.whiten(ours, 1.0, intercept=True), prepare.whiten(theirs, 1.0, intercept=False)]
    scales = schedule.Scales(min(w.scale for w in white), schedule.slot_bits(1200), white[0].exponent)
    both = [
        sides.ours(white[0], Known(label), 3, scales, Settings()),
        sides.ours(white[1], Known(), 4, scales, Settings()),
    ]
    states = [State(weights=np.zeros((3, 7), dtype=np.uint64), period=64, number=10, k=10) for _ in both]
    pair = Pair()
    counted = []
    for number in (10, 10, 11):  # the first also exchanges keys; pass 12 also checks
        for state in states:
            object.__setattr__(state, "number", number)
        pair.run(
            lambda engine: passes.one_pass(Secure(engine, prepare.MATRIX_BITS), both[0], states[0]),
            lambda engine: passes.one_pass(Secure(engine, prepare.MATRIX_BITS), both[1], states[1]),
        )
        counters = [channel.counters for channel in pair.channels]
        counted.append(
            (
                sum(c.received for c in counters),
                sum(c.messages_received for c in counters),
                max(c.rounds for c in counters),
            )
        )
    (bytes_, messages, rounds), (checked, checked_messages, checked_rounds) = (
        np.subtract(counted[1], counted[0]),
        np.subtract(counted[2], counted[1]),
    )
    declared = spec.pass_bytes(1200, 7, series.window(64).harmonics, scales.slots)
    assert abs(bytes_ - declared) < 0.02 * declared
    assert messages <= 20 and rounds <= 8
    assert checked - bytes_ < 0.25 * declared
    # the outcomes of the tests
    assert checked_messages == messages + 1 and checked_rounds <= rounds + 1
