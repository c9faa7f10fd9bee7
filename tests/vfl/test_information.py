"""The joint information and its inverse over the ideal oracle: precision, ill-conditioned tables, data-independence."""

from __future__ import annotations

import numpy as np
import pytest

from mpc import ring
from tests.support import run_pair
from tests.vfl import ideal, tables
from vfl import information, likelihood, prepare
from vfl.information import H_BITS, SMALLEST, STEPS, X_BITS, Block


def _pair(ours, theirs):
    left, right = ideal.pair(3)
    return run_pair(lambda: ours(left), lambda: theirs(right))


def _shared(matrix, bits):
    """Two shares of a matrix, for two sides."""
    mask = np.random.default_rng(4).integers(0, 2**64, matrix.shape, dtype=np.uint64)
    return mask, ring.encode(matrix, bits) - mask


def _inverted(matrix):
    """What the steps make of H, and the bit."""
    shares = _shared(matrix, H_BITS)

    def side(place):
        def run(arithmetic):
            x = information.inverse(arithmetic, shares[place])
            return x, information.determined(arithmetic, shares[place], x), arithmetic

        return run

    (left, told, one), (right, also, _) = _pair(side(0), side(1))
    assert told == also
    return ring.decode(left + right, X_BITS), told, one


def _with_eigenvalues(values, seed=5):
    axes = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))[0]
    return (axes * values) @ axes.T


@pytest.mark.parametrize("period", [32, 48, 64, 256])
def test_the_series_of_the_weights_is_accurate_as_far_as_the_logits_reach(period):
    z = np.linspace(-(period - 16), period - 16, 4001)
    c = likelihood.series(period)
    found = sum(c[k] * np.cos(2 * np.pi * k * z / period) for k in range(len(c)))
    assert np.abs(found - 1 / (2 + 2 * np.cosh(z))).max() < 4e-7


@pytest.mark.parametrize("reach", [16, 48])
def test_the_series_of_the_loss_is_accurate_as_far_as_the_logits_reach(reach):
    period = 2 * reach + 16
    even, odd = likelihood.loss(period)
    m = np.linspace(-reach, reach, 4001)
    angles = 2 * np.pi * m[:, None] * np.arange(len(even)) / period
    error = np.cos(angles) @ even + np.sin(angles) @ odd - np.logaddexp(0, -m)
    assert np.abs(error).max() < 1e-4
    assert abs(error[np.abs(m) < 6].mean()) < 1e-7


def test_the_loss_on_shares_is_that_of_the_sum_of_both_parts():
    rng = np.random.default_rng(11)
    parts, signs = rng.uniform(-8, 8, (2, 2500)), rng.choice([-1.0, 1.0], 2500)
    factors = rng.uniform(0, 1, 2500)
    left, right = _pair(
        lambda a: likelihood.weights_and_loss(a, parts[0] * 2 * np.pi / 48, 48, 24, likelihood.Known(factors, signs)),
        lambda a: likelihood.weights_and_loss(a, parts[1] * 2 * np.pi / 48, 48, 24, None),
    )
    z = parts.sum(axis=0)
    weights = ring.decode(left[0] + right[0], 24)
    assert np.abs(weights - factors / (2 + 2 * np.cosh(z))).max() < 2e-6
    found = ring.decode(left[1] + right[1], likelihood.LOSS_BITS)[0]
    assert found == pytest.approx((factors * np.logaddexp(0, -signs * z)).sum(), abs=0.05)


def test_weights_on_shares_are_those_of_the_sum_of_both_parts():
    rng = np.random.default_rng(6)
    parts = rng.uniform(-16, 16, (2, 3000))
    parts[:, :2] = [[16.0, -16.0], [16.0, -16.0]]
    left, right = _pair(
        lambda a: likelihood.weights(a, parts[0] * 2 * np.pi / 48, 48, 24, np.ones(3000)),
        lambda a: likelihood.weights(a, parts[1] * 2 * np.pi / 48, 48, 24, None),
    )
    exact = 1 / (2 + 2 * np.cosh(parts.sum(axis=0)))
    error = ring.decode(left + right, 24) - exact
    assert np.abs(error).max() < 2e-6 and abs(error.mean()) < 1e-7


def test_rows_pass_in_parts_and_give_the_same(monkeypatch):
    monkeypatch.setattr(likelihood, "ROWS", 700)
    test_weights_on_shares_are_those_of_the_sum_of_both_parts()
    test_the_joint_information_is_that_of_the_pooled_table()


