"""Train one model, split by columns: preparation, passes, opening of own weights, metrics; both roles in one function.

Steps 0 to 10 of docs/protocols/09-split-logistic-regression.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Annotated

import numpy as np

from mpc import ring
from mpc.engine import Engine
from party.errors import DataError, PeerError
from party.message import Int, Message
from vfl import newton, passes, prepare, schedule, window
from vfl.crossval import Table, Validated, choose
from vfl.inference import Inference, Sample, infer
from vfl.metrics import Metrics
from vfl.metrics_shared import measure
from vfl.model import ModelHalf
from vfl.passes import Progress
from vfl.preparation import made_ready
from vfl.prepare import Known
from vfl.rows import MOST_WEIGHT, check_weights, known_of
from vfl.schedule import WEIGHT_BITS, Scales
from vfl.secure import Arithmetic, Secure
from vfl.sides import Settings, Trained, first_state, fixed, ours, shuffled
from vfl.spec import FIRST_ORDER, SCALE, WEIGHING, TrainSpec, weights_name
from vfl.state import Checkpoints, MemoryCheckpoints, resume, saved

__all__ = ["Fitted", "Half", "Settings", "fit_shared", "fit_weights", "open_weights", "train"]

_WINDOWS = 1 << 19  # numbers of randomness, beyond all passes
_LEAST_SCALE, _MOST_SCALE = 0, prepare.MATRIX_BITS - 1


@dataclass(frozen=True, repr=False)
class Scale(Message, kind=0x0601):
    """Step 0, both ways: fraction bits our whitened columns can take, and how many columns we bring."""

    bits: Annotated[int, Int(_LEAST_SCALE, _MOST_SCALE)]
    columns: Annotated[int, Int(1, 4096)]


@dataclass(frozen=True, repr=False)
class Weighing(Message, kind=0x0605):
    """Step 0, both ways where rows have weights: powers of two near the mean and the largest; 0 without weights."""

    mean: Annotated[int, Int(-MOST_WEIGHT, MOST_WEIGHT)]
    most: Annotated[int, Int(-MOST_WEIGHT, MOST_WEIGHT)]


@dataclass(frozen=True, repr=False)
class Half:
    """Our weights on the standardised scale, (d,), the intercept first at the label holder; and how it went."""

    weights: np.ndarray
    passes: int
    stopped: bool
    period: int
    most: int = 0  # no row weighs over 2^most


@dataclass(frozen=True, repr=False)
class Fitted:
    """What one side has after training."""

    model: ModelHalf
    metrics: Metrics
    test: np.ndarray  # bool (n,), aligned rows in the common order
    values: np.ndarray  # float64 (n, d), our prepared columns: what `vfl.score.score` takes
    passes: int
    stopped: bool  # False: the limit of passes came first
    period: int
    left_out: tuple[str, ...] = ()  # of both parties' columns, by the screen, as party.column
    notes: tuple[str, ...] = ()  # of our preparation, for our user
    inference: Inference | None = None  # where the job asks for it
    validated: Validated | None = None  # likewise
    l2: float = 1.0  # the penalty it was trained with


def train(
    engine: Engine,
    columns: Mapping[str, tuple[np.ndarray, np.ndarray]],
    spec: TrainSpec,
    salt: bytes,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
) -> Fitted:
    """Train on our columns of the aligned rows, in the common order, together with the peer.

    columns: name -> (values (n,), valid (n,)): our features and, at the label holder, the label. salt: what both sides
    derive from the agreement and the alignment; it fixes the split. Peer learns what `vfl.spec.plan` lists. A run that
    was cut goes on at the last pass of which both sides hold the checkpoint. Raises DataError for unfit columns,
    PolicyRefused for too few features.
    """
    spec.check()
    us = engine.channel.us
    label = prepare.labels(spec.label[1], *columns[spec.label[1]]) if us == spec.label_holder else None
    features = {name: columns[name] for name in spec.features[us]}
    rows = len(next(iter(features.values()))[0])
    test = prepare.split(rows, spec.test_fraction, salt)
    held = prepare.held_out(test, spec.held_fraction, salt)
    training = ~test & ~held
    _check_held(held, spec, engine.guard.min_rows)
    if label is not None:
        prepare.check_label(label[training], engine.guard.min_rows)
    known = known_of(spec, us, columns, label, (test, held))
    check_weights(known, engine.guard.min_rows, training)
    ready = made_ready(engine, features, spec, ~training, label)
    order = np.concatenate([np.flatnonzero(training), np.flatnonzero(held)])
    table = (ready.values[order], known.part(order, int(held.sum())), ready.theirs + (label is None))
    arithmetic, kept, validated = Secure(engine, prepare.MATRIX_BITS), checkpoints or MemoryCheckpoints(), None
    if spec.cross_validation is not None:
        tried = Table(*table, settings_of(spec))
        validated = choose(engine, spec.cross_validation, tried, salt, fit_shared, (kept, progress))
        spec = replace(spec, l2=validated.l2)
    half = fit_weights(arithmetic, table, settings_of(spec), kept, progress)
    intercept, weights = (None, half.weights) if label is None else (float(half.weights[0]), half.weights[1:])
    model = ModelHalf(
        ready.names, ready.means, ready.sds, tuple(map(float, weights)), intercept, spec.winsorise, ready.recipe,
        offset=spec.offset.get(us),
    )  # fmt: skip
    # 10. Metrics of the test rows, on shares; held-out rows are neither training nor test rows.
    seen, named = ~held, sum(map(len, spec.features.values()))
    logits = model.partial_logits(ready.values) + (0.0 if known.offset is None else known.offset)
    metrics = measure(engine, spec.metrics, logits[seen], None if label is None else label[seen], test[seen], named)
    inference = None
    if spec.inference:
        rows, weighed = ready.values[training], known.part(training, 0).weights
        sample = Sample(rows, logits[training], None if label is None else label[training], weighed, half.most)
        inference = infer(arithmetic, sample, model, spec.l2, table[2])
    told = ready.left_out, ready.notes, inference, validated, spec.l2
    return Fitted(model, metrics, test, ready.values, half.passes, half.stopped, half.period, *told)


def settings_of(spec: TrainSpec) -> Settings:
    """What the passes need of the job."""
    return Settings(
        spec.l2,
        spec.tolerance,
        spec.passes,
        spec.period,
        patience=spec.early_stopping or 0,
        weighed=spec.weights is not None or spec.class_weight is not None,
        l1=spec.l1,
        second=spec.method != FIRST_ORDER,
    )


def fit_weights(
    arithmetic: Arithmetic,
    table: tuple[np.ndarray, Known, int],
    settings: Settings,
    checkpoints: Checkpoints,
    progress: Progress | None = None,
) -> Half:
    """Steps 0 to 8 on standardised rows, as `fit_shared`; each block of weights is opened to its owner alone."""
    return open_weights(arithmetic, fit_shared(arithmetic, table, settings, checkpoints, progress))


def fit_shared(
    arithmetic: Arithmetic,
    table: tuple[np.ndarray, Known, int],
    settings: Settings,
    checkpoints: Checkpoints,
    progress: Progress | None = None,
) -> Trained:
    """Steps 0 to 7: passes until one says stop. table: (values (n, d), what we know of the rows, columns of the peer).

    Held-out rows come last. Raises DataError for rows that cannot be trained on, PeerError for a peer that brings
    something else than agreed.
    """
    values, known, theirs = table
    rows = len(values) - known.held
    _check_rows(known, rows)
    if settings.warm and rows >= schedule.WARM_ROWS:
        order = shuffled(len(values), known.held)
        values, known = values[order], known.part(order, known.held)

    # 0. Whiten our own columns and agree on one fixed-point scale.
    mean, most = _weights_scale(arithmetic, known, rows) if settings.weighed else (0, 0)
    whitened = prepare.whiten(values, settings.l2, intercept=known.label is not None, known=known, mean=mean)
    aside = whitened.apply(known.aside.values, intercept=known.label is not None) if known.aside else _no_rows(whitened)
    scale = whitened.scale_with(aside)
    if scale < _LEAST_SCALE:
        raise DataError("our columns are too heavy-tailed for fixed point", hint="winsorise, or transform the columns")
    arithmetic.disclose(SCALE, arithmetic.peer, 1)
    answer = arithmetic.swap(Scale(scale, whitened.values.shape[1]))
    if answer.columns != theirs:
        raise PeerError(f"{arithmetic.peer} brings {answer.columns} columns where {theirs} were agreed")
    slots = schedule.slot_bits(rows, most - mean)
    scales = Scales(min(scale, answer.bits), slots, whitened.exponent, mean, most)
    side = ours(whitened, known, theirs, scales, settings)

    begin = first_state(side, whitened, known)
    inputs = side.digest() + begin.weights.tobytes() + _of_aside(known, aside)
    state, run = resume(arithmetic, checkpoints, inputs, side.weights)
    state = state or begin
    arithmetic = arithmetic.seeded(checkpoints.secret())
    most_passes = settings.passes or schedule.pass_limit(rows, weighed=settings.weighed)
    while not state.inside:
        before, label = state, run + state.number.to_bytes(4, "big")
        if before.stopped or before.number >= most_passes:
            # 7b. No row's margin may lie outside the window.
            arithmetic.begin(label + b"window", _WINDOWS + before.number)
            state = window.widened(arithmetic, side, before) or replace(before, inside=True)
            if not state.inside and state.number >= most_passes:
                raise DataError(
                    f"margins left the window of {before.period} in the last pass that is allowed",
                    hint="raise max_passes, or l2: the labels are nearly separable by these features",
                )
        else:
            # 1. to 7. One pass, kept before the next begins.
            arithmetic.begin(label, before.number + 1)
            state = newton.advance(arithmetic, side, before)
        saved(checkpoints, state, run)
        if progress is not None and state.number > before.number:
            progress(state.number, passes.told(before, state))
    return Trained(side, state, whitened, fixed(aside.T, scales.matrix), run)


def open_weights(arithmetic: Arithmetic, trained: Trained) -> Half:
    """Step 8. Opens to each side its own block, and nothing of the other's."""
    side, state = trained.side, trained.state
    opened: dict[str, np.ndarray] = {}
    blocks = [(side.block, arithmetic.us), (side.peer_block, arithmetic.peer)]
    for block, owner in sorted(blocks, key=lambda pair: pair[0].start):
        found = arithmetic.open_to(state.model[block], weights_name(owner), owner)
        if found is not None:
            opened[owner] = ring.decode(found, WEIGHT_BITS)
    weights = side.weights_of(trained.whitened, opened[arithmetic.us])
    return Half(weights, state.number, state.stopped, state.period, side.scales.most)


