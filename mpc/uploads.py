"""Encrypted columns that one side has uploaded and the other keeps, for later statements of the same session.

Both sides hold the same names in the same order, since both see the same statements: so each knows what the other
still has. A name binds the alignment and all that a column's values are made of, but not the table's content, which its
owner may have changed: before columns are used again the owner says which are no more what it sent (`Changed`), and
both drop those. An upload meets many multipliers; each answer is re-randomised and masked by itself.

Changed reveals one bit a column: whether its values are still those of an earlier statement.
Source: docs/protocols/08-statistics-and-sql.md, step 2.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from mpc.linear import Received, Uploaded
from party.channel import Channel
from party.errors import PeerError
from party.guard import Guard
from party.message import Array, Cap, Message

__all__ = ["BLOCKS", "Uploads", "exchange_changed"]

Handle = Uploaded | Received

BLOCKS = 1024  # of 8192 values: 400 MB at most on the side that keeps them


@dataclass(frozen=True, repr=False)
class Changed(Message, kind=0x0306):
    """Owner to keeper: for each column of a statement that the keeper holds, whether its values have changed."""

    bits: Annotated[np.ndarray, Array("u1", Cap(BLOCKS))]


@dataclass(frozen=True, repr=False)
class _Held:
    handle: Handle
    blocks: int
    content: bytes  # a digest of the values, at their owner


def exchange_changed(channel: Channel, guard: Guard, what: str, ours: Sequence[bool], due: int) -> list[bool]:
    """Tell of some columns of ours whether their values have changed, and learn it of so many of the peer's."""
    if ours:
        guard.disclose(what, channel.peer, len(ours))
        channel.send(Changed(np.array(ours, dtype=np.uint8)))
    if not due:
        return []
    bits = channel.recv(Changed).bits
    if len(bits) != due or (bits > 1).any():
        raise PeerError(f"{channel.peer} tells of other columns than we hold", party=channel.peer)
    return [bool(bit) for bit in bits]


class Uploads:
    """Handles by name, the least recently used ones forgotten first; the same calls on both sides."""

    def __init__(self, most: int = BLOCKS) -> None:
        self._most = most
        self._held: OrderedDict[bytes, _Held] = OrderedDict()

    def refresh(
        self,
        channel: Channel,
        guard: Guard,
        what: str,
        ours: Mapping[bytes, Callable[[], bytes]],
        theirs: Collection[bytes],
    ) -> None:
        """Drop what is no more what was sent, on both sides.

        ours: names of our columns, with what gives the digest of their values now; theirs: names of the peer's; `what`
        names the bits to the guard. Rounds: one where columns are held, else none.
        """
        mine = [name for name in ours if name in self._held]
        due = [name for name in theirs if name in self._held]
        changed = [self._held[name].content != ours[name]() for name in mine]
        bits = exchange_changed(channel, guard, what, changed, len(due))
        for name, bit in (*zip(mine, changed, strict=True), *zip(due, bits, strict=True)):
            if bit:
                del self._held[name]

    def get(
        self,
        names: Sequence[bytes | None],
        blocks: int,
        make: Callable[[list[int]], Sequence[Handle]],
        content: Callable[[int], bytes] = lambda _: b"",
    ) -> list[Handle]:
        """The handles of these names, each of so many blocks; `make` gives those of the places that are not held,
        `content` at their owner the digest of a place's values. What has no name is made anew and not held."""
        known = [None if name is None else self._held.get(name) for name in names]
        missing = [place for place, held in enumerate(known) if held is None]
        handles = {place: held.handle for place, held in enumerate(known) if held is not None}
        if missing:
            handles |= dict(zip(missing, make(missing), strict=True))
        for place, name in enumerate(names):
            if name is not None:
                self._held[name] = known[place] or _Held(handles[place], blocks, content(place))
                self._held.move_to_end(name)
        while sum(held.blocks for held in self._held.values()) > self._most:
            self._held.popitem(last=False)
        return [handles[place] for place in range(len(names))]

    def __len__(self) -> int:
        return len(self._held)

    def clear(self) -> None:
        """Hold nothing: after a failure the two sides may not hold the same."""
        self._held.clear()
