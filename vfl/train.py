"""Train one model, split by columns: preparation, passes, opening of own weights, metrics; both roles in one function.

Steps 0 to 10 of docs/protocols/09-split-logistic-regression.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mpc import ring
from mpc.engine import Engine
from party.errors import DataError, PeerError
from party.message import Int, Message
from vfl import passes, prepare, schedule
from vfl.metrics import Metrics
from vfl.model import ModelHalf
from vfl.passes import Progress
from vfl.schedule import WEIGHT_BITS, Scales
from vfl.score import share_metrics
from vfl.secure import Arithmetic, Secure
from vfl.spec import SCALE, TrainSpec, first_period, weights_name
from vfl.state import Checkpoints, MemoryCheckpoints, resume, saved

__all__ = ["Fitted", "Half", "Settings", "fit_weights", "train"]

_LEAST_SCALE, _MOST_SCALE = 0, prepare.MATRIX_BITS - 1


@dataclass(frozen=True, repr=False)
class Scale(Message, kind=0x0601):
    """Step 0, both ways: fraction bits our whitened columns can take, and how many columns we bring."""

    bits: Annotated[int, Int(_LEAST_SCALE, _MOST_SCALE)]
    columns: Annotated[int, Int(1, 4096)]


@dataclass(frozen=True)
class Settings:
    """What both sides must use alike."""

    l2: float = 1.0
    tolerance: float = 1e-6
    passes: int | None = None
    period: int = 64


@dataclass(frozen=True, repr=False)
class Half:
    """Our weights on the standardised scale, (d,), the intercept first at the label holder; and how it went."""

    weights: np.ndarray
    passes: int
    stopped: bool
    period: int


@dataclass(frozen=True, repr=False)
class Fitted:
    """What one side has after training."""

    model: ModelHalf
    metrics: Metrics
    test: np.ndarray  # bool (n,), aligned rows in the common order
    values: np.ndarray  # float64 (n, d), our standardised columns: what `vfl.score.score` takes
    passes: int
    stopped: bool  # False: the limit of passes came first
    period: int


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
    ready = prepare.prepare(features, test, spec.winsorise)
    prepare.check_columns(ready, test, engine.guard.min_rows)
    arithmetic = Secure(engine, prepare.MATRIX_BITS)
    if label is not None:
        prepare.check_label(label[~test], engine.guard.min_rows)
    settings = Settings(spec.l2, spec.tolerance, spec.passes, first_period(spec.winsorise))
    ours = None if label is None else label[~test]
    theirs = len(spec.features[engine.channel.peer]) + (label is None)
    half = fit_weights(
        arithmetic, (ready.values[~test], ours, theirs), settings, checkpoints or MemoryCheckpoints(), progress
    )
    intercept, weights = (None, half.weights) if label is None else (float(half.weights[0]), half.weights[1:])
    model = ModelHalf(
        ready.names,
        tuple(map(float, ready.means)),
        tuple(map(float, ready.sds)),
        tuple(map(float, weights)),
        intercept,
        spec.winsorise,
    )
    metrics = share_metrics(
        engine, model, ready.values[test], None if label is None else label[test], int((~test).sum())
    )
    return Fitted(model, metrics, test, ready.values, half.passes, half.stopped, half.period)


def fit_weights(
    arithmetic: Arithmetic,
    table: tuple[np.ndarray, np.ndarray | None, int],
    settings: Settings,
    checkpoints: Checkpoints,
    progress: Progress | None = None,
) -> Half:
    """Steps 0 to 8 on standardised training rows. table: (values (n, d), label (n,) or None, columns of the peer)."""
    values, label, theirs = table
    rows = len(values)
    if rows < schedule.LEAST_ROWS:
        raise DataError(f"{rows} training rows are too few: at least {schedule.LEAST_ROWS} are needed")
    if label is not None and not 0 < int(label.sum()) < rows:
        raise DataError("the training rows have labels of one class only")

    # 0. Whiten our own columns and agree on one fixed-point scale.
    whitened = prepare.whiten(values, settings.l2, intercept=label is not None)
    if whitened.scale < _LEAST_SCALE:
        raise DataError("our columns are too heavy-tailed for fixed point", hint="winsorise, or transform the columns")
    arithmetic.disclose(SCALE, arithmetic.peer, 1)
    answer = arithmetic.swap(Scale(whitened.scale, whitened.values.shape[1]))
    if answer.columns != theirs:
        raise PeerError(f"{arithmetic.peer} brings {answer.columns} columns where {theirs} were agreed")
    scales = Scales(min(whitened.scale, answer.bits), schedule.slot_bits(rows), whitened.exponent)
    side = passes.ours(whitened, label, theirs, scales, settings.tolerance)

    state, attempt = resume(arithmetic, checkpoints, side.weights)
    if state is None:
        state = passes.first_state(side, whitened, label, settings.period)
    most = settings.passes or schedule.pass_limit(rows)
    while not state.stopped and state.number < most:
        # 1. to 7. One pass, kept before the next begins.
        before = state
        state = passes.one_pass(arithmetic, side, before)
        saved(checkpoints, state, attempt)
        if progress is not None:
            progress(state.number, passes.told(before, state))

    # 8. Open to each side its own block, and nothing of the other's.
    opened: dict[str, np.ndarray] = {}
    blocks = [(side.block, arithmetic.us), (side.peer_block, arithmetic.peer)]
    for block, owner in sorted(blocks, key=lambda pair: pair[0].start):
        found = arithmetic.open_to(state.weights[0, block], weights_name(owner), owner)
        if found is not None:
            opened[owner] = ring.decode(found, WEIGHT_BITS)
    return Half(whitened.transform @ opened[arithmetic.us], state.number, state.stopped, state.period)
