"""Joint execution of a plan: inner products to shares, the smallest group on shares, openings to the receivers only.

Steps, the same on both sides (docs/protocols/08-statistics-and-sql.md):
1. each owner computes its features and group places in the clear; sizes of groups without a declared domain are told;
2. products of features of both owners come from the lattice engine as shares, the rest is local;
3. sums over 64 bits are joined from their limbs, on shares (`joining`);
4. cells of too few rows, and those that HAVING hides, become 0 on shares;
5. what the plan names is opened to its receivers; 6. labels of shown groups go to the receivers that lack them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mpc import long
from mpc.compare import at_least, logic_and, logic_every
from mpc.convert import select
from mpc.engine import Engine
from mpc.opening import open_bits, open_long, suppress
from mpc.sql.answer import Labels, answer
from mpc.sql.distinct import distinct_counts
from mpc.sql.having import check_tests, having_bits, known_bits
from mpc.sql.joining import joined
from mpc.sql.joint import Joint
from mpc.sql.labels import GroupCount, exchange_labels
from mpc.sql.limit import check_cells, key_values, limit_bits
from mpc.sql.local import LocalColumns, column_length, groups
from mpc.sql.products import CELLS, cells_of, check_held, padded
from mpc.sql.ranks import pick_values
from mpc.sql.result import Result
from mpc.sql.together import shown_cells
from mpc.sql.types import Plan
from party.errors import InternalError, PeerError, UsageError

__all__ = ["execute"]

Words = npt.NDArray[np.uint64]
Bits = npt.NDArray[np.uint8]


def execute(plan: Plan, columns: LocalColumns, engine: Engine, alignment: bytes | None = None) -> Result | None:
    """Run our half of a plan; the answer if we are a receiver, else None.

    columns: our local step evaluated over our aligned rows, in the common order. Peer learns what `Plan.explain` lists.
    alignment: its digest; columns uploaded under it before, over the same engine, are not uploaded again.
    Rounds and bytes: those of the plan's steps (`mpc.sql.cost`).
    Raises DataError for a value of ours outside its declared range or domain, PeerError for a peer off the protocol.
    """
    if plan.parties[engine.index] != engine.channel.us:
        raise InternalError("the plan and the engine disagree on who we are")
    try:
        return _Run(plan, columns, engine, alignment).result()
    except BaseException:
        engine.forget()
        raise


class _Run:
    def __init__(self, plan: Plan, columns: LocalColumns, engine: Engine, alignment: bytes | None) -> None:
        self.plan = plan
        self.engine = engine
        self.us = engine.index
        self.rows = column_length(columns)
        if self.rows > plan.rows:
            raise InternalError(f"{self.rows} aligned rows, planned for {plan.rows}")
        self.groups = groups(plan, self.us, columns, self.rows)
        self.sizes = self._sizes()
        self.joint = Joint(engine, plan, columns, self.groups, self.sizes, alignment)

    def result(self) -> Result | None:
        limbs = self.joint.limbs()
        for one, counted in zip(self.plan.distincts, distinct_counts(self.joint), strict=True):
            limbs[one.quantity][0] += counted
        quantities = joined(self.engine, self.plan.quantities, limbs)
        masked, bits = self._protected(quantities)
        found = pick_values(self.joint, [words[:, 0] for words in quantities], bits)
        opened = self._open(masked)
        if opened is not None:
            opened += found
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

    # --- 4. the smallest group ----------------------------------------------------------------------------------

    def _protected(self, quantities: list[Words]) -> tuple[list[Words], Bits | None]:
        """Shares of what may be opened, (cells, words) an opening, and XOR shares of the shown groups: step 4."""
        plan = self.plan
        masked = [quantities[opening.quantity].copy() for opening in plan.opened]
        width = max(plan.rows, 1).bit_length()
        bits = self._shown(quantities, masked[0][:, 0], width) if plan.grouped else None
        if bits is not None:
            length = max(share.shape[1] for share in masked)
            whole = np.concatenate([long.words_of(share, length) for share in masked], axis=1)
            kept = suppress(self.engine, bits, whole, length).reshape(len(whole), -1, length)
            masked = [kept[:, place, : share.shape[1]] for place, share in enumerate(masked)]
        done = set(plan.opened[0].gates) if plan.grouped else set()
        gated = {n: sorted(set(opening.gates) - done) for n, opening in enumerate(plan.opened)}
        gates = sorted({gate for some in gated.values() for gate in some})
        if plan.min_rows > 1 and gates:
            counts = np.stack([quantities[gate][:, 0] for gate in gates])
            enough = at_least(self.engine, counts, plan.min_rows, max(width, plan.min_rows.bit_length()) + 1)
            bit_of = dict(zip(gates, enough, strict=True))
            lists = list(dict.fromkeys(tuple(some) for some in gated.values() if some))
            every = logic_every(self.engine, [[bit_of[gate] for gate in some] for some in lists])
            shown = dict(zip(lists, every, strict=True))
            places = [place for place, some in gated.items() if some]
            length = max(masked[place].shape[1] for place in places)
            kept = select(
                self.engine,
                np.concatenate([shown[tuple(gated[place])] for place in places]),
                np.concatenate([long.words_of(masked[place], length) for place in places]),
                length,
            ).reshape(len(places), -1, length)
            for share, place in zip(kept, places, strict=True):
                masked[place] = share[:, : masked[place].shape[1]]
        return masked, bits

    def _shown(self, quantities: list[Words], rows: Words, width: int) -> Bits | None:
        """XOR shares of the groups that are shown, from shares of their rows; None where every group of a row is."""
        plan = self.plan
        bits: Bits | None = None
        first = [words[:, 0] for words in quantities]
        if plan.min_rows > 1 or plan.limit is not None or self._blind_owners():
            bits = shown_cells(self.engine, plan, self.sizes, rows, width)
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

    # --- 5. openings --------------------------------------------------------------------------------------------

    def _open(self, masked: list[Words]) -> list[list[int]] | None:
        """What the plan names, as integers (cells,) each, if we are a receiver: step 5."""
        found: list[list[int]] = []
        for opening, share in zip(self.plan.opened, masked, strict=True):
            words = open_long(self.engine, share, opening.what, self.plan.to)
            if words is not None:
                found.append(long.integers(words))
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
