"""Shares of counts that were made before, kept by both sides for later statements of the same session.

A count is named by the columns of both owners that it is made of, as uploads are (`mpc.uploads`): a name binds the
alignment and all that a column's values are made of, but not the table's content. So before shares are used again each
side says of which of its columns the values have changed since (`Changed`), and both drop the counts of those. Shares
are inputs of comparisons and never opened; using them again tells nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mpc.uploads import BLOCKS, exchange_changed
from party.channel import Channel
from party.guard import Guard

__all__ = ["COLUMNS", "KeptCounts"]

Words = npt.NDArray[np.uint64]
Name = tuple[Hashable, Hashable]  # of the columns of party 0 and of party 1

COLUMNS = BLOCKS  # of one owner whose counts are used again at once: what one message tells of
WORDS = 1 << 21  # kept: 16 MB


@dataclass(frozen=True, repr=False)
class _Kept:
    share: Words
    content: bytes  # a digest of our column's values then


@dataclass
class KeptCounts:
    """Shares by name, those that were made or used longest ago forgotten first; the same calls on both sides."""

    most: int = WORDS
    _kept: OrderedDict[Name, _Kept] = field(default_factory=OrderedDict)
    _words: int = 0

    def usable(self, names: Sequence[Name]) -> list[Name]:
        """Which of these are kept, as many as two messages can tell of."""
        found: list[Name] = []
        columns: tuple[set[Hashable], set[Hashable]] = (set(), set())
        for name in names:
            more = [{name[o]} | columns[o] for o in (0, 1)]
            if name in self._kept and all(len(some) <= COLUMNS for some in more):
                columns = more[0], more[1]
                found.append(name)
        return found

    def refresh(
        self,
        channel: Channel,
        guard: Guard,
        what: str,
        used: Sequence[Name],
        ours: tuple[int, Callable[[Hashable], bytes]],
    ) -> None:
        """Drop those of `usable` names whose columns are no more what they were, on both sides.

        ours: our place in a name, and what gives the digest of a column's values now. `what` names the bits to the
        guard. Rounds: one where any are used, else none.
        """
        place, content = ours
        mine, theirs = (list(dict.fromkeys(name[o] for name in used)) for o in (place, 1 - place))
        now = {column: content(column) for column in mine}
        gone = {name[place] for name in used if self._kept[name].content != now[name[place]]}
        told = exchange_changed(channel, guard, what, [column in gone for column in mine], len(theirs))
        gone |= {column for column, bit in zip(theirs, told, strict=True) if bit}
        for name in used:
            if gone & set(name):
                self._words -= self._kept.pop(name).share.size

    def get(self, name: Name) -> Words | None:
        """Our share, None where none is kept."""
        found = self._kept.get(name)
        if found is None:
            return None
        self._kept.move_to_end(name)
        return found.share

    def put(self, name: Name, share: Words, content: bytes) -> None:
        """Keep our share, made of a column of ours with this digest."""
        before = self._kept.pop(name, None)
        self._words += share.size - (0 if before is None else before.share.size)
        self._kept[name] = _Kept(share, content)
        while self._words > self.most:
            self._words -= self._kept.popitem(last=False)[1].share.size

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        """Keep nothing: after a failure the two sides may not keep the same."""
        self._kept.clear()
        self._words = 0
