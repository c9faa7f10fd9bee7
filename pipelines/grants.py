"""What a job still needs of both policies, as lines ready to be put into each side's policy.yaml.

Planning needs to know every column. Of our own table we know all of them, also the closed ones. A column of the peer's
that is closed to us is known by name only: a stand-in of some type takes its place until the job can be planned. It
serves to tell which grants are missing, and for nothing else.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from party.catalogue import Catalogue, Column, Table
from party.errors import UsageError
from party.request import GRANTS, Request
from pipelines import asked
from pipelines.job import Job
from pipelines.statements import columns_named

__all__ = ["guessed", "missing", "patches", "tables_named", "with_all_of", "with_stand_ins"]

Needs = Mapping[str, frozenset[str]]  # "table.column" -> grants

_STAND_INS = (
    Column("", "integer", low=0, high=1),
    Column("", "string"),
    Column("", "bool"),
    Column("", "date"),
)
_TRIES = 256


def with_all_of(catalogue: Catalogue, table: Table) -> Catalogue:
    """Our catalogue with all columns of one of our tables, whatever the peer is granted of them."""
    others = tuple(other for other in catalogue.tables if other.name != table.name)
    return replace(catalogue, tables=(*others, table))


def tables_named(job: Job, party: str, declared: Iterable[str]) -> list[str]:
    """The tables of ours that a job may read: the aligned one, and those whose names stand in its statements."""
    aligned = dict(job.align.tables)[party]
    texts = [item.sql.lower() for item in job.analyse if item.sql is not None]
    return [aligned, *(name for name in declared if name != aligned and any(name.lower() in text for text in texts))]


def with_stand_ins(job: Job, catalogues: tuple[Catalogue, Catalogue], peer: str) -> tuple[Catalogue, Catalogue]:
    """Both catalogues, the peer's with a stand-in for each column that the job names and the peer does not show.

    Where no choice of types can be planned, raises what is refused of other columns, else that these are closed.
    """
    place = [catalogue.party for catalogue in catalogues].index(peer)
    table = catalogues[place].table(dict(job.align.tables)[peer])
    known = set() if table is None else {column.name.lower() for column in table.columns}
    hidden = sorted(name for name in _named(job, peer) if name.lower() not in known)
    try:
        asked.request(job, catalogues)
        return catalogues
    except UsageError as closed:
        if table is None or not hidden:
            raise
        told = closed
        for kinds in itertools.islice(itertools.product(_STAND_INS, repeat=len(hidden)), _TRIES):
            added = tuple(replace(kind, name=name) for kind, name in zip(kinds, hidden, strict=True))
            wider = with_all_of(catalogues[place], replace(table, columns=table.columns + added))
            found = (wider, catalogues[1]) if place == 0 else (catalogues[0], wider)
            try:
                asked.request(job, found)
            except UsageError as error:
                if told is closed and not any(name in error.message for name in hidden):
                    told = error
                continue
            return found
        raise told from None


def guessed(shown: tuple[Catalogue, Catalogue], wider: tuple[Catalogue, Catalogue], peer: str) -> str:
    """What to know of a plan in which stand-ins took the place of the peer's columns: which, and what is near."""
    names = [
        {column.name for catalogue in pair if catalogue.party == peer for t in catalogue.tables for column in t.columns}
        for pair in (shown, wider)
    ]
    told = []
    for name in sorted(names[1] - names[0]):
        close = difflib.get_close_matches(name, names[0], n=1, cutoff=0.6)
        told.append(f"{name} (or is it {close[0]}?)" if close else name)
    return f"{peer} does not show {', '.join(told)}: planned as a guess, plan again when it is granted"


def _named(job: Job, party: str) -> frozenset[str]:
    """The columns of one party that a job names, by statement, statistic or model."""
    found: set[str] = set()
    for item in job.analyse:
        if item.sql is not None:
            found |= columns_named(item.sql, party)
        listed = [name.partition(".") for _, wanted in item.statistics for name in wanted.names]
        found |= {column for owner, _, column in listed if owner == party}
    if job.train is not None:
        owner, _, label = job.train.label.partition(".")
        found |= {label} if owner == party else set()
        found |= set(dict(job.train.features).get(party, ()))
    if job.score is not None and job.score.model is not None:
        found |= set(dict(job.score.model.features).get(party, ()))
    return frozenset(found)


def missing(request: Request, catalogue: Catalogue) -> dict[str, frozenset[str]]:
    """ "table.column" -> the grants that a request needs and this catalogue does not show."""
    granted = {(table.name, column.name): column.grants for table in catalogue.tables for column in table.columns}
    found: dict[str, frozenset[str]] = {}
    for use in sorted(use for use in request.uses if use.party == catalogue.party):
        if use.use not in granted.get((use.table, use.column), frozenset()):
            name = f"{use.table}.{use.column}"
            found[name] = found.get(name, frozenset()) | {use.use}
    return found


def patches(lacking: Mapping[str, Needs], catalogues: tuple[Catalogue, Catalogue]) -> dict[str, list[str]]:
    """party -> the lines of its policy.yaml that grant what is missing, each with what is granted already."""
    found = {}
    for catalogue, other in zip(catalogues, reversed(catalogues), strict=True):
        lines = list(_lines(lacking[catalogue.party], catalogue))
        found[catalogue.party] = ["peers:", f"  {other.party}:", "    columns:", *lines] if lines else []
    return found


def _lines(lacking: Needs, catalogue: Catalogue) -> Iterator[str]:
    for name, needed in sorted(lacking.items()):
        table, _, column = name.partition(".")
        shown = catalogue.table(table)
        known = None if shown is None else shown.column(column)
        granted = frozenset[str]() if known is None else known.grants
        words = [word for word in GRANTS if word in granted | needed]
        more = "" if not granted else f"   # in place of the line that grants {', '.join(sorted(granted))}"
        yield f"      {name}: [{', '.join(words)}]{more}"
