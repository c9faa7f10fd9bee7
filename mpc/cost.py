"""What the protocols on shares put on the wire and compute, counted before anything runs.

`Meter` has a method for each protocol of `mpc.convert`, `mpc.compare`, `mpc.opening` and `mpc.garbled`, of the same
name, that takes sizes in place of values and adds up bytes by sender, waits, and transfers. Bytes include frame headers
and are exact; heartbeats, keys and base transfers (`setup`) come on top. The lattice products are counted by
`mpc.linear_cost`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from mpc.counts import waves

__all__ = ["Meter", "setup_bytes"]

_HEADER = 24
_DIMENSION = 4
_PLACES = 32
_TRANSFERS = 1 << 18  # of one correction
_WORDS = 1 << 20  # of one reply, leaf message or opening
_OCTETS = 1 << 22  # of one message of masked bits


def setup_bytes() -> int:
    """Base transfers, both sides together, once a connection."""
    return 2 * 12_400


def _messages(count: int, most: int) -> Iterator[int]:
    return (min(most, count - start) for start in range(0, count, most))


def _correction(transfers: int, planes: int) -> int:
    return sum(_HEADER + _DIMENSION + _PLACES * planes * -(-piece // 8) for piece in _messages(transfers, _TRANSFERS))


def _words(count: int, width: int, most: int = _WORDS) -> int:
    return sum(_HEADER + _DIMENSION + width * piece for piece in _messages(count, most))


@dataclass
class Meter:
    """Bytes sent by each index, transfers (1-of-16 ones count four); and how often each index waits
    for the other after it has sent something (`party.channel.Counters.rounds`)."""

    sent: list[int] = field(default_factory=lambda: [0, 0])
    waits: list[int] = field(default_factory=lambda: [0, 0])
    transfers: int = 0
    _asked: list[bool] = field(default_factory=lambda: [False, False])

    @property
    def bytes(self) -> int:
        """Both ways."""
        return sum(self.sent)

    @property
    def rounds(self) -> int:
        """Of the side that waits more often."""
        return max(self.waits)

    def tell(self, sender: int, count: int) -> None:
        """One side sends so many bytes, the other waits for them."""
        self._send(sender, count)
        self._wait(1 - sender)

    def swap(self, first: int, second: int) -> None:
        """Both send, then both wait."""
        self._send(0, first)
        self._send(1, second)
        self._wait(0)
        self._wait(1)

    def _send(self, sender: int, count: int) -> None:
        self.sent[sender] += count
        self._asked[sender] = True

    def _wait(self, side: int) -> None:
        self.waits[side] += self._asked[side]
        self._asked[side] = False

    # --- protocols --------------------------------------------------------------------------------------------------

    def less_than(self, n: int, bits: int) -> None:
        """`mpc.compare.less_than` and `equal` of n pairs of numbers."""
        if n == 0:
            return
        digits = -(-bits // 4)
        triples, leaves = (digits - 1) * n, digits * n
        if triples:
            self._send(0, _correction(triples, 1))
            self._send(1, _correction(triples, 1))
        self._send(1, _correction(leaves, 4))
        self._wait(0)
        self._wait(1 if triples else 0)
        self.tell(0, _words(leaves, 4))
        self.transfers += 2 * triples + 4 * leaves
        while digits > 1:
            pairs = digits // 2
            masked = _words(-(-3 * pairs * n // 8), 1, _OCTETS)
            self.swap(masked, masked)
            digits -= pairs

    def negative(self, n: int, bits: int) -> None:
        """`mpc.compare.negative`."""
        self.less_than(n, bits - 1)

    def at_least(self, n: int, bits: int) -> None:
        """`mpc.compare.at_least`."""
        self.negative(n, bits + 1)

    def logic_and(self, n: int) -> None:
        """`mpc.compare.logic_and`."""
        self._both(n, _words(-(-n // 8), 1, _OCTETS))

    def logic_every(self, lengths: Iterable[int], n: int) -> None:
        """`mpc.compare.logic_every` of lists of so many arrays of n bits."""
        left = list(lengths)
        while any(length > 1 for length in left):
            self.logic_and(sum(length // 2 for length in left) * n)
            left = [length - length // 2 for length in left]

    def select(self, n: int, columns: int = 1) -> None:
        """`mpc.convert.select` of n rows of so many values."""
        self._both(n, _words(n * columns, 8))

    def _both(self, n: int, reply: int) -> None:
        """n transfers each way."""
        if n == 0:
            return
        self.swap(_correction(n, 1), _correction(n, 1))
        self.swap(reply, reply)
        self.transfers += 2 * n

    def to_arithmetic(self, n: int) -> None:
        """`mpc.convert.to_arithmetic`, `truncate` and `lift`."""
        if n == 0:
            return
        self.tell(1, _correction(n, 1))
        self.tell(0, _words(n, 8))
        self.transfers += n

    def widen(self, n: int, words: int) -> None:
        """`mpc.convert.widen` of n values to so many words."""
        if n == 0:
            return
        self.tell(1, _correction(n, 1))
        self.tell(0, _words(n * words, 8))
        self.transfers += n

    def truncate_and_test(self, n: int, bits: int, groups: Sequence[int]) -> None:
        """`mpc.garbled.truncate_and_test` of n elements and values of so many bits, in groups of so many."""
        values = sum(groups)
        gates = (bits - 1) * values - len(groups)
        self.tell(1, _correction(n + bits * values, 1))
        self.tell(0, _words(n + 2 * bits * values + 4 * gates + -(-len(groups) // 64), 8))
        self.tell(1, _words(len(groups), 16))
        self.transfers += n + bits * values

    def counts(self, chooser: int, shapes: Sequence[tuple[int, int]], n: int, lane: int) -> None:
        """`mpc.counts.counts_chosen` and `counts_offered` of blocks over n rows."""
        for wave in waves(shapes, n, lane):
            self.tell(chooser, sum(_correction(one.rows, 1) for one in wave))
            self.tell(1 - chooser, sum(_words(one.reply_words(lane), 8) for one in wave))
            self.transfers += sum(one.rows * one.key_words(lane) for one in wave)

    def open(self, words: int, to: tuple[bool, bool]) -> None:
        """`mpc.opening.open_to` of so many words to index 0, to index 1; packed bits are words of 64."""
        if all(to):
            self.swap(_words(words, 8), _words(words, 8))
        else:
            self.tell(0 if to[1] else 1, _words(words, 8))

    def shown_crossed(self, sizes: tuple[int, int], min_rows: int, bits: int, by: tuple[int, ...]) -> None:
        """`mpc.opening.shown_crossed`; `shown_groups` with sizes (1, groups)."""
        cells = sizes[0] * sizes[1]
        self.negative(cells, bits + 1)
        for axis in by if min_rows > 1 else ():
            lines, groups = sizes[axis], sizes[1 - axis]
            if groups > 1:
                width = bits + max(1, (groups - 1).bit_length()) + 2
                self.select(cells)
                self.negative(2 * lines, width)
                self.logic_and(lines)
                self._smallest(groups, width, lines)
                self.logic_and(cells)
                self.logic_and(cells)

    def shown_lines(self, lines: int, classes: int, bits: int) -> None:
        """`mpc.opening.shown_lines` with min_rows over 1."""
        place = max(1, (lines - 1).bit_length())
        self.negative(lines * classes, bits + 1)
        self.logic_every([classes], lines)
        self.select(lines * classes)
        self.negative(2 * classes, bits + 1)
        self.logic_and(classes)
        self.logic_every([classes], 1)
        self._smallest(lines, bits + place + 2)
        self.logic_and(lines)
        self.logic_and(lines)

    def shown_table(self, cells: int, bits: int) -> None:
        """`mpc.opening.shown_table` with min_rows over 1."""
        self.negative(2 * cells, bits + 1)
        self.logic_and(cells)
        self.logic_every([cells], 1)
        self.logic_and(cells)

    def _smallest(self, groups: int, width: int, lines: int = 1) -> None:
        """The knock-out of the smallest shown group of each line."""
        self.select(groups * lines)
        left = groups
        while left > 1:
            pairs = left // 2
            self.negative(pairs * lines, width)
            self.select(pairs * lines)
            left -= pairs
        self.negative(groups * lines, width)
