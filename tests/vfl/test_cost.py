"""Declared bytes, rounds and messages of passes against counted ones, on the real engine."""

from dataclasses import replace

import numpy as np
import pytest

from tests.vfl import tables
from tests.vfl.real import Pair
from vfl import checks, cost, newton, passes, prepare, schedule, sides, window
from vfl.prepare import Known
from vfl.secure import Secure
from vfl.sides import Settings
from vfl.state import MemoryCheckpoints, State
from vfl.train import fit_weights


@pytest.mark.parametrize("l1", [0.0, 5.0])
@pytest.mark.parametrize("number", [5, 9, 11])  # checking, with the stop test, plain
def test_a_pass_costs_what_it_declares(number, l1):
    ours, theirs, label = tables.synthetic(1200, 3, 3)
    known = Known(label, held=100), Known(held=100)
    white = [prepare.whiten(ours, 1.0, intercept=True, known=known[0])]
    white.append(prepare.whiten(theirs, 1.0, intercept=False, known=known[1]))
    scales = schedule.Scales(min(w.scale for w in white), 10, white[0].exponent)
    settings = Settings(patience=2, l1=l1)
    both = [sides.ours(w, k, d, scales, settings) for w, k, d in zip(white, known, (3, 4), strict=True)]
    states = [State(weights=np.zeros((3, 7), dtype=np.uint64), period=32, number=number - 1, k=10) for _ in both]
    if l1:
        states = [replace(state, split=np.zeros((3, 2, 7), dtype=np.uint64)) for state in states]
    pair, counted = Pair(), []
    for _ in range(2):  # the first also exchanges keys
        pair.run(
            lambda engine: passes.one_pass(Secure(engine, prepare.MATRIX_BITS), both[0], states[0]),
            lambda engine: passes.one_pass(Secure(engine, prepare.MATRIX_BITS), both[1], states[1]),
        )
        counters = [channel.counters for channel in pair.channels]
        counted.append([sum(c.received for c in counters), sum(c.messages_received for c in counters)])
        counted[-1].append(max(c.rounds for c in counters))
    bytes_, messages, rounds = np.subtract(counted[1], counted[0])
    declared = cost.of_pass(cost.Shape(1100, 100, (4, 3), 32, 10, l1 > 0), number)
    assert bytes_ == declared.bytes and rounds == declared.rounds
    assert messages == 14 + schedule.checks(number) + (cost.SHRINK_MESSAGES if l1 else 0)


def test_a_training_costs_what_it_declares():
    ours, theirs, label = tables.synthetic(300, 3, 3)
    pair = Pair()

    def fit(table, known, others):
        return lambda engine: fit_weights(
            Secure(engine, prepare.MATRIX_BITS), (table, known, others), Settings(passes=4), MemoryCheckpoints()
        )

    pair.run(fit(ours, Known(label), 3), fit(theirs, Known(), 4))
    shape = cost.Shape(300, 0, (4, 3), 64, schedule.slot_bits(300), second=True)
    declared = cost.of_passes(shape, 4).bytes + cost.setup_bytes(shape)
    counted = sum(channel.counters.received for channel in pair.channels)
    assert abs(counted - declared) < 1500  # the scale, the resumption, the opened weights


def test_second_order_and_the_window_cost_what_they_declare():
    ours, theirs, label = tables.synthetic(500, 3, 3)
    white = [prepare.whiten(ours, 1.0, intercept=True), prepare.whiten(theirs, 1.0, intercept=False)]
    scales = schedule.Scales(min(w.scale for w in white), 13, white[0].exponent)
    known = Known(label), Known()
    both = [sides.ours(w, k, d, scales, Settings()) for w, k, d in zip(white, known, (3, 4), strict=True)]
    weights = np.zeros((3, 7), dtype=np.uint64)
    new = State(weights=weights, period=64, number=10)
    old = replace(new, inverse=np.zeros((7, 7), dtype=np.uint64), chords=1)
    pair = Pair(openings=[newton.INVERTIBLE, checks.CHECK_BITS])

    def counted(work):
        before = [(c.counters.received, c.counters.rounds) for c in pair.channels]
        pair.run(*(lambda engine, i=i: work(Secure(engine, prepare.MATRIX_BITS), i) for i in (0, 1)))
        after = [(c.counters.received, c.counters.rounds) for c in pair.channels]
        return np.subtract(after, before).sum(axis=0)[0], np.subtract(after, before).max(axis=0)[1]

    def second(state):
        return lambda arithmetic, i: newton.step(arithmetic, both[i], both[i].second, state)

    shape = cost.Shape(500, 0, (4, 3), 64, 13, second=True)
    counted(second(new))  # the first also exchanges keys
    chord, rounds = counted(second(old))
    declared = cost.of_second(shape, 11)
    assert abs(chord - declared.bytes) <= 1e-3 * chord and abs(rounds - declared.rounds) <= 2
    whole, rounds = counted(second(new))
    declared += cost.of_inverse(shape)
    assert abs(whole - declared.bytes) <= 2e-3 * whole and abs(rounds - declared.rounds) <= 6
    seen, rounds = counted(lambda arithmetic, i: window.outside(arithmetic, both[i], new))
    assert abs(seen - cost.of_window(shape).bytes) <= 1e-3 * seen and abs(rounds - cost.of_window(shape).rounds) <= 2
