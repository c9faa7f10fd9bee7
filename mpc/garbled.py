"""Signs of shared values, opened in one exchange by a garbled circuit; an exact truncation shares that exchange.

Called by both sides at the same time, each with its half. Index 0 garbles, index 1 evaluates.
Steps (docs/protocols/16-garbled-tests.md):

1. Index 1 chooses, in one correction: the bits of its shares of the asked values, after those of the truncation.
2. Index 0 takes a fresh offset D of 128 bits, lowest bit 1. A wire has the labels W (false) and W + D (true), + being
   XOR. Key 0 of a transfer is W of the wire that carries index 1's bit b; the reply is key 0 + key 1 + D. At the lowest
   place it is key 0 + key 1 + a D, with index 0's bit a, and the wire carries a AND b: the first carry.
3. Carries: next = a + (b + a) AND (carry + a). XOR with a, which index 0 knows, is an exchange of the two labels, which
   index 1 does not notice; so index 0's bits need no labels. The sign of a value is a + b + carry at the top place.
4. A group's bit is the OR of its signs: x OR y = NOT (NOT x AND NOT y).
5. Each AND is two half gates: two blocks of 16 bytes. Index 0 sends transfers, tables and the lowest bit of W of each
   outcome, in one message.
6. Index 1 evaluates, reads the outcomes, and sends their labels back, in one message; index 0 accepts no other labels.

Reveals: to both sides the outcomes, one bit a group. Index 1 has one label of every wire, and so neither D nor a bit of
an inner wire that its own bits do not give; index 0 receives a masked correction, and labels that say one bit each.
Semi-honest.
The hash is that of `kernels.blockhash`: half gates need tweakable circular correlation robustness (Guo, Katz, Wang, Yu,
S&P 2020), which that construction has in the ideal-cipher model, with one tweak a half gate.
Source: Zahur, Rosulek, Evans, "Two Halves Make a Whole", EUROCRYPT 2015; Kolesnikov, Schneider, ICALP 2008 (free XOR);
Kolesnikov, Sadeghi, Schneider, CANS 2009 (the adder); labels by correlated transfer: Asharov et al., CCS 2013.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Protocol

import numpy as np
import numpy.typing as npt

from kernels.blockhash import hash_blocks
from kernels.prg import Prg
from mpc import ot
from mpc.convert import cut_chosen, cut_offered
from mpc.engine import Engine
from mpc.ot import correlated
from party.errors import InternalError, PeerError
from party.message import Array, Cap, Message

__all__ = ["Asked", "truncate_and_test"]

Bits = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]

_GARBLER = 0  # the side that offers the truncation's transfers, too
_GROUPS = 1 << 12


@dataclass(frozen=True, repr=False)
class Garbled(Message, kind=0x0413):
    """Step 5, index 0 to 1: the transfers' words, the tables, and what tells the outcomes' labels apart."""

    words: Annotated[np.ndarray, Array("u8", Cap(ot.WORDS))]


@dataclass(frozen=True, repr=False)
class Outcomes(Message, kind=0x0414):
    """Step 6, index 1 to 0: the label of each outcome."""

    labels: Annotated[np.ndarray, Array("u8", Cap(_GROUPS), 2)]


@dataclass(frozen=True, repr=False)
class Asked:
    """Our shares of the values whose signs are asked, and how the answers are put together.

    values: uint64 (m,), shares mod 2^64 of numbers in [-2^(bits-1), 2^(bits-1)); bits: 2 to 64; groups: slices that
    follow one another and cover all m. A group's outcome is 1 when any of its values is negative. bits and groups are
    public. A value outside gives the sign of its low `bits` bits.
    """

    values: Words
    bits: int
    groups: tuple[slice, ...]

    def check(self) -> None:
        """Raises InternalError for values, widths or groups of another form."""
        if self.values.ndim != 1 or self.values.dtype != np.uint64 or not 2 <= self.bits <= 64:
            raise InternalError("signs are asked of a row of uint64 shares of 2 to 64 bits")
        if not 1 <= len(self.groups) <= _GROUPS or any(g.step is not None for g in self.groups):
            raise InternalError(f"signs are opened in 1 to {_GROUPS} groups")
        edges = [0, *(group.stop for group in self.groups)]
        if [group.start for group in self.groups] != edges[:-1] or any(a >= b for a, b in pairwise(edges)):
            raise InternalError("groups of signs follow one another, and none is empty")
        if edges[-1] != len(self.values):
            raise InternalError("groups of signs cover all values")

    @property
    def gates(self) -> int:
        """ANDs of the circuit."""
        return (self.bits - 2) * len(self.values) + len(self.values) - len(self.groups)

    def ours(self) -> Bits:
        """The low bits of our shares, (bits, m), lowest first."""
        places = np.arange(self.bits, dtype=np.uint64)
        found: Bits = ((self.values >> places[:, None]) & np.uint64(1)).astype(np.uint8)
        return found


def truncate_and_test(engine: Engine, share: Words, shift: int, asked: Asked, what: str) -> tuple[Words, Bits]:
    """`convert.truncate` of share, shift 1 to 62, and the groups' outcomes opened to both sides under the name `what`.

    share: uint64, any shape, may be empty. Returns (shares of the truncated values, outcomes uint8 (groups,)).
    Peer learns the outcomes. Messages: 3, one more than a truncation. Bytes for n elements, m values of w bits and g
    groups: 4 (n + m w) from index 1 and 16 g; from index 0 8 n + 16 m w + 32 ((w - 1) m - g), and a word a 64 groups.
    Raises PolicyRefused, before anything is sent, when the agreement does not open `what` to the peer; PeerError for
    words of a wrong number or a label that is none.
    """
    asked.check()
    flat = share.reshape(-1)
    side = _garble if engine.index == _GARBLER else _evaluate
    cut, outcomes = side(engine, flat, shift, asked, what)
    return cut.reshape(share.shape), outcomes


class _Gates(Protocol):
    """What the circuit is made of; x, y are wires of m values at once, first axis m."""

    def both(self, x: Words, y: Words) -> Words:
        """x AND y."""
        ...

    def flip(self, x: Words, place: int) -> Words:
        """x XOR the garbler's bits of that place."""
        ...

    def opposite(self, x: Words) -> Words:
        """NOT x."""
        ...


