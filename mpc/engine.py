"""The engine: what every joint computation of one run shares between its protocols."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

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
    side has encrypted for the other, kept for later statements.
    """

    channel: Channel
    guard: Guard
    linear: Linear
    ot: Ot
    index: int
    uploads: Uploads = field(default_factory=Uploads, repr=False, compare=False)

    @classmethod
    def start(cls, channel: Channel, guard: Guard, index: int) -> Engine:
        """Make an engine; keys and base transfers are exchanged at first use."""
        return cls(channel, guard, Linear(channel, index), Ot(channel, index), index)

    def for_run(self, guard: Guard) -> Engine:
        """The same keys and transfers for another run over the same channel, under that run's guard."""
        self.linear.begin_run()
        return replace(self, guard=guard)
