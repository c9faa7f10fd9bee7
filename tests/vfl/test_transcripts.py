"""What each side receives in training says nothing about the labels: a fitted attacker is as good as a coin.

The attacker has everything one side received, row by row where it is row-shaped, over all passes; it fits least squares
to the true labels on half of the rows and is scored on the other half.
"""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from kernels.ntt import N
from mpc.exchange import Rows
from mpc.ot import Reply
from tests.support import run_pair
from tests.vfl import ideal, tables
from tests.vfl.real import Pair
from vfl import prepare
from vfl.prepare import Known
from vfl.secure import Secure
from vfl.sides import Settings
from vfl.state import MemoryCheckpoints
from vfl.train import fit_weights


def _attack(columns, label):
    """AUC on the second half of rows of a least-squares fit on the first half."""
    rows = len(label)
    features = [np.ones(rows)]
    for column in columns:
        signed = column.view(np.int64).astype(np.float64)
        features.append(signed / np.abs(signed).max())
    table, half = np.stack(features, axis=1), rows // 2
    fitted = np.linalg.lstsq(table[:half], label[:half] - label[:half].mean(), rcond=None)[0]
    return roc_auc_score(label[half:], table[half:] @ fitted)


def _row_shaped(arrays, rows):
    """Vectors of one number a row out of what was seen: extra entries (penalty rows) are cut off."""
    found = []
    for array in arrays:
        for vector in array.reshape(-1, array.shape[-1]) if array.ndim > 1 else [array]:
            found += [np.ascontiguousarray(vector[i * rows : i * rows + rows]) for i in range(len(vector) // rows)]
    return found


def test_the_attack_works_when_residuals_leak():
    rng = np.random.default_rng(0)
    label = (rng.random(4000) < 0.3).astype(np.int64)
    masked = [rng.integers(0, 2**64, 4000, dtype=np.uint64) for _ in range(50)]
    leaked = ((0.3 - label) * 2**40 + rng.normal(size=4000) * 2**40).astype(np.int64).view(np.uint64)
    assert abs(_attack(masked, label) - 0.5) < 0.05
    assert _attack([*masked, leaked], label) > 0.6


def test_shares_of_every_step_are_useless_to_a_label_attacker():
    ours, theirs, label = tables.synthetic(12_000, 4, 4)
    a, b = ideal.pair(11)
    run_pair(
        lambda: fit_weights(a, (ours, Known(label), 4), Settings(passes=12), MemoryCheckpoints()),
        lambda: fit_weights(b, (theirs, Known(), 5), Settings(passes=12), MemoryCheckpoints()),
    )
    for side in (a, b):
        columns = _row_shaped(side.seen, 12_000)
        assert len(columns) > 60
        assert abs(_attack(columns, label) - 0.5) < 0.03


class _Recording(Secure):
    """Keeps every share that came out of a joint step."""

    def __init__(self, engine, bits):
        super().__init__(engine, bits)
        self.seen = []

    def products(self, columns, share, rows):
        found = super().products(columns, share, rows)
        self.seen += found
        return found

    def slots_owner(self, values, t, outputs):
        self.seen.append(super().slots_owner(values, t, outputs))
        return self.seen[-1]

    def slots_multiplier(self, factors, t):
        self.seen.append(super().slots_multiplier(factors, t))
        return self.seen[-1]

    def lift(self, share, t):
        self.seen.append(super().lift(share, t))
        return self.seen[-1]


def _listen(channel, heard):
    """Keep, of every message received, what can be read row by row."""
    receive = channel.recv

    def recv(kind, *rest):
        message = receive(kind, *rest)
        if kind is Rows:
            first, second = (
                np.ascontiguousarray(half.reshape(-1, 10)[:, :8]).view("<u8")[:, 0]
                for half in (message.first, message.second)
            )
            for start in range(0, len(second), N):  # as one message a block would bring them
                heard.append(first[start : start + N])
                heard.append(second[start : start + N])
        elif kind is Reply:
            heard.append(np.asarray(message.words).reshape(-1))
        return message

    channel.recv = recv


def _joined(heard, rows):
    """Blocks of 8192 rows put one after the other; replies cut into one number a row."""
    blocks, found, waiting = -(-rows // N), [], []
    for array in heard:
        if len(array) <= N:
            waiting.append(array)
        else:
            found += _row_shaped([array], rows)
    for start in range(0, len(waiting) // (2 * blocks)):
        part = waiting[start * 2 * blocks : (start + 1) * 2 * blocks]
        for half in (part[0::2], part[1::2]):
            joined = np.concatenate(half)
            if len(joined) >= rows:
                found.append(np.ascontiguousarray(joined[:rows]))
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_wire_of_30000_rows_is_useless_to_a_label_attacker():
    rows = 30_000
    ours, theirs, label = tables.synthetic(rows, 4, 4)
    pair, heard, sides = Pair(), ([], []), [None, None]
    for channel, kept in zip(pair.channels, heard, strict=True):
        _listen(channel, kept)

    def fit(place, table):
        def run(engine):
            sides[place] = _Recording(engine, prepare.MATRIX_BITS)
            return fit_weights(sides[place], table, Settings(passes=20), MemoryCheckpoints())

        return run

    pair.run(fit(0, (ours, Known(label), 4)), fit(1, (theirs, Known(), 5)), timeout=600)
    for side, kept in zip(sides, heard, strict=True):
        columns = _row_shaped(side.seen, rows) + _joined(kept, rows)
        assert len(columns) > 100
        assert abs(_attack(columns, label) - 0.5) < 0.015
