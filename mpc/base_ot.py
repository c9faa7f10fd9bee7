"""Base oblivious transfers on X25519 and the punctured seed trees grown from them.

Once a session and for both directions at the same time. In each direction one side (the offerer) holds a secret offset
of 128 bits, read as 32 places of 4 bits; the other (the chooser) holds 16 seeds a place, of which the offerer gets
all but the one its offset names. That is what the extension in `mpc.ot` starts from. Semi-honest.

1. Both send BaseTransfer. As receiver of 128 base transfers: for choice c the point u_c = X25519(x, 9) and
   u_(1-c) = X25519(y, E), E = Elligator2(random), y then forgotten. As sender of the other 128: X25519(r, 9).
   A clamped scalar is a multiple of 8, so both points lie in the prime-order group and are uniform there; E alone
   would carry torsion 7 times of 8 and so show the choice.
2. Keys: the sender has H(session, i, j, u_j, X25519(r, u_j)) for j = 0, 1, the receiver X25519(x, r 9) and so the one
   for j = c.
3. Both send Trees: per place a binary tree of seeds of depth 4; per level the XOR of all left and of all right seeds,
   each under one base key. The offerer asked for the side away from its path, so it can grow all leaves but one.

Reveals: BaseTransfer is uniform whatever the choices; Trees is uniform but for the half the receiver asked for.
Rounds: 2. Bytes sent by each side: 8,244 + 4,096 and two frame headers of 24. CPU: 642 curve multiplications a side.
Source: docs/protocols/05-oblivious-transfer.md; Chou, Orlandi, LATINCRYPT 2015 (the shape); Goldreich, Goldwasser,
Micali 1986 (trees); Roy, "SoftSpokenOT", CRYPTO 2022, section 5 (their use).
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from kernels import curve25519
from kernels.prg import Prg
from party.channel import Channel
from party.errors import PeerError
from party.message import Array, Bytes, Message

__all__ = ["LEAVES", "PLACES", "BaseTransfer", "Seeds", "Trees", "exchange"]

PLACES = 32  # positions of the offset
DEPTH = 4  # bits of one position
LEAVES = 1 << DEPTH
_BASE = PLACES * DEPTH
_LABEL = b"tallystick/v1/ot/"


@dataclass(frozen=True, repr=False)
class BaseTransfer(Message, kind=0x0401):
    """Step 1, both ways: our part of the session's name, our sender point, our 128 pairs as receiver. All uniform."""

    nonce: Annotated[bytes, Bytes(16)]
    sender: Annotated[np.ndarray, Array("u1", 1, 32)]
    pairs: Annotated[np.ndarray, Array("u1", _BASE, 2, 32)]


@dataclass(frozen=True, repr=False)
class Trees(Message, kind=0x0402):
    """Step 3, both ways: per place and level the XOR of the left and of the right seeds, each under its base key."""

    sums: Annotated[np.ndarray, Array("u1", PLACES, DEPTH, 2, 16)]


@dataclass(frozen=True, repr=False)
class Seeds:
    """What one side starts its two directions from.

    chooser: all seeds, uint8 (32, 16, 16). offset: uint8 (32,), values 0..15. offerer: the peer's seeds in the order
    leaf XOR offset, uint8 (32, 16, 16): entry 0 of each place is the unknown one and stays zero.
    """

    chooser: np.ndarray
    offset: np.ndarray
    offerer: np.ndarray


