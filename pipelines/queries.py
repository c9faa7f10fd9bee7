"""A statement as a job: what `tally query` and a session ask, and EXPLAIN in front of it."""

from __future__ import annotations

import re

from party.errors import UsageError
from party.home import Home
from pipelines.job import Align, Analysis, Job

__all__ = ["explained", "query_job"]

_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(?=\S)", re.IGNORECASE)


def explained(sql: str) -> str | None:
    """The statement that EXPLAIN stands before, at its line and column; None without EXPLAIN."""
    found = _EXPLAIN.match(sql)
    return None if found is None else re.sub(r"\S", " ", found.group()) + sql[found.end() :]


def query_job(home: Home, peer: str, sql: str) -> Job:
    """A job that asks one statement; what it aligns, and whose rows it keeps, are read off it, under EXPLAIN too."""
    from mpc.sql import tables_of

    sql = explained(sql) or sql
    found = tables_of(sql)
    us = home.party.name
    if set(found.tables) != {us, peer}:
        raise UsageError(
            f"a query joins one table of {us} with one of {peer}, not of {', '.join(found.tables) or 'nobody'}",
            hint=f"FROM {us}.TABLE a JOIN {peer}.TABLE b ON a.KEY = b.KEY",
        )
    align = Align(tuple(found.tables.items()), "both", keep=found.keep)
    job = Job("query", us, align, (Analysis("query", (us,), sql),))
    job.check()
    return job
