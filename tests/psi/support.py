"""What the alignment's tests share: two parties' sets, both sides run in two threads."""

from __future__ import annotations

from collections.abc import Iterable

from party.channel import Channel
from party.guard import Guard
from psi import Alignment, Identifiers, Store, Terms, from_items, match, request
from tests.support import Ledger, channels, run_pair

SALT = bytes(range(32))
KEYS = {"bank": ("customers", (("phone",),)), "telco": ("subscribers", (("msisdn",),))}


def ids(values: Iterable[int]) -> Identifiers:
    return from_items([b"id%d" % value for value in values])


def terms(learns: str = "both", ours: int = 0, theirs: int = 0, run: str = "r1") -> Terms:
    return Terms(run=run, salt=SALT, learns=learns, our_min_size=ours, their_min_size=theirs)


def guard(peer: str, learns: str = "both") -> tuple[Guard, Ledger]:
    ledger = Ledger()
    return Guard("r1", peer, request(KEYS, learns).openings, ledger), ledger


def align(
    bank: Identifiers | None,
    telco: Identifiers | None,
    learns: str = "both",
    stores: tuple[Store | None, Store | None] = (None, None),
    pair: tuple[Channel, Channel] | None = None,
) -> tuple[Alignment, Alignment]:
    """Both sides of one alignment."""
    first, second = pair or channels()
    ours, theirs = guard("telco", learns)[0], guard("bank", learns)[0]
    return run_pair(
        lambda: match(bank, first, ours, terms(learns), store=stores[0]),
        lambda: match(telco, second, theirs, terms(learns), store=stores[1]),
        first,
        second,
    )