def exchange(channel: Channel, index: int, root: bytes | None = None) -> Seeds:
    """Run the three steps with the peer; symmetric. Raises PeerError on a non-canonical or small-order point.

    root: where our randomness comes from, the system's if None; the same root repeats every message.
    """
    ours_alone = Prg(root or secrets.token_bytes(32), "ot/base")
    # 1. Points for our 128 choices, which are the complement of our offset's bits, most significant first.
    offset = ours_alone.bytes(PLACES) & 15
    choices = 1 - ((offset[:, None] >> np.arange(DEPTH - 1, -1, -1, dtype=np.uint8)) & 1).reshape(-1)
    known = _scalars(ours_alone, _BASE)
    pairs = np.empty((_BASE, 2, 32), dtype=np.uint8)
    rows = np.arange(_BASE)
    pairs[rows, choices] = curve25519.base_multiply_each(known)
    random = curve25519.pack([ours_alone.bytes(32).tobytes() for _ in rows])
    other = curve25519.hash_to_curve(*random, _LABEL + b"elligator/")
    pairs[rows, 1 - choices] = curve25519.multiply_each(_scalars(ours_alone, _BASE), other)
    ours = _scalars(ours_alone, 1)
    first = BaseTransfer(ours_alone.bytes(16).tobytes(), curve25519.base_multiply_each(ours), pairs)
    theirs = channel.swap(first)
    _check(np.concatenate([theirs.sender, theirs.pairs.reshape(-1, 32)]))
    # 2. Keys of both directions; a direction is named by the index of its base sender.
    nonces = first.nonce + theirs.nonce if index == 0 else theirs.nonce + first.nonce
    offered = curve25519.multiply(ours[0].tobytes(), theirs.pairs.reshape(-1, 32))
    chosen = curve25519.multiply_each(known, np.repeat(theirs.sender, _BASE, axis=0))
    _check_nonzero(np.concatenate([offered, chosen]))
    places = [(i, j) for i in range(_BASE) for j in (0, 1)]
    both = _keys(nonces + bytes([index]), places, theirs.pairs.reshape(-1, 32), offered).reshape(_BASE, 2, 16)
    picked = list(zip(range(_BASE), choices.tolist(), strict=True))
    one = _keys(nonces + bytes([1 - index]), picked, pairs[rows, choices], chosen)
    # 3. Our trees under our keys; theirs, as far as our choices open them.
    leaves, sums = _grow(ours_alone)
    received = channel.swap(Trees((sums.reshape(_BASE, 2, 16) ^ both).reshape(PLACES, DEPTH, 2, 16))).sums
    opened = received.reshape(_BASE, 2, 16)[rows, choices] ^ one
    return Seeds(leaves, offset, _regrow(opened.reshape(PLACES, DEPTH, 16), offset))


def _scalars(stream: Prg, count: int) -> np.ndarray:
    scalars = (curve25519.clamped(stream.bytes(32).tobytes()) for _ in range(count))
    return np.frombuffer(b"".join(scalars), dtype=np.uint8).reshape(count, 32)


def _check(points: np.ndarray) -> None:
    if not bool(np.all(curve25519.is_canonical(points))):
        raise PeerError("a base transfer holds a point that is not canonical")


def _check_nonzero(points: np.ndarray) -> None:
    if not bool(np.all(points.any(axis=1))):
        raise PeerError("a base transfer holds a point of small order")


def _keys(session: bytes, places: list[tuple[int, int]], points: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """H(session, i, j, u, shared) for each row; uint8 (n, 16)."""
    out = bytearray()
    for (i, j), point, secret in zip(places, points, shared, strict=True):
        text = _LABEL + b"base/" + session + bytes([i, j]) + point.tobytes() + secret.tobytes()
        out += hashlib.sha256(text).digest()[:16]
    return np.frombuffer(bytes(out), dtype=np.uint8).reshape(-1, 16)


def _children(seeds: np.ndarray) -> np.ndarray:
    """Left and right child of each seed: uint8 (n, 16) -> (n, 2, 16)."""
    return np.stack([Prg(seed.tobytes(), "ot/tree").bytes(32) for seed in seeds]).reshape(-1, 2, 16)


def _grow(stream: Prg) -> tuple[np.ndarray, np.ndarray]:
    """Fresh trees: the leaves (32, 16, 16) and per level the XOR of the left and of the right seeds (32, 4, 2, 16)."""
    level = stream.bytes(PLACES * 16).reshape(PLACES, 1, 16)
    sums = np.empty((PLACES, DEPTH, 2, 16), dtype=np.uint8)
    for depth in range(DEPTH):
        children = _children(level.reshape(-1, 16)).reshape(PLACES, -1, 2, 16)
        sums[:, depth] = np.bitwise_xor.reduce(children, axis=1)
        level = children.reshape(PLACES, -1, 16)
    return level, sums


def _regrow(opened: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """All leaves but the one at each offset, from one side's sum a level; in the order leaf XOR offset."""
    rows = np.arange(PLACES)
    level = np.zeros((PLACES, 1, 16), dtype=np.uint8)
    path = np.zeros(PLACES, dtype=np.intp)  # the unknown node of this level
    for depth in range(DEPTH):
        children = _children(level.reshape(-1, 16)).reshape(PLACES, -1, 2, 16)
        children[rows, path] = 0
        turn = ((offset >> (DEPTH - 1 - depth)) & 1).astype(np.intp)
        known = np.bitwise_xor.reduce(children, axis=1)[rows, 1 - turn]
        children[rows, path, 1 - turn] = known ^ opened[:, depth]
        level = children.reshape(PLACES, -1, 16)
        path = 2 * path + turn
    leaves: np.ndarray = level[rows[:, None], np.arange(LEAVES)[None, :] ^ offset[:, None]]
    return leaves
