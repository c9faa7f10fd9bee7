"""Oblivious transfer extension: millions of transfers from 128 base ones, with hashing and XOR only.

Small-field vector OLE (SoftSpoken) with 32 places of 4 bits. Each side is the chooser of one direction and the offerer
of the other; the two share nothing. With the seeds of `mpc.base_ot`, of which the offerer lacks the one named by its
offset D (32 elements of GF(16)):

1. The chooser expands its 16 seeds of a place into u = sum of all streams and v = sum over y of y * stream y; it sends
   Correction d = u + x for its choices x, the same x at each place.
2. The offerer expands the 15 it has into w = v + D * u, and gets q = w + D * d = v + D * x: one row of 128 bits.
3. Keys: H(i, q + m * D) for message m at the offerer, H(i, v) at the chooser, equal for m = x. i counts all
   transfers of a direction and is never used twice.
4. Replies: the offerer's words under those keys.

x is one bit for 1-of-2 (D * x is D or 0), an element of GF(16) for 1-of-16. Reveals: d is masked by the stream that the
offerer lacks (with it, u is pseudo-random); replies are masked by keys that the chooser lacks. Semi-honest.
Bytes: Correction 4 a transfer (1-of-2) or 16 (1-of-16). Source: docs/protocols/05-oblivious-transfer.md; Roy,
"SoftSpokenOT", CRYPTO 2022, sections 3 and 5; correlated transfer: Asharov, Lindell, Schneider, Zohner, CCS 2013,
section 5.4.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from kernels.blockhash import hash_blocks, transpose_bits
from kernels.prg import Prg
from mpc import long
from mpc.base_ot import LEAVES, PLACES, Seeds, exchange
from mpc.ole import Direction, keys_of, times
from party.channel import Channel
from party.errors import InternalError, PeerError
from party.message import Array, Cap, Message

__all__ = ["WORDS", "Ot", "correlated"]

Words = npt.NDArray[np.uint64]

_ROWS = 1 << 16  # transfers a piece of work: its arrays stay in cache
_PIECES = 4  # pieces a message
_WIDTH = _PIECES * _ROWS // 8
WORDS = 1 << 20  # words of one reply: 8 MiB


@dataclass(frozen=True, repr=False)
class Correction(Message, kind=0x0403):
    """Step 1, chooser to offerer: our choice bits under one stream a place, packed, least significant bit first."""

    bits: Annotated[np.ndarray, Array("u1", PLACES, Cap(_WIDTH))]


@dataclass(frozen=True, repr=False)
class Correction16(Message, kind=0x0404):
    """Step 1 of 1-of-16: our digits under one stream a place, as four bit planes."""

    planes: Annotated[np.ndarray, Array("u1", PLACES, 4, Cap(_WIDTH))]


@dataclass(frozen=True, repr=False)
class Reply(Message, kind=0x0405):
    """Offerer to chooser: words, each under a key that the chooser has for one of its values only."""

    words: Annotated[np.ndarray, Array("u8", Cap(WORDS))]


class Ot:
    """One side's two directions of oblivious transfer over a channel; base transfers run at first use (2 rounds).

    Both sides call matching methods in the same order: `cot_send` meets `cot_receive`, `offer` meets `choose`,
    symmetric methods meet themselves. `index` is 0 at one side, 1 at the other.
    """

    def __init__(self, channel: Channel, index: int, root: bytes | None = None) -> None:
        """root: where all randomness comes from, for a caller that repeats steps (`Engine.seeded`)."""
        self.channel = channel
        self.index = index
        self._root = root or os.urandom(32)
        self.private = Prg(self._root, "ot/private")  # random bits of ours for the protocols built on this
        self._seeds: Seeds | None = None
        self._chooser: Direction | None = None
        self._offerer: Direction | None = None

    def prepare(self) -> None:
        """Run the base transfers now; nothing if they have run. Rounds: 2. Bytes sent: about 12.4 kB."""
        if self._seeds is None:
            self._seeds = exchange(self.channel, self.index, self._root)
            self._start(self._seeds.chooser, self._seeds.offerer, 0)

    def begin(self, label: bytes, number: int) -> None:
        """Streams of this label's own from here on, at both sides; `number`, under 2^20, keeps the tweaks apart.

        Each stream's seed is hashed with the label; the offset stays.
        """
        self.prepare()
        self.private = Prg(self._root + label, "ot/private")
        if self._seeds is not None:
            self._start(_under(self._seeds.chooser, label), _under(self._seeds.offerer, label), number << 40)

    def _start(self, chooser: np.ndarray, offerer: np.ndarray, first: int) -> None:
        if self._seeds is not None:
            self._chooser = Direction(chooser, np.zeros(PLACES, dtype=np.uint8), first)
            self._offerer = Direction(offerer[:, 1:], self._seeds.offset, first)

    # --- random keys: what the rest is made of ------------------------------------------------------------------

    def choose(self, bits: np.ndarray, words: int = 1) -> Words:
        """Our keys for n choice bits: uint64 (n, words). One message of 4 bytes a row; peer (`offer`) learns n."""
        bits = _as_bits(bits)
        chooser, _ = self._ready()
        keys = np.empty((len(bits), words), dtype=np.uint64)
        for pieces in _messages(len(bits)):
            corrections = []
            for rows in pieces:
                ours = np.packbits(bits[rows], bitorder="little")
                columns, streams = chooser.expand(len(ours))
                corrections.append(streams ^ ours)
                blocks = transpose_bits(columns)[: rows.stop - rows.start]
                keys[rows] = keys_of(blocks, chooser.take(len(blocks), words), words)
            self.channel.send(Correction(np.concatenate(corrections, axis=1)))
        return keys

    def offer(self, n: int, words: int = 1) -> tuple[Words, Words]:
        """Both keys of n transfers, for choice 0 and choice 1: uint64 (n, words) each. Receives one message."""
        _, offerer = self._ready()
        keys = np.empty((2, n, words), dtype=np.uint64)
        for rows, width, correction in _corrected(n, lambda: self.channel.recv(Correction).bits):
            columns, _ = offerer.expand(width)
            columns ^= np.where(offerer.mask[:, None] != 0, np.repeat(correction, 4, axis=0), np.uint8(0))
            blocks = transpose_bits(columns)[: rows.stop - rows.start]
            first = offerer.take(len(blocks), words)
            keys[0, rows] = keys_of(blocks, first, words)
            keys[1, rows] = keys_of(blocks ^ offerer.row, first, words)
        return keys[0], keys[1]

    def choose16(self, digits: np.ndarray) -> np.ndarray:
        """Our keys for n choices of 0..15: uint8 (n,). One message of 16 bytes a row; peer (`offer16`) learns n."""
        if digits.ndim != 1 or digits.dtype != np.uint8 or bool((digits > 15).any()):
            raise InternalError("digits are uint8 of shape (n,) under 16")
        chooser, _ = self._ready()
        keys = np.empty(len(digits), dtype=np.uint8)
        for pieces in _messages(len(digits)):
            corrections = []
            for rows in pieces:
                bits = (digits[rows] >> np.arange(4, dtype=np.uint8)[:, None]) & 1
                ours = np.packbits(bits, axis=1, bitorder="little")
                columns, streams = chooser.expand16(ours.shape[1])
                corrections.append(streams ^ ours)
                blocks = transpose_bits(columns)[: rows.stop - rows.start]
                keys[rows] = hash_blocks(blocks, chooser.take(len(blocks), 1))[:, 0].astype(np.uint8)
            self.channel.send(Correction16(np.concatenate(corrections, axis=2)))
        return keys

    def offer16(self, n: int) -> np.ndarray:
        """All 16 keys of n transfers: uint8 (16, n). Receives one message."""
        _, offerer = self._ready()
        keys = np.empty((LEAVES, n), dtype=np.uint8)
        for rows, width, correction in _corrected(n, lambda: self.channel.recv(Correction16).planes):
            columns, _ = offerer.expand16(width)
            for place in range(PLACES):
                columns[4 * place : 4 * place + 4] ^= times(correction[place], int(offerer.offset[place]))
            blocks = transpose_bits(columns)[: rows.stop - rows.start]
            first = offerer.take(len(blocks), 1)
            for m in range(LEAVES):
                keys[m, rows] = hash_blocks(blocks ^ offerer.rows16[m], first)[:, 0].astype(np.uint8)
        return keys

    # --- correlated transfer ------------------------------------------------------------------------------------

    def cot_send(self, deltas: Words, length: int = 1) -> Words:
        """Our share of bit * delta, the bit at the peer (`cot_receive`), mod 2^64.

        deltas: uint64 (n,) or (n, k). Returns uint64 of the same shape; the sum with the peer's share is bit * delta.
        length: so many columns are one number mod 2^(64 length), as in `mpc.long`; the same at both sides.
        Peer learns nothing of the deltas, we nothing of the bits; sizes are known to both.
        Rounds: 1 in all. Bytes: 4 n to us, 8 n k from us, 24 a frame.
        """
        flat = _as_columns(deltas)
        reply, share = correlated(*self.offer(*flat.shape), flat, length)
        self.send_words(reply)
        return _like(share, deltas)

    def cot_receive(self, bits: np.ndarray, words: int | None = None, length: int = 1) -> Words:
        """Our share of bit * delta, the deltas at the peer (`cot_send`).

        bits: uint8 or bool (n,). Returns uint64 (n,), or (n, words) if words is given. Costs: see `cot_send`.
        """
        bits = _as_bits(bits)
        keys = self._added(self.choose(bits, words or 1), bits, length)
        return keys[:, 0] if words is None else keys

    def cot_both(self, deltas: Words, bits: np.ndarray, length: int = 1) -> tuple[Words, Words]:
        """`cot_send` and `cot_receive` at the same time, both sides calling this.

        deltas: uint64 (n,) or (n, k), as many columns at both sides; bits: (m,); the peer's n is our m.
        Returns our share of (our deltas times their bits, their deltas times our bits). Rounds: 2.
        Bytes sent: 4 m + 8 n k and frames.
        """
        flat = _as_columns(deltas)
        bits = _as_bits(bits)
        keys = self.choose(bits, flat.shape[1])
        reply, share = correlated(*self.offer(*flat.shape), flat, length)
        self.send_words(reply)
        keys = self._added(keys, bits, length)
        return _like(share, deltas), keys[:, 0] if deltas.ndim == 1 else keys

    # --- chosen strings -----------------------------------------------------------------------------------------

    def send_pairs(self, zero: Words, one: Words) -> None:
        """Give the peer (`receive_pairs`) row by row one of two strings, each uint64 (n, k).

        Peer learns the string its bit names, we nothing. Rounds: 1 in all. Bytes: 4 n to us, 16 n k from us.
        """
        keys = self.offer(*zero.shape)
        self.send_words(zero ^ keys[0])
        self.send_words(one ^ keys[1])

    def receive_pairs(self, bits: np.ndarray, words: int) -> Words:
        """The strings our bits name: uint64 (n, words)."""
        bits = _as_bits(bits)
        keys = self.choose(bits, words)
        zero = self.receive_words(keys.size).reshape(keys.shape)
        one = self.receive_words(keys.size).reshape(keys.shape)
        return keys ^ np.where(bits[:, None] != 0, one, zero)

    # --- replies ------------------------------------------------------------------------------------------------

    def send_words(self, words: Words) -> None:
        """Send words under keys of `offer`, a message for each 8 MiB; the peer (`receive_words`) knows how many."""
        flat = np.ascontiguousarray(words).reshape(-1)
        for start in range(0, len(flat), WORDS):
            self.channel.send(Reply(flat[start : start + WORDS]))

    def receive_words(self, count: int, kind: Any = Reply) -> Words:
        """So many words, in messages of this kind; PeerError where others came."""
        out = np.empty(count, dtype=np.uint64)
        for start in range(0, count, WORDS):
            words = self.channel.recv(kind).words
            if len(words) != min(WORDS, count - start):
                raise PeerError(f"a reply ({kind.__name__}) has a wrong number of words")
            out[start : start + len(words)] = words
        return out

    # --- inside -------------------------------------------------------------------------------------------------

    def _ready(self) -> tuple[Direction, Direction]:
        self.prepare()
        if self._chooser is None or self._offerer is None:
            raise InternalError("oblivious transfer is not prepared")
        return self._chooser, self._offerer

    def _added(self, keys: Words, bits: np.ndarray, length: int) -> Words:
        """keys + bits * the peer's reply."""
        reply = self.receive_words(keys.size).reshape(keys.shape)
        reply *= bits[:, None].astype(np.uint64)
        return long.add(keys, reply, length)


