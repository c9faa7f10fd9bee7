"""Metrics of a trained model on shares: both roles in one function, opened to whom the job says.

After training each owner has its part of every logit in the clear, z = z_A + z_B. The parts are rounded to a grid
(`vfl.grid`), test rows are counted by class and cell on shares (`mpc.histogram`), and what is asked is computed from
these counts (`vfl.measures`). Steps as on docs/protocols/15-metrics-on-shares.md.

Who receives learns the numbers named in the request, cut to 16 fraction bits, and nothing a row; counts only in tables
of which no cell is under the guard's minimum. The other side learns nothing but the ends of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mpc import opening, ring
from mpc.convert import truncate
from mpc.engine import Engine
from party.errors import InternalError
from vfl import grid as grids
from vfl import measures, metrics
from vfl.grid import FINE, Cyclic, Grid, Range, Shares
from vfl.metrics import Group, Metrics, sigmoid
from vfl.wanted import BRIER, CONFUSION, GROUPS, LIKELIHOOD, METRICS, STABILITY, TABLE, Wanted

__all__ = [
    "bins_for",
    "coarse_bins_for",
    "measure",
    "merge_of",
    "merged",
    "shared_bins_for",
    "table_cells",
    "table_groups",
]

_BINS = ((512, 4096), (1536, 2048), (3072, 1024), (8192, 512), (32_768, 256))  # for at most so many rows
_SHARED_BINS = ((512, 4096), (1536, 2048), (16_384, 1024))
_COARSE_BINS = ((4096, 256), (16_384, 128))
_TABLE_CELLS = 896  # at least so many, if there are, where rows are grouped by score
_LIKELIHOOD_BITS = 26
_WEIGHT_BITS, _PREDICTED_BITS = 20, 10  # of a prediction; of a group's opened sum of them
_STABILITY_GROUPS = 10

Words = np.ndarray


def bins_for(rows: int) -> int:
    """Bins a chunk for so many test rows: the noise of rounding falls with rows, the bytes rise."""
    return next((bins for most, bins in _BINS if rows <= most), 128)


def shared_bins_for(rows: int) -> int:
    """The same where logits are shares: they go around a whole period, four times as wide as most logits reach."""
    return next((bins for most, bins in _SHARED_BINS if rows <= most), 512)


def coarse_bins_for(rows: int) -> int:
    """The same for training and test rows together."""
    return next((bins for most, bins in _COARSE_BINS if rows <= most), 64)


def table_groups(most: int) -> tuple[int, ...]:
    """Into how many groups a table of `most` may be opened, the finest first."""
    return tuple(groups for groups in GROUPS if groups <= most)


def merge_of(cells: int) -> int:
    """How many neighbouring cells are one where rows are grouped by score."""
    return max(1, cells // _TABLE_CELLS)


def table_cells(cells: int) -> int:
    """Cells left there."""
    return -(-cells // merge_of(cells))


def measure(
    engine: Engine,
    wanted: Wanted,
    logits: np.ndarray | Shares,
    label: np.ndarray | None,
    test: np.ndarray,
    features: int,
) -> Metrics:
    """Metrics of the test rows, at both sides; at one that is no receiver only how many rows there are.

    logits: our part of each aligned row's, float64 (n,), or our shares where nobody knows a part; label: 0/1 (n,) at
    the label holder, None at the other side; test: bool (n,), the same at both; features: of both sides, for the
    likelihood-ratio test. Rounds and bytes: `vfl.metrics_cost.declared`. Raises DataError for logits beyond 2^20,
    PeerError for an empty range of the peer's.
    """
    n_test = int(test.sum())
    n_train = len(test) - n_test
    asked = _empty(wanted)
    if not n_test:
        return Metrics(None, None, None, n_train, n_test, asked)
    enough = label is None or _enough(label, test, max(1, engine.guard.min_rows))
    if isinstance(logits, Shares):
        ours, parts, period = grids.ends_of_shares(enough), logits.parts(label is not None), logits.period
    else:
        ours, parts, period = grids.ends_of(logits, enough), logits, None
    theirs = grids.swap_ends(engine, ours)
    if not (ours.enough and theirs.enough):
        return Metrics(None, None, None, n_train, n_test, asked)
    make = _cyclic(period) if period else _between(ours, theirs, label is not None)
    found = _Measurement(engine, wanted, make, label, test).run(parts, features)
    if found is None:
        return Metrics(None, None, None, n_train, n_test)
    first = [found.pop(name) for name in ("auc", "ks", "log_loss")]
    return Metrics(first[0], first[1], first[2], n_train, n_test, found)


def _between(ours: Range, theirs: Range, label_holder: bool) -> Callable[[int], Grid]:
    return lambda bins: grids.grid(ours, theirs, bins, label_holder)


def _cyclic(period: int) -> Callable[[int], Grid]:
    return lambda bins: Cyclic.over(period, bins)


def _enough(label: np.ndarray, test: np.ndarray, least: int) -> bool:
    """Whether each class has so many test rows, and training rows at all."""
    events, trained = int(label[test].sum()), label[~test]
    return least <= events <= int(test.sum()) - least and 0 < int(trained.sum()) < len(trained)


def _empty(wanted: Wanted) -> dict[str, Any]:
    """Everything asked beyond the three, without a value."""
    names = {
        "brier": wanted.brier,
        "confusion": wanted.threshold is not None,
        "by_score": bool(wanted.groups),
        "hosmer_lemeshow": bool(wanted.groups),
        "psi": wanted.stability,
        "likelihood_ratio": wanted.likelihood,
    }
    return {name: None for name, asked in names.items() if asked}


class _Measurement:
    """One model's metrics in the making."""

    def __init__(
        self,
        engine: Engine,
        wanted: Wanted,
        make: Callable[[int], Grid],
        label: np.ndarray | None,
        test: np.ndarray,
    ) -> None:
        self._engine = engine
        self._wanted = wanted
        self._grid = make
        self._label = label
        self._test = test
        self._least = engine.guard.min_rows if engine.guard.min_rows > 1 else 0  # 1 switches the protection off
        us, peer = engine.channel.us, engine.channel.peer
        self._around = isinstance(make(2), Cyclic)
        self._to = tuple(party for party in (us, peer) if party in wanted.receivers((us, peer)))

    def run(self, logits: np.ndarray, features: int) -> dict[str, Any] | None:
        """Everything asked by name, at a receiver; None at another."""
        ours, rows = logits[self._test], int(self._test.sum())
        label = None if self._label is None else self._label[self._test]
        # 2. and 3. Count test rows by class and cell.
        on = self._grid((shared_bins_for if self._around else bins_for)(rows))
        index = on.rounded(ours, self._fine)
        counts = grids.counted(self._engine, on, index, label, 2)
        # 4. and 5. Single numbers.
        found = self._separation(counts, label)
        found |= self._losses(on, counts, (ours, index, label))
        # 6. and 7. Tables, each cell at least the minimum.
        found |= self._tables(on, counts, rows)
        if self._wanted.stability or self._wanted.likelihood:
            found |= self._training(logits, features)
        return found if self._engine.channel.us in self._to else None

    @property
    def _fine(self) -> int:
        return 1 if self._label is None else FINE

    def _open(self, share: Words, what: str) -> np.ndarray:
        """Signed values at a receiver, zeros elsewhere."""
        opened = opening.open_to(self._engine, share, what, self._to)
        return np.zeros(share.shape, dtype=np.int64) if opened is None else ring.signed(opened)

    def _separation(self, counts: Words, label: np.ndarray | None) -> dict[str, Any]:
        sizes = None if label is None else (int((label == 0).sum()), int(label.sum()))
        shares = measures.cumulative(self._engine, counts, sizes)
        measured = measures.auc_of_shares if self._around else measures.auc
        found = [measured(self._engine, shares, label is None)]
        if self._wanted.ks:
            found.append(measures.ks(self._engine, shares))
        opened = self._open(np.concatenate(found), self._wanted.name) / 2.0**measures.OPENED_BITS
        auc = float(opened[0]) / (measures.SHARPENED if self._around else 1)
        return {"auc": auc, "ks": float(opened[1]) if self._wanted.ks else None}

    def _losses(
        self, on: Grid, counts: Words, rounded: tuple[np.ndarray, np.ndarray, np.ndarray | None]
    ) -> dict[str, Any]:
        ours, index, label = rounded
        kinds = [METRICS, BRIER] if self._wanted.brier else [METRICS]
        bits = _bits(on)
        means = [measures.mean(counts, _of_cells(on, name), len(ours), bits) for name in kinds]
        share = np.concatenate(means) + self._corrections(on, (ours, index, label), len(kinds))
        cut = truncate(self._engine, share, bits - measures.OPENED_BITS)
        found = {}
        for name, value in zip(kinds, cut, strict=True):
            told, under = ("log_loss", self._wanted.name) if name == METRICS else ("brier", name)
            found[told] = float(self._open(value.reshape(1), under)[0]) / 2.0**measures.OPENED_BITS
        return found

    def _corrections(self, on: Grid, rounded: tuple[np.ndarray, np.ndarray, np.ndarray | None], count: int) -> Words:
        """Shares of the first-order part that rounding left of each mean; slopes are the label holder's best guess."""
        ours, index, label = rounded
        places = on.places(index, self._fine)
        slopes = None
        if label is not None:
            guess = on.guess(index, label)
            slopes = np.stack([guess - label, 2 * (guess - label) * guess * (1 - guess)])[:count]
        return measures.residual_sums(self._engine, ours - places, slopes, count, _bits(on))

    def _tables(self, on: Grid, counts: Words, rows: int) -> dict[str, Any]:
        """The confusion at a threshold and the table by score, decided together: cuts of one that come close to cuts of
        the other would show a small count by subtraction."""
        engine, wanted, least = self._engine, self._wanted, self._least
        found: dict[str, Any] = {}
        levels: tuple[int, ...] = ()
        tables: list[Words] = []
        cut = None
        if wanted.groups:
            levels = table_groups(wanted.groups)
            finest = measures.by_quantiles(engine, *_columns(on, counts), rows, wanted.groups)
            tables = [merged(finest, level) for level in levels]
        if wanted.threshold is not None:
            place = _edge(on, wanted.threshold)
            over = counts[:, place:].sum(axis=1, dtype=np.uint64)
            confusion = np.stack([over, counts.sum(axis=1, dtype=np.uint64) - over])
            shown = measures.shown_at_once(engine, [confusion], least, rows)
            opened = self._open(measures.suppressed(engine, shown, [confusion]), CONFUSION)
            cut = over
            found["confusion"] = _told_confusion(on, place, opened)
        if wanted.groups:
            shown = measures.shown_at_once(engine, [table[:, :2] for table in tables], least, rows)
            if cut is not None:
                ends = np.cumsum(tables[0][:, :2], axis=0, dtype=np.uint64)[:-1]
                clear = measures.distinct_cuts(engine, ends - cut, least, rows)
                shown = measures.joined(engine, shown, clear, _cuts(levels))
            lines = measures.suppressed(engine, shown, tables)
            lines[:, 2] = truncate(engine, np.ascontiguousarray(lines[:, 2]), _WEIGHT_BITS - _PREDICTED_BITS)
            found |= _told_table(self._open(lines, TABLE), levels)
        return found

    def _training(self, logits: np.ndarray, features: int) -> dict[str, Any]:
        """All rows on a coarser grid: training events, training rows without, test rows."""
        rows = len(logits)
        n_test = int(self._test.sum())
        on = self._grid(coarse_bins_for(rows))
        index = on.rounded(logits, self._fine)
        kinds = None if self._label is None else np.where(self._test, 2, self._label)
        counts = grids.counted(self._engine, on, index, kinds, 3)
        found: dict[str, Any] = {}
        if self._wanted.stability:
            cells = np.stack([counts[0] + counts[1], counts[2]])
            finest = measures.by_quantiles(self._engine, cells[0], cells, rows - n_test, _STABILITY_GROUPS)
            levels = table_groups(_STABILITY_GROUPS)
            tables = [merged(finest, level) for level in levels]
            shown = measures.shown_at_once(self._engine, tables, max(1, self._least), rows)
            found |= _told_stability(self._open(measures.suppressed(self._engine, shown, tables), STABILITY), levels)
        if self._wanted.likelihood:
            train = ~self._test
            label = None if self._label is None else self._label[train]
            bits = _bits(on)
            share = measures.mean(counts[:2], _of_cells(on, METRICS), rows - n_test, bits)
            share = share + self._corrections(on, (logits[train], index[train], label), 1)
            less = np.uint64(0) - share
            if label is not None:
                less = less + ring.encode(np.array([_entropy(float(label.mean()))]), bits)
            cut = truncate(self._engine, less, bits - _LIKELIHOOD_BITS)
            gain = float(self._open(cut, LIKELIHOOD)[0]) / 2.0**_LIKELIHOOD_BITS
            found["likelihood_ratio"] = metrics.likelihood_ratio(2 * (rows - n_test) * gain, features)
        return found


