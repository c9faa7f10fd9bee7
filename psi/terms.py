"""What both sides agreed about one alignment, what comes of it, what it asks of policy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from party.errors import UsageError
from party.request import Opening, Request, Use
from psi.messages import MOST_ROWS

__all__ = ["Alignment", "Terms", "receives_tags", "refuse_learns", "request", "tag_width"]


@dataclass(frozen=True)
class Terms:
    """`learns`: "both" or the one party that learns. `salt`: 16 to 64 bytes, the run's own, the same on both sides.

    An intersection smaller than the larger of the two minimum sizes is revealed to nobody but the tag receiver, who
    sees its count and nothing else. A minimum of 0 lets empty intersections through.
    """

    run: str
    salt: bytes
    learns: str = "both"
    our_min_size: int = 0
    their_min_size: int = 0
    most_ours: int = MOST_ROWS
    most_theirs: int = MOST_ROWS

    def __post_init__(self) -> None:
        refuse_learns(self.learns)
        if not 16 <= len(self.salt) <= 64:
            raise UsageError("the salt of an alignment has 16 to 64 bytes")
        if min(self.our_min_size, self.their_min_size, self.most_ours, self.most_theirs) < 0:
            raise UsageError("sizes are not negative")

    @property
    def min_size(self) -> int:
        """The minimum that holds: the stricter side's."""
        return max(self.our_min_size, self.their_min_size)

    def digest(self) -> bytes:
        """SHA-256 over what must be the same on both sides."""
        parts = [self.run.encode(), self.salt, self.learns.encode(), str(self.min_size).encode()]
        packed = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
        return hashlib.sha256(b"tallystick/v1/psi/terms/" + packed).digest()


@dataclass(frozen=True)
class Alignment:
    """Our half of the common order.

    rows: int64 (k,), our row numbers; -1 where the learner of a one-sided alignment has no row for that place.
    matched: uint8 (k,), for that learner only: 1 where it has one. count: size of the intersection, None for the
    side that does not learn it. ours, theirs: lengths of the two lists. digest: the same 32 bytes on both sides.
    """

    rows: npt.NDArray[np.int64]
    matched: npt.NDArray[np.uint8] | None
    count: int | None
    digest: bytes
    ours: int
    theirs: int


def refuse_learns(learns: str) -> None:
    """UsageError for what this version cannot do."""
    if learns == "size":
        raise UsageError(
            "`learns: size` is not available yet", stage="align", hint="use `learns: both` or name one party"
        )


def request(keys: Mapping[str, tuple[str, tuple[tuple[str, ...], ...]]], learns: str) -> Request:
    """What an alignment asks for. `keys`: party -> (table, its keys in the order they are tried).

    Every key column is used for `join`. Openings: "alignment.list" (the length of a list, to the other side),
    "alignment.enough" (the bit about the minimum size), "alignment.count" and "alignment.rows" (the intersection).
    Raises UsageError for `learns: size`, for several keys tried in order, and for keys of different lengths.
    """
    refuse_learns(learns)
    first, second = keys
    if learns not in (first, second, "both"):
        raise UsageError(f"`learns: {learns}` names neither {first} nor {second}", stage="align", hint="or both")
    for party, (table, tried) in keys.items():
        if len(tried) != 1:
            raise UsageError(
                f"{party}.{table} has several keys tried in order, which is not available yet",
                stage="align",
                hint="declare one key, which may have several columns",
            )
    if len(keys[first][1][0]) != len(keys[second][1][0]):
        raise UsageError(f"the keys of {first} and {second} have different numbers of columns", stage="align")
    uses = {Use(party, table, name, "join") for party, (table, (key,)) in keys.items() for name in key}
    openings = {Opening("alignment.list", party) for party in keys}
    for party, other in ((first, second), (second, first)):
        if learns in (party, "both"):
            openings |= {Opening("alignment.count", party), Opening("alignment.rows", party)}
            openings.add(Opening("alignment.enough", other))
    return Request(frozenset(uses), frozenset(openings))


def receives_tags(us: tuple[str, int], peer: tuple[str, int], learns: str) -> bool:
    """Whether we are the tag receiver: the one learner; else the shorter list, or of equal ones the first name's."""
    if learns != "both":
        return learns == us[0]
    return (us[1], us[0]) < (peer[1], peer[0])


def tag_width(ours: int, theirs: int) -> int:
    """Bytes of a tag: a wrong match anywhere has a chance of 2^-40, and never fewer than 10 bytes."""
    pairs = max(ours * theirs, 1)
    return max(10, -(-(40 + (pairs - 1).bit_length()) // 8))
