"""Preparation is exactly the contract's, and refuses what it must."""

import numpy as np
import pytest

from party.errors import DataError
from tests.vfl import real
from vfl import prepare

RNG = np.random.default_rng(5)
SALT = b"0123456789abcdef"


def _column(values, valid=None):
    values = np.asarray(values)
    return values, np.ones(len(values), dtype=bool) if valid is None else np.asarray(valid)


def test_mean_and_sd_are_of_training_rows_without_missing_ones():
    values, test = RNG.normal(3, 2, 200), np.arange(200) % 5 == 0
    valid = RNG.random(200) < 0.8
    ready = prepare.prepare({"a": _column(values, valid)}, test, None)
    used = values[valid & ~test]
    assert ready.means[0] == pytest.approx(used.mean(), rel=1e-14)
    assert ready.sds[0] == pytest.approx(used.std(ddof=0), rel=1e-14)
    assert not ready.values[~valid].any()
    np.testing.assert_allclose(ready.values[valid, 0], (values[valid] - used.mean()) / used.std(), rtol=1e-12)


def test_winsorising_clips_once_and_does_not_scale_again():
    values = np.concatenate([RNG.normal(size=500), [50.0, -50.0]])
    test = np.zeros(502, dtype=bool)
    clipped = prepare.prepare({"a": _column(values)}, test, 3.0).values[:, 0]
    plain = prepare.prepare({"a": _column(values)}, test, None).values[:, 0]
    np.testing.assert_array_equal(clipped, np.clip(plain, -3, 3))
    assert clipped.max() == 3.0 and clipped.std() < 1.0


def test_columns_constant_on_training_rows_become_zero_everywhere():
    test = np.arange(50) >= 40
    values = np.where(test, 7.0, 4.0)
    assert not prepare.prepare({"a": _column(values)}, test, 3.0).values.any()
    nothing = prepare.prepare({"a": _column(values, np.zeros(50, dtype=bool))}, test, 3.0)
    assert not nothing.values.any() and nothing.means[0] == 0.0


def test_booleans_and_integers_are_numbers():
    test = np.zeros(10, dtype=bool)
    ready = prepare.prepare({"b": _column(np.arange(10) % 2 == 0), "i": _column(np.arange(10))}, test, None)
    assert ready.values.mean(axis=0) == pytest.approx([0, 0], abs=1e-12)
    assert ready.values.std(axis=0) == pytest.approx([1, 1])


@pytest.mark.parametrize("values", [np.array(["x", "y"] * 5), np.array(["x", "y"] * 5, dtype=object)])
def test_text_is_refused_with_the_remedies_named(values):
    with pytest.raises(DataError) as caught:
        prepare.prepare({"plan": _column(values)}, np.zeros(10, dtype=bool), 3.0)
    assert "plan" in caught.value.message
    assert "one-hot" in caught.value.hint and "WOE" in caught.value.hint


def test_dates_nan_and_infinities_are_refused():
    test = np.zeros(3, dtype=bool)
    for values in (np.array(["2026-01-01"] * 3, dtype="M8[D]"), np.array([1.0, np.nan, 2]), np.array([1, np.inf, 2.0])):
        with pytest.raises(DataError, match="when"):
            prepare.prepare({"when": _column(values)}, test, 3.0)


def test_labels_are_bool_or_zero_and_one_and_never_null():
    np.testing.assert_array_equal(prepare.labels("y", *_column([True, False])), [1, 0])
    np.testing.assert_array_equal(prepare.labels("y", *_column([0.0, 1.0])), [0, 1])
    for values, valid in (([0, 2], None), ([0.5, 1], None), ([0, 1], [True, False]), (["0", "1"], None)):
        with pytest.raises(DataError, match="y"):
            prepare.labels("y", *_column(values, valid))


def test_split_is_exact_reproducible_and_depends_on_the_salt():
    first = prepare.split(1001, 0.2, SALT)
    assert first.sum() == 200
    np.testing.assert_array_equal(first, prepare.split(1001, 0.2, SALT))
    assert (first != prepare.split(1001, 0.2, SALT + b"x")).any()
    assert not prepare.split(10, 0.0, SALT).any()


