"""The alignment once more, plain and slow, both parties in one function: the oracle of `psi.ecdh` in tests.

It knows both scalars and computes with `ecdsa` and big integers, whose time depends on their input: for tests only.
Steps as in docs/protocols/03-ecdh-psi.md; `learns: both`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from kernels import curve25519_reference as curve
from kernels.prg import Prg

__all__ = ["Side", "Transcript", "match"]

_VERSION = b"tallystick/v1/psi/"


@dataclass(frozen=True)
class Side:
    """One party's input and its randomness."""

    items: Sequence[bytes]
    scalar: bytes


@dataclass(frozen=True)
class Transcript:
    """What goes over the wire in steps 3 to 8, and each side's item numbers in the common order."""

    receiver_list: list[bytes]
    sender_list: list[bytes]
    commitment: bytes
    tags: list[bytes]
    bitmap: bytes
    count: int
    digest: bytes
    receiver_rows: list[int]
    sender_rows: list[int]


def match(receiver: Side, sender: Side, run: str, salt: bytes, seed: bytes) -> Transcript:
    """`receiver` and `sender` of tags; the caller decides who is which, and checks the minimum size."""
    label = len(run.encode()).to_bytes(4, "little") + run.encode()

    # 2. Map, mask, sort.
    receiver_sent, sender_sent = _masked(receiver, salt), _masked(sender, salt)

    # 3. Mask again; tags of both lists in their sent order.
    pairs = max(len(receiver_sent) * len(sender_sent), 1)
    bits = 40
    while 2 ** (bits - 40) < pairs:
        bits += 1
    width = max(10, (bits + 7) // 8)
    key = hashlib.sha256(_VERSION + b"tag/" + label).digest()[:16]
    receiver_tags = [_tag(key, sender.scalar, point, width) for point, _ in receiver_sent]
    sender_tags = [_tag(key, receiver.scalar, point, width) for point, _ in sender_sent]

    # 4. The receiver's tags in the order of random words.
    words = [int(word) for word in Prg(seed, "psi/permutation").words(len(receiver_tags))]
    order = sorted(range(len(words)), key=lambda place: (words[place], place))

    # 7. The bitmap over the sender's list.
    known = {tag: item for tag, (_, item) in zip(receiver_tags, receiver_sent, strict=True)}
    matched = [tag in known for tag in sender_tags]
    number = sum(1 << place for place, found in enumerate(matched) if found)
    bitmap = number.to_bytes((len(matched) + 7) // 8, "little")

    # 8. The digest of the alignment.
    count = sum(matched)
    digest = hashlib.sha256(_VERSION + b"alignment/" + label + count.to_bytes(8, "little") + bitmap).digest()
    return Transcript(
        receiver_list=[point for point, _ in receiver_sent],
        sender_list=[point for point, _ in sender_sent],
        commitment=hashlib.sha256(_VERSION + b"seed/" + label + seed).digest(),
        tags=[receiver_tags[place] for place in order],
        bitmap=bitmap,
        count=count,
        digest=digest,
        receiver_rows=[known[tag] for tag in sender_tags if tag in known],
        sender_rows=[item for (_, item), found in zip(sender_sent, matched, strict=True) if found],
    )


def _masked(side: Side, salt: bytes) -> list[tuple[bytes, int]]:
    tag = _VERSION + b"identifier/curve25519_XMD:SHA-512_ELL2_NU_/" + salt
    points = [curve.multiply(side.scalar, curve.hash_to_curve(item, tag)) for item in side.items]
    return sorted((point, number) for number, point in enumerate(points))


def _tag(key: bytes, scalar: bytes, point: bytes, width: int) -> bytes:
    return hashlib.sha256(key + curve.multiply(scalar, point)).digest()[:width]
