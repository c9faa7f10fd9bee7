"""Labels of several classes by one-vs-rest: one binary model a class over the same rows, both roles in one function.

The label holder tells how many classes there are; their names, and which row has which, stay with it. Each class is a
whole training of docs/protocols/09-split-logistic-regression.md with the label "is of this class", so each opens what a
training opens: own weights, check bits, the test rows' logits to the label holder. With k classes a receiver of scores
learns k linear combinations of the other side's features a row: k is at most half as many as these features.

Probabilities are the classes' scores divided by their sum, as scikit-learn's OneVsRestClassifier has them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np

from mpc.engine import Engine
from party.errors import DataError, PolicyRefused
from party.message import Int, Message
from party.request import Opening, Request
from vfl import spec as binary
from vfl.metrics import Metrics
from vfl.model import ModelHalf
from vfl.passes import Progress
from vfl.score import open_partial_logits, sigmoid
from vfl.spec import TrainSpec, scores_name
from vfl.state import Checkpoints
from vfl.train import train as train_binary

__all__ = ["CLASSES", "ClassHalves", "Trained", "classes_of", "probabilities", "request", "train"]

CLASSES = "train: number of classes of the label"
_LEAST, _MOST = 3, 20
Class = str | int


@dataclass(frozen=True, repr=False)
class Count(Message, kind=0x0631):
    """Before the first class, label holder to feature holder: how many classes the label has."""

    classes: Annotated[int, Int(_LEAST, _MOST)]


@dataclass(frozen=True, repr=False)
class ClassHalves:
    """One party's halves, a class each in one order; the classes' names at the label holder, None at the other side."""

    halves: tuple[ModelHalf, ...]
    classes: tuple[Class, ...] | None

    def to_json(self) -> str:
        """All halves as one JSON object; its digest is over those of the halves, in their order."""
        kept = [json.loads(replace(half, classes=self.classes).to_json()) for half in self.halves]
        return json.dumps({"one_vs_rest": kept, "digest": _digest(kept)}, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ClassHalves:
        """Read `to_json`'s form. Raises DataError for anything else."""
        try:
            found = json.loads(text)
            kept = found["one_vs_rest"]
            halves = tuple(ModelHalf.from_json(json.dumps(half)) for half in kept)
            if set(found) != {"one_vs_rest", "digest"} or found["digest"] != _digest(kept):
                raise ValueError("digest")
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DataError("these are not the halves of a one-vs-rest model: `digest` does not match") from None
        classes = halves[0].classes if halves else None
        if len(halves) < _LEAST or any(half.classes != classes for half in halves):
            raise DataError("these are not the halves of a one-vs-rest model: `classes` differ")
        if classes is not None and len(classes) != len(halves):
            raise DataError("these are not the halves of a one-vs-rest model: `classes` are not one a half")
        return cls(tuple(replace(half, classes=None) for half in halves), classes)


@dataclass(frozen=True, repr=False)
class Trained:
    """What one side has after training: its halves, the metrics of each class against the rest, its prepared rows."""

    halves: ClassHalves
    metrics: tuple[Metrics, ...]
    test: np.ndarray  # bool (n,)
    values: np.ndarray  # float64 (n, d)


def request(spec: TrainSpec, receiver: str | None = None, decimals: int = 3) -> Request:
    """All uses and openings: those of a training and, with a receiver, of scores, and the number of classes."""
    told = Request(openings=frozenset({Opening(CLASSES, spec.feature_holder)}))
    return binary.request(spec, receiver, decimals) | told