# --- local ------------------------------------------------------------------------------------------------------------


def _bits(on: Grid) -> int:
    return measures.mean_bits(float(np.abs(on.centres).max()) + on.variance)


def _of_cells(on: Grid, name: str) -> np.ndarray:
    """Log-loss or squared error of both classes at each cell's logit, and half the second derivative for the rest."""
    z = on.centres
    p = sigmoid(z)
    spread = p * (1 - p)
    if name == METRICS:
        return np.asarray(np.stack([np.logaddexp(0, z), np.logaddexp(0, -z)]) + spread * on.variance / 2)
    second = [2 * spread * (spread + (p - y) * (1 - 2 * p)) for y in (0, 1)]
    return np.asarray(np.stack([p**2, (1 - p) ** 2]) + np.stack(second) * on.variance / 2)


def _entropy(rate: float) -> float:
    """Log-loss a row of the model with the intercept alone."""
    return -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))


def _merge(columns: Words, size: int) -> Words:
    cells = columns.shape[1]
    whole = np.zeros((len(columns), -(-cells // size) * size), dtype=np.uint64)
    whole[:, :cells] = columns
    return np.asarray(whole.reshape(len(columns), -1, size).sum(axis=2, dtype=np.uint64))


def _columns(on: Grid, counts: Words) -> tuple[Words, Words]:
    """Rows by merged cell; and rows without event, events, summed predictions."""
    weights = np.rint(sigmoid(on.centres) * 2.0**_WEIGHT_BITS).astype(np.uint64)
    rows = counts.sum(axis=0, dtype=np.uint64)
    columns = _merge(np.stack([counts[0], counts[1], rows * weights]), merge_of(on.cells))
    return columns[0] + columns[1], columns


def merged(table: Words, groups: int) -> Words:
    """Neighbouring groups added up."""
    return np.asarray(table.reshape(groups, len(table) // groups, -1).sum(axis=1, dtype=np.uint64))


def _cuts(levels: tuple[int, ...]) -> list[range]:
    """Of each level, its cuts among those of the finest."""
    finest = levels[0]
    return [range(finest // level - 1, finest - 1, finest // level) for level in levels]


def _edge(on: Grid, threshold: float) -> int:
    """The first cell above the edge nearest to the threshold."""
    logit = math.log(threshold / (1 - threshold))
    place = round(float((logit - on.centres[0]) / (on.step / FINE)) + 0.5)
    return min(max(place, 0), on.cells)


def _told_confusion(on: Grid, place: int, opened: np.ndarray) -> dict[str, float | int] | None:
    """opened: rows (above, below) by class (0, 1); all 0 where a count would be too small."""
    if not opened.any():
        return None
    edge = float(sigmoid(np.array(on.centres[0] + (place - 0.5) * on.step / FINE)))
    (false_positive, true_positive), (true_negative, false_negative) = opened.tolist()
    return {
        "threshold": edge,
        "true_positive": true_positive,
        "false_positive": false_positive,
        "true_negative": true_negative,
        "false_negative": false_negative,
    }


def _finest(opened: np.ndarray, levels: tuple[int, ...]) -> np.ndarray | None:
    """The finest table that was shown."""
    start = 0
    for level in levels:
        table = opened[start : start + level]
        if table.any():
            return table
        start += level
    return None


def _told_table(opened: np.ndarray, levels: tuple[int, ...]) -> dict[str, Any]:
    table = _finest(opened, levels)
    if table is None:
        return {"by_score": None, "hosmer_lemeshow": None}
    groups = [Group(int(a + b), int(b), float(p) / 2.0**_PREDICTED_BITS) for a, b, p in table]
    tenths = groups
    if len(groups) == GROUPS[0]:
        pairs = zip(groups[::2], groups[1::2], strict=True)
        tenths = [Group(a.rows + b.rows, a.events + b.events, a.predicted + b.predicted) for a, b in pairs]
    return {"by_score": metrics.told_by_score(groups), "hosmer_lemeshow": metrics.hosmer_lemeshow(tenths)}


def _told_stability(opened: np.ndarray, levels: tuple[int, ...]) -> dict[str, Any]:
    table = _finest(opened, levels)
    if table is None:
        return {"psi": None}
    value = metrics.stability(table[:, 0].tolist(), table[:, 1].tolist())
    if not math.isfinite(value):
        raise InternalError("a group without rows was opened")
    return {"psi": {"value": value, "groups": len(table)}}
