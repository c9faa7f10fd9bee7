"""Counts of rows by correlated transfers: in how many a bit of one side's column meets a bit of the other's.

Blocks of work: `chosen` columns of bits at one side (the chooser) times `offered` columns at the other. For each row of
each chosen column one correlated transfer, its bit the choice, the bits of all offered columns in that row the
correlations, each a lane of 2, 4 or 8 bytes; what the row's share is, both sides add up. So a count costs 4 bytes a row
and chosen column and `lane` bytes a row, where the lattice's inner product takes 18.8 a row and 81,930 an answer: less
up to some ten thousand rows, and for columns that meet one other only.

Reveals: nothing but sizes; every message is one of `mpc.ot`. Shares are modulo 2^(8 lane), in the low bits of a word.
Waves of at most 2^20 words are sent one after the other, a round each. Source: docs/protocols/13-history-guard.md,
"Cost"; docs/protocols/05-oblivious-transfer.md, step 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mpc.ot import Ot
from party.errors import InternalError

__all__ = ["LANES", "Batch", "counts_chosen", "counts_offered", "lane_of", "waves"]

Words = npt.NDArray[np.uint64]
Bits = npt.NDArray[np.uint8]
Shape = tuple[int, int]  # chosen and offered columns of a block

LANES = (2, 4, 8)
WAVE = 1 << 20  # words of replies and of keys that are held at once


@dataclass(frozen=True)
class Batch:
    """Transfers of equally many correlations: parts (block, start, stop) of the rows of blocks, column after column."""

    offered: int
    parts: tuple[tuple[int, int, int], ...]

    @property
    def rows(self) -> int:
        """How many transfers it makes."""
        return sum(stop - start for _, start, stop in self.parts)

    def key_words(self, lane: int) -> int:
        """Words of key of one transfer."""
        return -(-self.offered * lane // 8)

    def reply_words(self, lane: int) -> int:
        """Words of its reply."""
        return -(-self.rows * self.offered * lane // 8)


def lane_of(bits: int) -> int:
    """The bytes that hold a count of so many bits."""
    return next(lane for lane in LANES if bits <= 8 * lane)


def waves(shapes: Sequence[Shape], n: int, lane: int) -> Iterator[tuple[Batch, ...]]:
    """How blocks over n rows are cut into rounds; the same on both sides."""
    wave: list[Batch] = []
    held = 0
    for batch in _batches(shapes, n, lane):
        words = batch.rows * batch.key_words(lane)
        if wave and held + words > WAVE:
            yield tuple(wave)
            wave, held = [], 0
        wave.append(batch)
        held += words
    if wave:
        yield tuple(wave)


def _batches(shapes: Sequence[Shape], n: int, lane: int) -> Iterator[Batch]:
    for offered in sorted({offered for _, offered in shapes}):
        most = max(1, WAVE // -(-offered * lane // 8))
        parts: list[tuple[int, int, int]] = []
        left = most
        for block, (chosen, others) in enumerate(shapes):
            start, end = 0, chosen * n if others == offered else 0
            while start < end:
                stop = min(end, start + left)
                parts.append((block, start, stop))
                left -= stop - start
                start = stop
                if left == 0:
                    yield Batch(offered, tuple(parts))
                    parts, left = [], most
        if parts:
            yield Batch(offered, tuple(parts))


def counts_chosen(ot: Ot, shapes: Sequence[Shape], n: int, columns: Callable[[int], Bits], lane: int) -> list[Words]:
    """Our shares (chosen, offered) of each block's counts; columns gives a block's bits of ours, uint8 (chosen, n).

    Peer (`counts_offered`) learns the shapes. Rounds: one a wave. Bytes: 4 a row and chosen column sent, `lane` for
    each row, chosen and offered column received, and frames (`mpc.cost.Meter.counts`).
    """
    held = _Held(columns)
    found = [np.zeros(shape, dtype=_kind(lane)) for shape in shapes]
    for wave in waves(shapes, n, lane):
        bits = [np.concatenate([held.get(block).reshape(-1)[a:b] for block, a, b in one.parts]) for one in wave]
        keys = [ot.choose(ours, one.key_words(lane)) for one, ours in zip(wave, bits, strict=True)]
        for one, ours, key in zip(wave, bits, keys, strict=True):
            lanes = _lanes(key, one.offered, lane)
            reply = ot.receive_words(one.reply_words(lane)).view(_kind(lane))[: lanes.size].reshape(lanes.shape)
            _add(found, one, n, lanes + reply * ours[:, None])
    return [share.astype(np.uint64) for share in found]


def counts_offered(ot: Ot, shapes: Sequence[Shape], n: int, columns: Callable[[int], Bits], lane: int) -> list[Words]:
    """Our shares of the same counts; columns gives a block's bits of ours, uint8 (offered, n)."""
    held = _Held(columns)
    kind = _kind(lane)
    found = [np.zeros(shape, dtype=kind) for shape in shapes]
    for wave in waves(shapes, n, lane):
        keys = [ot.offer(one.rows, one.key_words(lane)) for one in wave]
        for one, (first, second) in zip(wave, keys, strict=True):
            zero, other = (_lanes(key, one.offered, lane) for key in (first, second))
            deltas = [held.get(block).T[np.arange(a, b) % n] for block, a, b in one.parts]
            lanes = zero - other + np.concatenate(deltas)
            words = np.zeros(8 * one.reply_words(lane) // lane, dtype=kind)
            words[: lanes.size] = lanes.reshape(-1)
            ot.send_words(words.view(np.uint64))
            _add(found, one, n, np.zeros_like(zero) - zero)
    return [share.astype(np.uint64) for share in found]


class _Held:
    """A block's columns, those of the last one kept: parts of a block follow one another."""

    def __init__(self, columns: Callable[[int], Bits]) -> None:
        self._columns = columns
        self._last: tuple[int, Bits] | None = None

    def get(self, block: int) -> Bits:
        if self._last is None or self._last[0] != block:
            bits = self._columns(block)
            if bits.dtype != np.uint8 or bool((bits > 1).any()):
                raise InternalError("counts are of bits, uint8, each 0 or 1")
            self._last = block, bits
        return self._last[1]


def _kind(lane: int) -> np.dtype[np.unsignedinteger]:
    return np.dtype(f"<u{lane}")


def _lanes(keys: Words, offered: int, lane: int) -> np.ndarray:
    """The first lanes of each transfer's key, (rows, offered)."""
    return keys.view(_kind(lane))[:, :offered]


def _add(found: list[np.ndarray], one: Batch, n: int, lanes: np.ndarray) -> None:
    """Add rows (transfers, offered) to the counts of their blocks' columns."""
    place = 0
    for block, start, stop in one.parts:
        for column in range(start // n, -(-stop // n)):
            rows = min(stop, (column + 1) * n) - max(start, column * n)
            found[block][column] += lanes[place : place + rows].sum(axis=0, dtype=lanes.dtype)
            place += rows
