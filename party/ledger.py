"""The ledger: what this party agreed to, refused and let out, append-only and chained by hashes.

Each event's hash covers its number, time, name, fields and the hash before it, so a changed, missing or moved event
is found by `verify`. An end cut off is found up to the head that `ledger.head` remembers beside the database; someone
who rewrites both, or the whole chain, is not found: keep a copy of the head elsewhere.

Many processes may append: each append is one `BEGIN IMMEDIATE` transaction that reads the last hash and syncs.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from party.canonical import canonical, digest
from party.errors import InternalError
from party.home import replace_file

__all__ = ["Event", "Ledger", "Spending"]

_WAIT = 60.0  # for another process's append
_EVENT = re.compile(r"[a-z][a-z_]{0,39}")
_FIELDS_BYTES = 64 << 10
_START = bytes(32)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    sequence INTEGER PRIMARY KEY, time TEXT NOT NULL, event TEXT NOT NULL, fields TEXT NOT NULL,
    previous BLOB NOT NULL, hash BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS events_by_run ON events (json_extract(fields, '$.run'));
CREATE INDEX IF NOT EXISTS events_by_time ON events (time);
CREATE TRIGGER IF NOT EXISTS no_update BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS no_delete BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
PRAGMA user_version = 2;
"""


# Of one day: the last event, and the sum over those of one kind that name a receiver.
_SPENT = """
SELECT max(sequence), sum(iif(
    event = :event AND json_extract(fields, '$.' || :by) = :peer
    AND NOT (:free != '' AND json_extract(fields, '$.what') GLOB :free)
    AND (:only = '' OR json_extract(fields, '$.what') GLOB :only), json_extract(fields, '$.' || :unit), 0))
FROM events WHERE time >= :day AND time < :day || 'U' AND sequence > :last
"""


@dataclass(frozen=True)
class Spending:
    """Which events take from a budget, and how much: the field `unit` of `event`s whose field `by` names the peer, but
    for those whose `what` is like `free`; with `only`, of those alone whose `what` is like it."""

    event: str
    unit: str
    by: str
    peer: str
    free: str = ""
    only: str = ""


@dataclass(frozen=True)
class Event:
    """One entry. `time` is UTC, in ISO form; `hash` and `previous` are 32 bytes."""

    sequence: int
    time: str
    event: str
    fields: Mapping[str, str | int]
    previous: bytes
    hash: bytes


