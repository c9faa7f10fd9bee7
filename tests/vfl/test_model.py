"""A model half survives JSON and refuses everything else."""

import json

import numpy as np
import pytest

from party.errors import DataError
from vfl.model import ModelHalf

HALF = ModelHalf(("a", "b"), (1.0, 2.0), (0.5, 0.0), (0.25, -1.5), 0.125, 3.0)


def test_json_round_trip_is_exact():
    assert ModelHalf.from_json(HALF.to_json()) == HALF
    assert HALF.coefficients == {"a": 0.25, "b": -1.5}


def test_partial_logits_add_up_to_the_linear_score():
    values = np.array([[1.0, 2.0], [0.0, 0.0]])
    np.testing.assert_allclose(HALF.partial_logits(values), [0.25 - 3.0 + 0.125, 0.125])


@pytest.mark.parametrize(
    "change",
    [
        {"weights": [1.0]},
        {"weights": [1.0, "2"]},
        {"weights": [1.0, True]},
        {"format": 3},
        {"recipe": [1]},
        {"extra": 1},
        {"intercept": float("nan")},
        {"features": [1, 2]},
        {"features": None},
    ],
)
def test_anything_else_is_refused(change):
    with pytest.raises(DataError):
        ModelHalf.from_json(json.dumps({**json.loads(HALF.to_json()), **change}))


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[" * 100_000])
def test_broken_text_is_refused(text):
    with pytest.raises(DataError):
        ModelHalf.from_json(text)
