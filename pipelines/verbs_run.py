"""The verbs about runs: run, query, runs, show, report, cancel."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from party.errors import InternalError, TallyError, UsageError
from party.home import Home
from pipelines.job import Job
from pipelines.lean import load_meanwhile
from pipelines.progress import Progress, progress_text
from pipelines.queries import explained, query_job
from pipelines.runs import RunState, find_resumable, list_runs, new_run_id
from pipelines.verbs_plan import explain, explain_text

if TYPE_CHECKING:
    from pipelines.link import Link

__all__ = ["cancel", "query", "query_stdin", "report", "run", "runs", "show"]

_OF_A_RUN = ("pipelines.execute", "duckdb")  # a query needs them once the peer has answered


def run(path: Path, file: Path, direct: bool, new: bool) -> dict[str, Any]:
    """`tally run`: as a Prefect flow, or with `--direct` the same stages without it."""
    from pipelines.execute import keep_job
    from pipelines.spec import read_job

    home = Home.open(path)
    job = read_job(file, home.party.name)
    digest = keep_job(home, job)
    return run_kept(home, digest, direct=direct, new=new)


def run_kept(home: Home, digest: str, *, direct: bool, new: bool, server: Any = None) -> dict[str, Any]:
    """Run the kept job of this digest; `server` is a Prefect server begun earlier."""
    from pipelines import execute, prefect_server
    from pipelines.link import dial

    job = execute.kept_job(home, digest)
    if job.score and job.score.to and job.score.receiver == home.party.name:
        check_sink(home, job)
    resumed = None if new else find_resumable(home.state / "runs", digest)
    if resumed is not None:
        print(f"resumes run {resumed.run}; `--new` starts afresh", file=sys.stderr, flush=True)
    if direct:
        with dial(home, job.other(home.party.name)) as link:
            result = execute.run_job(link, job, Progress(), new=new)
            link.close()
        return result
    with prefect_server.find(home.state, server):
        from pipelines import flow_runs
        from pipelines.flows import pipeline

        if new:
            flow_runs.abandon_earlier(home, digest)
        name = resumed.run if resumed else new_run_id()
        pipeline(str(home.root), digest, name)
        return flow_runs.result_of(home, name)


def check_sink(home: Home, job: Job) -> None:
    """Refuse a score path that cannot be written before anything runs."""
    from connectors import Receipt, open_sink
    from pipelines.live import receipt_of

    if job.score and job.score.to:
        known = receipt_of(home, job.name, job.score.to)
        open_sink(job.score.to, home.root).check(Receipt(**known) if known else None)


def result_text(result: dict[str, Any]) -> str:
    """A result for people."""
    from pipelines import results

    return results.text(result)


def ask(link: Any, sql: str, realign: bool) -> dict[str, Any]:
    """One statement over an open link; of EXPLAIN SELECT, what it would do."""
    from pipelines import execute

    inner = explained(sql)
    if inner is not None:
        return explain(link, inner)
    job = query_job(link.home, link.peer, sql)
    before = (link.channel.counters.sent, link.channel.counters.received)
    result = execute.run_job(link, job, Progress(quiet=not sys.stderr.isatty()), new=True, realign=realign)
    return {
        "run": result["run"],
        "columns": result["columns"]["query"],
        "rows": result["queries"]["query"],
        "suppressed_groups": result["suppressed_groups"]["query"],
        "timings": result["timings"],
        "bytes": {
            "sent": link.channel.counters.sent - before[0],
            "received": link.channel.counters.received - before[1],
        },
        "alignment": {"rows": result["rows"], "reused": result["details"]["alignment"]["reused"]},
    }


def query(path: Path, peer: str, sql: str, output: Path | None, realign: bool) -> dict[str, Any]:
    """`tally query`: one statement."""
    load_meanwhile(*_OF_A_RUN)
    home = Home.open(path)
    sink = _output(output)
    with _dialled(home, peer, [sql]) as link:
        result = ask(link, sql, realign)
        link.close()
    if sink is not None:
        from pipelines.results import rows_table

        sink.write(rows_table(result["columns"], result["rows"]))
    return result


@contextmanager
def _dialled(home: Home, peer: str, statements: list[str]) -> Iterator[Link]:
    """A link; while the peer answers, the statements are read, and what cannot be read is refused before all else."""
    from pipelines.link import dial

    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(lambda: [query_job(home, peer, statement) for statement in statements])
        try:
            link = dial(home, peer)
        except TallyError:
            read.result()
            raise
    with link:
        refusal = read.exception()
        if refusal is not None:
            link.close()
            raise refusal
        yield link


def _output(output: Path | None) -> Any:
    from connectors import open_sink

    if output is None:
        return None
    kind = output.suffix.lstrip(".")
    if kind not in ("csv", "parquet"):
        raise UsageError(f"{output}: unknown kind of file", hint="end it in .csv or .parquet")
    sink = open_sink(f"{kind}:{output.absolute()}", Path.cwd(), inside=False)
    sink.check()
    return sink


def query_stdin(path: Path, peer: str, realign: bool) -> None:
    """`tally query -`: statements from stdin, split at `;`, one JSON document a line, over one connection."""
    from pipelines.statements import split_statements

    load_meanwhile(*_OF_A_RUN)
    home = Home.open(path)
    statements = split_statements(sys.stdin.read())
    if not statements:
        raise UsageError("no statement on stdin")
    with _dialled(home, peer, statements) as link:
        for statement in statements:
            print(json.dumps(ask(link, statement, realign)), flush=True)
            realign = False
        link.close()


def query_text(result: dict[str, Any]) -> str:
    """A query's rows for people."""
    from pipelines.results import hidden_text, null_text, table_text

    if "explain" in result:
        return explain_text(result)
    lines = [table_text(result["columns"], result["rows"])]
    lines += [told] if (told := null_text(result["rows"])) else []
    if result["suppressed_groups"]:
        lines.append(hidden_text(result["suppressed_groups"]))
    return "\n".join(lines)


