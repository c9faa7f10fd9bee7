"""The guard: policy and ledger bound to one run, the one door through which a value may leave."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from party.errors import PolicyRefused
from party.request import Opening

__all__ = ["Guard", "Record"]


class Record(Protocol):
    """Where the guard writes before it lets go: the ledger, or a list in a test. Returns only when it is on disk."""

    def append(self, event: str, /, **fields: str | int) -> None: ...


class Guard:
    """Lets out only what the agreement names, and only after the ledger holds it."""

    def __init__(self, run: str, peer: str, openings: Iterable[Opening], record: Record, min_rows: int = 1) -> None:
        self.run = run
        self.peer = peer
        self.min_rows = min_rows
        self._openings = frozenset(openings)
        self._record = record

    def disclose(self, what: str, to: str, rows: int) -> None:
        """Ask before a value leaves: `what` is opened `to` a party, over this many rows or cells.

        Raises PolicyRefused when the agreement does not name it. Returns after the ledger's entry is synced.
        """
        if Opening(what, to) not in self._openings:
            raise PolicyRefused(f"the agreement does not open {what!r} to {to}")
        self._record.append("disclosure", run=self.run, what=what, to=to, rows=rows)