def _under(seeds: np.ndarray, label: bytes) -> np.ndarray:
    """Each seed hashed with the label: uint8 of the same shape (32, 16, 16)."""
    prefix = hashlib.sha256(b"tallystick/v1/ot/label/" + label)
    found = bytearray()
    for seed in seeds.reshape(-1, 16):
        each = prefix.copy()
        each.update(seed.tobytes())
        found += each.digest()[:16]
    return np.frombuffer(bytes(found), dtype=np.uint8).reshape(seeds.shape)


def correlated(zero: Words, one: Words, deltas: Words, length: int = 1) -> tuple[Words, Words]:
    """The offerer's end of a correlated transfer, from both keys of each row: (the reply, our share).

    Mod 2^64, or 2^(64 length) where so many columns are one number.
    """
    return long.add(long.subtract(zero, one, length), deltas, length), long.negative(zero, length)


def _messages(n: int) -> Iterator[list[slice]]:
    """The pieces of work of each message."""
    pieces = [slice(start, min(n, start + _ROWS)) for start in range(0, n, _ROWS)]
    return (pieces[start : start + _PIECES] for start in range(0, len(pieces), _PIECES))


def _corrected(n: int, receive: Callable[[], np.ndarray]) -> Iterator[tuple[slice, int, np.ndarray]]:
    """Each piece of work with its width in octets and its part of the chooser's message (last axis)."""
    for pieces in _messages(n):
        correction, widths = receive(), [-(-(rows.stop - rows.start) // 8) for rows in pieces]
        if correction.shape[-1] != sum(widths):
            raise PeerError("a correction has a wrong number of transfers")
        start = 0
        for rows, width in zip(pieces, widths, strict=True):
            yield rows, width, correction[..., start : start + width]
            start += width


def _as_bits(bits: np.ndarray) -> np.ndarray:
    if bits.ndim != 1 or bits.dtype not in (np.bool_, np.uint8) or bool((bits.view(np.uint8) > 1).any()):
        raise InternalError("choice bits are uint8 or bool of shape (n,), each 0 or 1")
    return bits.view(np.uint8)


def _as_columns(deltas: Words) -> Words:
    if deltas.ndim not in (1, 2) or deltas.dtype != np.uint64:
        raise InternalError("deltas are uint64 of shape (n,) or (n, k)")
    columns = 1 if deltas.ndim == 1 else deltas.shape[1]
    if columns == 0:
        raise InternalError("deltas have at least one column")
    return deltas.reshape(len(deltas), columns)


def _like(shares: Words, deltas: Words) -> Words:
    return shares.reshape(deltas.shape)
