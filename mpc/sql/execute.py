"""Joint execution of a plan: inner products to shares, the smallest group on shares, openings to the receivers only.

Steps, the same on both sides (docs/protocols/08-statistics-and-sql.md):
1. each owner computes its features and group places in the clear; sizes of groups without a declared domain are told;
2. products of features of both owners come from the lattice engine as shares mod 2^64, the rest is local;
3. sums of digits are joined to sums on shares;
4. cells of too few rows, and those that HAVING hides, become 0 on shares;
5. what the plan names is opened to its receivers; 6. labels of shown groups go to the receivers that lack them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from mpc.compare import at_least, logic_and
from mpc.convert import select, truncate
from mpc.engine import Engine
from mpc.linear import Received, Uploaded
from mpc.opening import open_bits, open_to, shown_groups, suppress
from mpc.sql.across import joint_bits
from mpc.sql.answer import Labels, answer
from mpc.sql.having import check_tests, having_bits, known_bits
from mpc.sql.labels import GroupCount, exchange_labels
from mpc.sql.limit import check_cells, key_values, limit_bits
from mpc.sql.local import LocalColumns, column_length, compared, feature, groups, padded
from mpc.sql.products import BLOCK, CELLS, cells_of, check_held
from mpc.sql.result import Result
from mpc.sql.types import Plan
from party.errors import InternalError, PeerError, UsageError

__all__ = ["execute"]

Words = npt.NDArray[np.uint64]
Bits = npt.NDArray[np.uint8]

_COLUMN = b"tallystick/v1/sql/column/"


def execute(plan: Plan, columns: LocalColumns, engine: Engine, alignment: bytes | None = None) -> Result | None:
    """Run our half of a plan; the answer if we are a receiver, else None.

    columns: our local step evaluated over our aligned rows, in the common order. Peer learns what `Plan.explain` lists.
    alignment: its digest; columns uploaded under it before, over the same engine, are not uploaded again.
    Rounds: at most 4 for the products, 3 for the openings; comparisons if min_rows > 1 or groups have labels.
    Raises DataError for a value of ours outside its declared range or domain, PeerError for a peer off the protocol.
    """
    if plan.parties[engine.index] != engine.channel.us:
        raise InternalError("the plan and the engine disagree on who we are")
    try:
        return _Run(plan, columns, engine, alignment).result()
    except BaseException:
        engine.uploads.clear()
        raise


class _Run:
    def __init__(self, plan: Plan, columns: LocalColumns, engine: Engine, alignment: bytes | None) -> None:
        self.plan = plan
        self.alignment = alignment
        self.columns = columns
        self.engine = engine
        self.us = engine.index
        self.rows = column_length(columns)
        if self.rows > plan.rows:
            raise InternalError(f"{self.rows} aligned rows, planned for {plan.rows}")
        self.groups = groups(plan, self.us, columns, self.rows)
        self.sizes = self._sizes()
        sources = plan.sources[self.us]
        self.joints = joint_bits(engine, plan, [compared(test, self.us, sources, columns) for test in plan.tests])

    def result(self) -> Result | None:
        quantities = self._carried([np.stack(limbs) for limbs in self._limbs()])
        masked, bits = self._protected(quantities)
        opened = self._open(masked)
        labels = self._labels(opened, bits)
        return None if opened is None else answer(self.plan, self.sizes, opened, labels)

    # --- 1. sizes of groups -------------------------------------------------------------------------------------

    def _sizes(self) -> tuple[int, int]:
        """How many groups each owner has. Sends ours, padded, where it is not public: step 1."""
        known = [cells_of(self.plan.keys, owner) for owner in (0, 1)]
        ours = self.groups.count if known[self.us] is not None else padded(self.groups.count)
        if known[self.us] is None:
            self.engine.guard.disclose(f"query.{self.plan.name}.groups", self.engine.channel.peer, 1)
            self.engine.channel.send(GroupCount(ours))
        theirs = known[1 - self.us]
        if theirs is None:
            theirs = self.engine.channel.recv(GroupCount).count
            if padded(theirs) != theirs:
                raise PeerError("the number of groups is no power of 4")
        if ours * theirs > CELLS:
            raise UsageError(
                f"GROUP BY makes {ours * theirs} groups, at most {CELLS} are allowed",
                hint="group by fewer or coarser keys",
            )
        sizes = (ours, theirs) if self.us == 0 else (theirs, ours)
        check_held(self.plan.calls, sizes, self.rows)
        return sizes

    # --- 2. products --------------------------------------------------------------------------------------------

    def _feature(self, number: int) -> npt.NDArray[np.int64]:
        return feature(self.plan.features[self.us][number], self.plan.sources[self.us], self.columns, self.joints)

    def _spread(self, numbers: tuple[int, ...]) -> npt.NDArray[np.int64]:
        """Features times one-hot groups of ours: int64 (features * groups, n)."""
        size = self.sizes[self.us]
        spread = np.zeros((len(numbers), size, self.rows), dtype=np.int64)
        for place, number in enumerate(numbers):
            if size == 1:
                spread[place, 0] = self._feature(number)
            else:
                spread[place, self.groups.places, np.arange(self.rows)] = self._feature(number)
        return spread.reshape(len(numbers) * size, self.rows)

    def _products(self) -> dict[tuple[int, int], Words]:
        """Shares of every joint product, (groups of 0, groups of 1), by the numbers of its features: step 2."""
        found: dict[tuple[int, int], Words] = {}
        if self.rows == 0:
            return found
        linear = self.engine.linear
        blocks = list(dict.fromkeys((call.owner, call.uploaded) for call in self.plan.calls))
        self._refresh(blocks)
        columns = {(owner, numbers): self._encrypted(owner, numbers) for owner, numbers in blocks}
        for call in self.plan.calls:
            other, encrypted = 1 - call.owner, columns[call.owner, call.uploaded]
            if isinstance(encrypted, Received):
                shares = linear.inner_multiplier(encrypted, self._spread(call.rows), call.bits)
            else:
                shares = linear.inner_owner(encrypted, len(call.rows) * self.sizes[other], call.bits)
            shaped = shares.reshape(len(call.uploaded), self.sizes[call.owner], len(call.rows), self.sizes[other])
            for i, column in enumerate(call.uploaded):
                for j, row in enumerate(call.rows):
                    cell = shaped[i, :, j, :]
                    found[(column, row) if call.owner == 0 else (row, column)] = cell if call.owner == 0 else cell.T
        return found

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

    def _encrypted(self, owner: int, numbers: tuple[int, ...]) -> Uploaded | Received:
        """One owner's features, each times its groups, encrypted at the other: what it holds already is not sent."""
        linear, size = self.engine.linear, self.sizes[owner]

        def make(places: list[int]) -> Sequence[Uploaded | Received]:
            some = tuple(numbers[place] for place in places)
            if owner == self.us:
                return linear.upload(self._spread(some).astype(np.uint64)).parts(size)
            return linear.receive(len(some) * size, self.rows).parts(size)

        if self.alignment is None:
            handles = make(list(range(len(numbers))))
        else:
            names = [self._column_name(owner, number) for number in numbers]
            content = (lambda place: self._content(numbers[place])) if owner == self.us else lambda _: b""
            handles = self.engine.uploads.get(names, size * -(-self.rows // BLOCK), make, content)
        return type(handles[0]).joined(handles)  # type: ignore[arg-type]  # all are the owner's, or all the other's

    def _column_name(self, owner: int, number: int) -> bytes | None:
        """Alignment, rows and all that the values of a feature are made of, but for the table, as 32 bytes; None for
        what is random anew each time."""
        plan, one = self.plan, self.plan.features[owner][number]
        if any(op == "j" for op, _ in one.factors):
            return None
        factors = [(op, plan.sources[owner][place].expr, plan.sources[owner][place].use) for op, place in one.factors]
        keys = [key.expr for key in plan.keys if key.owner == owner]
        meaning = (plan.tables, owner, self.rows, self.sizes[owner], factors, one.shift, one.width, keys)
        return hashlib.sha256(_COLUMN + (self.alignment or b"") + repr(meaning).encode()).digest()

    def _local(self, pair: tuple[int, int]) -> Words:
        """Our share of a product that one owner knows alone: its sums, or 0."""
        cells: Words = np.zeros(self.sizes, dtype=np.uint64)
        alone = [
            bool(self.plan.features[owner][pair[owner]].factors) or cells_of(self.plan.keys, owner) != 1
            for owner in (0, 1)
        ]
        if alone[1 - self.us] or not (alone[self.us] or self.us == 0):
            return cells
        sums = np.zeros(self.sizes[self.us], dtype=np.uint64)
        np.add.at(sums, self.groups.places, self._feature(pair[self.us]).astype(np.uint64))
        return sums.reshape(self.sizes)

    def _limbs(self) -> list[list[Words]]:
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

    # --- 3. digits joined ---------------------------------------------------------------------------------------

    def _carried(self, quantities: list[Words]) -> list[Words]:
        """Move what a digit's sum has above its width into the next digit, on shares: step 3.

        What is opened later, sum 2**(l width) limb_l, does not change; limb l < last ends within 2**width of 0, so the
        limbs say no more than the sum does, but for one fresh coin each.
        """
        place = 0
        while True:
            todo = [n for n, q in enumerate(self.plan.quantities) if len(q.limbs) > place + 1]
            if not todo:
                return quantities
            for width in sorted({self.plan.quantities[n].width for n in todo}):
                batch = [n for n in todo if self.plan.quantities[n].width == width]
                carry = truncate(self.engine, np.stack([quantities[n][place] for n in batch]), width)
                for row, n in enumerate(batch):
                    quantities[n][place] -= carry[row] << np.uint64(width)
                    quantities[n][place + 1] += carry[row]
            place += 1

    # --- 4. the smallest group ----------------------------------------------------------------------------------

    def _protected(self, quantities: list[Words]) -> tuple[list[Words], Bits | None]:
        """Shares of what may be opened, (limbs, cells) an opening, and XOR shares of the shown groups: step 4."""
        plan = self.plan
        masked = [quantities[opening.quantity].copy() for opening in plan.opened]
        width = max(plan.rows, 1).bit_length()
        bits = self._shown(quantities, masked[0][0], width) if plan.grouped else None
        if bits is not None:
            masked = self._split(suppress(self.engine, bits, np.concatenate(masked).T.copy()).T)
        done = set(plan.opened[0].gates) if plan.grouped else set()
        gated = {n: sorted(set(opening.gates) - done) for n, opening in enumerate(plan.opened)}
        gates = sorted({gate for some in gated.values() for gate in some})
        if plan.min_rows > 1 and gates:
            counts = np.stack([quantities[gate][0] for gate in gates])
            enough = at_least(self.engine, counts, plan.min_rows, max(width, plan.min_rows.bit_length()) + 1)
            bit_of = dict(zip(gates, enough, strict=True))
            shown = self._all({tuple(some): [bit_of[gate] for gate in some] for some in gated.values() if some})
            places = [place for place, some in gated.items() if some]
            rows = [np.broadcast_to(shown[tuple(gated[place])], masked[place].shape) for place in places]
            kept = select(
                self.engine,
                np.concatenate([row.reshape(-1) for row in rows]),
                np.concatenate([masked[place].reshape(-1) for place in places]),
            )
            start = 0
            for place in places:
                size = masked[place].size
                masked[place] = kept[start : start + size].reshape(masked[place].shape)
                start += size
        return masked, bits

    def _shown(self, quantities: list[Words], rows: Words, width: int) -> Bits | None:
        """XOR shares of the groups that are shown, from shares of their rows; None where every group of a row is."""
        plan = self.plan
        bits: Bits | None = None
        first = [limbs[0] for limbs in quantities]
        if plan.min_rows > 1 or plan.limit is not None or self._blind_owners():
            bits = shown_groups(self.engine, rows, plan.min_rows, width)
        if plan.having is not None:
            check_tests(plan.having, self.sizes[0] * self.sizes[1])
            self._tell("having")
            fulfilled = having_bits(self.engine, plan.having, first, plan.min_rows, width)
            bits = fulfilled if bits is None else logic_and(self.engine, bits, fulfilled)
        if plan.limit is not None and bits is not None:
            check_cells(self.sizes[0] * self.sizes[1])
            self._tell("limit")
            values = [key_values(plan, self.sizes, rank, self.groups.labels, self.us) for rank in plan.limit.ranks]
            wanted = [rank.gates for rank in plan.limit.ranks]
            known = known_bits(self.engine, wanted, first, plan.min_rows, width)
            bits = limit_bits(self.engine, plan.limit, bits, first, values, known)
        return bits

    def _tell(self, what: str) -> None:
        """A receiver learns of each group whether it fulfils a condition: that is written down, too."""
        if self.engine.channel.peer in self.plan.to:
            cells = self.sizes[0] * self.sizes[1]
            self.engine.guard.disclose(f"query.{self.plan.name}.{what}", self.engine.channel.peer, cells)

    def _all(self, bits: dict[tuple[int, ...], list[Bits]]) -> dict[tuple[int, ...], Bits]:
        """XOR shares of the AND of each list of shared bits, pairs of all lists at once."""
        while todo := [gates for gates, left in bits.items() if len(left) > 1]:
            pairs = [(gates, n) for gates in todo for n in range(0, len(bits[gates]) - 1, 2)]
            left = np.stack([bits[gates][n] for gates, n in pairs])
            joined = logic_and(self.engine, left, np.stack([bits[gates][n + 1] for gates, n in pairs]))
            for gates in todo:
                odd = bits[gates][-1:] if len(bits[gates]) % 2 else []
                bits[gates] = [joined[n] for n, pair in enumerate(pairs) if pair[0] == gates] + odd
        return {gates: found for gates, (found,) in bits.items()}

    def _split(self, limbs: Words) -> list[Words]:
        found, start = [], 0
        for opening in self.plan.opened:
            size = len(self.plan.quantities[opening.quantity].limbs)
            found.append(limbs[start : start + size].copy())
            start += size
        return found

    # --- 5. openings --------------------------------------------------------------------------------------------

    def _open(self, masked: list[Words]) -> list[list[int]] | None:
        """What the plan names, as integers (cells,) each, if we are a receiver: step 5."""
        found: list[list[int]] = []
        for opening, share in zip(self.plan.opened, masked, strict=True):
            words = open_to(self.engine, np.ascontiguousarray(share), opening.what, self.plan.to)
            if words is None:
                continue
            width = self.plan.quantities[opening.quantity].width
            limbs = words.view(np.int64).tolist()
            found.append(
                [sum(limb << (width * place) for place, limb in enumerate(cell)) for cell in zip(*limbs, strict=True)]
            )
        return found or None

    # --- 6. labels ----------------------------------------------------------------------------------------------

    def _blind_owners(self) -> list[int]:
        """Owners of undeclared group keys that are no receivers: they learn which groups are shown, and no more."""
        return [o for o in (0, 1) if cells_of(self.plan.keys, o) is None and self.plan.parties[o] not in self.plan.to]

    def _labels(self, opened: list[list[int]] | None, bits: Bits | None) -> tuple[Labels | None, Labels | None]:
        """The labels of undeclared groups by owner, where we have or are told them: step 6."""
        plan, found = self.plan, [None if o != self.us else self.groups.labels for o in (0, 1)]
        visible: npt.NDArray[np.bool_] | None = None
        blind = self._blind_owners()
        if blind and bits is not None:
            told = open_bits(self.engine, bits, f"query.{plan.name}.shown", [plan.parties[o] for o in blind])
            visible = None if told is None else told == 1
        if opened is not None:
            visible = np.array([count >= plan.min_rows for count in opened[0]], dtype=np.bool_)
        for owner in (0, 1):
            receiver = plan.parties[1 - owner]
            if cells_of(plan.keys, owner) is None and receiver in plan.to and visible is not None:
                groups_shown = np.logical_or.reduce(visible.reshape(self.sizes), axis=1 - owner)
                found[owner] = exchange_labels(self.engine, plan, owner, found[owner], groups_shown)
        return found[0], found[1]
