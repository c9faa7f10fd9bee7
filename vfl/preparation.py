"""Preparation across the split: each party fits its own columns on the training rows; label counts and screen jointly.

Message `Shape`, then the weights of evidence (`vfl.evidence`), then the screen (`vfl.screening`); without any of them
nothing is sent. Section "Preparation" of docs/protocols/09-split-logistic-regression.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np

from mpc.engine import Engine
from party.errors import DataError, PeerError
from party.message import Array, Cap, Message
from vfl import evidence, lines, prepare, screening
from vfl.fitted import Feature, Number, OneHot, Preparation, Weighted
from vfl.lines import Lines
from vfl.prepare import Columns
from vfl.recipes import SHAPE, Recipe, order
from vfl.spec import TrainSpec

__all__ = ["Ready", "fit_local", "made_ready"]

_MOST = 4096


@dataclass(frozen=True, repr=False)
class Shape(Message, kind=0x0620):
    """Both ways, when a job says `prepare` or `screen`: for each of our features in the job's order how many columns it
    makes, and how many lines its weight of evidence has, 0 for none."""

    columns: Annotated[np.ndarray, Array("u2", Cap(_MOST))]
    lines: Annotated[np.ndarray, Array("u2", Cap(_MOST))]


@dataclass(frozen=True, repr=False)
class Ready:
    """Our side before training: kept columns of all rows (n, d), their names and scale, and how many the peer brings.

    recipe: what the model half keeps; None where the job asks for nothing but standardising. left_out: of both
    parties, in the job's order, alike on both sides; notes: what our user should know. No text of either is data.
    """

    values: np.ndarray
    names: tuple[str, ...]
    means: tuple[float, ...]
    sds: tuple[float, ...]
    theirs: int
    recipe: Mapping[str, Any] | None = None
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def made_ready(engine: Engine, columns: Columns, spec: TrainSpec, test: np.ndarray, label: np.ndarray | None) -> Ready:
    """Prepare our features together with the peer, fitted on the rows that are not `test`.

    columns: our features, name -> (values (n,), valid (n,)), in the job's order; label: 0/1 (n,) at its holder. Peer
    learns what `Preparing.says` says. Raises DataError for columns that cannot be prepared so, or be trained on.
    """
    us, peer = engine.channel.us, engine.channel.peer
    least = engine.guard.min_rows
    if not spec.preparing:
        plain = prepare.prepare(columns, test, spec.winsorise)
        prepare.check_columns(plain, test, least)
        scale = tuple(map(float, plain.means)), tuple(map(float, plain.sds))
        return Ready(plain.values, plain.names, *scale, len(spec.features[peer]))

    recipes = {column: spec.preparing.of(us, column) for column in columns}
    begun = {
        column: fit_local(column, recipe, (_rows(columns[column], ~test), spec.winsorise), least)
        for column, recipe in recipes.items()
    }
    shape = _shape(engine, begun, spec)
    features, notes = _weighted(engine, begun, (columns, spec, ~test, label), shape)
    fitted = Preparation.fit(features, columns, ~test)
    values, _ = fitted.apply(columns)
    _check(fitted, values, test, least)
    left_out: tuple[str, ...] = ()
    counts = np.array([int(count) for count in shape.columns], dtype=np.int64)
    theirs = int(counts.sum())
    if spec.preparing.screen is not None:
        side = screening.Side(order(spec.parties, spec.features)[0] == us, theirs)
        gone, peers = screening.screen(engine, values[~test], side, spec.preparing.screen)
        made = np.array([len(feature.names) for feature in fitted.features])
        told = {us: _named(us, fitted.columns, made, gone), peer: _named(peer, spec.features[peer], counts, peers)}
        left_out = tuple(name for party in order(spec.parties, spec.features) for name in told[party])
        fitted = replace(fitted, kept=tuple(np.flatnonzero(~gone).tolist()))
        values, theirs = values[:, ~gone], int((~peers).sum())
        _check(fitted, values, test, least)
    means, sds = (tuple(scale[place] for place in fitted.kept) for scale in (fitted.means, fitted.sds))
    return Ready(values, fitted.names, means, sds, theirs, fitted.to_json(), left_out, notes)


def fit_local(
    column: str, recipe: Recipe, rows: tuple[tuple[np.ndarray, np.ndarray], float | None], least: int
) -> Feature | Lines:
    """What one column's training rows say without a label: a number, one-hot lines, or lines to be weighed.

    rows: ((values (n,), valid (n,)), the job's own `winsorise`); least: min_rows.
    """
    table, winsorise = rows
    if recipe.lines:
        found = lines.fit(column, recipe, table, least)
        if recipe.woe:
            return found
        sizes = np.bincount(found.of(*table), minlength=len(found))
        return OneHot(found, int(sizes.argmax()) if recipe.reference else None)
    given, known = prepare.numbers(column, *table)
    held, missing = given[known], int(np.count_nonzero(~known))
    clip = None
    if recipe.winsorise is not None:
        winsorise = recipe.winsorise[0] if len(recipe.winsorise) == 1 else None
        if len(recipe.winsorise) == 2 and len(held):
            low, high = np.percentile(held, recipe.winsorise)
            clip = float(low), float(high)
            held = np.clip(held, low, high)
    fill = float(np.median(held)) if recipe.impute == "median" and len(held) else None
    enough = min(missing, len(known) - missing) >= max(least, 1)
    return Number(column, clip, fill, recipe.indicator and enough, winsorise)


def _rows(table: tuple[np.ndarray, np.ndarray], chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return table[0][chosen], table[1][chosen]


def _shape(engine: Engine, begun: Mapping[str, Feature | Lines], spec: TrainSpec) -> Shape:
    """Tell how many columns and lines each of our features has; the peer's, checked against the job."""
    peer = engine.channel.peer
    made = [1 if isinstance(one, Lines) else len(one.names) for one in begun.values()]
    weighed = [len(one) if isinstance(one, Lines) else 0 for one in begun.values()]
    if sum(made) > _MOST:
        raise DataError(f"our features make {sum(made)} columns, more than {_MOST}", hint="set min_share")
    engine.guard.disclose(SHAPE, peer, len(made))
    theirs = engine.channel.swap(Shape(np.array(made, dtype=np.uint16), np.array(weighed, dtype=np.uint16)))
    recipes = [spec.preparing.of(peer, column) for column in spec.features[peer]]
    fits = len(theirs.columns) == len(theirs.lines) == len(recipes) and int(theirs.columns.sum()) <= _MOST
    for recipe, count, lined in zip(recipes, theirs.columns, theirs.lines, strict=False):
        most = lines.MOST_LINES + 1 if recipe.one_hot else 1 + recipe.indicator
        fits = fits and count <= most and bool(lined) == recipe.woe and lined <= lines.MOST_LINES + 1
    if not fits:
        raise PeerError(f"{peer} brings columns that are not those of the job")
    return theirs


def _weighted(
    engine: Engine,
    begun: Mapping[str, Feature | Lines],
    job: tuple[Columns, TrainSpec, np.ndarray, np.ndarray | None],
    shape: Shape,
) -> tuple[tuple[Feature, ...], tuple[str, ...]]:
    """All our features, with the weight of evidence of lines: our own label's in the clear, the peer's on shares."""
    columns, spec, training, label = job
    us, peer, least = engine.channel.us, engine.channel.peer, engine.guard.min_rows
    weighed = {column: one for column, one in begun.items() if isinstance(one, Lines)}
    tables = [
        evidence.Sorted.of(f"{us}.{column}", one, one.of(*_rows(columns[column], training)))
        for column, one in weighed.items()
    ]
    if label is not None:
        names = [f"{peer}.{column}" for column in spec.features[peer]]
        asked = [(name, int(count)) for name, count in zip(names, shape.lines, strict=True) if count]
        if asked:
            prepare.check_label(label[training], least)
            evidence.counts_label_holder(engine, label[training], asked)
        counts = [evidence.count(table, label[training]) for table in tables]
        groups = [evidence.protected(*pair, least) for pair in zip(tables, counts, strict=True)]
    else:
        groups = evidence.counts_feature_holder(engine, tables, int(training.sum())) if tables else []
    joined = dict(zip(weighed, groups, strict=True))
    features: list[Feature] = []
    for column, one in begun.items():
        if isinstance(one, Lines):
            merge = spec.preparing.of(us, column).merge
            features.append(Weighted(*evidence.evidence(one, joined[column], merge)))
        else:
            features.append(one)
    notes = [
        f"weight of evidence of {column}: {len(weighed[column])} bins were joined to {len(found)}, so that each has"
        " min_rows rows of either label"
        for column, found in joined.items()
        if len(found) < len(weighed[column])
    ]
    return tuple(features), tuple(notes)


def _check(fitted: Preparation, values: np.ndarray, test: np.ndarray, least: int) -> None:
    ready = prepare.Prepared(fitted.names, np.array(fitted.means), np.array(fitted.sds), values)
    prepare.check_columns(ready, test, least, fitted.sources)


def _named(party: str, features: tuple[str, ...], counts: np.ndarray, gone: np.ndarray) -> list[str]:
    """A party's columns that are left out: `telco.plan`, or `telco.plan (2 of 4)` of a feature that makes several."""
    told = [
        f"{party}.{feature}" + (f" ({nth + 1} of {count})" if count > 1 else "")
        for feature, count in zip(features, counts.tolist(), strict=True)
        for nth in range(count)
    ]
    return [name for name, out in zip(told, gone, strict=True) if out]
