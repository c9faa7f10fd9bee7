"""The engine: what every joint computation of one run shares between its protocols."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

from mpc.kept_counts import KeptCounts
from mpc.linear import Linear
from mpc.ot import Ot
from mpc.uploads import Uploads
from party.channel import Channel
from party.guard import Guard

__all__ = ["Engine"]


@dataclass(frozen=True)
class Engine:
    """One side's half: the channel, the guard, the lattice engine and the oblivious transfers over it.

    `index` is 0 for the party named first in the job's `align`, 1 for the other. `uploads` are the columns that one
    side has encrypted for the other, `counts` shares of counts, both kept for later statements.
    """

    channel: Channel
    guard: Guard
    linear: Linear
    ot: Ot
    index: int
    uploads: Uploads = field(default_factory=Uploads, repr=False, compare=False)
    counts: KeptCounts = field(default_factory=KeptCounts, repr=False, compare=False)

    @classmethod
    def start(cls, channel: Channel, guard: Guard, index: int) -> Engine:
        """Make an engine; keys and base transfers are exchanged at first use."""
        return cls(channel, guard, Linear(channel, index), Ot(channel, index), index)

    def seeded(self, root: bytes) -> Engine:
        """An engine whose keys, transfers and randomness are made of this secret of ours: for steps that are repeated.

        After `begin` with the same label, the same inputs of both sides give the same messages. A label must never
        stand for other inputs of either side: masks would be used twice.
        """
        linear = Linear(self.channel, self.index, hashlib.sha256(root + b"/linear").digest())
        linear.budget = self.linear.budget  # what a run tells adds up, whoever's keys it was under
        return replace(
            self,
            linear=linear,
            ot=Ot(self.channel, self.index, hashlib.sha256(root + b"/ot").digest()),
            uploads=Uploads(),
        )

    def begin(self, label: bytes, number: int) -> None:
        """Randomness of this label's own, both sides at the same time. number: under 2^20, another for each label."""
        self.linear.begin(label)
        self.ot.begin(label, number)

    def for_run(self, guard: Guard) -> Engine:
        """The same keys and transfers for another run over the same channel, under that run's guard."""
        self.linear.begin_run()
        return replace(self, guard=guard)

    def forget(self) -> None:
        """Keep nothing for later statements: after a failure the two sides may not hold the same."""
        self.uploads.clear()
        self.counts.clear()
