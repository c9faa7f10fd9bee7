"""One side's half of the joint sums: its columns as features, uploads that are kept, products as shares.

Steps 1 and 2 of docs/protocols/08-statistics-and-sql.md. What one owner knows alone is a local sum, the share being the
sum at the owner and 0 at the peer; everything else comes from the lattice engine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from mpc import long
from mpc.counts import counts_chosen, counts_offered, lane_of
from mpc.engine import Engine
from mpc.linear import Received, Uploaded
from mpc.sql.across import joint_bits
from mpc.sql.local import Groups, LocalColumns, column_length, compared, feature
from mpc.sql.products import BLOCK, more_than_one, searched
from mpc.sql.types import Call, Plan
from mpc.sql.uploading import still_due

__all__ = ["Joint", "held_blocks", "meaning_of"]

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
        self._handles: dict[tuple[int, int, int], Handle] = {}
        self._weights: dict[int, Ints] = {}
        self._digests: dict[int, bytes] = {}

    def limbs(self) -> list[list[Words]]:
        """Shares of every limb of every quantity: (cells,) modulo 2^64, (cells, 2) modulo 2^104."""
        products = self._products()
        local: dict[tuple[int, int, int], Words] = {}
        found = []
        for quantity in self.plan.quantities:
            modulus = quantity.modulus
            limbs: list[Words] = []
            length = 1 if modulus == 64 else 2
            for terms in quantity.limbs:
                total: Words = np.zeros((*self.sizes, length), dtype=np.uint64)
                for factor, first, second in terms:
                    key = (first, second, modulus)
                    if key not in products and key not in local:
                        local[key] = self._local((first, second), length)
                    share = products[key] if key in products else local[key]
                    total = long.add(total, long.times(share, factor), length)
                if length == 1:
                    limbs.append(total.reshape(-1))
                else:
                    total[..., 1] &= np.uint64(2 ** (modulus - 64) - 1)
                    limbs.append(total.reshape(-1, length))
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

    def _products(self) -> dict[tuple[int, int, int], Words]:
        """Shares of every joint product, (groups of 0, groups of 1, words), by the numbers of its features, modulus."""
        found: dict[tuple[int, int, int], Words] = {}
        if self.rows == 0:
            return found
        names = self._names()
        known = self._kept(names)
        found |= {(*pair, 64): share[..., None] for pair, share in known.items()}
        due = still_due(self.plan.calls, known)
        blocks = list(dict.fromkeys((call.owner, call.uploaded, call.modulus) for call in due))
        uploads = [*blocks, *((owner, (number,), 64) for owner, number in searched(self.plan))]
        self._refresh(uploads)
        for owner, numbers, modulus in blocks:
            self._encrypted(owner, numbers, modulus)
        for call in due:
            self._put(found, call, self._call(call))
        for owner in (0, 1):
            calls = [call for call in still_due(self.plan.transfers, known) if call.owner == owner]
            for call, shares in zip(calls, self._transferred(owner, calls), strict=True):
                self._put(found, call, shares)
        for pair, name in names.items():
            if pair not in known:
                self.engine.counts.put(name, found[*pair, 64][..., 0], self._digest(pair[self.us]))
        return found

    def _call(self, call: Call) -> Words:
        """Our shares of one call: (columns of the owner, columns of the other) and words modulo 2^104."""
        linear, handles = self.engine.linear, self._encrypted(call.owner, call.uploaded, call.modulus)
        encrypted = type(handles[0]).joined(handles)  # type: ignore[arg-type]  # all are the owner's, or all theirs
        count = len(call.rows) * self.sizes[1 - call.owner]
        if isinstance(encrypted, Received):
            rows = self._spread(call.rows)
            if call.modulus == 64:
                return linear.inner_multiplier(encrypted, rows, call.bits)
            return linear.long_multiplier(encrypted, rows, call.bits)
        return (
            linear.inner_owner(encrypted, count, call.bits)
            if call.modulus == 64
            else linear.long_owner(encrypted, count)
        )

    def _names(self) -> dict[tuple[int, int], tuple[Hashable, Hashable]]:
        """The products whose shares are kept, by the names of their columns; min_rows gives a share's width."""
        found: dict[tuple[int, int], tuple[Hashable, Hashable]] = {}
        for pair in self.plan.kept if self.alignment is not None else ():
            first, second = (self._column_name(owner, pair[owner], 64) for owner in (0, 1))
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

    def _put(self, found: dict[tuple[int, int, int], Words], call: Call, shares: Words) -> None:
        """Shares of a call's products, (columns, rows) each with its groups, to where they are looked for."""
        shape = len(call.uploaded), self.sizes[call.owner], len(call.rows), self.sizes[1 - call.owner]
        shaped = shares.reshape(*shape, -1)
        for i, column in enumerate(call.uploaded):
            for j, row in enumerate(call.rows):
                cell = shaped[i, :, j, :]
                pair, share = ((column, row), cell) if call.owner == 0 else ((row, column), cell.swapaxes(0, 1))
                found[*pair, call.modulus] = share

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

    def _refresh(self, blocks: list[tuple[int, tuple[int, ...], int]]) -> None:
        """Columns that were uploaded before and have other values now are uploaded again."""
        if self.alignment is None:
            return
        names: list[dict[bytes, int]] = [{}, {}]
        for owner, numbers, modulus in blocks:
            named = {number: self._column_name(owner, number, modulus) for number in numbers}
            names[owner] |= {name: number for number, name in named.items() if name is not None}
        ours = {name: partial(self._content, number) for name, number in names[self.us].items()}
        engine, what = self.engine, f"query.{self.plan.name}.changed"
        engine.uploads.refresh(engine.channel, engine.guard, what, ours, names[1 - self.us])

    def _content(self, number: int) -> bytes:
        """A digest of the values of one of our features, each times its group."""
        found = hashlib.sha256(np.ascontiguousarray(self._feature(number)).view(np.uint8).data)
        found.update(np.ascontiguousarray(self.groups.places).view(np.uint8).data)
        return found.digest()

    def _encrypted(self, owner: int, numbers: tuple[int, ...], modulus: int = 64) -> list[Handle]:
        """One owner's features, each times its groups, encrypted at the other: what it holds already is not sent."""
        missing = tuple(number for number in numbers if (owner, number, modulus) not in self._handles)
        if missing:
            made = self._uploaded(owner, missing, modulus)
            self._handles |= {(owner, n, modulus): handle for n, handle in zip(missing, made, strict=True)}
        return [self._handles[owner, number, modulus] for number in numbers]

    def _uploaded(self, owner: int, numbers: tuple[int, ...], modulus: int) -> list[Handle]:
        linear, size = self.engine.linear, self.sizes[owner]

        def make(places: list[int]) -> Sequence[Handle]:
            some = tuple(numbers[place] for place in places)
            if owner != self.us:
                receive = linear.receive if modulus == 64 else linear.receive_long
                return receive(len(some) * size, self.rows).parts(size)
            columns = self._spread(some)
            made = linear.upload(columns.astype(np.uint64)) if modulus == 64 else linear.upload_long(columns)
            return made.parts(size)

        if self.alignment is None:
            return list(make(list(range(len(numbers)))))
        names = [self._column_name(owner, number, modulus) for number in numbers]
        content = (lambda place: self._content(numbers[place])) if owner == self.us else lambda _: b""
        return self.engine.uploads.get(names, size * held_blocks(self.rows, modulus), make, content)

    def _column_name(self, owner: int, number: int, modulus: int) -> bytes | None:
        """Alignment, rows and all that the values of a feature are made of, but for the table, as 32 bytes; None for
        what is random anew each time."""
        meaning = meaning_of(self.plan, owner, (number, modulus), self.sizes[owner])
        if meaning is None:
            return None
        return hashlib.sha256(_COLUMN + (self.alignment or b"") + repr((self.rows, meaning)).encode()).digest()

    def _local(self, pair: tuple[int, int], length: int) -> Words:
        """Our share of a product that one owner knows alone, in so many words: its sums, or 0."""
        cells: Words = np.zeros((*self.sizes, length), dtype=np.uint64)
        alone = [more_than_one(self.plan, owner, pair[owner]) for owner in (0, 1)]
        if alone[1 - self.us] or not (alone[self.us] or self.us == 0):
            return cells
        values = self._feature(pair[self.us])
        if length == 1:
            return self._summed(values.astype(np.uint64)).reshape(cells.shape)
        low = self._summed((values & 0xFFFFFFFF).astype(np.uint64)).reshape(*self.sizes, 1)
        high = self._summed((values >> 32).astype(np.uint64)).reshape(*self.sizes, 1)
        sign = np.where(high.view(np.int64) < 0, ~np.uint64(0), np.uint64(0))
        upper = long.shifted(np.concatenate([high, sign], axis=-1), 32)
        return long.add(long.words_of(low, length), upper, length)

    def _summed(self, values: Words) -> Words:
        """Sums of our rows, by our groups."""
        sums: Words = np.zeros(self.sizes[self.us], dtype=np.uint64)
        if len(sums) == 1:
            sums[0] = values.sum(dtype=np.uint64)
        else:
            np.add.at(sums, self.groups.places, values)
        return sums


def held_blocks(rows: int, modulus: int) -> int:
    """Room that a column takes at the side that keeps it, in blocks of 8192 values of three primes."""
    height = -(-rows // BLOCK)
    return height if modulus == 64 else -(-4 * height // 3)


def meaning_of(plan: Plan, owner: int, column: tuple[int, int], size: int) -> tuple[object, ...] | None:
    """All that the values of an uploaded feature are made of, but for the rows and the table; None for what is random
    anew each time. column: number and modulus. size: groups of its owner."""
    number, modulus = column
    one = plan.features[owner][number]
    if any(op == "j" for op, _ in one.factors):
        return None
    factors = [(op, plan.sources[owner][place].expr, plan.sources[owner][place].use) for op, place in one.factors]
    keys = [key.expr for key in plan.keys if key.owner == owner]
    return plan.tables, owner, size, modulus, tuple(factors), one.shift, one.width, tuple(keys)


def _one_hot(values: Ints, places: Ints, start: int, stop: int) -> Ints:
    """Values at their places, int64 (stop - start, n)."""
    found = np.zeros((stop - start, len(values)), dtype=np.int64)
    here = np.flatnonzero((places >= start) & (places < stop))
    found[places[here] - start, here] = values[here]
    return found