def test_one_row_dummies_are_refused_by_name():
    test = np.zeros(200, dtype=bool)
    good = {name: _column(RNG.normal(size=200)) for name in ("a", "b", "c")}
    rare = {**good, "vip": _column((np.arange(200) < 19).astype(int))}
    with pytest.raises(DataError, match="vip"):
        prepare.check_columns(prepare.prepare(rare, test, 3.0), test, 20)
    enough = {**good, "vip": _column((np.arange(200) < 20).astype(int))}
    prepare.check_columns(prepare.prepare(enough, test, 3.0), test, 20)
    # twenty rows in all, but some of them only among the test rows
    test[:5] = True
    with pytest.raises(DataError, match="vip"):
        prepare.check_columns(prepare.prepare(enough, test, 3.0), test, 20)


def test_fewer_than_three_varying_columns_are_refused():
    test = np.zeros(100, dtype=bool)
    columns = {"a": _column(RNG.normal(size=100)), "b": _column(RNG.normal(size=100)), "c": _column(np.ones(100))}
    with pytest.raises(DataError, match="only 2"):
        prepare.check_columns(prepare.prepare(columns, test, 3.0), test, 1)


def test_a_class_of_few_rows_is_refused():
    prepare.check_label(np.array([1] * 20 + [0] * 30), 20)
    for label in (np.array([1] * 19 + [0] * 30), np.zeros(50, dtype=np.int64), np.ones(50, dtype=np.int64)):
        with pytest.raises(DataError, match="class"):
            prepare.check_label(label, 20)


@pytest.mark.parametrize("intercept", [False, True])
def test_whitened_columns_have_hessian_bound_one(intercept):
    values = RNG.normal(size=(300, 4)) @ RNG.normal(size=(4, 4))
    white = prepare.whiten(values, 0.7, intercept=intercept)
    total = white.values.T @ white.values / 4 + white.penalty
    np.testing.assert_allclose(total, 4.0**white.exponent * np.eye(len(total)), atol=1e-8 * 4.0**white.exponent)
    matrix = np.hstack([np.ones((300, 1)), values]) if intercept else values
    np.testing.assert_allclose(matrix @ white.transform, white.values)


def test_duplicated_and_empty_directions_become_nothing_not_noise():
    column = RNG.normal(size=(100, 1))
    white = prepare.whiten(np.hstack([column, column, np.zeros((100, 1))]), 0.0, intercept=False)
    assert np.isfinite(white.transform).all()
    assert np.linalg.matrix_rank(white.transform) == 1


def test_scale_is_the_largest_that_fits():
    white = prepare.whiten(RNG.normal(size=(500, 3)), 1.0, intercept=True)
    largest = np.abs(white.values).max()
    assert largest * 2.0**white.scale < 2**19
    assert white.scale == 19 or largest * 2.0 ** (white.scale + 1) >= 2**19 * 0.999


def _with_twins(rows, apart):
    """Three columns, and two 0/1 columns that are equal but for the first `apart` rows."""
    rng = np.random.default_rng(2)
    twin = (rng.random(rows) < 0.4).astype(float)
    other = twin.copy()
    other[:apart] = 1 - other[:apart]
    return np.column_stack([rng.normal(size=(rows, 3)), twin, other])


def test_columns_whose_difference_is_one_row_are_refused():
    test = np.zeros(400, dtype=bool)
    for apart, refused in ((0, False), (1, True), (5, False)):
        prepared = prepare.prepare(real.valid(_with_twins(400, apart)), test, 3.0)
        assert (prepare.leverage(prepared.values).max() > 0.9) == refused
        prepare.check_columns(prepared, test, 1)  # 1 switches the protection off
        if refused:
            with pytest.raises(DataError, match="stands for a single training row"):
                prepare.check_columns(prepared, test, 5)
        else:
            prepare.check_columns(prepared, test, 5)


def test_leverage_is_the_diagonal_of_the_projection():
    values = _with_twins(60, 2)
    wanted = np.diag(values @ np.linalg.pinv(values))
    np.testing.assert_allclose(prepare.leverage(values), wanted, atol=1e-9)
    assert (prepare.leverage(np.zeros((5, 2))) == 0).all()