def runs(path: Path) -> list[dict[str, Any]]:
    """`tally runs`."""
    return list_runs(Home.open(path).state / "runs")


def runs_text(found: list[dict[str, Any]]) -> str:
    """The list for people."""
    lines = []
    for status in found:
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(status["started"]))
        side = "ours" if status.get("ours") else f"of {status['peer']}"
        where = f" at {status['stage']}" if status["status"] != "done" and status.get("stage") else ""
        if "progress" in status:
            where += f": {progress_text(status['progress'])}"
        lines.append(f"{status['run']}  {began}  {status['job']:20} {side:12} {status['status']}{where}")
    return "\n".join(lines) or "no runs yet"


def show(path: Path, name: str) -> dict[str, Any]:
    """`tally show`."""
    home = Home.open(path)
    state = RunState(home.state / "runs", name)
    return {"status": state.shown(), "result": state.get_json("result")}


def show_text(found: dict[str, Any]) -> str:
    """One run for people."""
    status = dict(found["status"])
    if "progress" in status:
        status["progress"] = progress_text(status["progress"])
    for when in ("started", "ended"):
        if status.get(when) is not None:
            status[when] = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status[when]))
    status["ours"] = None if "ours" not in status else "yes" if status["ours"] else f"no, of {status.get('peer')}"
    lines = [f"{key}: {value}" for key, value in status.items() if value is not None and key != "error"]
    if status.get("error"):
        lines += [f"error: {status['error']['message']}", f"  try: {status['error']['hint'] or '-'}"]
    return "\n".join([*lines, "", result_text(found["result"])] if found["result"] else lines)


def report(path: Path, name: str) -> dict[str, Any]:
    """`tally report`."""
    from pipelines.report import write_report

    home = Home.open(path)
    return {"run": name, "report": str(write_report(home, RunState(home.state / "runs", name)))}


def cancel(path: Path, name: str) -> dict[str, Any]:
    """`tally cancel`: the process that holds the run is told to stop; it tells the peer."""
    state = RunState(Home.open(path).state / "runs", name)
    status = state.status
    if status["status"] == "done":
        raise UsageError(f"run {name} is done already")
    holder = state.holder()
    if holder is not None:
        os.kill(holder, signal.SIGTERM)
        end = time.monotonic() + 10
        while state.holder() is not None:
            if time.monotonic() > end:
                raise InternalError(f"process {holder} does not stop", hint=f"kill -9 {holder}; the run can be resumed")
            time.sleep(0.05)
    state.update(status="cancelled", ended=time.time())
    return {"run": name, "status": "cancelled"}
