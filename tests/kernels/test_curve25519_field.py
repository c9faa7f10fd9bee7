"""Field arithmetic of each variant with limbs at their bounds: against long integers, and the results' own bounds.

The bounds are those of docs/explanation/curve.md. Every limb stands at an extreme (its bound, a mask, a mask and one,
zero), alone and in all mixtures that chance finds: a carry that is forgotten, cut or too narrow shows here.
"""

from __future__ import annotations

import numpy as np
import pytest

from kernels import curve25519, curve25519_native

P = 2**255 - 19
PLACES = {5: [51 * i for i in range(5)], 10: [(51 * i + 1) // 2 for i in range(10)]}
MULTIPLY, SQUARE, ADD, SUBTRACT, SCALED, FREEZE = range(6)

pytestmark = pytest.mark.skipif(not curve25519.variants(), reason="kernels/_curve25519*.so is not built")


def most(variant: str) -> np.ndarray:
    """The largest limbs that may enter a product."""
    if variant == "portable":
        return np.full(5, 2**54 - 1, dtype=np.uint64)
    if variant == "avx2":
        return np.array([2**26 - 1, 2**25 + 2**15 - 1] * 5, dtype=np.uint64)
    return np.full(5, 2**51 + 2**14 - 1, dtype=np.uint64)


def largest_result(variant: str, operation: int) -> np.ndarray:
    if variant != "portable":
        return most(variant)
    return np.full(5, {ADD: 2**52 + 2**14, SUBTRACT: 2**54}.get(operation, 2**51 + 2**13) - 1, dtype=np.uint64)


def numbers(limbs: np.ndarray) -> list[list[int]]:
    """(n, limbs, lanes) -> the numbers, lane by lane."""
    places = PLACES[limbs.shape[1]]
    return [
        [
            sum(int(limb) << place for limb, place in zip(block[:, lane], places, strict=True))
            for lane in range(block.shape[1])
        ]
        for block in limbs
    ]


def extremes(variant: str, count: int) -> np.ndarray:
    """uint64 (count, 4, limbs, lanes): all at the bound first, then each limb alone, then mixtures."""
    rng = np.random.default_rng(11)
    top = most(variant)
    lanes = curve25519_native.lanes(variant)
    width = np.diff([*PLACES[len(top)], 255])
    mask = (np.uint64(1) << width.astype(np.uint64)) - np.uint64(1)
    choices = np.stack(
        [top, top - np.uint64(1), mask, np.minimum(mask + np.uint64(1), top), mask * 0, mask * 0 + np.uint64(1)]
    )
    pick = rng.integers(0, len(choices), (count, 4, len(top), lanes))
    out = choices[pick, np.arange(len(top))[None, None, :, None]]
    out[0] = top[None, :, None]
    for i in range(len(top)):
        out[1 + i] = 0
        out[1 + i, :, i] = top[i]
        out[20 + i] = top[None, :, None]
        out[20 + i, :, i] = 0
    canonical = [sum(int(m) << p for m, p in zip(mask, PLACES[len(top)], strict=True)) - 18 - k for k in (0, 1)]
    assert canonical[0] == P
    for row, value in zip((40, 41), canonical, strict=True):  # p and p - 1
        out[row] = np.array([value >> p & int(m) for m, p in zip(mask, PLACES[len(top)], strict=True)], np.uint64)[
            None, :, None
        ]
    random = rng.integers(0, 1 << 63, out[60:110].shape, dtype=np.uint64)
    out[60:110] = random % (top + np.uint64(1))[None, None, :, None]
    return out


@pytest.mark.parametrize("variant", curve25519.variants())
@pytest.mark.parametrize("operation", [MULTIPLY, SQUARE, ADD, SUBTRACT, SCALED])
def test_products_at_the_bounds_are_right_and_within_their_own(variant: str, operation: int) -> None:
    limbs = extremes(variant, 400)
    got = curve25519_native.probe(variant, operation, limbs)
    assert (got <= largest_result(variant, operation)[None, :, None]).all()
    a, b, c, d = (numbers(limbs[:, i]) for i in range(4))
    for row, values in enumerate(numbers(got)):
        for lane, value in enumerate(values):
            w, x, y, z = a[row][lane], b[row][lane], c[row][lane], d[row][lane]
            expected = {
                MULTIPLY: w * x,
                SQUARE: w * w,
                ADD: w * x + y * z,
                SUBTRACT: w * x - y * z,
                SCALED: 121665 * w + x,
            }[operation]
            assert (value - expected) % P == 0, (row, lane)


@pytest.mark.parametrize("variant", curve25519.variants())
def test_differences_of_the_largest_and_the_smallest_do_not_wrap(variant: str) -> None:
    top = most(variant)
    limbs = np.zeros((2, 4, len(top), curve25519_native.lanes(variant)), dtype=np.uint64)
    limbs[0, 2:] = top[None, :, None]  # 0 - c d
    limbs[1, :2] = top[None, :, None]  # a b - 0
    largest = sum(int(limb) << place for limb, place in zip(top, PLACES[len(top)], strict=True))
    got = numbers(curve25519_native.probe(variant, SUBTRACT, limbs))
    assert {(value + largest**2) % P for value in got[0]} == {0}
    assert {(value - largest**2) % P for value in got[1]} == {0}


@pytest.mark.parametrize("variant", curve25519.variants())
def test_every_spelling_of_a_number_freezes_to_the_one_below_p(variant: str) -> None:
    limbs = extremes(variant, 400)
    places, top = PLACES[limbs.shape[2]], most(variant)
    edges = [k * P + d for k in (0, 1, 2) for d in (-2, -1, 0, 1, 18, 19, 20) if 0 <= k * P + d < 2**256]
    for row, value in enumerate(edges, start=200):  # the highest limb takes what is left
        spelt = [value >> low & (1 << high - low) - 1 for low, high in zip(places, [*places[1:], 256], strict=True)]
        limbs[row, 0] = np.array(spelt, dtype=np.uint64)[:, None]
    full = np.array([(1 << high - low) - 1 for low, high in zip(places, [*places[1:], 255], strict=True)], np.uint64)
    for row, over in enumerate(range(0, 80), start=300):  # all bits set, and a little more below or above
        limbs[row, 0] = full[:, None]
        limbs[row, 0, over % len(full)] = np.minimum(full + np.uint64(over // len(full)), top)[over % len(full)]
    got = numbers(curve25519_native.probe(variant, FREEZE, limbs))
    for row, (values, frozen) in enumerate(zip(numbers(limbs[:, 0]), got, strict=True)):
        assert frozen == [value % P for value in values], row


def test_a_probe_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="limbs"):
        curve25519_native.probe("portable", MULTIPLY, np.zeros((1, 4, 6, 1), np.uint64))
