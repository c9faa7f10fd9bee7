"""What both sides agreed about one alignment, what comes of it, what it asks of policy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from party.errors import UsageError
from party.request import Opening, Request, Use
from psi.masking import Facts
from psi.messages import MOST_ROWS

__all__ = ["Alignment", "Joined", "Terms", "receives_tags", "request", "tag_width"]


@dataclass(frozen=True)
class Terms:
    """`learns`: "both", "size" (how many, not which), or the one party that learns. `salt`: 16 to 64 bytes, the run's
    own, the same on both sides. `keep`: the party whose rows without a match stay in the alignment (a left join).
    `multiple`: a key repeated on either side stands for each of its rows. `small`: the party with the much shorter
    list, when the unbalanced form is taken. `series`: the label of the series this run belongs to (`psi.series`).

    An intersection smaller than the larger of the two minimum sizes is revealed to nobody but the tag receiver, who
    sees its count and nothing else. A minimum of 0 lets empty intersections through.
    """

    run: str
    salt: bytes
    learns: str = "both"
    our_min_size: int = 0
    their_min_size: int = 0
    keep: str | None = None
    multiple: bool = False
    small: str | None = None
    series: str | None = None
    most_ours: int = MOST_ROWS
    most_theirs: int = MOST_ROWS

    def __post_init__(self) -> None:
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
        chosen = (self.keep, self.small, self.series)
        words = (self.run, self.learns, str(self.min_size), str(self.multiple), *(word or "" for word in chosen))
        parts = [self.salt, *(word.encode() for word in words)]
        packed = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
        return hashlib.sha256(b"tallystick/v1/psi/terms/" + packed).digest()


@dataclass(frozen=True)
class Alignment:
    """Our half of the common order.

    rows: int64 (k,), our row numbers; -1 where we have no row for that place. matched: uint8 (k,), for the learner of
    a one-sided alignment only: 1 where it has a row. count: size of the intersection in distinct keys, None for the
    side that does not learn it. ours, theirs: lengths of the two lists, of all keys together. digest: the same 32
    bytes on both sides. facts: what our table gave. by_key: the matches of each key in the order tried, None for one
    whose matches were below the minimum. unmatched: how many places at the end belong to rows without a match
    (`Terms.keep`). others: our rows that repeat a key, int64 (d, 2), (first row of that key, row).
    """

    rows: npt.NDArray[np.int64]
    matched: npt.NDArray[np.uint8] | None
    count: int | None
    digest: bytes
    ours: int
    theirs: int
    facts: Facts | None = None
    by_key: tuple[int | None, ...] = ()
    others: npt.NDArray[np.int64] | None = field(default=None, repr=False, compare=False)
    unmatched: int = 0


@dataclass(frozen=True)
class Joined:
    """How the tables are joined: a job's `align`. keys: party -> (table, its keys in the order they are tried).
    keep: the party whose rows without a match stay, or None. multiple: repeated keys may stand for each of their rows.
    incremental: the run belongs to a series (`psi.series`).
    """

    keys: Mapping[str, tuple[str, tuple[tuple[str, ...], ...]]]
    learns: str = "both"
    keep: str | None = None
    multiple: bool = False
    incremental: bool = False


def request(joined: Joined) -> Request:
    """What an alignment asks for.

    Every key column is used for `join`. Openings: "alignment.list" (the length of a list, to the other side),
    "alignment.enough" (the bit about the minimum size), "alignment.count" (how many match), "alignment.rows" (which),
    "alignment.multiplicities" (rows of each matched key), "alignment.unmatched" (how many rows have no match),
    "alignment.series" (which masked keys are new and which have gone since the last run).
    Raises UsageError for what cannot be joined so.
    """
    keys, learns = joined.keys, joined.learns
    first, second = keys
    if learns not in (first, second, "both", "size"):
        raise UsageError(
            f"`learns: {learns}` names neither {first} nor {second}", stage="align", hint="or both, or size"
        )
    _refuse_unlike(joined)
    uses = {Use(party, table, name, "join") for party, (table, tried) in keys.items() for key in tried for name in key}
    openings = {Opening("alignment.list", party) for party in keys}
    for party, other in ((first, second), (second, first)):
        if learns in (party, "both", "size"):
            openings |= {Opening("alignment.count", party), Opening("alignment.enough", other)}
        if learns in (party, "both"):
            openings.add(Opening("alignment.rows", party))
        if joined.multiple:
            openings.add(Opening("alignment.multiplicities", party))
        if joined.keep == party:
            openings.add(Opening("alignment.unmatched", other))
        if joined.incremental:
            openings.add(Opening("alignment.series", party))
    return Request(frozenset(uses), frozenset(openings))


def _refuse_unlike(joined: Joined) -> None:
    """UsageError where the two tables' keys do not fit each other, or the wish does not fit who learns."""
    (first, (_, ours)), (second, (_, theirs)) = joined.keys.items()
    if len(ours) != len(theirs):
        raise UsageError(
            f"{first} tries {len(ours)} keys and {second} {len(theirs)}: each needs its counterpart, in the same order",
            stage="align",
        )
    for one, other in zip(ours, theirs, strict=True):
        if len(one) != len(other):
            raise UsageError(f"the keys of {first} and {second} have different numbers of columns", stage="align")
    for wish, there in (
        ("several keys tried in order", len(ours) > 1),
        ("`keep`", joined.keep is not None),
        ("`duplicates: all`", joined.multiple),
        ("`incremental`", joined.incremental),
    ):
        if there and joined.learns != "both":
            raise UsageError(f"{wish} needs `learns: both`: each side must know what matched", stage="align")
    if joined.incremental and len(ours) > 1:
        raise UsageError("`incremental` needs one key, not several tried in order", stage="align")
    if joined.keep not in (None, *joined.keys):
        raise UsageError(f"`keep: {joined.keep}` names neither {first} nor {second}", stage="align")


def receives_tags(us: tuple[str, int], peer: tuple[str, int], learns: str) -> bool:
    """Whether we are the tag receiver: the one learner; else the shorter list, or of equal ones the first name's."""
    if learns not in ("both", "size"):
        return learns == us[0]
    return (us[1], us[0]) < (peer[1], peer[0])


def tag_width(ours: int, theirs: int) -> int:
    """Bytes of a tag: a wrong match anywhere has a chance of 2^-40, and never fewer than 10 bytes."""
    pairs = max(ours * theirs, 1)
    return max(10, -(-(40 + (pairs - 1).bit_length()) // 8))
