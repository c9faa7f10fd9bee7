"""A step of a plan as it is told, and what steps before it have left at both sides."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from mpc.kept_counts import KeptCounts
from mpc.uploads import BLOCKS

__all__ = ["Held", "Step"]


@dataclass(frozen=True)
class Step:
    """One step: who does most of it ("both" or a party), waits, bytes both ways; and what its seconds are made of:
    blocks of 8192 values uploaded, of multipliers transformed, of products summed, answers, transfers; rows
    of local columns."""

    name: str
    who: str
    rounds: int = 0
    bytes: int = 0
    uploaded: int = 0
    transformed: int = 0
    multiplied: int = 0
    answers: int = 0
    transfers: int = 0
    rows: int = 0


@dataclass
class Held:
    """What is there already when further statements follow over one connection and alignment: keys by owner and
    modulus, base transfers, columns by what they are made of, as many blocks as `mpc.uploads` keeps."""

    keys: set[tuple[int, int]] = field(default_factory=set)
    transfers: bool = False
    columns: OrderedDict[tuple[object, ...], int] = field(default_factory=OrderedDict)
    counts: KeptCounts = field(default_factory=KeptCounts)

    def has(self, column: tuple[object, ...], blocks: int) -> bool:
        """Whether a column is there; from now on it is."""
        there = column in self.columns
        self.columns[column] = blocks
        self.columns.move_to_end(column)
        while sum(self.columns.values()) > BLOCKS:
            self.columns.popitem(last=False)
        return there
