"""Numbers of several words: arithmetic against Python's integers, shares widened, selected and opened whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc import convert, long, opening
from mpc.cost import Meter
from party.errors import InternalError
from tests.mpc.ot_support import Half, both, halves

SPECIAL = [0, 1, 2**63, 2**64 - 1, 2**64, 2**104, 2**127, 2**128 - 1, 2**191, 2**192 - 1]


@pytest.fixture(scope="module")
def pair() -> Any:
    with halves([("sums", "bank")]) as made:
        yield made


def words(values: list[int], length: int) -> np.ndarray:
    """Integers modulo 2^(64 length), uint64 (n, length)."""
    data = b"".join((value % 2 ** (64 * length)).to_bytes(8 * length, "little") for value in values)
    return np.frombuffer(data, np.uint64).reshape(-1, length).copy()


NUMBERS = st.lists(st.sampled_from(SPECIAL) | st.integers(-(2**192), 2**192), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(NUMBERS, st.integers(1, 4), st.data())
def test_arithmetic_is_that_of_integers(values: list[int], length: int, data: st.DataObject) -> None:
    size, top = 64 * length, 2 ** (64 * length)
    others = data.draw(st.lists(st.sampled_from(SPECIAL), min_size=len(values), max_size=len(values)))
    shift, factor = data.draw(st.integers(0, size + 70)), data.draw(st.integers(-(2**70), 2**70))
    x, y = words(values, length), words(others, length)
    for got, wanted in (
        (long.add(x, y, length), [a + b for a, b in zip(values, others, strict=True)]),
        (long.subtract(x, y, length), [a - b for a, b in zip(values, others, strict=True)]),
        (long.negative(x, length), [-a for a in values]),
        (long.shifted(x, shift), [a << shift for a in values]),
        (long.times(x, factor), [a * factor for a in values]),
        (long.powers([shift] * len(values), length), [1 << shift] * len(values)),
    ):
        assert got.tolist() == words(wanted, length).tolist()
    signed = [(a + top // 2) % top - top // 2 for a in values]
    assert long.integers(x) == signed
    side_by_side = long.add(np.tile(x, 2), np.tile(y, 2), length)
    assert side_by_side.tolist() == np.tile(long.add(x, y, length), 2).tolist()


def shared(values: list[int], firsts: list[int], bits: list[int], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares modulo 2^bits of each value, the first as given."""
    first = [a % 2**b for a, b in zip(firsts, bits, strict=True)]
    second = [(v - a) % 2**b for v, a, b in zip(values, first, bits, strict=True)]
    return words(first, length), words(second, length)


@pytest.mark.parametrize("length", [2, 3, 5])
def test_widened_shares_keep_their_value_at_every_edge(pair: tuple[Half, Half], length: int) -> None:
    table = []
    for b in (2, 5, 64, 65, 104, 64 * length - 1):
        quarter = 2 ** (b - 2)
        for value in {0, quarter - 1, 1 - quarter, min(1, quarter - 1), -(quarter // 2), quarter // 2}:
            for first in (0, 1, quarter - 1, quarter, 2 * quarter - 1, 2 * quarter, 3 * quarter, 2**b - 1, 2**b // 3):
                table.append((value, first, b))
    values, firsts, bits = (list(column) for column in zip(*table, strict=True))
    shares, exponents = shared(values, firsts, bits, length), np.array(bits)

    def act(half: Half) -> Any:
        return half.counted(lambda: convert.widen(half, shares[half.index], exponents))

    (left, (sent, *_)), (right, (back, _, _, rounds)) = both(*pair, act)
    assert long.integers(long.add(left, right, length)) == values
    meter = Meter()
    meter.widen(len(values), length)
    assert [sent, back] == meter.sent and rounds == meter.waits[1] == 1


def test_a_value_of_a_quarter_of_the_modulus_is_widened_wrongly() -> None:
    """The bound is where the proof ends."""
    firsts = list(range(256))
    shares = shared([100] * 256, firsts, [8] * 256, 2)
    with halves() as made:
        left, right = both(*made, lambda half: convert.widen(half, shares[half.index], np.full(256, 8)))
    assert long.integers(long.add(left, right, 2)) != [100] * 256


@pytest.mark.parametrize(("share", "bits"), [(2**10, 10), (0, 1), (0, 128), (2**64, 64)])
def test_shares_that_do_not_fit_are_refused(pair: tuple[Half, Half], share: int, bits: int) -> None:
    with pytest.raises(InternalError):
        convert.widen(pair[0], words([share], 2), np.array([bits]))


@pytest.mark.parametrize("length", [2, 3])
def test_a_bit_selects_whole_numbers(pair: tuple[Half, Half], length: int) -> None:
    rng = np.random.default_rng(length)
    size = 64 * length
    values = [-1, 1, -(2 ** (size - 2)), 2 ** (size - 2), 2**64, -(2**64), 2**63, 0] * 8
    two = [values, values[::-1]]  # two numbers a row
    shares = [
        shared(column, [int.from_bytes(rng.bytes(8 * length)) for _ in column], [size] * len(column), length)
        for column in two
    ]
    bits = rng.integers(0, 2, (2, len(values))).astype(np.uint8)

    def act(half: Half) -> Any:
        rows = np.concatenate([share[half.index] for share in shares], axis=1)
        return half.counted(lambda: convert.select(half, bits[half.index], rows, length))

    (left, (sent, *_)), (right, _) = both(*pair, act)
    kept = (bits[0] ^ bits[1]).tolist()
    for place, column in enumerate(two):
        here = slice(place * length, (place + 1) * length)
        found = long.integers(long.add(left[:, here].copy(), right[:, here].copy(), length))
        assert found == [value * bit for value, bit in zip(column, kept, strict=True)]
    meter = Meter()
    meter.select(len(values), 2 * length)
    assert sent == meter.sent[0]


def test_whole_numbers_open_and_the_ledger_counts_numbers() -> None:
    values = [-(2**140), 2**140, 0, -1, 2**64]
    shares = shared(values, [2**192 - 5, 2**64 - 1, 1, 7, 2**128], [192] * 5, 3)
    with halves([("sums", "bank")]) as made:
        left, right = both(*made, lambda half: opening.open_long(half, shares[half.index], "sums", ["bank"]))
        assert right is None and long.integers(left) == values
        assert [fields["rows"] for _, fields in made[1].ledger.events] == [5]
        with pytest.raises(InternalError):
            opening.open_long(made[0], np.zeros(3, np.uint64), "sums", ["bank"])