def test_the_joint_information_is_that_of_the_pooled_table():
    ours, theirs, _ = tables.synthetic(900, 3, 4)
    w = np.random.default_rng(7).uniform(0, 0.25, 900)
    white = [prepare.whiten(ours, 1.0, intercept=True), prepare.whiten(theirs, 1.0, intercept=False)]
    most = min(part.scale for part in white)
    blocks = [information.block_of(part, most, 4, holder=place == 0) for place, part in enumerate(white)]
    shares = _shared(w, blocks[0].weight_bits)
    left, right = _pair(
        lambda a: information.information(a, blocks[0], shares[0]),
        lambda a: information.information(a, blocks[1], shares[1]),
    )
    table = np.hstack([part.values for part in white])
    exact = (table.T @ (w[:, None] * table)) * 4.0 ** -white[0].exponent
    exact[:4, :4] += blocks[0].own
    exact[4:, 4:] += blocks[1].own
    found = ring.decode(left + right, H_BITS)
    assert np.array_equal(found, found.T)
    assert np.abs(found - exact).max() < 1e-5
    assert np.linalg.eigvalsh(found).max() <= 2.0


@pytest.mark.parametrize("smallest", [0.5, 1e-2, 1e-4, 4e-5])
def test_the_inverse_is_right_up_to_a_condition_of_50000(smallest):
    matrix = _with_eigenvalues(np.geomspace(smallest, 2.0, 12))
    found, told, _ = _inverted(matrix)
    exact = np.linalg.inv(matrix)
    assert told
    assert np.abs(np.diag(found) / np.diag(exact) - 1).max() < 2e-4
    assert np.array_equal(found, found.T)


@pytest.mark.parametrize("smallest", [0.0, 1e-9, 1e-6, SMALLEST / 3])
def test_a_matrix_that_cannot_be_inverted_is_told_by_one_bit_and_overflows_nothing(smallest):
    values = np.geomspace(1e-3, 2.0, 12)
    values[:2] = smallest
    _, told, side = _inverted(_with_eigenvalues(values))  # the oracle asserts that nothing leaves its range
    assert not told
    assert [what for what, _ in side.opened] == [information.DETERMINED]


def test_eigenvalues_between_both_limits_are_right_or_refused():
    for smallest in np.geomspace(SMALLEST / 2, SMALLEST, 6):
        matrix = _with_eigenvalues(np.concatenate([[smallest], np.geomspace(1e-2, 2.0, 9)]), seed=8)
        found, told, _ = _inverted(matrix)
        exact = np.diag(np.linalg.inv(matrix))
        assert not told or np.abs(np.diag(found) / exact - 1).max() < 2e-3


def test_the_schedule_brings_every_eigenvalue_to_one():
    p = np.concatenate([[SMALLEST / 2], np.geomspace(SMALLEST / 2, 1.0, 1000)])
    for mu in STEPS:
        assert ((p > 0) & (p < 2)).all()
        p = mu * p * (2 - p)
    assert np.abs(p - 1).max() < 1e-6
    assert 0.5 * np.prod([2 * mu for mu in STEPS]) < 2 ** (60 - X_BITS - information.P_BITS + 1)


def test_the_same_calls_are_made_whatever_the_data():
    calls = [_inverted(_with_eigenvalues(np.full(9, value)))[2].calls for value in (2.0, 1.0, 1e-3, 0.0)]
    assert len(set(calls)) == 1


def test_variances_are_those_of_the_unit_vectors_of_either_side():
    rng = np.random.default_rng(9)
    x = np.linalg.inv(_with_eigenvalues(np.geomspace(1e-3, 2.0, 7)))
    shares = _shared(x, X_BITS)
    units = [rng.normal(size=(3, 3)), rng.normal(size=(4, 4))]
    units = [u / np.linalg.norm(u, axis=1)[:, None] for u in units]
    units[1][2] = 0.0
    nothing = np.zeros((3, 0), dtype=np.int64), np.zeros((4, 0), dtype=np.int64)
    blocks = [Block(nothing[0], 0, 0, np.zeros((3, 3)), 0, 4), Block(nothing[1], 0, 0, np.zeros((4, 4)), 3, 3)]
    left, right = _pair(
        lambda a: information.variances(a, blocks[0], shares[0], units[0]),
        lambda a: information.variances(a, blocks[1], shares[1], units[1]),
    )
    found = [ring.decode(left[0] + right[1], X_BITS), ring.decode(left[1] + right[0], X_BITS)]
    for value, u, part in zip(found, units, (x[:3, :3], x[3:, 3:]), strict=True):
        np.testing.assert_allclose(value, np.einsum("jk,kl,jl->j", u, part, u), rtol=1e-4, atol=1e-4)
