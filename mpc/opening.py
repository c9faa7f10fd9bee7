"""Openings: the only way out of the shares, and the rule of the smallest group.

`open_to`, `open_bits` and `Stream` ask the guard before anything is sent, so the ledger has the entry first. Sizes
depend on the shapes alone. `shown_groups` and `suppress` decide on shares which cells may be opened: nothing of a
suppressed cell is opened to anyone, and nothing about the others either before `open_to`.

Reveals: Opened shows its receiver the other half of a value, and so the value; the rest is `mpc.ot` and `mpc.compare`.
Source: docs/protocols/07-opening-and-min-rows.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from mpc.compare import logic_and, logic_not, negative
from mpc.convert import select
from mpc.engine import Engine
from party.errors import InternalError, PeerError
from party.message import Array, Cap, Message

__all__ = ["Stream", "open_bits", "open_to", "shown_groups", "suppress"]

Bits = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]

_WORDS = 1 << 20  # words a message: 8 MiB


@dataclass(frozen=True, repr=False)
class Opened(Message, kind=0x0501):
    """Our half of values the agreement opens to the receiver; packed bits for `open_bits`."""

    words: Annotated[np.ndarray, Array("u8", Cap(_WORDS))]


def open_to(engine: Engine, share: Words, what: str, to: Sequence[str]) -> Words | None:
    """Open shared values mod 2^64 to the parties named in `to`: one of the two, or both.

    share: uint64, any shape. Returns the values, uint64 of that shape, if we are among the receivers, else None.
    Receivers learn the values, the other side nothing. Rounds: 1. Bytes: 8 a value to each receiver.
    Raises PolicyRefused, before anything is sent, when the agreement does not name (what, receiver).
    """
    if share.dtype != np.uint64:
        raise InternalError("shares are uint64")
    theirs = _exchange(engine, share.reshape(-1), to, (what, share.size))
    return None if theirs is None else (share.reshape(-1) + theirs).reshape(share.shape)


def open_bits(engine: Engine, bits: Bits, what: str, to: Sequence[str]) -> Bits | None:
    """Open XOR-shared bits, uint8 0 or 1 of any shape, like `open_to`. Bytes: one bit each, in words of 64."""
    return Stream(engine, what, to, bits.size).open(bits)


class Stream:
    """Bits of one name, opened in many steps: the guard is asked once, before the first, for all of them.

    cells: how many values the bits make up.
    """

    def __init__(self, engine: Engine, what: str, to: Sequence[str], cells: int) -> None:
        self._engine = engine
        self._to = to
        self._entry: tuple[str, int] | None = (what, cells)

    def open(self, bits: Bits) -> Bits | None:
        """The bits, if we are a receiver. Rounds: 1. Bytes: one bit each, in words of 64."""
        packed = np.packbits(bits.reshape(-1).astype(np.uint8), bitorder="little")
        words: Words = np.zeros(-(-len(packed) // 8), dtype=np.uint64)
        words.view(np.uint8)[: len(packed)] = packed
        theirs = _exchange(self._engine, words, self._to, self._entry)
        self._entry = None
        if theirs is None:
            return None
        whole = (words ^ theirs).view(np.uint8)
        return np.unpackbits(whole, count=bits.size, bitorder="little").reshape(bits.shape)


def shown_groups(engine: Engine, counts: Words, min_rows: int, bits: int) -> Bits:
    """XOR shares of which groups may be opened, from shares of their row counts.

    counts: uint64 (g,), values in [0, 2^bits); min_rows: at least 1, public; bits: count width, public, at most 61 less
    the bits of g. A group is shown when it has at least min_rows rows; and where the rows of all other groups together
    are neither 0 nor at least min_rows, the smallest shown group (the first of equals) goes too, for otherwise a total
    would show a small group. With min_rows 1 groups of no row are hidden and nothing else. Peer learns nothing.
    Rounds: one comparison if min_rows is 1 or g is 1; else 10 + 2 ceil(log2 g), and 3 + ceil(log2 g) comparisons.
    """
    groups = len(counts)
    place = max(1, (groups - 1).bit_length())
    if counts.ndim != 1 or min_rows < 1 or not 1 <= bits <= 61 - place:
        raise InternalError("counts are a row of numbers of declared bits, the smallest group has at least one row")
    least = min(min_rows, 2**bits)  # no count reaches 2^bits
    enough = counts - np.uint64(least) if engine.index == 0 else counts
    shown = logic_not(engine, negative(engine, enough, bits + 1))
    if min_rows == 1 or groups <= 1:
        return shown
    hidden = np.sum(counts - select(engine, shown, counts), dtype=np.uint64).reshape(1)
    # Both ends of 0 < hidden < min_rows in one comparison of one width.
    ends = np.concatenate([hidden, hidden])
    if engine.index == 0:
        ends = ends - np.array([1, least], dtype=np.uint64)
    below = negative(engine, ends, bits + place + 2)
    unsafe = logic_and(engine, logic_not(engine, below[:1]), below[1:])
    smallest = _smallest(engine, counts, shown, bits, place)
    dropped = logic_and(engine, smallest, np.repeat(unsafe, groups))
    return logic_and(engine, shown, logic_not(engine, dropped))


def suppress(engine: Engine, shown: Bits, cells: Words) -> Words:
    """Shares of the cells with those of hidden groups replaced by 0: they open as zeros, an empty one and a small one
    alike, and the bytes are the same whatever the counts.

    shown: XOR shares (g,); cells: uint64 (g,) or (g, k). Rounds: 2. Bytes: as `mpc.convert.select`.
    """
    return select(engine, shown, cells)


def _smallest(engine: Engine, counts: Words, shown: Bits, bits: int, place: int) -> Bits:
    """XOR shares of [this is the shown group of fewest rows, the first of equals]; a hidden group if none is shown.

    Keys: (count if shown, else 2^bits) * 2^place + position, all different and under 2^(bits + place + 1). Their
    least is found by a knock-out tournament, and the one group whose key it is by one more comparison.
    """
    width = bits + place + 2
    limit = np.uint64(2**bits if engine.index == 0 else 0)
    keys: Words = (select(engine, shown, counts - limit) + limit) << np.uint64(place)
    if engine.index == 0:
        keys += np.arange(len(counts), dtype=np.uint64)
    least = keys
    while len(least) > 1:
        pairs = len(least) // 2
        left, right = least[0 : 2 * pairs : 2], least[1 : 2 * pairs : 2]
        difference = left - right
        winner = right + select(engine, negative(engine, difference, width), difference)
        least = np.concatenate([winner, least[2 * pairs :]])
    return logic_not(engine, negative(engine, np.repeat(least, len(keys)) - keys, width))


def _exchange(engine: Engine, words: Words, to: Sequence[str], entry: tuple[str, int] | None) -> Words | None:
    """Ask the guard and send our half to a receiving peer; the peer's half if we receive.

    entry: what is opened, and how many values; None where the guard has been asked for these, too.
    """
    us, peer = engine.channel.us, engine.channel.peer
    if not to or len(set(to)) != len(to) or not set(to) <= {us, peer}:
        raise InternalError("a value is opened to one of the two parties or to both")
    if peer in to:
        if entry is not None:
            what, cells = entry
            engine.guard.disclose(what, peer, cells)
        for start in range(0, len(words), _WORDS):
            engine.channel.send(Opened(words[start : start + _WORDS]))
    if us not in to:
        return None
    theirs = np.empty(len(words), dtype=np.uint64)
    for start in range(0, len(words), _WORDS):
        part = engine.channel.recv(Opened).words
        if len(part) != len(words[start : start + _WORDS]):
            raise PeerError("an opening has a wrong number of values")
        theirs[start : start + len(part)] = part
    return theirs
