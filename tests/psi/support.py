"""What the alignment's tests share: two parties' sets, both sides run in two threads."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from typing import Any

from party.channel import Channel
from party.guard import Guard
from party.message import Message, _specs
from psi import Alignment, Identifiers, Joined, Means, MemoryStore, Store, Terms, from_items, match, messages, request
from tests.support import Ledger, channels, run_pair

SALT = bytes(range(32))
LISTS_BEGIN = hashlib.sha256(b"tallystick/v1/psi/list/" + (2).to_bytes(4, "little") + b"r1").digest()  # of run r1
KEYS = {"bank": ("customers", (("phone",),)), "telco": ("subscribers", (("msisdn",),))}

# A message's limits are read at its first use and kept: not while a test makes chunks small.
for _kind in vars(messages).values():
    if isinstance(_kind, type) and issubclass(_kind, Message) and _kind is not Message:
        _specs(_kind)


def ids(values: Iterable[int]) -> Identifiers:
    return from_items([b"id%d" % value for value in values])


def terms(learns: str = "both", ours: int = 0, theirs: int = 0, run: str = "r1") -> Terms:
    return Terms(run=run, salt=SALT, learns=learns, our_min_size=ours, their_min_size=theirs)


def guard(peer: str, learns: str = "both") -> tuple[Guard, Ledger]:
    ledger = Ledger()
    return Guard("r1", peer, request(Joined(KEYS, learns, multiple=learns == "both")).openings, ledger), ledger


def means(store: Store | None) -> Means:
    return Means(store or MemoryStore())


def align(
    bank: Identifiers,
    telco: Identifiers,
    learns: str = "both",
    stores: tuple[Store | None, Store | None] = (None, None),
    pair: tuple[Channel, Channel] | None = None,
) -> tuple[Alignment, Alignment]:
    """Both sides of one alignment."""
    first, second = pair or channels()
    ours, theirs = guard("telco", learns)[0], guard("bank", learns)[0]
    return run_pair(
        lambda: match(bank, first, ours, terms(learns), means(stores[0])),
        lambda: match(telco, second, theirs, terms(learns), means(stores[1])),
        first,
        second,
        timeout=400,
    )


class Tampered:
    """A channel whose outgoing messages pass through `change` first: a peer that breaks the rules."""

    def __init__(self, channel: Channel, change: Callable[[Message], Message | None]) -> None:
        self._channel = channel
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def send(self, message: Message) -> None:
        changed = self._change(message)
        if changed is not None:
            self._channel.send(changed)

    def swap(self, message: Any) -> Any:
        self.send(message)
        return self._channel.recv(type(message))


def both_ends(
    honest: Callable[[], Any], other: Callable[[], Any], *pair: Channel
) -> tuple[Alignment | BaseException, Alignment | BaseException]:
    """Run both sides; what each returned or raised. A side that ends with an error takes the connection down."""
    outcomes: list[Any] = [None, None]

    def run(place: int, side: Callable[[], Any]) -> None:
        try:
            outcomes[place] = side()
        except Exception as error:
            outcomes[place] = error
            pair[place]._transport.shutdown()

    threads = [threading.Thread(target=run, args=item, daemon=True) for item in enumerate((honest, other))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return outcomes[0], outcomes[1]
