"""What a plan will move and compute, step by step, before anything runs: for `tally plan` and EXPLAIN.

The steps are those of `mpc.sql.execute`, counted by the same rules; sizes of groups that only a run knows are taken as
`ASSUMED_GROUPS`, labels of groups as 16 bytes each. Columns that earlier statements have left at the other side cost
nothing (`Held`), but for a bit each that says that they are unchanged. The guard of the history is a step before these:
`mpc.sql.near_cost`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterator
from functools import partial

import numpy as np

from mpc.cost import Meter, setup_bytes
from mpc.counts import lane_of
from mpc.lattice import NARROW, WIDE
from mpc.lattice_long import LONG_BITS
from mpc.linear import limb_count
from mpc.linear_cost import key_bytes, predict_inner, predict_long, predict_upload, predict_upload_long
from mpc.sql.across import ROWS
from mpc.sql.having import tests_of
from mpc.sql.held import Held, Step
from mpc.sql.joining import longest
from mpc.sql.joint import held_blocks, meaning_of
from mpc.sql.products import ASSUMED_GROUPS, BLOCK, cells_of, groups_of, more_than_one, searched
from mpc.sql.together import lines_of
from mpc.sql.types import Call, Condition, Distinct, Limit, Plan
from mpc.sql.uploading import still_due

__all__ = ["Counting", "Held", "Step", "steps_of"]

Terms = tuple[tuple[int, int, int], ...]

_LABEL = 16
_COUNT = 24 + 8  # one message of a number


_UPLOADS = ((0, 64), (0, LONG_BITS), (1, 64), (1, LONG_BITS))  # owner and modulus


def _of(modulus: int) -> str:
    """What a step's name says of long numbers."""
    return "" if modulus == 64 else " mod 2^104"


