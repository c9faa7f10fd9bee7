"""One side's half of the joint sums: its columns as features, uploads that are kept, products as shares mod 2^64.

Steps 1 and 2 of docs/protocols/08-statistics-and-sql.md. What one owner knows alone is a local sum, the share being the
sum at the owner and 0 at the peer; everything else comes from the lattice engine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from mpc.counts import counts_chosen, counts_offered, lane_of
from mpc.engine import Engine
from mpc.linear import Received, Uploaded
from mpc.sql.across import joint_bits
from mpc.sql.local import Groups, LocalColumns, column_length, compared, feature
from mpc.sql.products import BLOCK, more_than_one, searched, still_due
from mpc.sql.types import Call, Plan

__all__ = ["Joint", "meaning_of"]

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Terms = Sequence[tuple[int, int, int]]
Handle = Uploaded | Received

_COLUMN = b"tallystick/v1/sql/column/"
_TILE = 256 << 20  # bytes of a multiplier's columns held at once


class Joint:
    """Our half of one statement's joint sums. sizes: groups of each owner, a share has a value for each pair."""

    def __init__(
        self,
        engine: Engine,
        plan: Plan,
        columns: LocalColumns,
        groups: Groups,
        sizes: tuple[int, int],
        alignment: bytes | None,
    ) -> None:
        self.engine = engine
        self.plan = plan
        self.us = engine.index
        self.columns = columns
        self.rows = column_length(columns)
        self.groups = groups
        self.sizes = sizes
        self.alignment = alignment
        self.sources = plan.sources[self.us]
        self.joints = joint_bits(engine, plan, [compared(test, self.us, self.sources, columns) for test in plan.tests])
        self._handles: dict[tuple[int, int], Handle] = {}
        self._weights: dict[int, Ints] = {}
        self._digests: dict[int, bytes] = {}

    def limbs(self) -> list[list[Words]]:
        """Shares of every limb of every quantity, (cells,) each."""
        products = self._products()
        local: dict[tuple[int, int], Words] = {}
        found = []
        for quantity in self.plan.quantities:
            limbs = []
            for terms in quantity.limbs:
                total: Words = np.zeros(self.sizes, dtype=np.uint64)
                for factor, first, second in terms:
                    pair = (first, second)
                    if pair in products:
                        share = products[pair]
                    else:
                        if pair not in local:
                            local[pair] = self._local(pair)
                        share = local[pair]
                    total = total + np.uint64(factor % 2**64) * share
                limbs.append(total.reshape(-1))
            found.append(limbs)
        return found

    def counts(self, owner: int, terms: Terms, places: Ints | None, count: int, marks: Bools | None = None) -> Words:
        """Shares (count, groups of the other) of how many rows of a weight lie at each place of one owner.

        terms: of a weight of zeros and ones. places: at the owner, of each row, under `count`; None at the other side.
        marks: at the owner, bool (groups of the other, n), the rows that count in each of the other's groups; None for
        all. The other uploads, the owner multiplies. Rounds: 1. Bytes: 81,930 a term, place and group of the other.
        """
        other = 1 - owner
        total: Words = np.zeros((count, self.sizes[other]), dtype=np.uint64)
        if self.rows == 0:
            return total
        for factor, first, second in terms:
            mine, theirs = (first, second) if owner == 0 else (second, first)
            if not more_than_one(self.plan, other, theirs):
                share = self._alone(owner, mine, places, count, marks)
            else:
                share = self._with(owner, (mine, theirs), places, count, marks)
            total = total + np.uint64(factor % 2**64) * share
        return total

    # --- what counts is made of -------------------------------------------------------------------------------------

    def _alone(self, owner: int, mine: int, places: Ints | None, count: int, marks: Bools | None) -> Words:
        """The other side's factor is 1 and it has one group: the owner knows the counts."""
        found: Words = np.zeros((count, 1), dtype=np.uint64)
        if self.us == owner and places is not None:
            values = self._weight(mine) if marks is None else self._weight(mine) * marks[0]
            np.add.at(found[:, 0], places, values.astype(np.uint64))
        return found

    def _with(self, owner: int, pair: tuple[int, int], places: Ints | None, count: int, marks: Bools | None) -> Words:
        linear, other = self.engine.linear, 1 - owner
        (handle,) = self._encrypted(other, (pair[1],))
        found: Words = np.zeros((count, self.sizes[other]), dtype=np.uint64)
        step = max(1, _TILE // (8 * self.rows))
        for group, column in enumerate(handle.parts(1)):
            for start in range(0, count, step):
                stop = min(count, start + step)
                if isinstance(column, Received) and places is not None:
                    values = self._weight(pair[0]) if marks is None else self._weight(pair[0]) * marks[group]
                    shares = linear.inner_multiplier(column, _one_hot(values, places, start, stop), 2)
                else:
                    shares = linear.inner_owner(column, stop - start, 2)  # type: ignore[arg-type]  # we uploaded it
                found[start:stop, group] = shares[0]
        return found

    def _weight(self, number: int) -> Ints:
        """A feature of ours that a search reads in every step."""
        if number not in self._weights:
            self._weights[number] = self._feature(number)
        return self._weights[number]

    # --- features ---------------------------------------------------------------------------------------------------

    def _feature(self, number: int) -> Ints:
        return feature(self.plan.features[self.us][number], self.sources, self.columns, self.joints, self.groups.places)

    def _spread(self, numbers: tuple[int, ...]) -> Ints:
        """Features times one-hot groups of ours: int64 (features * groups, n)."""
        size = self.sizes[self.us]
        spread = np.zeros((len(numbers), size, self.rows), dtype=np.int64)
        for place, number in enumerate(numbers):
            if size == 1:
                spread[place, 0] = self._feature(number)
            else:
                spread[place, self.groups.places, np.arange(self.rows)] = self._feature(number)
        return spread.reshape(len(numbers) * size, self.rows)

    # --- products ---------------------------------------------------------------------------------------------------

    def _products(self) -> dict[tuple[int, int], Words]:
        """Shares of every joint product, (groups of 0, groups of 1), by the numbers of its features."""
        found: dict[tuple[int, int], Words] = {}
        if self.rows == 0:
            return found
        linear = self.engine.linear
        names = self._names()
        found |= self._kept(names)
        kept = frozenset(found)
        due = still_due(self.plan.calls, kept)
        blocks = list(dict.fromkeys((call.owner, call.uploaded) for call in due))
        uploads = [*blocks, *((owner, (number,)) for owner, number in searched(self.plan))]
        self._refresh(uploads)
        for owner, numbers in blocks:
            self._encrypted(owner, numbers)
        for call in due:
            other, handles = 1 - call.owner, self._encrypted(call.owner, call.uploaded)
            encrypted = type(handles[0]).joined(handles)  # type: ignore[arg-type]  # all are the owner's, or all theirs
            if isinstance(encrypted, Received):
                shares = linear.inner_multiplier(encrypted, self._spread(call.rows), call.bits)
            else:
                shares = linear.inner_owner(encrypted, len(call.rows) * self.sizes[other], call.bits)
            self._put(found, call, shares)
        for owner in (0, 1):
            calls = [call for call in still_due(self.plan.transfers, kept) if call.owner == owner]
            for call, shares in zip(calls, self._transferred(owner, calls), strict=True):
                self._put(found, call, shares)
        for pair, name in names.items():
            if pair not in kept:
                self.engine.counts.put(name, found[pair], self._digest(pair[self.us]))
        return found

    def _names(self) -> dict[tuple[int, int], tuple[Hashable, Hashable]]:
        """The products whose shares are kept, by the names of their columns; min_rows gives a share's width."""
        found: dict[tuple[int, int], tuple[Hashable, Hashable]] = {}
        for pair in self.plan.kept if self.alignment is not None else ():
            first, second = (self._column_name(owner, pair[owner]) for owner in (0, 1))
            if first is not None and second is not None:
                found[pair] = (first, self.plan.min_rows), (second, self.plan.min_rows)
        return found

    def _kept(self, names: dict[tuple[int, int], tuple[Hashable, Hashable]]) -> dict[tuple[int, int], Words]:
        """Shares that were made for earlier plans, but of columns that are what they were."""
        engine, numbers = self.engine, {name[self.us]: pair[self.us] for pair, name in names.items()}
        used = engine.counts.usable(list(names.values()))
        ours = self.us, lambda column: self._digest(numbers[column])
        engine.counts.refresh(engine.channel, engine.guard, f"query.{self.plan.name}.changed", used, ours)
        usable, found = frozenset(used), dict[tuple[int, int], Words]()
        for pair, name in names.items():
            share = engine.counts.get(name) if name in usable else None
            if share is not None:
                found[pair] = share
        return found

    def _digest(self, number: int) -> bytes:
        if number not in self._digests:
            self._digests[number] = self._content(number)
        return self._digests[number]

    def _put(self, found: dict[tuple[int, int], Words], call: Call, shares: Words) -> None:
        """Shares of a call's products, (columns, rows) each with its groups, to where they are looked for."""
        shape = len(call.uploaded), self.sizes[call.owner], len(call.rows), self.sizes[1 - call.owner]
        shaped = shares.reshape(shape)
        for i, column in enumerate(call.uploaded):
            for j, row in enumerate(call.rows):
                cell = shaped[i, :, j, :]
                found[(column, row) if call.owner == 0 else (row, column)] = cell if call.owner == 0 else cell.T

    def _transferred(self, owner: int, calls: Sequence[Call]) -> list[Words]:
        """Shares of products of bits, by transfers."""
        if not calls:
            return []
        here, there = self.sizes[owner], self.sizes[1 - owner]
        shapes = [(len(call.uploaded) * here, len(call.rows) * there) for call in calls]
        lane = lane_of(max(call.bits for call in calls))
        ours = owner == self.us

        def bits(place: int) -> npt.NDArray[np.uint8]:
            call = calls[place]
            return self._spread(call.uploaded if ours else call.rows).astype(np.uint8)

        work = counts_chosen if ours else counts_offered
        return work(self.engine.ot, shapes, self.rows, bits, lane)

    def _refresh(self, blocks: list[tuple[int, tuple[int, ...]]]) -> None:
        """Columns that were uploaded before and have other values now are uploaded again."""
        if self.alignment is None:
            return
        names: list[dict[bytes, int]] = [{}, {}]
        for owner, numbers in blocks:
            named = {number: self._column_name(owner, number) for number in numbers}
            names[owner] |= {name: number for number, name in named.items() if name is not None}
        ours = {name: partial(self._content, number) for name, number in names[self.us].items()}
        engine, what = self.engine, f"query.{self.plan.name}.changed"
        engine.uploads.refresh(engine.channel, engine.guard, what, ours, names[1 - self.us])

    def _content(self, number: int) -> bytes:
        """A digest of the values of one of our features, each times its group."""
        found = hashlib.sha256(np.ascontiguousarray(self._feature(number)).view(np.uint8).data)
        found.update(np.ascontiguousarray(self.groups.places).view(np.uint8).data)
        return found.digest()

    def _encrypted(self, owner: int, numbers: tuple[int, ...]) -> list[Handle]:
        """One owner's features, each times its groups, encrypted at the other: what it holds already is not sent."""
        missing = tuple(number for number in numbers if (owner, number) not in self._handles)
        if missing:
            made = self._uploaded(owner, missing)
            self._handles |= {(owner, number): handle for number, handle in zip(missing, made, strict=True)}
        return [self._handles[owner, number] for number in numbers]

    def _uploaded(self, owner: int, numbers: tuple[int, ...]) -> list[Handle]:
        linear, size = self.engine.linear, self.sizes[owner]

        def make(places: list[int]) -> Sequence[Handle]:
            some = tuple(numbers[place] for place in places)
            if owner == self.us:
                return linear.upload(self._spread(some).astype(np.uint64)).parts(size)
            return linear.receive(len(some) * size, self.rows).parts(size)

        if self.alignment is None:
            return list(make(list(range(len(numbers)))))
        names = [self._column_name(owner, number) for number in numbers]
        content = (lambda place: self._content(numbers[place])) if owner == self.us else lambda _: b""
        return self.engine.uploads.get(names, size * -(-self.rows // BLOCK), make, content)

    def _column_name(self, owner: int, number: int) -> bytes | None:
        """Alignment, rows and all that the values of a feature are made of, but for the table, as 32 bytes; None for
        what is random anew each time."""
        meaning = meaning_of(self.plan, owner, number, self.sizes[owner])
        if meaning is None:
            return None
        return hashlib.sha256(_COLUMN + (self.alignment or b"") + repr((self.rows, meaning)).encode()).digest()

    def _local(self, pair: tuple[int, int]) -> Words:
        """Our share of a product that one owner knows alone: its sums, or 0."""
        cells: Words = np.zeros(self.sizes, dtype=np.uint64)
        alone = [more_than_one(self.plan, owner, pair[owner]) for owner in (0, 1)]
        if alone[1 - self.us] or not (alone[self.us] or self.us == 0):
            return cells
        values = self._feature(pair[self.us]).astype(np.uint64)
        sums = np.zeros(self.sizes[self.us], dtype=np.uint64)
        if len(sums) == 1:
            sums[0] = values.sum(dtype=np.uint64)
        else:
            np.add.at(sums, self.groups.places, values)
        return sums.reshape(self.sizes)


def meaning_of(plan: Plan, owner: int, number: int, size: int) -> tuple[object, ...] | None:
    """All that the values of an uploaded feature are made of, but for the rows and the table; None for what is random
    anew each time. size: groups of its owner."""
    one = plan.features[owner][number]
    if any(op == "j" for op, _ in one.factors):
        return None
    factors = [(op, plan.sources[owner][place].expr, plan.sources[owner][place].use) for op, place in one.factors]
    keys = [key.expr for key in plan.keys if key.owner == owner]
    return plan.tables, owner, size, tuple(factors), one.shift, one.width, tuple(keys)


def _one_hot(values: Ints, places: Ints, start: int, stop: int) -> Ints:
    """Values at their places, int64 (stop - start, n)."""
    found = np.zeros((stop - start, len(values)), dtype=np.int64)
    here = np.flatnonzero((places >= start) & (places < stop))
    found[places[here] - start, here] = values[here]
    return found