def classes_of(name: str, values: np.ndarray, valid: np.ndarray) -> tuple[tuple[Class, ...], np.ndarray]:
    """The classes of a label column, ascending, and each row's number among them, int64 (n,).

    values: texts or integers. Raises DataError for NULL, other types, and fewer than 3 or more than 20 classes.
    """
    if not bool(np.all(valid)):
        raise DataError(f"label {name} is NULL in an aligned row", hint="filter these rows out before aligning")
    if values.dtype.kind == "O":
        if not all(isinstance(value, str) for value in values):
            raise DataError(f"label {name} is neither of texts nor of integers")
        values = values.astype(str)
    if values.dtype.kind not in "iuU":
        raise DataError(f"label {name} is neither of texts nor of integers", hint="cast it, or bin it")
    found, numbers = np.unique(values, return_inverse=True)
    if not _LEAST <= len(found) <= _MOST:
        raise DataError(
            f"label {name} has {len(found)} classes: one-vs-rest takes {_LEAST} to {_MOST}",
            hint="train a binary model of two classes" if len(found) < _LEAST else "pool rare classes",
        )
    return tuple(found.tolist()), numbers.astype(np.int64)


def check_count(spec: TrainSpec, classes: int) -> None:
    """PolicyRefused when so many classes show the label holder too many combinations of the other side's features."""
    holder, count = spec.feature_holder, len(spec.features[spec.feature_holder])
    if classes > count // 2:
        raise PolicyRefused(
            f"{classes} classes over {count} features of {holder} are refused: with more than half as many models as"
            " features their logits would show the features themselves",
            hint=f"name at least {2 * classes} features of {holder}, or pool classes",
        )


def train(
    engine: Engine,
    columns: Mapping[str, tuple[np.ndarray, np.ndarray]],
    spec: TrainSpec,
    salt: bytes,
    checkpoints: Callable[[int], Checkpoints] | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train one model a class, one after another, as `vfl.train.train` trains one. checkpoints: those of each class.

    The other side learns how many classes there are, and of each what it learns of a training.
    """
    spec.check()
    us, peer, name = engine.channel.us, engine.channel.peer, spec.label[1]
    classes: tuple[Class, ...] | None = None
    numbers = None
    if us == spec.label_holder:
        classes, numbers = classes_of(name, *columns[name])
        count = len(classes)
        check_count(spec, count)
        engine.guard.disclose(CLASSES, peer, 1)
        engine.channel.send(Count(count))
    else:
        count = engine.channel.recv(Count).classes
        check_count(spec, count)
    found = []
    for place in range(count):
        own = dict(columns)
        if numbers is not None:
            own[name] = (numbers == place, np.ones(len(numbers), dtype=bool))
        kept = None if checkpoints is None else checkpoints(place)
        found.append(train_binary(engine, own, spec, salt, kept, progress))
    halves = ClassHalves(tuple(one.model for one in found), classes)
    return Trained(halves, tuple(one.metrics for one in found), found[0].test, found[0].values)


def probabilities(
    engine: Engine, halves: ClassHalves, values: np.ndarray, receiver: str, decimals: int = 3
) -> np.ndarray | None:
    """Probabilities of prepared rows (n, d), float64 (n, k), at the receiver; None at the other side. Both call it.

    Opens the logits of each class in turn, as fine as scores of so many decimals need. Rounds: 3 a class. Bytes: 20 a
    row and class.
    """
    scores = []
    for half in halves.halves:
        partial = half.partial_logits(values)
        logits = open_partial_logits(engine, partial, scores_name(decimals), receiver, decimals)
        scores.append(None if logits is None else sigmoid(logits))
    table = [score for score in scores if score is not None]
    return None if not table else np.round(shared_out(np.stack(table, axis=1)), decimals)


def shared_out(scores: np.ndarray) -> np.ndarray:
    """Scores (n, k) divided by their row's sum; a row of zeros is shared out evenly."""
    total = scores.sum(axis=1, keepdims=True)
    return np.asarray(np.where(total > 0.0, scores / np.where(total > 0.0, total, 1.0), 1.0 / scores.shape[1]))


def _digest(kept: list[Any]) -> str:
    marks = "\n".join(str(half["digest"]) for half in kept)
    return hashlib.sha256(b"tallystick/v1/vfl/one-vs-rest/" + marks.encode()).hexdigest()
