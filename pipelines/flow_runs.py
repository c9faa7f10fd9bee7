"""Runs that this process has open for a Prefect flow: one step at a time, by run id.

Prefect hands tasks nothing but the run's id and the stage's name; the connection and all values stay here.
"""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from party.errors import InternalError
from party.home import Home
from party.ledger import Ledger
from pipelines import execute
from pipelines.link import Link, dial
from pipelines.live import Live
from pipelines.progress import Progress
from pipelines.runs import RunState

__all__ = ["abandon_earlier", "begin", "finish", "give_up", "names", "perform", "result_of", "run_for_flow"]


@dataclass
class _Open:
    link: Link
    live: Live
    held: ExitStack


_open: dict[str, _Open] = {}


def run_for_flow(flow_run: str) -> str:
    """The run id of a scheduled flow run: the same again when Prefect retries it."""
    return "flow-" + re.sub("[^0-9a-f]", "", str(flow_run).lower())[:32]


def begin(home: str, digest: str, run: str) -> str:
    """Connect and agree; returns the id of the run that both sides go on with."""
    opened = Home.open(home)
    job = execute.kept_job(opened, digest)
    with ExitStack() as held:
        link = held.enter_context(dial(opened, job.other(opened.party.name)))
        live = held.enter_context(execute.start(link, job, Progress(), run=run))
        _open[live.state.run] = _Open(link, live, held.pop_all())
    return live.state.run


def names(run: str) -> list[str]:
    """The stages of an open run."""
    return _open[run].live.names


def perform(run: str, name: str) -> None:
    """One stage of an open run."""
    execute.perform(_open[run].live, name)


def finish(run: str) -> list[dict[str, Any]]:
    """Make the result, close the connection; returns seconds and bytes a stage, for Prefect's table."""
    found = _open[run]
    result = execute.finish(found.live)
    found.link.close()
    found.held.close()
    del _open[run]
    return [
        {"stage": entry["stage"], "seconds": round(entry["seconds"], 2), "bytes": entry["sent"] + entry["received"]}
        for entry in result["details"]["stages"]
    ]


def give_up(run: str, error: BaseException) -> None:
    """Tell the peer, write the ledger, close."""
    found = _open.pop(run, None)
    if found is not None:
        try:
            found.held.__exit__(type(error), error, error.__traceback__)
        except BaseException as raised:  # noqa: BLE001 - the caller raises the first error
            if raised is not error:
                print(f"while giving up: {type(raised).__name__}", file=sys.stderr)


def result_of(home: Home, run: str) -> dict[str, Any]:
    """The result that a finished run has kept; a run that could not be resumed went on under another id."""
    runs: Path = home.state / "runs"
    state = RunState(runs, run)
    name = state.status.get("continued", run) if state.exists() else run
    found = RunState(runs, name).get_json("result")
    if found is None:
        raise InternalError(f"run {run} left no result")
    return found


def abandon_earlier(home: Home, digest: str) -> None:
    """`--new`: earlier unfinished runs of this job are not resumed."""
    ledger = Ledger.open(home.state / "ledger.db")
    execute.abandon_earlier(home, digest, ledger)
    ledger.close()
