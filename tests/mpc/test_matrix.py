"""Matrix products in packed coefficients between two threads: exact shares, declared bytes, bad peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kernels.ntt import N
from mpc import exchange, lattice, matrix
from mpc.exchange import Ciphertexts, PublicKey, Rows
from mpc.lattice import WIDE, Key, Secrets
from mpc.linear import Linear
from mpc.linear_cost import key_bytes
from mpc.matrix import Strips, predict_matrix, products, tile, whole
from party.errors import InternalError, PeerError
from tests.support import channels, run_pair

LOW, HIGH = -(2**63), 2**63 - 1


def _pair() -> tuple[Linear, Linear, Callable[..., Any]]:
    ours, theirs = channels()
    return Linear(ours, 0), Linear(theirs, 1), lambda f, g: run_pair(f, g, ours, theirs)


def _words(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 2**64, shape, dtype=np.uint64)


def _exact(owned: np.ndarray, factors: np.ndarray) -> np.ndarray:
    found = owned.astype(object) @ factors.T.astype(object)
    return np.asarray(np.vectorize(lambda x: x % 2**64, otypes=[np.uint64])(found))


def _both(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray], bits: int) -> Any:
    """(owned, factors) of either side: opened products of both directions."""
    left, right, run = _pair()
    shapes = [(len(owned), len(factors)) for owned, factors in (a, b)]
    first, second = run(
        lambda: products(left, whole(a[0]), whole(a[1]), shapes[1], bits),
        lambda: products(right, whole(b[0]), whole(b[1]), shapes[0], bits),
    )
    return first[0] + second[1], first[1] + second[0]


@pytest.mark.parametrize(
    "m,k,n", [(1, 1, 1), (1, N, 1), (1, N + 1, 3), (5, 7, 9), (24, 24, 24), (3, 5000, 2), (1, 78, 12), (70, 3, 70)]
)
def test_products_of_both_directions_are_exact_modulo_2_64(m: int, k: int, n: int) -> None:
    rng = np.random.default_rng(m + k + n)
    a = _words(rng, m, k), rng.integers(-(2**38), 2**38, (n + 1, k + 2))
    b = _words(rng, m + 2, k + 2), rng.integers(-(2**38), 2**38, (n, k))
    ours, theirs = _both(a, b, 39)
    np.testing.assert_array_equal(ours, _exact(a[0], b[1]))
    np.testing.assert_array_equal(theirs, _exact(b[0], a[1]))


def test_whole_words_at_both_ends_of_the_range() -> None:
    rng = np.random.default_rng(1)
    owned = _words(rng, 9, 40)
    owned[:3] = [[2**64 - 1], [2**63], [1]]
    factors = _words(rng, 11, 40).view(np.int64)
    factors[:3] = [[LOW], [HIGH], [-1]]
    ours, theirs = _both((owned, factors), (owned[:4], factors[::-1].copy()), 64)
    np.testing.assert_array_equal(ours, _exact(owned, factors[::-1]))
    np.testing.assert_array_equal(theirs, _exact(owned[:4], factors))


def test_worst_case_noise_does_not_move_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every noise term at its bound with one sign, every factor at -2^63."""
    monkeypatch.setattr(lattice, "noise", lambda stream, count: np.full(count, 21, dtype=np.int64))
    owned, factors = _words(np.random.default_rng(2), 2, 2 * N), np.full((3, 2 * N), LOW)
    ours, _ = _both((owned, factors), (owned, factors), 64)
    np.testing.assert_array_equal(ours, _exact(owned, factors))


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (24, 24, 24), (50, 50, 50), (1, 24_000, 78), (12, 24_000, 12), (7, 3, 2000)]
)
def test_a_tile_fits_and_costs_less_than_single_inner_products(shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    cut = tile(*shape)
    assert cut.rows * cut.inner * cut.columns <= N
    cost = predict_matrix(m, k, n)
    single = m * -(-k // N) * WIDE.body_bytes + m * n * 81_930
    assert cost.owner + cost.multiplier < single + 5_000
    places = cut.places(cut.rows, cut.columns)
    assert len(set(places)) == cut.rows * cut.columns and cut.inner - 1 <= places.min() and places.max() < N


@pytest.mark.parametrize("window,together", [(exchange.WINDOW, 64), (32, 0)])
def test_bytes_and_rounds_are_the_declared_ones(monkeypatch: pytest.MonkeyPatch, window: int, together: int) -> None:
    monkeypatch.setattr(exchange, "WINDOW", window)
    monkeypatch.setattr(matrix, "_TOGETHER", together)
    rng = np.random.default_rng(3)
    a, b = (
        (_words(rng, 40, 3 * N), rng.integers(-4, 4, (30, 90))),
        (_words(rng, 2, 90), rng.integers(-4, 4, (3, 3 * N))),
    )
    left, right, run = _pair()
    first, second = run(
        lambda: products(left, whole(a[0]), whole(a[1]), (2, 3), 20),
        lambda: products(right, whole(b[0]), whole(b[1]), (40, 30), 20),
    )
    np.testing.assert_array_equal(first[0] + second[1], a[0] @ b[1].T.view(np.uint64))
    up, down = predict_matrix(40, 3 * N, 3), predict_matrix(2, 90, 30)
    assert up.rounds == 1 + (tile(40, 3 * N, 3).counts(40, 3 * N, 3)[1] - 1) // window
    assert left.channel.counters.sent == key_bytes(WIDE) + up.owner + down.multiplier
    assert right.channel.counters.sent == key_bytes(WIDE) + down.owner + up.multiplier
    assert left.channel.counters.rounds <= up.rounds + 1


def test_a_table_passes_in_strips_and_is_never_asked_for_as_a_whole() -> None:
    rng = np.random.default_rng(4)
    owned, factors = _words(rng, 2, 3 * N), rng.integers(-9, 9, (2, 3 * N))
    widths: list[int] = []

    def strip(values: np.ndarray) -> Strips:
        def part(here: slice) -> np.ndarray:
            widths.append(here.stop - here.start)
            return values[:, here]

        return Strips(len(values), values.shape[1], part)

    left, right, run = _pair()
    first, second = run(
        lambda: products(left, strip(owned), strip(factors), (2, 2), 5),
        lambda: products(right, strip(owned), strip(factors), (2, 2), 5),
    )
    np.testing.assert_array_equal(first[0] + second[1], owned @ factors.T.view(np.uint64))
    assert max(widths) <= N


@pytest.mark.parametrize(
    "factors,bits",
    [
        (np.full((2, 5), 8), 4),
        (np.full((2, 5), -9), 4),
        (np.zeros((2, 5)), 20),
        (np.zeros((2, 5), np.int64), 65),
        (np.zeros((0, 5), np.int64), 20),
    ],
)
def test_what_does_not_fit_its_declaration_is_refused(factors: np.ndarray, bits: int) -> None:
    left, right, run = _pair()
    fine = np.zeros((2, 5), np.int64)
    with pytest.raises(InternalError):
        run(
            lambda: products(left, whole(fine.view(np.uint64)), whole(factors), (2, 2), bits),
            lambda: products(right, whole(fine.view(np.uint64)), whole(fine), (2, len(factors)), bits),
        )


def test_products_count_in_the_budget_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lattice, "HIDING_BITS", 55.0)  # 24 x 24 products of whole words leave 57.5 of one
    rng = np.random.default_rng(5)
    owned, factors = _words(rng, 24, 24), _words(rng, 24, 24).view(np.int64)
    left, right, run = _pair()
    done = 0
    with pytest.raises(InternalError, match="bits of hiding"):
        for _ in range(20):
            run(
                lambda: products(left, whole(owned), whole(factors), (24, 24), 64),
                lambda: products(right, whole(owned), whole(factors), (24, 24), 64),
            )
            done += 1
    assert 0 < done < 20


def _bad(messages: list[Any], ours: tuple[int, int] = (2, 2)) -> None:
    """What index 0 says of a peer that sends these."""
    here, there = channels()
    for message in messages:
        there.send(message)
    values = np.ones((2, 5), np.uint64)
    products(Linear(here, 0), whole(values), whole(values.view(np.int64)), ours, 20)


def _public() -> tuple[PublicKey, Ciphertexts]:
    key = Key(WIDE, Secrets())
    seed, body = key.encrypt(None)
    made = key.encrypt(None)
    return PublicKey(1, seed, body), Ciphertexts(
        np.frombuffer(made[0], np.uint8).reshape(1, 16), made[1].reshape(1, -1)
    )


def test_a_bad_peer_is_refused() -> None:
    key, upload = _public()
    wide = np.zeros((1, N, 10), np.uint8)
    answer = Rows(np.zeros((4, 10), np.uint8), wide)
    _bad([key, upload, answer])  # the harness passes what is well formed
    body = upload.bodies.copy()
    rows = WIDE.basis.unpack(body[0], 50)
    rows[5] = WIDE.primes[0]
    for messages in (
        [key, Ciphertexts(upload.seeds.repeat(2, 0), upload.bodies.repeat(2, 0))],
        [key, Ciphertexts(upload.seeds, upload.bodies[:, :-1].copy())],
        [key, Ciphertexts(upload.seeds, WIDE.basis.pack(rows, 50).reshape(1, -1))],
        [PublicKey(0, key.seed, key.body)],
        [key, upload, Rows(answer.first[:3], wide)],
        [key, upload, key],
        [upload],
    ):
        with pytest.raises(PeerError):
            _bad(messages)
