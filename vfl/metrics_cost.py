"""What metrics on shares put on the wire, counted before anything runs: exact but for keys and base transfers."""

from __future__ import annotations

from collections.abc import Sequence

from mpc import histogram
from mpc.cost import Meter
from mpc.linear_cost import Cost, predict_inner, predict_matvec, predict_upload
from vfl.grid import CHUNKS, FINE, cells_of
from vfl.metrics_shared import bins_for, coarse_bins_for, shared_bins_for, table_cells, table_groups
from vfl.wanted import Wanted

__all__ = ["declared"]

_ENDS = 24 + 4 * 8
_SIGNED = 63  # bits of a multiplier that is a share
_STABILITY_GROUPS = 10


def declared(wanted: Wanted, rows: tuple[int, int], label: int, to: tuple[bool, bool], chunks: int = CHUNKS) -> Meter:
    """Bytes by sender and waits. rows: of all and of test rows; label: the label holder's index; to: whether index 0,
    index 1 receives; chunks: 1 for `vfl.grid.Shares`."""
    meter = Meter()
    if rows[1]:
        _Declared(meter, wanted, rows, (label, to), chunks).run()
    return meter


class _Declared:
    def __init__(
        self, meter: Meter, wanted: Wanted, rows: tuple[int, int], sides: tuple[int, tuple[bool, bool]], chunks: int
    ) -> None:
        self._meter = meter
        self._wanted = wanted
        self._rows, self._test = rows
        self._label, self._to = sides
        self._chunks = chunks

    def run(self) -> None:
        """Every step of `vfl.metrics_shared`, in its order."""
        meter, wanted = self._meter, self._wanted
        bins = bins_for(self._test) if self._chunks > 1 else shared_bins_for(self._test)
        meter.swap(_ENDS, _ENDS)
        self._counted(self._test, bins, 2)
        cells = cells_of(bins, self._chunks)
        self._linear(self._label, predict_matvec(2, 2 * cells))
        meter.to_arithmetic(2 * cells)
        self._linear(1 - self._label, predict_upload(1, 2 * cells))
        self._linear(1 - self._label, predict_inner(1, 1, _SIGNED))
        meter.to_arithmetic(1)
        if wanted.ks:
            self._knock_out(2 * cells)
        meter.open(1 + wanted.ks, self._to)
        means = 1 + wanted.brier
        self._corrections(self._test, means)
        meter.to_arithmetic(means)
        for _ in range(means):
            meter.open(1, self._to)
        self._tables(table_cells(cells))
        if wanted.stability or wanted.likelihood:
            self._training()

    def _counted(self, rows: int, bins: int, kinds: int) -> None:
        histogram.declare(self._meter, 1 - self._label, rows, bins, kinds * self._chunks * FINE)

    def _linear(self, owner: int, cost: Cost) -> None:
        if cost.owner:
            self._meter.tell(owner, cost.owner)
        if cost.multiplier:
            self._meter.tell(1 - owner, cost.multiplier)

    def _corrections(self, rows: int, slopes: int) -> None:
        self._linear(1 - self._label, predict_upload(1, rows))
        self._linear(1 - self._label, predict_inner(1, slopes, 22))

    def _knock_out(self, left: int) -> None:
        while left > 1:
            self._meter.negative(left // 2, 31)
            self._meter.select(left // 2)
            left -= left // 2
        self._meter.to_arithmetic(1)

    def _by_quantiles(self, cells: int, rows: int, groups: int, columns: int) -> None:
        asked = cells * (groups - 1)
        self._meter.negative(asked, (2 * groups * rows).bit_length() + 1)
        self._meter.select(asked, columns)

    def _shown(self, sizes: Sequence[int], rows: int) -> None:
        self._meter.negative(sum(sizes), rows.bit_length() + 2)
        self._meter.logic_every(sizes, 1)

    def _tables(self, cells: int) -> None:
        meter, wanted = self._meter, self._wanted
        levels = table_groups(wanted.groups)
        if wanted.groups:
            self._by_quantiles(cells, self._test, wanted.groups, 3)
        if wanted.threshold is not None:
            self._shown([4], self._test)
            meter.select(2, 2)
            meter.open(4, self._to)
        if wanted.groups:
            self._shown([2 * level for level in levels], self._test)
            if wanted.threshold is not None:
                cuts = wanted.groups - 1
                meter.negative(8 * cuts, self._test.bit_length() + 3)
                meter.logic_and(2 * cuts)
                meter.logic_every([2], cuts)
                meter.logic_every([level - 1 for level in levels], 1)
                meter.logic_and(len(levels))
            meter.select(sum(levels), 3)
            meter.to_arithmetic(sum(levels))
            meter.open(3 * sum(levels), self._to)

    def _training(self) -> None:
        meter, trained = self._meter, self._rows - self._test
        bins = coarse_bins_for(self._rows)
        self._counted(self._rows, bins, 3)
        if self._wanted.stability:
            levels = table_groups(_STABILITY_GROUPS)
            self._by_quantiles(cells_of(bins, self._chunks), trained, _STABILITY_GROUPS, 2)
            self._shown([2 * level for level in levels], self._rows)
            meter.select(sum(levels), 2)
            meter.open(2 * sum(levels), self._to)
        if self._wanted.likelihood:
            self._corrections(trained, 1)
            meter.to_arithmetic(1)
            meter.open(1, self._to)
