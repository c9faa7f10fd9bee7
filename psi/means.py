"""What a side brings to an alignment that its peer does not see: where to keep, whom to tell, who computes."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TypeVar

from party.channel import Channel
from party.errors import DeadlineExceeded
from party.message import Message
from psi.store import MemoryStore, Store

__all__ = ["Means", "Progress", "Reporter", "awaited"]

M = TypeVar("M", bound=Message)

Progress = Callable[[int, int, str], None]

_LOOK = 5.0  # seconds of waiting between two words about it
_STALLED = 900.0  # seconds without the next message, beyond what the peer may need to compute it


@dataclass(frozen=True)
class Means:
    """`store`: with it, a broken run called again goes on and sends the same bytes; the caller wipes it when both
    sides have the result on disk. `ahead`: the store of a list made ahead (`psi.unbalanced`). `progress(done, total,
    note)` counts multiplications. `executor`: who computes, else our own threads; its workers see the secret scalar."""

    store: Store = field(default_factory=MemoryStore)
    ahead: Store | None = None
    progress: Progress | None = None
    executor: Executor | None = None


class Reporter:
    """Counts multiplications and tells how many a second, and what we wait for."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        self.begin("")

    def begin(self, step: str) -> None:
        """A step begins; rates are its own."""
        self._step = step
        self._began = time.monotonic()
        self._in_step = 0

    def total(self, total: int) -> None:
        """The lengths are known now."""
        self._total = total

    def step(self, count: int) -> None:
        """So many more are done."""
        self._done += count
        self._in_step += count
        rate = self._in_step / max(time.monotonic() - self._began, 1e-3)
        self._tell(f"{self._step}, {rate:,.0f} a second")

    def waits(self, seconds: float, what: str) -> None:
        """Nothing came for so long."""
        self._tell(f"waiting for {what} since {seconds:.0f} s")

    def _tell(self, note: str) -> None:
        if self._progress is not None:
            self._progress(self._done, max(self._total, self._done), note)


def awaited(channel: Channel, kind: type[M], report: Reporter, what: str, seconds: float = 0.0) -> M:
    """The next message. While none comes the user is told what we wait for; after `seconds`, what the peer may need
    to compute, and a quarter of an hour, DeadlineExceeded names the side and the step."""
    waited, most = 0.0, seconds + _STALLED
    while True:
        began = time.monotonic()
        try:
            return channel.recv(kind, min(_LOOK, most - waited))
        except DeadlineExceeded:
            waited += max(time.monotonic() - began, 1e-3)
            if waited < most:
                report.waits(waited, what)
                continue
        raise DeadlineExceeded(
            f"{channel.peer} is there, but {what} has not come for {waited:.0f} s",
            party=channel.peer,
            stage=channel.stage_name,
            hint=f"see what {channel.peer}'s machine is doing, then run the same command again: it goes on from here",
        )
