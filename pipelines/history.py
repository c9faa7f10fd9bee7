"""What was answered over one alignment, kept by both sides, and the guard that asks it before each answer.

An entry is what a statement's answer sets follow from: its text, or the statistics asked for, its receivers, and both
catalogues as they were. Both sides have the same entries, and say so by a digest before an alignment is used again;
where they do not, they align anew, and the new alignment has a history of its own. An entry is written and synced
before anything of its answer leaves (docs/decisions/0010-history-guard.md).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from connectors import finds
from mpc import sql
from mpc.statistics import plan as statistics
from mpc.statistics.wanted import Wanted
from party.canonical import canonical
from party.catalogue import Catalogue
from party.catalogue_wire import decode_catalogue, encode_catalogue
from party.errors import InternalError, PeerError, PolicyRefused, TallyError, UsageError
from party.home import Home, replace_file
from party.message import Bytes, Message
from pipelines import alignments
from pipelines.job import Analysis, Job
from pipelines.live import Live
from pipelines.tables import open_table, read_whole

__all__ = ["Answered", "Known", "Remembered", "admit", "compare", "known", "of_alignment"]

ENTRIES = 1000  # of one alignment
_KEPT_SECONDS = 366 * 86400  # an alignment is not used that long

LocalStep = Callable[[sql.Plan], sql.LocalColumns]
_REMEDY = (
    "ask with conditions that move at least min_rows rows, or none; beside sums of the other side's columns leave rows"
    " out where a column of yours IS NULL"
)

Entries = dict[str, dict[str, Any]]  # digest -> {"entry": ..., "pending": [run, unit] or None}


@dataclass(frozen=True, repr=False)
class Remembered(Message, kind=0x0711):
    """Both ways, when a run goes on: a digest of what was answered over its alignment."""

    digest: Annotated[bytes, Bytes(32)]


@dataclass(frozen=True)
class Answered:
    """The history of one alignment as it was read. catalogues: digest -> canonical text."""

    path: Path
    peer: str
    entries: Entries
    catalogues: dict[str, str]

    @property
    def digest(self) -> bytes:
        """The same on both sides when both remember the same."""
        names = "\n".join(sorted(self.entries))
        return hashlib.sha256(b"tallystick/v1/pipelines/history/" + names.encode()).digest()


@dataclass(frozen=True)
class Known:
    """An alignment that a job would use again: its rows, how many statements were answered, and these as plans."""

    rows: int
    statements: int
    plans: tuple[sql.Plan, ...]

    @property
    def told(self) -> str:
        """A line for `tally plan`."""
        return (
            f"align: our alignment of {self.rows} rows is used again if the other side holds it, too; answered over it"
            f" so far: {self.statements}"
        )


def of_alignment(home: Home, peer: str, alignment: bytes) -> Answered:
    """What was answered over this alignment, nothing at first. InternalError when the file is damaged."""
    path = home.state / "history" / f"{alignment.hex()}.json"
    try:
        kept = json.loads(path.read_bytes())
        if kept["peer"] != peer:
            raise InternalError(f"{path} is the history of another peer")
        return Answered(path, peer, dict(kept["entries"]), dict(kept["catalogues"]))
    except FileNotFoundError:
        return Answered(path, peer, {}, {})
    except (ValueError, KeyError, TypeError):
        raise InternalError(
            f"the history of answers {path} is damaged", hint="begin a new alignment with `tally query --realign`"
        ) from None


def compare(live: Live, alignment: bytes) -> None:
    """When a run goes on after it broke: both sides must remember the same. One round."""
    ours = Remembered(_read(live, alignment).digest)
    if live.channel.swap(ours) != ours:
        raise PeerError(
            "the two sides remember different answers over this alignment", party=live.peer,
            hint="start afresh with --new: that aligns anew",
        )  # fmt: skip


def admit(live: Live, item: Analysis, plans: Sequence[sql.Plan], alignment: bytes, local: LocalStep) -> None:
    """Ask the guard for one item of `analyse` before anything of its answer leaves, and remember it.

    plans: one, or one for each SELECT under UNION ALL. local: our local step of a plan. Raises PolicyRefused, on both
    sides, where its rows and those of an earlier answer differ by too few; UsageError where that cannot be found out.
    """
    if plans[0].min_rows <= 1:
        return
    before = _read(live, alignment)
    entry = _entry(live, item, plans)
    _same_join(entry, before)
    earlier: list[sql.Plan] = []
    for _, known in sorted(before.entries.items()):
        earlier += _planned(before, known["entry"], plans[0].parties, plans[0].rows, plans[0].min_rows)
    if _alone(live, plans, earlier):
        raise _refused(live, item)
    found: list[sql.Probe] = []
    for plan in plans:
        found += sql.probes(plan, earlier)
        earlier.append(plan)
    if found:
        what = f"query.{plans[0].name}.history"
        if sql.differ_by_few(live.engine, what, found, [local(probe.plan) for probe in found], alignment):
            raise _refused(live, item)
    _add(live, before, entry, f"analyse-{item.name}")


def known(home: Home, job: Job, catalogues: tuple[Catalogue, Catalogue]) -> Known | None:
    """What a plan of a job can know: the alignment that we hold, and what was answered over it; None without one."""
    held = alignments.kept(home, job, catalogues)
    if held is None:
        return None
    first, second = (catalogue.party for catalogue in catalogues)
    before = of_alignment(home, job.other(home.party.name), held.digest)
    least = max(catalogue.min_rows for catalogue in catalogues)
    plans: list[sql.Plan] = []
    for _, one in sorted(before.entries.items()):
        plans += _planned(before, one["entry"], (first, second), len(held.rows), least)
    return Known(len(held.rows), len(before.entries), tuple(plans))


def _alone(live: Live, plans: Sequence[sql.Plan], earlier: Sequence[sql.Plan]) -> bool:
    """Whether numbers of our whole tables that the peer would be told of differ by few rows of ours."""
    found = sql.apart(plans, earlier, live.us, live.peer)
    columns: dict[str, set[str]] = {}
    for one in found:
        for table, names in one.reads.there.items():
            columns.setdefault(table, set()).update(names)
    tables = {
        sql.further_name(table): read_whole(open_table(live.home, table), sorted(names))
        for table, names in columns.items()
    }
    return any(finds(tables, one.select) for one in found)


def _refused(live: Live, item: Analysis) -> PolicyRefused:
    least = max(catalogue.min_rows for catalogue in live.catalogues)
    reason = (
        f"the rows of {item.name} and those of an earlier answer over the same alignment, or of another number of the"
        f" same statement, differ by fewer than min_rows ({least}): the difference would show them"
    )
    live.ledger.append("refused", run=live.state.run, peer=live.peer, by="history", reasons=reason)
    return PolicyRefused(reason, party=live.us, hint=_REMEDY)


# --- entries ----------------------------------------------------------------------------------------------------------


def _entry(live: Live, item: Analysis, plans: Sequence[sql.Plan]) -> dict[str, Any]:
    catalogues = {catalogue.party: _text_digest(encode_catalogue(catalogue)) for catalogue in live.catalogues}
    return {
        "sql": item.sql,
        "statistics": [wanted.canonical(kind) for kind, wanted in item.statistics],
        "to": sorted(item.to),
        "tables": dict(live.job.align.tables),
        "keep": live.job.align.keep,
        "matched": sorted({item.sql is not None and plan.keep is None for plan in plans}),
        "catalogues": catalogues,
    }


def _same_join(entry: Mapping[str, Any], before: Answered) -> None:
    """An inner join over an alignment that keeps rows is over some of its rows, a LEFT JOIN over all of them."""
    for other in (entry, *(known["entry"] for known in before.entries.values())):
        mixed = len({*entry["matched"], *other["matched"]}) > 1
        if entry["keep"] and mixed and set(other["to"]) & set(entry["to"]):
            raise UsageError(
                "JOIN and LEFT JOIN over one alignment that keeps rows cannot be compared with one another",
                hint="ask them in two jobs, one without `keep`; with min_rows 1 they are not compared",
            )


def _planned(
    before: Answered, entry: Mapping[str, Any], parties: tuple[str, str], rows: int, min_rows: int
) -> tuple[sql.Plan, ...]:
    facts = tuple(before.catalogues[entry["catalogues"][party]] for party in parties)
    try:
        return _plan_again(canonical(dict(entry)), facts, parties, rows, min_rows)
    except (TallyError, KeyError) as error:
        raise InternalError(
            f"an earlier statement over this alignment cannot be planned any more: {error}",
            hint="begin a new alignment with `tally query --realign`",
        ) from None


@lru_cache(maxsize=4 * ENTRIES)
def _plan_again(
    content: bytes, facts: tuple[str, ...], parties: tuple[str, str], rows: int, min_rows: int
) -> tuple[sql.Plan, ...]:
    entry = json.loads(content)
    first, second = (decode_catalogue(text.encode(), party) for text, party in zip(facts, parties, strict=True))
    unmatched = None
    if entry["keep"] is not None:
        (unmatched,) = set(parties) - {entry["keep"]}
    context = sql.Context("earlier", (first, second), tuple(entry["to"]), rows, min_rows, unmatched)
    if entry["sql"] is not None:
        return sql.plans(entry["sql"], context)
    wanted = dict(Wanted.from_canonical(*one) for one in entry["statistics"])
    return statistics.plan(wanted, entry["tables"], context).plans


def _text_digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- on disk ----------------------------------------------------------------------------------------------------------


def _read(live: Live, alignment: bytes) -> Answered:
    """The history without what this very run left when it broke: that is asked again."""
    found = of_alignment(live.home, live.peer, alignment)
    ours = {
        name
        for name, known in found.entries.items()
        if known["pending"] is not None
        and known["pending"][0] == live.state.run
        and known["pending"][1] not in (live.state.get_json("units") or {})
    }
    return replace(found, entries={name: known for name, known in found.entries.items() if name not in ours})


def _add(live: Live, before: Answered, entry: dict[str, Any], unit: str) -> None:
    """Write an entry, synced. Refuses when another run has added one since we read: it was not compared with ours."""
    name = _text_digest(canonical(entry))
    if name in before.entries:
        return
    if len(before.entries) >= ENTRIES:
        raise UsageError(
            f"{ENTRIES} different statements were answered over this alignment",
            hint="begin a new one with `tally query --realign`",
        )
    with _locked(before.path):
        now = _read(live, bytes.fromhex(before.path.stem))
        if now.entries.keys() != before.entries.keys():
            raise PolicyRefused(
                "another run was answered over the same alignment at the same time", party=live.us, hint="run it again"
            )
        texts = {_text_digest(encode_catalogue(c)): encode_catalogue(c).decode() for c in live.catalogues}
        content = {
            "peer": before.peer,
            "entries": before.entries | {name: {"entry": entry, "pending": [live.state.run, unit]}},
            "catalogues": before.catalogues | texts,
        }
        replace_file(before.path, json.dumps(content).encode())


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(exist_ok=True, mode=0o700)
    for old in path.parent.iterdir():
        if old.stat().st_mtime < time.time() - _KEPT_SECONDS:
            old.unlink(missing_ok=True)
    lock = os.open(path.parent / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