def _no_rows(whitened: prepare.Whitened) -> np.ndarray:
    return np.zeros((0, whitened.values.shape[1]))


def _of_aside(known: Known, whitened: np.ndarray) -> bytes:
    """A digest of the rows set aside: with others, what was found of them is not to be used again."""
    if known.aside is None:
        return b""
    state = sha256(np.ascontiguousarray(whitened).data)
    for values in (known.aside.label, known.aside.offset):
        state.update(b"\x00" if values is None else np.ascontiguousarray(values).data)
    return state.digest()


def _check_held(held: np.ndarray, spec: TrainSpec, min_rows: int) -> None:
    """Few held-out rows would tell of their labels and features by the bit of each check. The same at both sides."""
    count = int(held.sum())
    if spec.early_stopping and count < max(1, min_rows):
        raise DataError(
            f"{count} rows would be held out, fewer than min_rows: whether their loss falls would speak of single rows",
            hint="raise train.validation_fraction, or align more rows",
        )


def _check_rows(known: Known, rows: int) -> None:
    if rows < schedule.LEAST_ROWS:
        raise DataError(f"{rows} training rows are too few: at least {schedule.LEAST_ROWS} are needed")
    if known.label is not None and not 0 < int(known.label[:rows].sum()) < rows:
        raise DataError("the training rows have labels of one class only")


def _weights_scale(arithmetic: Arithmetic, known: Known, rows: int) -> tuple[int, int]:
    """Powers of two near the mean and at or over the largest weight of a row: the label holder tells them."""
    here = (0, 0)
    if known.weights is not None:
        mean, most = known.weights[:rows].mean(), known.weights.max()
        here = round(math.log2(mean)), math.ceil(math.log2(most))
        arithmetic.disclose(WEIGHING, arithmetic.peer, 1)
    theirs = arithmetic.swap(Weighing(*here))
    return here if known.weights is not None else (theirs.mean, theirs.most)
