"""A model half survives JSON bit for bit and refuses everything else."""

import dataclasses
import json
import struct

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from party.errors import DataError
from vfl import prepare
from vfl.model import FEATURE_HOLDER, LABEL_HOLDER, ModelHalf

HALF = ModelHalf(("a", "b"), (1.0, 2.0), (0.5, 0.0), (0.25, -1.5), 0.125, 3.0)
NAMED = dataclasses.replace(
    HALF,
    id="0123456789abcdef",
    agreement="ab" * 32,
    parties=("bank", "telco"),
    role=LABEL_HOLDER,
    tables={"bank": "customers", "telco": "subscribers"},
    columns={"bank": ("a", "b"), "telco": ("x", "y", "z")},
    recipe={"kind": "binned", "edges": {"a": [0.1, 0.30000000000000004]}},
    classes=(0, 1),
    created="2026-11-27T12:00:00+00:00",
    metrics={"auc": 0.75, "ks": None, "log_loss": 0.3, "n_train": 80, "n_test": 20},
    version="1.2.3",
)
FORMAT_1 = json.dumps(
    {"format": 1, "features": ["a", "b"], "means": [1.0, 2.0], "sds": [0.5, 0.0], "weights": [0.25, -1.5],
     "intercept": 0.125, "winsorise": 3.0}
)  # fmt: skip


def bits(half: ModelHalf) -> bytes:
    numbers = [*half.means, *half.sds, *half.weights, half.intercept or 0.0, half.winsorise or 0.0]
    return struct.pack(f"<{len(numbers)}d", *numbers)


def test_json_round_trip_is_exact():
    assert ModelHalf.from_json(NAMED.to_json()) == NAMED
    assert NAMED.coefficients == {"a": 0.25, "b": -1.5}


def test_a_reload_has_the_same_bits_and_scores_the_same_bits():
    rng = np.random.default_rng(3)
    odd = [0.1 + 0.2, -0.0, 5e-324, 1.7976931348623157e308, 1 / 3, 2.0**53 + 2, -1e-17, 123456789.0]
    weights = tuple(map(float, np.concatenate([odd, rng.standard_normal(500) * 10.0 ** rng.integers(-20, 20, 500)])))
    names = tuple(f"x{n}" for n in range(len(weights)))
    half = ModelHalf(names, weights[::-1], tuple(map(abs, weights)), weights, -0.0, 0.1)
    text = half.to_json()
    again = ModelHalf.from_json(text)
    assert bits(again) == bits(half)
    assert again.to_json() == text
    small = ModelHalf(*[values[8:] for values in (names, weights[::-1], half.sds, weights)], 0.3, 3.0)
    values = rng.standard_normal((50, 500))
    assert (
        small.partial_logits(values).tobytes() == ModelHalf.from_json(small.to_json()).partial_logits(values).tobytes()
    )


def test_a_file_that_was_only_laid_out_anew_is_still_read():
    assert ModelHalf.from_json(json.dumps(json.loads(NAMED.to_json()))) == NAMED


@pytest.mark.parametrize("key", sorted(set(json.loads(NAMED.to_json())) - {"format"}))
def test_a_changed_field_is_found_by_the_digest(key):
    found = json.loads(NAMED.to_json())
    found[key] = [9.0] if isinstance(found[key], list) else "other"
    with pytest.raises(DataError, match="`digest` does not match") as met:
        ModelHalf.from_json(json.dumps(found))
    assert met.value.exit_code == 6


def test_one_bit_of_one_weight_is_found():
    found = json.loads(NAMED.to_json())
    found["weights"][0] = float(np.nextafter(found["weights"][0], 1.0))
    with pytest.raises(DataError, match="`digest`"):
        ModelHalf.from_json(json.dumps(found))


def test_the_form_of_earlier_releases_is_read():
    assert ModelHalf.from_json(FORMAT_1) == HALF


def test_the_version_of_the_program_is_written():
    assert json.loads(HALF.to_json())["version"][0].isdigit()


def test_partial_logits_add_up_to_the_linear_score():
    values = np.array([[1.0, 2.0], [0.0, 0.0]])
    np.testing.assert_allclose(HALF.partial_logits(values), [0.25 - 3.0 + 0.125, 0.125])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"weights": [1.0]}, "weights"),
        ({"weights": [1.0, "2"]}, "weights"),
        ({"weights": [1.0, True]}, "weights"),
        ({"format": 3}, "format"),
        ({"format": True}, "format"),
        ({"extra": 1}, "extra"),
        ({"intercept": "x"}, "intercept"),
        ({"features": [1, 2]}, "features"),
        ({"features": None}, "features"),
        ({"means": {"0": 1.0}}, "means"),
    ],
)
def test_anything_else_is_refused_by_name(change, named):
    with pytest.raises(DataError, match=f"`{named}`"):
        ModelHalf.from_json(json.dumps({**json.loads(FORMAT_1), **change}))


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[" * 100_000, FORMAT_1.replace("0.125", "NaN")])
def test_broken_text_is_refused(text):
    with pytest.raises(DataError):
        ModelHalf.from_json(text)


@pytest.mark.parametrize("key", ["id", "agreement", "parties", "tables", "recipe", "classes", "metrics", "columns"])
def test_a_right_digest_over_a_wrong_field_names_it(key):
    from vfl import model

    found = json.loads(NAMED.to_json())
    found.pop("digest")
    found[key] = 7
    found["digest"] = model._digest(found)
    with pytest.raises(DataError, match=f"`{key}` has a wrong value"):
        ModelHalf.from_json(json.dumps(found))


@pytest.mark.parametrize("role", [LABEL_HOLDER, FEATURE_HOLDER])
def test_scikit_learn_with_our_coefficients_gives_our_part_of_the_logit(role):
    rng = np.random.default_rng(5)
    table = rng.normal([10.0, -3.0, 0.5, 7.0], [4.0, 0.1, 1.0, 0.0], (400, 4))
    columns = {f"x{n}": (column, np.ones(400, dtype=bool)) for n, column in enumerate(table.T)}
    ready = prepare.prepare(columns, np.zeros(400, dtype=bool), 2.0)
    half = ModelHalf(
        ready.names, tuple(ready.means), tuple(ready.sds), (0.7, -1.1, 0.2, 0.4),
        -0.3 if role == LABEL_HOLDER else None, 2.0, role=role,
    )  # fmt: skip
    own = half.original()
    model = LogisticRegression()
    model.coef_, model.intercept_, model.classes_ = own.weights[None, :], np.array([own.intercept]), np.array([0, 1])
    clipped = np.clip(table, own.low, own.high)
    np.testing.assert_allclose(model.decision_function(clipped), half.partial_logits(ready.values), atol=1e-12)
    inside = np.all((table >= own.low) & (table <= own.high), axis=1)
    assert 100 < inside.sum() < 400
    np.testing.assert_allclose(
        model.decision_function(table[inside]), half.partial_logits(ready.values[inside]), atol=1e-12
    )
    missing = {name: (values, np.arange(400) > 0) for name, (values, _) in columns.items()}
    at_mean = prepare.standardise(missing, ready.means, ready.sds, 2.0)[:1]
    np.testing.assert_allclose(model.decision_function(own.means[None, :]), half.partial_logits(at_mean), atol=1e-12)