def circuit(gates: _Gates, inputs: Words, groups: tuple[slice, ...]) -> Words:
    """Steps 3 and 4: from the first carry and the evaluator's bits above it, (bits, m, ...), to (groups, ...)."""
    carry, top = inputs[0], len(inputs) - 1
    for place in range(1, top):
        carry = gates.flip(gates.both(gates.flip(inputs[place], place), gates.flip(carry, place)), place)
    wires = gates.flip(inputs[top] ^ carry, top)
    for left, right in _pairs(groups):
        neither = gates.both(gates.opposite(wires[left]), gates.opposite(wires[right]))
        wires[left] = gates.opposite(neither)
    return wires[[group.start for group in groups]]


def _pairs(groups: tuple[slice, ...]) -> Iterator[tuple[list[int], list[int]]]:
    """Level by level, the places of wires to be joined; the answer takes the place of the left one."""
    left = [list(range(group.start, group.stop)) for group in groups]
    while any(len(places) > 1 for places in left):
        yield (
            [place for places in left for place in places[0 : len(places) - 1 : 2]],
            [place for places in left for place in places[1::2]],
        )
        left = [places[::2] for places in left]


class Garbler:
    """Gates on false labels, (m, 2) words; `tables` fills with two blocks an AND.

    known: our bits (bits, m). offset: of this circuit alone, by `fresh_offset`.
    """

    def __init__(self, known: Bits, offset: Words) -> None:
        self.offset = offset
        self.tables: list[Words] = []
        self._known = known
        self._tweak = 0

    def both(self, x: Words, y: Words) -> Words:
        wires, n = np.concatenate([x, y]), len(x)
        false, true = hash_blocks(wires, self._tweak), hash_blocks(wires ^ self.offset, self._tweak)
        self._tweak += 2 * n
        rows = false ^ true
        rows[:n] ^= _colour(y) * self.offset
        rows[n:] ^= x
        self.tables.append(rows)
        return _halves(false, rows, x, y)

    def flip(self, x: Words, place: int) -> Words:
        return x ^ _times(self._known[place], self.offset)

    def opposite(self, x: Words) -> Words:
        return x ^ self.offset


class Evaluator:
    """The same gates on the labels that are there, with the garbler's tables, (2 ANDs, 2) words."""

    def __init__(self, tables: Words) -> None:
        self._tables = tables
        self._tweak = 0

    def both(self, x: Words, y: Words) -> Words:
        wires = np.concatenate([x, y])
        rows = self._tables[self._tweak : self._tweak + len(wires)]
        hashed = hash_blocks(wires, self._tweak)
        self._tweak += len(wires)
        return _halves(hashed, rows, x, y)

    def flip(self, x: Words, place: int) -> Words:
        return x

    def opposite(self, x: Words) -> Words:
        return x


