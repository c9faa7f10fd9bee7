"""One-vs-rest over two parties equals scikit-learn's over the joined table; names of classes stay where they are."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from party.errors import DataError, PeerError, PolicyRefused
from tests.vfl.real import Pair, valid
from vfl import multiclass
from vfl.spec import TrainSpec

NAMES = ("north", "south", "west")
SALT = bytes(16)


def table(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    ours, theirs = rng.standard_normal((rows, 3)), rng.standard_normal((rows, 6))
    logits = np.hstack([ours, theirs]) @ rng.normal(0, 0.8, (9, 3)) + rng.gumbel(size=(rows, 3))
    return ours, theirs, np.array(NAMES)[logits.argmax(axis=1)]


def spec(theirs: int = 6) -> TrainSpec:
    features = {"bank": ("x0", "x1", "x2"), "telco": tuple(f"y{n}" for n in range(theirs))}
    return TrainSpec(
        ("bank", "telco"), {"bank": "b", "telco": "t"}, ("bank", "label"), features, test_fraction=0.25, passes=14
    )


@pytest.fixture(scope="module")
def done() -> tuple[Pair, tuple[multiclass.Trained, multiclass.Trained]]:
    ours, theirs, label = table(480)
    pair = Pair(multiclass.request(spec(), "bank"))
    own = valid(ours) | {"label": (label.astype(object), np.ones(480, dtype=bool))}
    found = pair.run(
        lambda e: multiclass.train(e, own, spec(), SALT),
        lambda e: multiclass.train(e, valid(theirs, "y"), spec(), SALT),
    )
    return pair, found


def test_probabilities_are_those_of_scikit_learns_one_vs_rest(
    done: tuple[Pair, tuple[multiclass.Trained, multiclass.Trained]],
) -> None:
    pair, (bank, telco) = done
    assert bank.halves.classes == NAMES and telco.halves.classes is None
    test = bank.test
    got, nothing = pair.run(
        lambda e: multiclass.probabilities(e, bank.halves, bank.values[test], "bank"),
        lambda e: multiclass.probabilities(e, telco.halves, telco.values[test], "bank"),
    )
    assert nothing is None and got.shape == (120, 3)
    _, _, label = table(480)
    X = np.hstack([bank.values, telco.values])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = OneVsRestClassifier(LogisticRegression(C=1.0)).fit(X[~test], label[~test])
    due = model.predict_proba(X[test])
    assert tuple(model.classes_) == NAMES
    assert np.abs(got - due).max() < 0.02
    np.testing.assert_allclose(got.sum(axis=1), 1.0, atol=0.002)
    assert (got.argmax(axis=1) == due.argmax(axis=1)).mean() > 0.97
    for place, metrics in enumerate(bank.metrics):
        assert metrics == telco.metrics[place] and metrics.n_test == 120 and metrics.auc > 0.7


def test_only_the_number_of_classes_is_told(done: tuple[Pair, tuple[multiclass.Trained, multiclass.Trained]]) -> None:
    pair, (bank, telco) = done
    (told,) = [e for _, e in pair.ledgers[0].events if e["what"] == multiclass.CLASSES]
    assert (told["to"], told["rows"]) == ("telco", 1)
    assert not any(name in telco.halves.to_json() for name in NAMES)
    assert all(name in bank.halves.to_json() for name in NAMES)


def test_halves_come_back_bit_for_bit_and_in_their_order(
    done: tuple[Pair, tuple[multiclass.Trained, multiclass.Trained]],
) -> None:
    for side in done[1]:
        text = side.halves.to_json()
        again = multiclass.ClassHalves.from_json(text)
        assert again.to_json() == text and again.classes == side.halves.classes
        for half, kept in zip(side.halves.halves, again.halves, strict=True):
            assert half.partial_logits(side.values).tobytes() == kept.partial_logits(side.values).tobytes()
        content = json.loads(text)
        content["one_vs_rest"].reverse()
        with pytest.raises(DataError, match="`digest`"):
            multiclass.ClassHalves.from_json(json.dumps(content))
    for text in ("", "{}", "[]", json.dumps({"one_vs_rest": [], "digest": ""})):
        with pytest.raises(DataError):
            multiclass.ClassHalves.from_json(text)
    bank = done[1][0].halves
    with pytest.raises(DataError, match="`classes`"):
        multiclass.ClassHalves.from_json(replace(bank, classes=NAMES[:2]).to_json())


def test_more_classes_than_half_the_other_sides_features_are_refused_on_both_sides() -> None:
    for theirs, classes, refused in ((6, 3, False), (5, 3, True), (8, 4, False), (8, 5, True)):
        if refused:
            with pytest.raises(PolicyRefused, match=f"{classes} classes over {theirs} features of telco"):
                multiclass.check_count(spec(theirs), classes)
        else:
            multiclass.check_count(spec(theirs), classes)
    pair = Pair(multiclass.request(spec(5)))
    columns = valid(np.zeros((30, 5)), "y")
    with pytest.raises(PolicyRefused, match="refused"):  # whatever the label holder thinks of it
        pair.run(lambda e: e.channel.send(multiclass.Count(3)), lambda e: multiclass.train(e, columns, spec(5), SALT))


def test_a_number_of_classes_that_cannot_be_breaks_the_protocol() -> None:
    from party.message import decode, encode

    body = bytearray(encode(multiclass.Count(3)))
    for count in (2, 21, 255):
        body[0] = count
        with pytest.raises(PeerError):
            decode(multiclass.Count, bytes(body))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([1, 2, 1, 2], "has 2 classes"),
        (list(range(21)), "has 21 classes"),
        ([0.5, 1.0, 2.0], "neither of texts nor of integers"),
        (np.array(["a", 1, "b"], dtype=object), "neither of texts nor of integers"),
    ],
)
def test_labels_that_are_no_classes_are_refused(values: object, reason: str) -> None:
    column = np.asarray(values)
    with pytest.raises(DataError, match=reason):
        multiclass.classes_of("y", column, np.ones(len(column), dtype=bool))


def test_a_missing_label_is_refused_and_integers_are_classes() -> None:
    with pytest.raises(DataError, match="NULL"):
        multiclass.classes_of("y", np.array([1, 2, 3]), np.array([True, False, True]))
    classes, numbers = multiclass.classes_of("y", np.array([7, -1, 3, 7]), np.ones(4, dtype=bool))
    assert classes == (-1, 3, 7) and numbers.tolist() == [2, 0, 1, 2] and all(type(c) is int for c in classes)


def test_a_row_that_no_class_claims_is_shared_out_evenly() -> None:
    assert multiclass.shared_out(np.array([[0.0, 0.0, 0.0, 0.0], [0.2, 0.2, 0.0, 0.4]])).tolist() == [
        [0.25] * 4, [0.25, 0.25, 0.0, 0.5],
    ]  # fmt: skip
