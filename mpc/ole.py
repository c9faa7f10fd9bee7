"""One direction of small-field vector OLE: seed streams folded into u, v and w, over bits and over GF(16).

Local work only, no message and nothing revealed: steps 1 and 2 of `mpc.ot`, which holds the protocol.
Source: Roy, "SoftSpokenOT", CRYPTO 2022, section 3; docs/protocols/05-oblivious-transfer.md.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kernels.blockhash import hash_blocks
from kernels.prg import Prg
from mpc.base_ot import LEAVES, PLACES

__all__ = ["Direction", "keys_of", "times"]

_SMALL = 64  # octets of rows, so 512 transfers: served from an expansion of _AHEAD
_AHEAD = 512


class Direction:
    """Seed streams and transfer counter of one direction. The chooser's offset is zero: then q is v.

    seeds: uint8 (32, 16, 16), or (32, 15, 16) where stream 0 is the unknown one.
    """

    def __init__(self, seeds: np.ndarray, offset: np.ndarray, first: int = 0) -> None:
        """first: the tweak to begin with."""
        self.offset = offset
        self._streams = [[Prg(seed.tobytes(), "ot/stream") for seed in place] for place in seeds]
        self._next = first
        self._spare: dict[bool, tuple[np.ndarray, np.ndarray]] = {}  # expanded and not yet used; by 1-of-16 or not
        self.mask = ((offset[:, None] >> np.arange(4, dtype=np.uint8)) & 1).reshape(-1)  # bit b of place c: 4 c + b
        self.rows16 = np.stack([_row(offset, m) for m in range(LEAVES)])
        self.row = self.rows16[1]

    def take(self, rows: int, words: int) -> int:
        """Reserve the tweaks of so many transfers; the first of them."""
        first = self._next
        self._next += rows * -(-words // 2)
        return first

    def expand(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Steps 1 and 2 for bits, 8 * width rows: v or w as columns (128, width), u (32, width; chooser only)."""
        return self._served(False, width) if width <= _SMALL else self._expand(width)

    def expand16(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        """The same over GF(16): v or w as columns (128, width), u as bit planes (32, 4, width)."""
        return self._served(True, width) if width <= _SMALL else self._expand16(width)

    def _served(self, sixteen: bool, width: int) -> tuple[np.ndarray, np.ndarray]:
        """A small expansion, cut off a larger one: 512 streams a call cost more than their bytes.

        Both sides see the same widths in the same order, so both cut at the same places; what is cut off never returns.
        """
        columns, streams = self._spare.get(sixteen, (np.empty((0, 0)), np.empty((0, 0))))
        if columns.shape[1] < width:
            columns, streams = self._expand16(_AHEAD) if sixteen else self._expand(_AHEAD)
        self._spare[sixteen] = columns[:, width:], streams[..., width:]
        return columns[:, :width].copy(), streams[..., :width].copy()

    def _expand(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        columns = np.empty((4 * PLACES, width), dtype=np.uint8)
        streams = np.empty((PLACES, width), dtype=np.uint8)
        for place in range(PLACES):
            sums, streams[place] = self._fold(place, width)
            for bit in range(4):
                columns[4 * place + bit] = sums[bit]
        return columns, streams

    def _expand16(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        columns = np.empty((4 * PLACES, width), dtype=np.uint8)
        streams = np.empty((PLACES, 4, width), dtype=np.uint8)
        for place in range(PLACES):
            sums, total = self._fold(place, 4 * width)
            streams[place] = total.reshape(4, width)
            product = sums[0].reshape(4, width).copy()
            for bit in range(1, 4):
                product ^= times(sums[bit].reshape(4, width), 1 << bit)
            columns[4 * place : 4 * place + 4] = product
        return columns, streams

    def _fold(self, place: int, octets: int) -> tuple[list[np.ndarray], np.ndarray]:
        """For b = 0..3 the XOR of the streams whose number has bit b, and the XOR of all (without an unknown one)."""
        level = [stream.bytes(octets) for stream in self._streams[place]]
        if len(level) < LEAVES:
            level.insert(0, np.zeros(octets, dtype=np.uint8))
        sums: list[np.ndarray] = []
        while len(level) > 1:
            half = len(level) // 2
            total = level[half].copy()
            for other in level[half + 1 :]:
                total ^= other
            sums.append(total)
            level = [low ^ high for low, high in zip(level[:half], level[half:], strict=True)]
        return sums[::-1], level[0]


def times(planes: np.ndarray, factor: int) -> np.ndarray:
    """Elements of GF(16) = GF(2)[a] / (a^4 + a + 1) as bit planes uint8 (4, w), times a constant."""
    out = np.zeros_like(planes)
    power = list(planes)  # planes * a^bit; a multiplication by a only renames planes and adds one
    for bit in range(4):
        if factor >> bit & 1:
            for place in range(4):
                out[place] ^= power[place]
        if factor >> (bit + 1) == 0:
            break
        power = [power[3], power[0] ^ power[3], power[1], power[2]]
    return out


def _row(offset: np.ndarray, factor: int) -> npt.NDArray[np.uint64]:
    """factor * offset as a row of 128 bits: uint64 (2,)."""
    planes = (offset >> np.arange(4, dtype=np.uint8)[:, None]) & 1
    product = times(planes, factor)  # one bit an octet here
    return np.packbits(product.T.reshape(-1), bitorder="little").view("<u8")


def keys_of(blocks: np.ndarray, first: int, words: int) -> npt.NDArray[np.uint64]:
    """Keys of so many words from blocks uint64 (n, 2), with n tweaks for each two words: uint64 (n, words)."""
    parts = [hash_blocks(blocks, first + number * len(blocks)) for number in range(-(-words // 2))]
    return np.concatenate(parts, axis=1)[:, :words]
