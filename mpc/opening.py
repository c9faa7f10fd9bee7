"""Openings: the only way out of the shares, and the rule of the smallest group.

`open_to`, `open_bits` and `Stream` ask the guard before anything is sent, so the ledger has the entry first. Sizes
depend on the shapes alone. `shown_groups`, `shown_lines`, `shown_table` and `suppress` decide on shares which cells may
be opened: nothing of a suppressed cell is opened to anyone, and nothing about the others either before `open_to`.

Reveals: Opened shows its receiver the other half of a value, and so the value; the rest is `mpc.ot` and `mpc.compare`.
Source: docs/protocols/07-opening-and-min-rows.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from mpc import long
from mpc.compare import logic_and, logic_every, logic_not, negative
from mpc.convert import select
from mpc.engine import Engine
from party.errors import InternalError, PeerError
from party.message import Array, Cap, Message

__all__ = ["Stream", "open_bits", "open_long", "open_to", "shown_groups", "shown_lines", "shown_table", "suppress"]

Bits = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Closed = npt.NDArray[np.bool_] | None

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


def open_long(engine: Engine, share: Words, what: str, to: Sequence[str]) -> Words | None:
    """Open n values mod 2^(64 k), uint64 (n, k) as in `mpc.long`, like `open_to`. Bytes: 8 k a value."""
    if share.dtype != np.uint64 or share.ndim != 2:
        raise InternalError("shares are uint64, a number a row")
    theirs = _exchange(engine, np.ascontiguousarray(share).reshape(-1), to, (what, len(share)))
    return None if theirs is None else long.add(share, theirs.reshape(share.shape), share.shape[1])


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


def shown_groups(engine: Engine, counts: Words, min_rows: int, bits: int, closed: Closed = None) -> Bits:
    """XOR shares of which groups may be opened, from shares of their row counts.

    counts: uint64 (g,), values in [0, 2^bits); min_rows: at least 1, public; bits: count width, public, at most 61 less
    the bits of g. A group is shown when it has at least min_rows rows; and where the rows of all other groups together
    are neither 0 nor at least min_rows, the smallest shown group (the first of equals) goes too, for otherwise a total
    would show a small group. closed: bool (g,), public, groups that are hidden in any case. With min_rows 1 groups of
    no row are hidden and nothing else. Peer learns nothing.
    Rounds: one comparison if min_rows is 1 or g is 1; else 10 + 2 ceil(log2 g), and 3 + ceil(log2 g) comparisons.
    """
    if counts.ndim != 1:
        raise InternalError("counts are a row of numbers")
    hidden = None if closed is None else closed.reshape(1, -1)
    return shown_crossed(engine, counts.reshape(1, -1), min_rows, bits, (0,), hidden).reshape(-1)


def shown_crossed(
    engine: Engine, counts: Words, min_rows: int, bits: int, by: Sequence[int], closed: Closed = None
) -> Bits:
    """XOR shares of which cells of a table of two sides' groups may be opened, each by itself; as `shown_groups` along
    every line of each axis in `by`.

    counts: uint64 (groups of one, groups of the other). by: 0 where somebody who receives knows how many rows each
    group of the first has, 1 of the other. closed: bool of that shape, public, cells hidden in any case. A cell that
    goes has min_rows rows, so what a line hides stays none or at least min_rows when later lines lose cells, and what
    all hide, too. Rounds: one comparison, and for each axis those of `shown_groups` but the first.
    """
    if counts.ndim != 2 or min_rows < 1 or not 1 <= bits <= 61 - _place(max(counts.shape)):
        raise InternalError("counts are numbers of declared bits, the smallest group has at least one row")
    least = min(min_rows, 2**bits)  # no count reaches 2^bits
    flat = np.ascontiguousarray(counts).reshape(-1)
    enough = logic_not(engine, negative(engine, _less(engine, flat, least), bits + 1))
    shown = _without(enough, None if closed is None else closed.reshape(-1)).reshape(counts.shape)
    for axis in by if min_rows > 1 else ():
        if counts.shape[1 - axis] > 1:
            lines = shown if axis == 0 else shown.T
            kept = _without_smallest(engine, counts if axis == 0 else counts.T, lines, least, bits)
            shown = kept if axis == 0 else kept.T
    return np.ascontiguousarray(shown)


def _place(groups: int) -> int:
    """Bits of a position among so many groups."""
    return max(1, (groups - 1).bit_length())


def _without_smallest(engine: Engine, counts: Words, shown: Bits, least: int, bits: int) -> Bits:
    """`shown` (lines, groups) less the smallest shown cell of each line whose hidden rows are neither 0 nor least."""
    lines, groups = counts.shape
    flat, kept = np.ascontiguousarray(counts).reshape(-1), np.ascontiguousarray(shown).reshape(-1)
    hidden: Words = np.sum((flat - select(engine, kept, flat)).reshape(counts.shape), axis=1, dtype=np.uint64)
    # both ends of 0 < hidden < min_rows in one comparison of one width
    ends = np.concatenate([_less(engine, hidden, end) for end in (1, least)])
    below = negative(engine, ends, bits + _place(groups) + 2)
    unsafe = logic_and(engine, logic_not(engine, below[:lines]), below[lines:])
    smallest = _smallest(engine, flat.reshape(counts.shape), kept.reshape(counts.shape), bits)
    dropped = logic_and(engine, smallest.reshape(-1), np.repeat(unsafe, groups))
    return logic_and(engine, kept, logic_not(engine, dropped)).reshape(counts.shape)


def shown_lines(engine: Engine, counts: Words, min_rows: int, bits: int, closed: Closed = None) -> Bits:
    """XOR shares of which lines of a table may be opened: a line goes whole or not at all.

    counts: uint64 (lines, classes), the sum of all below 2^bits, bits at most 61 less the bits of the lines. A line is
    shown when each of its classes has at least min_rows rows; and where the hidden rows of any class are neither 0 nor
    at least min_rows, the smallest shown line goes too. So who knows how many rows each class has, or each line, learns
    no small cell by subtraction. closed: bool (lines,), public, lines hidden in any case. Returns uint8 (lines,
    classes), equal along a line. Peer learns nothing.
    Rounds: those of `shown_groups` of as many lines, and 2 ceil(log2 classes) more.
    """
    if counts.ndim != 2 or min_rows < 1 or not 1 <= bits <= 61 - _place(len(counts)):
        raise InternalError("counts are a table of numbers of declared bits, the smallest group has at least one row")
    (lines, classes), least = counts.shape, min(min_rows, 2**bits)
    flat = np.ascontiguousarray(counts).reshape(-1)
    enough = logic_not(engine, negative(engine, _less(engine, flat, least), bits + 1))
    line = _without(logic_every(engine, [list(enough.reshape(lines, classes).T)])[0], closed)
    hidden = np.sum((flat - select(engine, np.repeat(line, classes), flat)).reshape(lines, classes), axis=0)
    below = negative(engine, np.concatenate([_less(engine, hidden, end) for end in (1, least)]), bits + 1)
    unsafe = logic_and(engine, logic_not(engine, below[:classes]), below[classes:])
    safe = logic_every(engine, [list(logic_not(engine, unsafe).reshape(classes, 1))])[0]
    sums: Words = np.sum(counts, axis=1, dtype=np.uint64)
    smallest = _smallest(engine, sums[None, :], line[None, :], bits)[0]
    dropped = logic_and(engine, smallest, np.repeat(logic_not(engine, safe), lines))
    line = logic_and(engine, line, logic_not(engine, dropped))
    return np.repeat(line, classes).reshape(lines, classes)


def shown_table(engine: Engine, counts: Words, min_rows: int, bits: int, closed: Closed = None) -> Bits:
    """XOR shares of which cells may be opened: all that have rows, if none of these has fewer than min_rows; else none.

    counts: uint64 (g,), values in [0, 2^bits), bits at most 60. For tables of which each side can add up a row or a
    column by itself. closed: bool (g,), public, cells that are too small if they have a row. Peer learns nothing.
    Rounds: one comparison, 2 ceil(log2 g) + 4.
    """
    if counts.ndim != 1 or min_rows < 1 or not 1 <= bits <= 60:
        raise InternalError("counts are a row of numbers of declared bits, the smallest group has at least one row")
    cells, least = len(counts), min(min_rows, 2**bits)
    below = negative(engine, np.concatenate([_less(engine, counts, end) for end in (1, least)]), bits + 1)
    present, few = logic_not(engine, below[:cells]), below[cells:]
    if closed is not None:
        few = np.where(closed, np.uint8(engine.index == 0), few)
    safe = logic_every(engine, [list(logic_not(engine, logic_and(engine, present, few)).reshape(cells, 1))])[0]
    return logic_and(engine, present, np.repeat(safe, cells))


def suppress(engine: Engine, shown: Bits, cells: Words, length: int = 1) -> Words:
    """Shares of the cells with those of hidden groups replaced by 0: they open as zeros, an empty one and a small one
    alike, and the bytes are the same whatever the counts.

    shown: XOR shares (g,); cells: uint64 (g,) or (g, k), `length` columns a number. Rounds: 2. Bytes: as
    `mpc.convert.select`.
    """
    return select(engine, shown, cells, length)


def _without(bits: Bits, closed: Closed) -> Bits:
    """XOR shares of bits that are 0 at these public places."""
    return bits if closed is None else bits & ~closed


def _less(engine: Engine, counts: Words, number: int) -> Words:
    """Shares of counts minus a public number."""
    return counts - np.uint64(number) if engine.index == 0 else counts


def _smallest(engine: Engine, counts: Words, shown: Bits, bits: int) -> Bits:
    """XOR shares (lines, groups) of [this is its line's shown group of fewest rows, the first of equals]; a hidden one
    if none is shown.

    Keys: (count if shown, else 2^bits) * 2^place + position, all different in a line and under 2^(bits + place + 1).
    Their least is found by a knock-out tournament, and the one group whose key it is by one more comparison.
    """
    groups = counts.shape[1]
    place = _place(groups)
    width = bits + place + 2
    limit = np.uint64(2**bits if engine.index == 0 else 0)
    known = select(engine, shown.reshape(-1), (counts - limit).reshape(-1)).reshape(counts.shape)
    keys: Words = (known + limit) << np.uint64(place)
    if engine.index == 0:
        keys += np.arange(groups, dtype=np.uint64)
    least = keys
    while least.shape[1] > 1:
        pairs = least.shape[1] // 2
        left, right = least[:, 0 : 2 * pairs : 2], least[:, 1 : 2 * pairs : 2]
        difference = np.ascontiguousarray(left - right).reshape(-1)
        won = select(engine, negative(engine, difference, width), difference)
        least = np.concatenate([right + won.reshape(right.shape), least[:, 2 * pairs :]], axis=1)
    return logic_not(engine, negative(engine, least - keys, width))


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
