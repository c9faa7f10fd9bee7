"""Lines of a table, and whole tables, shown or hidden on shares: against a plain twin, and against subtraction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc import opening
from party.errors import InternalError
from tests.mpc.ot_support import Half, both, halves, split

Table = list[list[int]]


@pytest.fixture(scope="module")
def pair() -> Any:
    with halves() as made:
        yield made


def plain_lines(counts: Table, min_rows: int) -> list[int]:
    """The rule in the clear."""
    shown = [int(min(line) >= min_rows) for line in counts]
    hidden = [
        sum(line[c] for line, there in zip(counts, shown, strict=True) if not there) for c in range(len(counts[0]))
    ]
    if any(0 < count < min_rows for count in hidden) and any(shown):
        shown[min((sum(line), place) for place, line in enumerate(counts) if shown[place])[1]] = 0
    return shown


def lines(pair: tuple[Half, Half], counts: Table, min_rows: int, bits: int) -> list[int]:
    shape = (len(counts), len(counts[0]))
    shares = [share.reshape(shape) for share in split(np.array(counts).reshape(-1), np.random.default_rng(1))]
    got = both(*pair, lambda half: opening.shown_lines(half, shares[half.index], min_rows, bits))
    found = got[0] ^ got[1]
    assert found.shape == shape and (found == found[:, :1]).all()
    return found[:, 0].tolist()


CELL = st.one_of(st.integers(0, 6), st.integers(0, 40))
CASES = [
    ([[25, 30], [4, 90], [50, 50], [20, 20]], 20),  # 4 alone: the smallest line goes, too
    ([[25, 30], [10, 90], [10, 50], [20, 20]], 20),  # 20 rows of class 0 are hidden: enough
    ([[25, 30], [0, 90], [50, 50]], 20),  # a pure line is hidden, and nothing else
    ([[5, 5], [0, 0]], 20),
    ([[20, 20]], 20),
    ([[20, 19]], 20),
    ([[7, 0, 30], [9, 40, 50], [8, 8, 8], [31, 12, 9]], 8),
]


@pytest.mark.parametrize(("counts", "min_rows"), CASES)
def test_these_lines_are_shown(pair: tuple[Half, Half], counts: Table, min_rows: int) -> None:
    assert lines(pair, counts, min_rows, 9) == plain_lines(counts, min_rows)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 3).flatmap(lambda c: st.lists(st.lists(CELL, min_size=c, max_size=c), min_size=1, max_size=7)),
    st.integers(1, 12),
)
def test_lines_are_those_of_the_rule_and_no_class_tells_a_small_cell(
    pair: tuple[Half, Half], counts: Table, min_rows: int
) -> None:
    shown = lines(pair, counts, min_rows, 10)
    assert shown == plain_lines(counts, min_rows)
    for one in range(len(counts[0])):
        hidden = sum(line[one] for line, there in zip(counts, shown, strict=True) if not there)
        assert not any(shown) or hidden == 0 or hidden >= min_rows
        assert all(line[one] >= min_rows for line, there in zip(counts, shown, strict=True) if there)


@settings(max_examples=25, deadline=None)
@given(st.lists(CELL, min_size=1, max_size=9), st.integers(1, 6))
def test_a_table_is_shown_whole_or_not_at_all(pair: tuple[Half, Half], counts: list[int], min_rows: int) -> None:
    shares = split(counts, np.random.default_rng(2))
    got = both(*pair, lambda half: opening.shown_table(half, shares[half.index], min_rows, 9))
    safe = not any(0 < count < min_rows for count in counts)
    assert (got[0] ^ got[1]).tolist() == [int(safe and count > 0) for count in counts]


def test_messages_do_not_depend_on_the_counts(pair: tuple[Half, Half]) -> None:
    def cost(cells: Table) -> Any:
        flat = np.array(cells).reshape(-1)
        shares = split(flat, np.random.default_rng(3))

        def act(half: Half) -> Any:
            share = shares[half.index]
            opening.shown_table(half, share, 20, 9)
            return half.counted(lambda: opening.shown_lines(half, share.reshape(4, 2), 20, 9))[1]

        return both(*pair, act)

    assert cost([[0, 0]] * 4) == cost([[30, 40], [3, 25], [40, 40], [20, 21]]) == cost([[50, 50]] * 4)


def test_what_does_not_fit_is_refused(pair: tuple[Half, Half]) -> None:
    flat = np.zeros(4, dtype=np.uint64)
    for counts, min_rows, bits in ((flat, 1, 8), (flat.reshape(2, 2), 0, 8), (flat.reshape(2, 2), 1, 61)):
        with pytest.raises(InternalError):
            opening.shown_lines(pair[0], counts, min_rows, bits)
    for counts, min_rows, bits in ((flat.reshape(2, 2), 1, 8), (flat, 0, 8), (flat, 1, 61)):
        with pytest.raises(InternalError):
            opening.shown_table(pair[0], counts, min_rows, bits)


def plain_crossed(counts: np.ndarray, min_rows: int, by: tuple[int, ...]) -> np.ndarray:
    """Each line of each axis, one after the other: if it hides some rows but few, its smallest shown cell goes too."""
    shown = (counts >= min_rows).astype(np.uint8)
    for axis in by:
        lines, seen = (counts, shown) if axis == 0 else (counts.T, shown.T)
        for line, kept in zip(lines, seen, strict=True):
            hidden = int(line[kept == 0].sum())
            if 0 < hidden < min_rows and kept.any():
                kept[min((count, place) for place, count in enumerate(line) if kept[place])[1]] = 0
    return shown


@pytest.mark.parametrize("by", [(0,), (1,), (0, 1)])
def test_cells_of_two_sides_groups_against_the_twin(pair: tuple[Half, Half], by: tuple[int, ...]) -> None:
    rng = np.random.default_rng(7)
    for shape in ((1, 1), (1, 6), (5, 1), (3, 4), (4, 7)):
        for _ in range(4):
            counts = rng.choice([0, 1, 7, 19, 20, 25, 40, 300], shape)
            shares = split(counts, rng)
            got = both(*pair, lambda half: opening.shown_crossed(half, shares[half.index], 20, 9, by))
            shown = got[0] ^ got[1]
            axes = tuple(axis for axis in by if shape[1 - axis] > 1)
            assert np.array_equal(shown, plain_crossed(counts, 20, axes)), counts
            for axis in axes:  # whoever knows the lines of this axis gets no small difference
                hidden = (counts * (1 - shown)).sum(axis=1 - axis)
                assert all(h == 0 or h >= 20 for h, s in zip(hidden, shown.sum(axis=1 - axis), strict=True) if s)


@pytest.mark.parametrize(
    ("counts", "of_groups", "of_lines", "of_table"),
    [
        ([30, 40, 50, 20], [0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]),  # enough rows are hidden
        ([3, 40, 50, 20], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]),  # too few: the smallest goes, too
        ([0, 40, 50, 20], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]),
    ],
)
def test_what_is_closed_is_hidden_and_counts_as_hidden(
    pair: tuple[Half, Half], counts: list[int], of_groups: list[int], of_lines: list[int], of_table: list[int]
) -> None:
    closed = np.array([True, False, False, False])
    shares = split(np.array(counts), np.random.default_rng(1))
    pairs = [np.repeat(share, 2).reshape(4, 2) for share in shares]

    def decided(half: Half) -> Any:
        mine = shares[half.index]
        return np.stack(
            [
                opening.shown_groups(half, mine, 20, 9, closed),
                opening.shown_lines(half, pairs[half.index], 20, 9, closed)[:, 0],
                opening.shown_table(half, mine, 20, 9, closed),
            ]
        )

    got = both(*pair, decided)
    assert (got[0] ^ got[1]).tolist() == [of_groups, of_lines, of_table]
