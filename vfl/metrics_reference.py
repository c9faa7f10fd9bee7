"""Plain twin of the metrics on shares: the same grid and the same counts, with both parts of every logit in one place.

Used by tests as the oracle of `vfl.metrics_shared`, and to see what rounding to the grid costs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vfl import grid as grids
from vfl.grid import FINE, Grid
from vfl.metrics import Group, auc, hosmer_lemeshow, ks, sigmoid, stability, told_by_score
from vfl.metrics_shared import bins_for, coarse_bins_for, merge_of, table_groups
from vfl.wanted import Wanted

__all__ = ["measure"]


def measure(
    parts: tuple[np.ndarray, np.ndarray], label: np.ndarray, test: np.ndarray, wanted: Wanted, least: int
) -> dict[str, Any]:
    """What `vfl.metrics_shared.measure` finds: parts (label holder's, feature holder's) of all logits."""
    ends = [grids.ends_of(part, True) for part in parts]
    on = grids.grid(ends[0], ends[1], bins_for(int(test.sum())), True)
    cell = _cells(on, [part[test] for part in parts])
    z, y = on.centres[cell], label[test]
    found: dict[str, Any] = {"auc": auc(y, z), "ks": ks(y, z)}
    groups = [
        _quantile(cell // merge_of(on.cells), cell // merge_of(on.cells), most) for most in table_groups(wanted.groups)
    ]
    p, over = sigmoid(on.centres), None
    if wanted.threshold is not None:
        logit = math.log(wanted.threshold / (1 - wanted.threshold))
        place = round((logit - on.centres[0]) / (on.step / FINE) + 0.5)
        over = cell >= place
        found["confusion"] = [int((over[y == kind] == side).sum()) for side in (True, False) for kind in (0, 1)]
    if wanted.groups:
        found["by_score"], found["hosmer_lemeshow"] = None, None
        for group in groups:
            table = _table(group, y, p[cell])
            enough = all(min(one.events, one.rows - one.events) >= least for one in table)
            if enough and (over is None or _clear(table, y, over, least)):
                found["by_score"] = told_by_score(table)
                break
        tenths = _table(_halved(groups[0]) if wanted.groups == 20 else groups[0], y, p[cell])
        found["hosmer_lemeshow"] = hosmer_lemeshow(tenths)
    if wanted.stability:
        on = grids.grid(ends[0], ends[1], coarse_bins_for(len(test)), True)
        cell = _cells(on, list(parts))
        group = _quantile(cell[~test], cell, 10)
        found["psi"] = stability(np.bincount(group[~test]).tolist(), np.bincount(group[test]).tolist())
    return found


def _cells(on: Grid, parts: Sequence[np.ndarray]) -> np.ndarray:
    """The label holder's part in units of step / FINE, the feature holder's in steps."""
    ours = np.rint((parts[0] - on.ours) * FINE / on.step)
    theirs = np.rint((parts[1] - on.theirs) / on.step)
    return np.asarray((ours + FINE * theirs).astype(np.int64))


def _quantile(ranked: np.ndarray, cells: np.ndarray, most: int) -> np.ndarray:
    """The group of each row, 0 for the highest scores: how many of the parts lie below the middle of its cell."""
    values, counts = np.unique(ranked, return_counts=True)
    before = np.cumsum(counts) - counts
    place = np.searchsorted(values, cells)
    inside = (place < len(values)) & (values[np.minimum(place, len(values) - 1)] == cells)
    below = np.concatenate([before, [len(ranked)]])[place]
    twice = 2 * below + np.where(inside, np.concatenate([counts, [0]])[place], 0)
    return np.asarray(most - 1 - np.minimum(twice * most // (2 * len(ranked)), most - 1))


def _clear(table: list[Group], y: np.ndarray, over: np.ndarray, least: int) -> bool:
    """Whether no cut of the table leaves a small count between itself and the threshold."""
    events = np.cumsum([one.events for one in table])[:-1] - int(y[over].sum())
    others = np.cumsum([one.rows - one.events for one in table])[:-1] - int((y[over] == 0).sum())
    return all(d == 0 or abs(d) >= least for d in [*events.tolist(), *others.tolist()])


def _halved(group: np.ndarray) -> np.ndarray:
    return group // 2


def _table(group: np.ndarray, y: np.ndarray, p: np.ndarray) -> list[Group]:
    return [
        Group(int((group == k).sum()), int(y[group == k].sum()), float(p[group == k].sum()))
        for k in range(int(group.max()) + 1)
    ]
