"""Two halves of an engine for the tests of transfers, conversions, comparisons and openings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpc.ot import Ot
from party.channel import Channel
from party.guard import Guard
from tests.support import Ledger, channels, open_guard, run_pair


@dataclass
class Half:
    """What these protocols use of mpc.engine.Engine."""

    channel: Channel
    guard: Guard
    ot: Ot
    index: int
    ledger: Ledger

    def counted(self, action: Callable[[], Any]) -> tuple[Any, tuple[int, int, int, int]]:
        """The action's result and what it cost us: bytes sent, messages sent, messages received, rounds."""
        self.channel._asked = False  # nothing of an earlier call is awaited
        before = self._counts()
        result = action()
        after = self._counts()
        return result, tuple(b - a for a, b in zip(before, after, strict=True))  # type: ignore[return-value]

    def _counts(self) -> tuple[int, int, int, int]:
        counters = self.channel.counters
        return counters.sent, counters.messages_sent, counters.messages_received, counters.rounds


@contextmanager
def halves(openings: Iterable[tuple[str, str]] = (), prepared: bool = True) -> Iterator[tuple[Half, Half]]:
    """Both sides; their channels are shut at the end."""
    openings = list(openings)
    pair = channels()
    made = []
    for index, channel in enumerate(pair):
        guard, ledger = open_guard(openings, peer=channel.peer)
        made.append(Half(channel, guard, Ot(channel, index), index, ledger))
    left, right = made
    try:
        if prepared:
            run_pair(left.ot.prepare, right.ot.prepare, *pair)
        yield left, right
    finally:
        for channel in pair:
            channel._transport.shutdown()


def both(left: Half, right: Half, action: Callable[[Half], Any]) -> tuple[Any, Any]:
    """The same action at both sides."""
    return run_pair(lambda: action(left), lambda: action(right), left.channel, right.channel)


def split(values: Any, rng: np.random.Generator, t: int = 2**64) -> tuple[np.ndarray, np.ndarray]:
    """Additive shares mod t of integers of any size."""
    values = np.asarray(values, dtype=object)
    ours = np.array([int.from_bytes(rng.bytes(16), "little") % t for _ in range(values.size)], dtype=object)
    theirs = (values.reshape(-1) - ours) % t
    shape = values.shape
    return ours.astype(np.uint64).reshape(shape), theirs.astype(np.uint64).reshape(shape)


def opened(pair: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The signed values of two shares mod 2^64."""
    return (pair[0] + pair[1]).view(np.int64)
