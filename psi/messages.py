"""The messages of the alignment, each with what it shows its receiver. Steps as in docs/protocols/03-ecdh-psi.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from party.message import Array, Bytes, Cap, Int, Message

__all__ = [
    "AHEAD",
    "CHUNK",
    "MOST_CHUNKS",
    "MOST_ROWS",
    "Agreed",
    "Bitmap",
    "Commitment",
    "Digest",
    "Enough",
    "Evaluated",
    "Held",
    "Listed",
    "Masked",
    "Multiplicities",
    "Removed",
    "Salt",
    "Seed",
    "Size",
    "Tags",
    "Unmatched",
]

CHUNK = 65_536  # points or tags of one message
AHEAD = 4  # chunks sent before the first of the peer's is awaited: 8 MiB, under the outbox's limit
MOST_ROWS = 1 << 25  # a list of 33 million: 1 GiB of points, a bitmap of 4 MiB
MOST_CHUNKS = MOST_ROWS // CHUNK


@dataclass(frozen=True, repr=False)
class Agreed(Message, kind=0x0201):
    """Step 1, both ways. Shows: settings and terms, as digests that must be the same on both sides."""

    settings: Annotated[bytes, Bytes(32)]
    terms: Annotated[bytes, Bytes(32)]


@dataclass(frozen=True, repr=False)
class Listed(Message, kind=0x0209):
    """Step 2, both ways. Shows: how many distinct valid identifiers the sender has, a digest of its list, and how many
    chunks of our list, and of what we made of its own, it already holds from before the run was interrupted."""

    count: Annotated[int, Int(0, MOST_ROWS)]
    digest: Annotated[bytes, Bytes(32)]
    points_held: Annotated[int, Int(0, MOST_CHUNKS)]
    tags_held: Annotated[int, Int(0, MOST_CHUNKS)]


@dataclass(frozen=True, repr=False)
class Masked(Message, kind=0x0202):
    """Step 3, both ways: one chunk of the sender's identifiers under its scalar, ascending. Shows nothing by itself."""

    points: Annotated[np.ndarray, Array("u1", Cap(CHUNK), 32)]


@dataclass(frozen=True, repr=False)
class Removed(Message, kind=0x020F):
    """Series, step 3, both ways: one chunk of the places of keys that are no longer in the sender's table. Shows those
    places: for matched keys which rows of the receiver lost their match."""

    last: bool
    places: Annotated[np.ndarray, Array("u4", Cap(CHUNK))]


@dataclass(frozen=True, repr=False)
class Held(Message, kind=0x0210):
    """Series, step 1, both ways: the newest state of the series that the sender holds, and the one before it (digests
    over label and version, zeros for none), and whether its policy asks for a new key. Shows that."""

    newest: Annotated[bytes, Bytes(32)]
    before: Annotated[bytes, Bytes(32)]
    roll: bool


@dataclass(frozen=True, repr=False)
class Salt(Message, kind=0x020D):
    """Unbalanced form, step 1, from the long side: what separates this run's points from others'. Shows nothing."""

    salt: Annotated[bytes, Bytes(32)]


@dataclass(frozen=True, repr=False)
class Evaluated(Message, kind=0x020E):
    """Unbalanced form, step 4, to the short side: one chunk of its own blinded points under the long side's scalar,
    permuted. Shows the size of the intersection."""

    points: Annotated[np.ndarray, Array("u1", Cap(CHUNK), 32)]


@dataclass(frozen=True, repr=False)
class Commitment(Message, kind=0x0203):
    """Step 4, to the tag receiver: SHA-256 over the permutation's seed. Shows nothing."""

    digest: Annotated[bytes, Bytes(32)]


@dataclass(frozen=True, repr=False)
class Tags(Message, kind=0x0204):
    """Step 4, to the tag receiver: one chunk of its own list's tags, permuted. Shows the size of the intersection.
    Unbalanced form, step 3, to the short side: one chunk of the long list's tags, ascending."""

    tags: Annotated[np.ndarray, Array("u1", Cap(CHUNK), Cap(32))]


@dataclass(frozen=True, repr=False)
class Enough(Message, kind=0x0205):
    """Step 5, to the tag sender. Shows one bit: whether the intersection reaches the agreed minimum."""

    enough: bool


@dataclass(frozen=True, repr=False)
class Size(Message, kind=0x020A):
    """Step 5, to the tag sender, `learns: size` only: how many identifiers both have."""

    count: Annotated[int, Int(0, MOST_ROWS)]


@dataclass(frozen=True, repr=False)
class Seed(Message, kind=0x0206):
    """Step 6, to the tag receiver: the permutation's seed. Shows which of the receiver's rows match."""

    seed: Annotated[bytes, Bytes(32)]


@dataclass(frozen=True, repr=False)
class Bitmap(Message, kind=0x0207):
    """Step 7, to the tag sender, `learns: both` only: which places of its sent list are in the intersection."""

    count: Annotated[int, Int(0, MOST_ROWS)]
    bits: Annotated[np.ndarray, Array("u1", Cap(MOST_ROWS // 8 + 1))]


@dataclass(frozen=True, repr=False)
class Digest(Message, kind=0x0208):
    """Step 8, both ways: the alignment's digest. Shows whether both sides hold the same alignment."""

    digest: Annotated[bytes, Bytes(32)]


@dataclass(frozen=True, repr=False)
class Multiplicities(Message, kind=0x020B):
    """After step 8, both ways, where repeated keys stand for themselves: how many rows of the sender have each matched
    key, in the common order, one chunk. Shows that, for matched keys only."""

    counts: Annotated[np.ndarray, Array("u4", Cap(CHUNK))]


@dataclass(frozen=True, repr=False)
class Unmatched(Message, kind=0x020C):
    """After step 8, from the side whose rows without a match stay: how many they are. Shows that number."""

    count: Annotated[int, Int(0, MOST_ROWS)]
