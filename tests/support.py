"""What the tests of several packages share: two threads as two parties, a ledger in a list, a guard over it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from party.channel import Channel, memory_pair
from party.guard import Guard
from party.request import Opening

A = TypeVar("A")
B = TypeVar("B")


class Ledger:
    """A record in a list: what the guard wrote before it let go."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, str | int]]] = []

    def append(self, event: str, /, **fields: str | int) -> None:
        self.events.append((event, fields))


def open_guard(
    openings: Iterable[tuple[str, str]] = (), peer: str = "telco", min_rows: int = 1
) -> tuple[Guard, Ledger]:
    """A guard that allows exactly these (what, to), and the ledger it writes."""
    ledger = Ledger()
    return Guard("test-run", peer, [Opening(what, to) for what, to in openings], ledger, min_rows), ledger


def run_pair(ours: Callable[[], A], theirs: Callable[[], B], *channels: Channel, timeout: float = 120.0) -> tuple[A, B]:
    """Run both sides in two threads. The first error is raised, after the given channels are shut: nothing hangs."""
    results: list[Any] = [None, None]
    errors: list[BaseException] = []

    def run(place: int, side: Callable[[], Any]) -> None:
        try:
            results[place] = side()
        except BaseException as error:  # handed to the test's own thread below
            errors.append(error)
            for channel in channels:
                channel._transport.shutdown()

    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate((ours, theirs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout)
    if errors:
        raise errors[0]
    if any(thread.is_alive() for thread in threads):
        raise TimeoutError("the two sides wait for each other")
    return results[0], results[1]


def channels() -> tuple[Channel, Channel]:
    """A connected pair named bank and telco."""
    return memory_pair("bank", "telco")