def _halves(hashed: Words, rows: Words, x: Words, y: Words) -> Words:
    """Both half gates' labels added: of the false wires at the garbler, of the wires there are at the evaluator."""
    n = len(x)
    label: Words = hashed[:n] ^ hashed[n:]
    label ^= _colour(x) * rows[:n]
    label ^= _colour(y) * (rows[n:] ^ x)
    return label


def _colour(labels: Words) -> Words:
    """The lowest bits, (m, 1): which of its two labels a wire has, to who knows the other."""
    return labels[:, :1] & np.uint64(1)


def _times(bits: Bits, offset: Words) -> Words:
    """bit * offset, (..., 2)."""
    return bits[..., None].astype(np.uint64) * offset


def fresh_offset(noise: Prg) -> Words:
    """The one secret of a circuit, (2,) words. Never used twice: two circuits under one offset give it away.

    noise: made where the transfers' keys are, so that offsets repeat where these do, and only there: the page says why.
    """
    offset: Words = noise.words(2).copy()
    offset[0] |= np.uint64(1)
    return offset


def _garble(engine: Engine, share: Words, shift: int, asked: Asked, what: str) -> tuple[Words, Bits]:
    """Index 0."""
    n, known = len(share), asked.ours()
    kept, deltas = cut_offered(share, shift)
    engine.guard.disclose(what, engine.channel.peer, len(asked.groups))
    # 1. and 2. Keys of all transfers; each wire's false label is the key of choice 0
    zero, one = engine.ot.offer(n + known.size, 2)
    reply, masks = correlated(zero[:n, 0], one[:n, 0], deltas)
    gates = Garbler(known, fresh_offset(engine.ot.private))
    carried = known.copy()
    carried[1:] = 1
    labels = zero[n:] ^ one[n:] ^ _times(carried.reshape(-1), gates.offset)
    # 3. to 5.
    false = circuit(gates, zero[n:].reshape(*known.shape, 2), asked.groups)
    colours = _packed(_colour(false)[:, 0])
    words = np.concatenate([reply, labels.reshape(-1), *(rows.reshape(-1) for rows in gates.tables), colours])
    for start in range(0, len(words), ot.WORDS):
        engine.channel.send(Garbled(words[start : start + ot.WORDS]))
    # 6. Nothing but one of an outcome's two labels is an answer
    answer = engine.channel.recv(Outcomes).labels
    if answer.shape != false.shape:
        raise PeerError("an answer of a garbled circuit has a wrong number of outcomes")
    outcomes: Bits = (answer == (false ^ gates.offset)).all(axis=1).astype(np.uint8)
    if not bool((answer == (false ^ _times(outcomes, gates.offset))).all()):
        raise PeerError("an answer of a garbled circuit is none of its labels")
    return kept - masks, outcomes


def _evaluate(engine: Engine, share: Words, shift: int, asked: Asked, what: str) -> tuple[Words, Bits]:
    """Index 1."""
    n, bits = len(share), asked.ours()
    kept, high = cut_chosen(share, shift)
    engine.guard.disclose(what, engine.channel.peer, len(asked.groups))
    # 1.
    chosen = np.concatenate([high.astype(np.uint8), bits.reshape(-1)])
    keys = engine.ot.choose(chosen, 2)
    # 5. Transfers, tables, colours
    ends = np.cumsum([n, 2 * bits.size, 4 * asked.gates, -(-len(asked.groups) // 64)])
    reply, labels, tables, colours = np.split(engine.ot.receive_words(int(ends[-1]), Garbled), ends[:-1])
    cut = kept - (keys[:n, 0] + high.astype(np.uint64) * reply)
    # 6.
    wires = keys[n:] ^ (bits.reshape(-1, 1).astype(np.uint64) * labels.reshape(-1, 2))
    found = circuit(Evaluator(tables.reshape(-1, 2)), wires.reshape(*bits.shape, 2), asked.groups)
    engine.channel.send(Outcomes(np.ascontiguousarray(found)))
    return cut, _unpacked(colours, len(found)) ^ _colour(found)[:, 0].astype(np.uint8)


def _packed(bits: Words) -> Words:
    """Bits 0 or 1, one a word, in words of 64."""
    octets = np.packbits(bits.astype(np.uint8), bitorder="little")
    words: Words = np.zeros(-(-len(octets) // 8), dtype=np.uint64)
    words.view(np.uint8)[: len(octets)] = octets
    return words


def _unpacked(words: Words, count: int) -> Bits:
    return np.unpackbits(words.view(np.uint8), count=count, bitorder="little")
