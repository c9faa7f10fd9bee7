"""The ring modulo 2^64 against Python integers."""

from __future__ import annotations

import numpy as np
import pytest

from mpc import ring
from party.errors import InternalError

WORDS = [0, 1, 2**21 - 1, 2**21, 2**22, 2**43, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2**21, 2**64 - 1]


def _exact(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    wide = a.astype(object) @ b.astype(object)
    return np.array([[int(cell) % 2**64 for cell in row] for row in wide], dtype=np.uint64)


def test_digits_recompose_every_word() -> None:
    words = np.array(WORDS, dtype=np.uint64)
    parts = ring.digits(words, 3)
    assert all(np.all(np.abs(part) <= 2**21) for part in parts)
    total = sum((int(part[i]) << (22 * place)) for place, part in enumerate(parts) for i in [0])
    assert total % 2**64 == int(words[0])
    for i, word in enumerate(WORDS):
        assert sum(int(part[i]) << (22 * place) for place, part in enumerate(parts)) % 2**64 == word


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 2), (7, 2048, 3), (4, 4099, 2), (1500, 30, 1)])
def test_matmul_is_exact_on_random_words(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(1)
    n, k, m = shape
    a = rng.integers(0, 2**64, (n, k), dtype=np.uint64)
    b = rng.integers(0, 2**64, (k, m), dtype=np.uint64)
    assert np.array_equal(ring.matmul(a, b), _exact(a, b))


@pytest.mark.parametrize("word", WORDS)
def test_matmul_is_exact_at_the_limits_of_a_limb(word: int) -> None:
    worst = sum(1 << (22 * place + 21) for place in range(3)) % 2**64  # every digit is -2^21
    a = np.full((2, 4096), worst, dtype=np.uint64)
    b = np.full((4096, 1), word, dtype=np.uint64)
    assert np.array_equal(ring.matmul(a, b), _exact(a, b))
    assert np.array_equal(ring.matmul(b.T, a.T), _exact(b.T, a.T))


def test_matmul_with_declared_widths_equals_the_full_one() -> None:
    rng = np.random.default_rng(2)
    a = rng.integers(-(2**21) + 1, 2**21, (50, 3000)).astype(np.int64)
    a[0] = -(2**21) + 1
    b = rng.integers(0, 2**64, 3000, dtype=np.uint64)
    assert np.array_equal(ring.matmul(a, b, a_bits=22), ring.matmul(a.view(np.uint64), b))
    small = rng.integers(-(2**43) + 1, 2**43, (3000, 2))
    assert np.array_equal(ring.matmul(a, small, a_bits=22, b_bits=44), (a @ small).view(np.uint64))


def test_matmul_refuses_shapes_that_do_not_fit() -> None:
    with pytest.raises(InternalError):
        ring.matmul(np.zeros((2, 3), np.uint64), np.zeros((2, 3), np.uint64))


def test_fixed_point_rounds_to_nearest_and_returns() -> None:
    x = np.array([0.0, 1.5, -1.5, 3.14159, -1e6])
    code = ring.encode(x, 20)
    assert code.dtype == np.uint64
    assert np.all(np.abs(ring.decode(code, 20) - x) <= 2.0**-21)
    assert int(ring.signed(code)[2]) == -3 << 19


@pytest.mark.parametrize("value", [2.0**43, -(2.0**43), np.inf, np.nan])
def test_fixed_point_refuses_what_does_not_fit(value: float) -> None:
    with pytest.raises(InternalError):
        ring.encode(np.array([value]), 20)


def test_centre_and_views() -> None:
    assert ring.centre(np.array([0, 8, 9, 16], dtype=np.uint64), 17).tolist() == [0, 8, -8, -1]
    assert ring.unsigned(np.array([-1], dtype=np.int32)).tolist() == [2**64 - 1]