def _work(count: int, modulus: int) -> int:
    """So many polynomials, of four primes modulo 2^104, in polynomials of three."""
    return count if modulus == 64 else -(-4 * count // 3)


def steps_of(plan: Plan, sizes: tuple[int, int] | None = None, held: Held | None = None) -> tuple[Step, ...]:
    """The steps of a plan in order; those that cost nothing are left out.

    sizes: groups of each owner, where they are known. held: of earlier statements; this one's is added to it.
    """
    return tuple(Counting(plan, sizes, Held() if held is None else held).steps())


class Counting:
    """Adds up what one plan moves and computes."""

    def __init__(self, plan: Plan, sizes: tuple[int, int] | None, held: Held, meter: Meter | None = None) -> None:
        self.plan = plan
        self.held = held
        self.meter = Meter() if meter is None else meter
        self.known = (cells_of(plan.keys, 0), cells_of(plan.keys, 1))
        self.sizes = sizes or (groups_of(plan.keys, 0), groups_of(plan.keys, 1))
        self.cells = self.sizes[0] * self.sizes[1]
        self.height = -(-plan.rows // BLOCK)
        self.width = max(plan.rows, 1).bit_length()
        self.uploaded = self.transformed = self.multiplied = self.answers = 0
        self.kept = [0, 0]  # columns of each owner that are held
        self.calls = plan.calls
        self._names: dict[tuple[int, int], tuple[Hashable, Hashable]] = {}

    def steps(self) -> Iterator[Step]:
        plan = self.plan
        yield from (Step("local columns", party, rows=plan.rows) for party in plan.parties)
        yield from self._step("keys, once a connection", "both", self._setup)
        yield from self._step("sizes of groups", "both", self._sizes)
        yield from self._step("comparisons of both parties' columns", "both", self._tests)
        counts = [(*form, self._new(*form) * self.sizes[form[0]]) for form in _UPLOADS]
        yield from self._step("whether kept columns are unchanged", "both", self._unchanged)
        for owner, modulus, count in counts:
            name = f"{count} encrypted column{'s' * (count > 1)}{_of(modulus)}"
            yield from self._step(name, plan.parties[owner], partial(self._upload, owner, count, modulus))
        for call in self.calls:
            many = len(call.uploaded) * len(call.rows) * self.cells * limb_count(call.bits)
            name = f"{many} product{'s' * (many > 1)}{_of(call.modulus)}"
            yield from self._step(name, plan.parties[1 - call.owner], partial(self._call, call))
        for one in plan.distincts:
            name = f"distinct values, {one.values or ASSUMED_GROUPS} possible"
            yield from self._step(name, plan.parties[one.owner], partial(self._distinct, one))
        yield from self._step("sums over 64 bits joined", "both", self._joined)
        yield from self._step("smallest group, conditions on groups", "both", self._protected)
        longest = max((pick.bits for pick in plan.picks), default=0)
        yield from self._step(f"searches, {longest} steps", "both", self._searches)
        yield from self._step("openings", "both", self._openings)

    def products(self) -> None:
        """`mpc.sql.joint.Joint.limbs`: keys, comparisons of both's columns, uploads, products."""
        known = self._known_counts()
        self._setup()
        self._tests()
        self._told(*(len({self._names[pair][owner] for pair in known}) for owner in (0, 1)))
        counts = [(*form, self._new(*form) * self.sizes[form[0]]) for form in _UPLOADS]
        self._told(*self.kept)
        for owner, modulus, count in counts:
            self._upload(owner, count, modulus)
        for call in self.calls:
            self._call(call)
        for owner in (0, 1):
            calls = [call for call in still_due(self.plan.transfers, known) if call.owner == owner]
            here, there = self.sizes[owner], self.sizes[1 - owner]
            shapes = [(len(call.uploaded) * here, len(call.rows) * there) for call in calls]
            if shapes and self.plan.rows:
                self.meter.counts(owner, shapes, self.plan.rows, lane_of(max(call.bits for call in calls)))

    def _step(self, name: str, who: str, work: Callable[[], None]) -> Iterator[Step]:
        before, counted = self._figures(), self.meter.bytes
        work()
        if self.meter.bytes > counted:
            yield Step(name, who, *(now - then for now, then in zip(self._figures(), before, strict=True)))

    def _figures(self) -> tuple[int, ...]:
        meter = self.meter
        return (
            meter.rounds, meter.bytes, self.uploaded, self.transformed, self.multiplied, self.answers,
            meter.transfers,
        )  # fmt: skip

    # --- products -------------------------------------------------------------------------------------------------

    def _setup(self) -> None:
        """Keys of those who upload, and base transfers, once a connection."""
        plan = self.plan
        for owner, modulus in _UPLOADS if plan.rows else ():
            if (owner, modulus) in self.held.keys or not self._columns(owner, modulus):
                continue
            self.held.keys.add((owner, modulus))
            self.meter.sent[owner] += key_bytes(NARROW if modulus == 64 else WIDE)
        compared = plan.tests or plan.picks or plan.distincts or self._decided or (plan.min_rows > 1 and plan.opened)
        if compared or longest(plan.quantities) > 1:
            self.base_transfers()

    def base_transfers(self) -> None:
        """Once a connection."""
        if not self.held.transfers:
            self.held.transfers = True
            self.meter.swap(setup_bytes() // 4, setup_bytes() // 4)
            self.meter.swap(setup_bytes() // 4, setup_bytes() // 4)

    def _sizes(self) -> None:
        told = [_COUNT * (size is None) for size in self.known]
        if all(told):
            self.meter.swap(*told)
        elif any(told):
            self.meter.tell(0 if told[0] else 1, _COUNT)

    def _tests(self) -> None:
        plan = self.plan
        for test in plan.tests:
            for start in range(0, plan.rows, ROWS):
                self.meter.less_than(min(ROWS, plan.rows - start), test.bits)
        for places in plan.joints:
            for _ in places[1:]:
                self.meter.logic_and(plan.rows)

    def _columns(self, owner: int, modulus: int) -> set[int]:
        """The features that an owner uploads."""
        calls = [call for call in self.calls if call.owner == owner and call.modulus == modulus]
        found = {number for call in calls for number in call.uploaded}
        return found | {number for other, number in searched(self.plan) if other == owner and modulus == 64}

    def _new(self, owner: int, modulus: int) -> int:
        """How many features an owner uploads that are not held."""
        new, kept = 0, set[object]()
        for number in sorted(self._columns(owner, modulus)):
            meaning = meaning_of(self.plan, owner, (number, modulus), self.sizes[owner])
            blocks = self.sizes[owner] * held_blocks(self.plan.rows, modulus)
            if meaning is None or not self.held.has(meaning, blocks):
                new += 1
            else:
                kept.add(meaning)
        self.kept[owner] += len(kept)
        return new

    def _unchanged(self) -> None:
        self._told(*self.kept)

    def _told(self, *columns: int) -> None:
        """`mpc.uploads.exchange_changed` of so many columns of each owner."""
        told = [_COUNT - 4 + some if some and self.plan.rows else 0 for some in columns]
        if all(told):
            self.meter.swap(*told)
        elif any(told):
            self.meter.tell(0 if told[0] else 1, sum(told))

    def _known_counts(self) -> frozenset[tuple[int, int]]:
        """The products whose shares are kept; of the others' calls what is due, and from now on they are kept."""
        plan, found = self.plan, set[tuple[int, int]]()
        for pair in plan.kept if plan.rows else ():
            first, second = (meaning_of(plan, owner, (pair[owner], 64), self.sizes[owner]) for owner in (0, 1))
            if first is not None and second is not None:
                self._names[pair] = (first, plan.min_rows), (second, plan.min_rows)
        usable = frozenset(self.held.counts.usable(list(self._names.values())))
        for pair, name in self._names.items():
            if name in usable:
                self.held.counts.get(name)
                found.add(pair)
        for pair, name in self._names.items():
            if pair not in found:
                self.held.counts.put(name, np.zeros(self.cells, dtype=np.uint64), b"")
        self.calls = tuple(still_due(plan.calls, found))
        return frozenset(found)

    def _upload(self, owner: int, count: int, modulus: int) -> None:
        if not self.plan.rows or not count:
            return
        cost = (predict_upload if modulus == 64 else predict_upload_long)(count, self.plan.rows)
        self.meter.tell(owner, cost.owner)
        for _ in range(cost.rounds):
            self.meter.tell(1 - owner, cost.multiplier // cost.rounds)
        self.uploaded += _work(count * self.height, modulus)

    def _call(self, call: Call) -> None:
        held, others = len(call.uploaded) * self.sizes[call.owner], len(call.rows) * self.sizes[1 - call.owner]
        self._answer(1 - call.owner, (held, others), call.bits, call.modulus)

    def _answer(self, sender: int, columns: tuple[int, int], bits: int, modulus: int = 64) -> None:
        """Products of columns of the other side with the sender's."""
        if not self.plan.rows:
            return
        cost = predict_inner(*columns, bits) if modulus == 64 else predict_long(*columns)
        self.meter.tell(sender, cost.multiplier)
        others = _work(columns[1] * limb_count(bits), modulus)
        self.answers += columns[0] * others
        self.transformed += others * self.height
        self.multiplied += columns[0] * others * self.height

    def _counts(self, owner: int, terms: Terms, places: int) -> None:
        """`Joint.counts` at so many places of the owner."""
        other = 1 - owner
        for term in terms:
            for _ in range(self.sizes[other] if more_than_one(self.plan, other, term[1 + other]) else 0):
                self._answer(owner, (1, places), 2)

    # --- on shares ------------------------------------------------------------------------------------------------

    def _distinct(self, one: Distinct) -> None:
        size = one.values or ASSUMED_GROUPS
        if one.values is None:
            self.meter.tell(one.owner, _COUNT)
        self._counts(one.owner, one.terms, size * self.sizes[one.owner])
        self.meter.at_least(self.cells * size, self.width + 1)
        self.meter.to_arithmetic(self.cells * size)

    def _searches(self) -> None:
        plan, meter = self.plan, self.meter
        if not plan.picks:
            return
        self._gates([pick.gates for pick in plan.picks])
        if plan.keys and self._decided:
            meter.logic_and(len(plan.picks) * self.cells)
        meter.to_arithmetic(len(plan.picks) * self.cells)
        for bit in range(max(pick.bits for pick in plan.picks) - 1, -1, -1):
            due = [pick for pick in plan.picks if pick.bits > bit]
            for pick in due:
                self._counts(pick.owner, pick.terms, self.sizes[pick.owner])
            meter.negative(len(due) * self.cells, max(2 * pick.bound + 1 for pick in due).bit_length() + 1)
            for pick in due:
                self._open_bits({*plan.to, plan.parties[pick.owner]})

    def _open_bits(self, to: Collection[str]) -> None:
        first, second = (party in to for party in self.plan.parties)
        self.meter.open(-(-self.cells // 64), (first, second))

    def _joined(self) -> None:
        """`mpc.sql.joining.joined`."""
        quantities = self.plan.quantities
        limbs = sum(len(quantity.limbs) for quantity in quantities if quantity.words > 1)
        self.meter.widen(limbs * self.cells, longest(quantities))

    @property
    def _blind(self) -> list[int]:
        """Owners of undeclared group keys that receive nothing."""
        return [o for o in (0, 1) if self.known[o] is None and self.plan.parties[o] not in self.plan.to]

    @property
    def _decided(self) -> bool:
        """Whether it is decided on shares which groups are shown."""
        plan = self.plan
        some = plan.min_rows > 1 or plan.limit is not None or plan.having is not None or bool(self._blind)
        return plan.grouped and some

    def _protected(self) -> None:
        plan, meter = self.plan, self.meter
        if self._decided:
            groups = plan.min_rows > 1 or plan.limit is not None or bool(self._blind)
            if groups:
                self._shown()
            if plan.having is not None:
                self._having(plan.having)
                if groups:
                    meter.logic_and(self.cells)
            if plan.limit is not None:
                self._limit(plan.limit)
            words = self._words()
            meter.select(self.cells, max(words) * len(words))
        done = set(plan.opened[0].gates) if plan.grouped else set()
        gated = [tuple(sorted(set(one.gates) - done)) for one in plan.opened]
        gates = {gate for some in gated for gate in some}
        if plan.min_rows > 1 and gates:
            meter.at_least(len(gates) * self.cells, max(self.width, plan.min_rows.bit_length()) + 1)
            meter.logic_every([len(some) for some in set(gated)], self.cells)
            words = [count for count, some in zip(self._words(), gated, strict=True) if some]
            meter.select(len(words) * self.cells, max(words))

    def _shown(self) -> None:
        """`mpc.sql.together.shown_cells`."""
        plan, meter = self.plan, self.meter
        if plan.min_rows == 1 or plan.together == "cells":
            by = lines_of(plan)
            meter.shown_crossed(self.sizes if by else (1, self.cells), plan.min_rows, self.width, by or (0,))
        elif plan.together == "table":
            meter.shown_table(self.cells, self.width)
        else:
            owner = plan.keys[-1].owner
            meter.shown_lines(self.sizes[1 - owner], self.sizes[owner], self.width)

    def _words(self) -> list[int]:
        """How many words each opening has in a cell."""
        return [self.plan.quantities[one.quantity].words for one in self.plan.opened]

    def _gates(self, lists: list[tuple[int, ...]]) -> None:
        """`mpc.sql.having.known_bits`."""
        distinct = {gate for some in lists for gate in some}
        least = max(self.plan.min_rows, 1)
        if distinct:
            self.meter.at_least(len(distinct) * self.cells, max(self.width, least.bit_length()) + 1)
        self.meter.logic_every([len(some) for some in set(lists)], self.cells)

    def _having(self, condition: Condition) -> None:
        tests = tests_of(condition)
        self._gates([test.gates for test in tests])
        compared = [test for test in tests if test.op == "ge"]
        if compared:
            bits = max(test.bound for test in compared).bit_length() + 1
            self.meter.negative(len(compared) * self.cells, max(bits, 2))
        self._tree(condition)

    def _tree(self, condition: Condition) -> None:
        """The ANDs of a condition."""
        for arg in condition.args:
            self._tree(arg)
        if condition.op == "ge":
            self.meter.logic_and(self.cells)
        elif condition.op in ("and", "or"):
            self.meter.logic_every([len(condition.args)], self.cells)

    def _limit(self, limit: Limit) -> None:
        meter, cells = self.meter, self.cells
        self._gates([rank.gates for rank in limit.ranks])
        pairs = math.comb(cells, 2)
        for rank in limit.ranks:
            if rank.key is None:
                meter.select(cells)
                meter.negative(2 * pairs, (2 * rank.bound + 2).bit_length() + 1)
            meter.logic_and(pairs)
        meter.logic_and(2 * pairs)
        meter.to_arithmetic(2 * pairs)
        bits = max(cells, 1).bit_length() + 1
        for wanted in (limit.offset + limit.count < cells, limit.offset > 0):
            if wanted:
                meter.at_least(cells, bits)
                meter.logic_and(cells)

    def _openings(self) -> None:
        plan = self.plan
        for words in self._words():
            self.meter.open(words * self.cells, (plan.parties[0] in plan.to, plan.parties[1] in plan.to))
        if self._blind and self._decided:
            self._open_bits([plan.parties[owner] for owner in self._blind])
        for owner in (0, 1):
            if self.known[owner] is None and plan.parties[1 - owner] in plan.to:
                self.meter.tell(owner, _LABEL * self.sizes[owner])