class Ledger:
    """The ledger of one home. Any thread may use it."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.Lock()
        self._summed: dict[tuple[Spending, str], tuple[int, int]] = {}

    @classmethod
    def open(cls, path: Path | str) -> Ledger:
        """Open state/ledger.db, making it when it is not there; InternalError when it is none."""
        path = Path(path)
        try:
            if not path.exists():
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = sqlite3.connect(path, timeout=_WAIT, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise InternalError(f"the ledger {path} cannot be opened: {error}") from None
        try:
            _prepare(connection)
        except sqlite3.Error as error:
            connection.close()
            raise InternalError(f"the ledger {path} cannot be opened: {error}") from None
        return cls(path, connection)

    def append(self, event: str, /, **fields: str | int) -> None:
        """Write one event; returns when it is on disk. Fields never hold a value of a row.

        Raises InternalError when it cannot be written: nothing may be disclosed then.
        """
        self._append(event, fields, lambda _: True)

    def spend(self, budget: Spending, most: int, event: str, /, **fields: str | int) -> bool:
        """Write one event unless what it takes, with all that this day (UTC) took before, would pass `most`.

        Reading and writing are one transaction, so two processes cannot both take what is left. False: not written.
        """
        return self.spend_all([(budget, most)], event, **fields) is None

    def spend_all(self, budgets: Sequence[tuple[Spending, int]], event: str, /, **fields: str | int) -> Spending | None:
        """As `spend`, of several budgets at once: written when it fits all of them; else the first that it does not."""
        short: list[Spending] = []

        def fits(day: str) -> bool:
            short[:] = [one for one, most in budgets if int(fields[one.unit]) + self._spent(one, day) > most]
            return not short

        return None if self._append(event, fields, fits) else short[0]

    def spent(self, budget: Spending) -> int:
        """What was taken of a budget this day (UTC), by any process of this home."""
        with self._lock, self._guarded():
            return self._spent(budget, _now()[:10])

    def _append(self, event: str, fields: Mapping[str, str | int], fits: Callable[[str], bool]) -> bool:
        if not _EVENT.fullmatch(event) or not all(isinstance(value, str | int) for value in fields.values()):
            raise InternalError("an event has a word for a name and texts and integers for fields")
        written = canonical(fields)
        if len(written) > _FIELDS_BYTES:
            raise InternalError(f"an event of {len(written)} bytes is too large for the ledger")
        with self._lock, self._guarded():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                last = self._connection.execute("SELECT sequence, hash FROM events ORDER BY sequence DESC LIMIT 1")
                sequence, previous = last.fetchone() or (0, _START)
                now = _now()
                if not fits(now[:10]):
                    self._connection.execute("ROLLBACK")
                    return False
                row = (sequence + 1, now, event, written.decode(), bytes(previous))
                code = _hash(*row)
                self._connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", (*row, code))
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
        # Two processes may write their heads in either order: an older head is still one that the chain contains.
        replace_file(self._head, f"{sequence + 1} {code.hex()}\n".encode())
        return True

    def _spent(self, budget: Spending, day: str) -> int:
        """Events are never changed, so what was summed before stays: only later ones are read."""
        last, total = self._summed.get((budget, day), (0, 0))
        found = self._connection.execute(_SPENT, {"day": day, "last": last, **asdict(budget)}).fetchone()
        if found[0] is not None:
            self._summed = {key: sums for key, sums in self._summed.items() if key[1] == day}
            self._summed[budget, day] = last, total = found[0], total + (found[1] or 0)
        return total

    def events(self, run: str | None = None) -> list[Event]:
        """All events in order, or those of one run."""
        with self._lock, self._guarded():
            where = "" if run is None else "WHERE json_extract(fields, '$.run') = ? "
            rows = self._connection.execute(
                f"SELECT sequence, time, event, fields, previous, hash FROM events {where}ORDER BY sequence",  # noqa: S608
                () if run is None else (run,),
            ).fetchall()
        try:
            return [Event(s, t, e, json.loads(f), bytes(p), bytes(h)) for s, t, e, f, p, h in rows]
        except (ValueError, TypeError):
            raise InternalError(f"the ledger {self.path} is damaged: an event cannot be read") from None

    def verify(self) -> int:
        """Check the whole chain and the remembered head; returns the number of events. InternalError says where."""
        head = self._remembered()
        count, previous = 0, _START
        with self._lock, self._guarded():
            rows: Iterator[tuple[Any, ...]] = self._connection.execute(
                "SELECT sequence, time, event, fields, previous, hash FROM events ORDER BY sequence"
            )
            for *fields, code in rows:
                count += 1
                if fields[0] != count:
                    raise self._broken(f"event {count} is missing")
                if bytes(fields[4]) != previous:
                    raise self._broken(f"event {count} does not follow the one before it")
                if _hash(fields[0], fields[1], fields[2], fields[3], previous) != bytes(code):
                    raise self._broken(f"event {count} was changed")
                previous = bytes(code)
                if head is not None and head[0] == count and head[1] != previous:
                    raise self._broken(f"event {count} is not the one that was written")
        if head is not None and head[0] > count:
            raise self._broken(f"it ends at event {count}, but {head[0]} were written")
        return count

    def close(self) -> None:
        """Release the database."""
        self._connection.close()

    @property
    def _head(self) -> Path:
        return self.path.with_suffix(".head")

    def _remembered(self) -> tuple[int, bytes] | None:
        try:
            sequence, code = self._head.read_text("ascii").split()
            return int(sequence), bytes.fromhex(code)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            raise self._broken(f"{self._head.name} cannot be read") from None

    def _broken(self, reason: str) -> InternalError:
        return InternalError(f"the ledger is broken: {reason}", hint=f"compare {self.path} with a backup")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OverflowError) as error:
            raise InternalError(
                f"the ledger {self.path} failed: {error}", hint="see whether the disk is full or the file was changed"
            ) from None


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 2:
        return
    if version not in (0, 1):  # 1 lacked an index, and nothing else
        raise sqlite3.DatabaseError(f"it is of version {version}, this program knows 2")
    end = time.monotonic() + _WAIT
    while True:  # two processes may make it at once, and the change to WAL does not wait by itself
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
            return
        except sqlite3.OperationalError as error:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _hash(sequence: int, at: str, event: str, fields: str, previous: bytes) -> bytes:
    parts = [str(part).encode("utf-8", "surrogatepass") for part in (sequence, at, event, fields)]
    return digest("ledger/event", *parts, previous)
