"""The command `tally`: reads the command line, calls one function a verb, and turns errors into exit codes.

stdout carries the result, stderr everything else; with `--json` stdout is one JSON document, on failure
`{"error": {...}}`. No verb prompts. Heavy imports stand inside the verb that needs them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import exceptions

from party.errors import InternalError, Interrupted, TallyError, UsageError
from pipelines import cli_models
from pipelines.lean import leave, refuse_pandas
from pipelines.printing import JsonFlag, show

__all__ = ["app", "main"]

app = typer.Typer(
    name="tally",
    help="Joint pipelines over tables that never leave their owners.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_home = Path()


@app.callback()
def choose_home(
    home: Annotated[
        Path, typer.Option("--home", envvar="TALLY_HOME", help="The party's home folder.", file_okay=False)
    ] = Path(),
) -> None:
    """Joint pipelines over tables that never leave their owners."""
    global _home  # noqa: PLW0603 - the one value every verb shares
    _home = home


# --- this party -------------------------------------------------------------------------------------------------


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="This party's name: the SQL schema of its tables on both sides.")],
    listen: Annotated[str | None, typer.Option(help="HOST:PORT on which `tally serve` listens.")] = None,
    address: Annotated[str | None, typer.Option(help="HOST:PORT at which peers reach us.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a home folder with commented files and keys; never overwrites."""
    from pipelines import verbs_home

    show(verbs_home.init(_home, name, listen, address), as_json, lambda r: f"made {r['home']} ({r['fingerprint']})")


@app.command()
def card(as_json: JsonFlag = False) -> None:
    """Print our public card: name, address if any, certificate."""
    from pipelines import verbs_home

    print(verbs_home.card(_home), flush=True)


@app.command()
def trust(
    file: Annotated[Path, typer.Argument(help="The peer's card.")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace the card we hold of that name.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Pin a peer's card, showing its fingerprint; a second card of one name is refused."""
    from pipelines import verbs_home

    show(
        verbs_home.trust(_home, file, replace),
        as_json,
        lambda r: f"trusts {r['name']} {r['fingerprint']}\ncompare this fingerprint with {r['name']} over the phone",
    )


@app.command()
def untrust(
    name: Annotated[str, typer.Argument(help="The peer to forget.")],
    as_json: JsonFlag = False,
) -> None:
    """Forget a peer: it can neither reach us nor be reached."""
    from pipelines import verbs_home

    show(verbs_home.untrust(_home, name), as_json, lambda r: f"no longer trusts {r['name']}")


@app.command("add-table")
def add_table(
    name: Annotated[str, typer.Argument(help="The table's name in SQL.")],
    url: Annotated[str, typer.Argument(help="csv:PATH or parquet:PATH, relative to the home or absolute.")],
    key: Annotated[str, typer.Option("--key", help="The key column, or several joined by commas.")],
    as_json: JsonFlag = False,
) -> None:
    """Declare a table, showing inferred types; its columns stay closed in policy.yaml."""
    from pipelines import verbs_home

    show(verbs_home.add_table(_home, name, url, key), as_json, verbs_home.tables_text)


@app.command()
def tables(
    peer: Annotated[str | None, typer.Argument(help="Show what this peer lets us use instead.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show our tables, or what a peer lets us use."""
    from pipelines import verbs_home

    as_text = verbs_home.tables_text if peer is None else verbs_home.shown_text
    show(verbs_home.tables(_home, peer), as_json, as_text)


@app.command()
def prepare(
    peer: Annotated[str, typer.Argument(help="The peer that will have a short list.")],
    table: Annotated[str, typer.Argument(help="Our table, long beside the peer's.")],
    as_json: JsonFlag = False,
) -> None:
    """Mask a long table ahead, for the next run of a peer with a short one: that run then answers at once."""
    from pipelines import prepared
    from pipelines.progress import Progress

    show(prepared.prepare(_home, peer, table, Progress()), as_json, prepared.prepare_text)


@app.command()
def serve() -> None:
    """Listen for peers; stdout has only `ready NAME HOST:PORT`."""
    from pipelines import verbs_home

    verbs_home.serve(_home)


@app.command()
def check(peer: Annotated[str, typer.Argument(help="The peer to check.")], as_json: JsonFlag = False) -> None:
    """Check reach, versions, clock, policy fit, tables and kernels; a hint for each failing line."""
    from pipelines import verbs_home

    result = verbs_home.check(_home, peer)
    show(result, as_json, verbs_home.check_text)
    raise typer.Exit(result["exit_code"])


app.add_typer(cli_models.app)
audit = typer.Typer(help="Our own ledger.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(audit, name="audit")


@audit.command()
def verify(as_json: JsonFlag = False) -> None:
    """Check our ledger's hash chain."""
    from pipelines import verbs_home

    show(verbs_home.audit_verify(_home), as_json, lambda r: f"{r['events']} events, the chain holds")


# --- runs -------------------------------------------------------------------------------------------------------


@app.command()
def plan(
    job: Annotated[Path, typer.Argument(help="The job file.")],
    offline: Annotated[bool, typer.Option("--offline", help="Without asking the peer.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what will run, what each party learns, what is missing; runs nothing."""
    from pipelines import verbs_plan

    show(verbs_plan.plan(_home, job, offline), as_json, verbs_plan.plan_text)


@app.command()
def run(
    job: Annotated[Path, typer.Argument(help="The job file.")],
    direct: Annotated[bool, typer.Option("--direct", help="The same stages without Prefect.")] = False,
    new: Annotated[bool, typer.Option("--new", help="Start afresh instead of resuming an unfinished run.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Run a job as a Prefect flow; resumes the unfinished run of the same job."""
    from pipelines import verbs_run

    show(verbs_run.run(_home, job, direct, new), as_json, verbs_run.result_text)


@app.command()
def query(
    sql: Annotated[
        str,
        typer.Argument(
            help="A SELECT over a join of both parties, or EXPLAIN SELECT; `-` reads statements from stdin."
        ),
    ],
    peer: Annotated[str, typer.Option("--peer", help="The other party.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write rows to this .csv or .parquet file.")
    ] = None,
    realign: Annotated[bool, typer.Option("--realign", help="Do not reuse an earlier alignment.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Answer one joint query now."""
    from pipelines import verbs_run

    if sql == "-":
        verbs_run.query_stdin(_home, peer, realign)
    else:
        show(verbs_run.query(_home, peer, sql, output, realign), as_json, verbs_run.query_text)


@app.command()
def runs(as_json: JsonFlag = False) -> None:
    """List this home's runs, newest first."""
    from pipelines import verbs_run

    show(verbs_run.runs(_home), as_json, verbs_run.runs_text)


@app.command("show")
def show_run(run: Annotated[str, typer.Argument(help="The run.")], as_json: JsonFlag = False) -> None:
    """Show one run."""
    from pipelines import verbs_run

    show(verbs_run.show(_home, run), as_json, verbs_run.show_text)


@app.command()
def report(run: Annotated[str, typer.Argument(help="The run.")], as_json: JsonFlag = False) -> None:
    """Write a run's self-contained HTML report and print its path."""
    from pipelines import verbs_run

    show(verbs_run.report(_home, run), as_json, lambda r: str(r["report"]))


@app.command()
def cancel(run: Annotated[str, typer.Argument(help="The run.")], as_json: JsonFlag = False) -> None:
    """Stop a run on both sides."""
    from pipelines import verbs_run

    show(verbs_run.cancel(_home, run), as_json, lambda r: f"{r['run']}: {r['status']}")


@app.command()
def approve(
    run: Annotated[str, typer.Argument(help="The waiting run.")],
    refuse: Annotated[bool, typer.Option("--refuse", help="Refuse it.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Decide on a waiting run: comes with a later release."""
    raise UsageError(
        "`tally approve` comes with a later release: runs never wait, `approve: manual` refuses them",
        hint="set `approve: auto` for this peer in policy.yaml",
    )


# --- schedules and demo -----------------------------------------------------------------------------------------


@app.command()
def schedule(
    job: Annotated[Path | None, typer.Argument(help="The job file.")] = None,
    cron: Annotated[str | None, typer.Option("--cron", help="minute hour day month weekday")] = None,
    timezone: Annotated[str, typer.Option("--timezone", help="Such as Europe/London.")] = "UTC",
    listing: Annotated[bool, typer.Option("--list", help="List schedules.")] = False,
    remove: Annotated[str | None, typer.Option("--remove", help="Remove the schedule of this name.")] = None,
    once_now: Annotated[bool, typer.Option("--once-now", help="Also run it at once.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Run a job at set times: keeps a copy of it and registers it with this home's scheduler."""
    from pipelines import verbs_schedule

    if listing + (remove is not None) + (job is not None) != 1:
        raise UsageError("give a job with --cron, or --list, or --remove NAME", hint="tally schedule --help")
    if listing:
        show(verbs_schedule.listing(_home), as_json, verbs_schedule.listing_text)
    elif remove is not None:
        show(verbs_schedule.remove(_home, remove), as_json, lambda r: f"removed {r['removed']}")
    elif job is not None and cron is not None:
        result = verbs_schedule.add(_home, job, cron, timezone)
        if once_now:
            from pipelines import verbs_run

            result["run"] = verbs_run.run(_home, job, direct=False, new=True)
        show(result, as_json, verbs_schedule.added_text)
    else:
        raise UsageError("a schedule needs --cron", hint="such as --cron '0 6 * * 1'")


@app.command()
def scheduler() -> None:
    """Serve all schedules of this home; prints `ready scheduler URL`."""
    from pipelines import verbs_schedule

    verbs_schedule.serve(_home)


@app.command()
def demo(
    rows: Annotated[
        int, typer.Option("--rows", min=1000, help="Rows of the bank; the telco has half as many more.")
    ] = 20000,
    as_json: JsonFlag = False,
) -> None:
    """The main job on this machine, offline: two homes, two processes, the result beside the pooled answer."""
    from pipelines import demo as demonstration

    show(demonstration.run(_home, rows), as_json, demonstration.text)


def main() -> None:
    """Run one command line and exit with its code."""
    os.umask(0o077)
    refuse_pandas()
    as_json = "--json" in sys.argv[1:]
    try:
        code = app(standalone_mode=False)
        leave(code if isinstance(code, int) else 0)
    except TallyError as error:
        fail(error, as_json)
    except exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (exceptions.Abort, KeyboardInterrupt):
        fail(Interrupted("interrupted"), as_json)
    except exceptions.TyperException as error:
        told = getattr(error, "format_message", error.__str__)
        fail(UsageError(str(told()), hint="`tally --help` lists the verbs, `tally VERB --help` its options"), as_json)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        fail(InternalError(f"{error.strerror or error}", hint="is the disk full, or a file missing?"), as_json)
    except Exception as error:  # the edge of the process: a bug becomes exit code 1, its text may hold values
        if os.environ.get("TALLY_TRACEBACK"):
            raise
        text = f"a bug of ours: {type(error).__name__}"
        fail(InternalError(text, hint="set TALLY_TRACEBACK=1 to see where, and please report it"), as_json)


def fail(error: TallyError, as_json: bool) -> None:
    """Say what went wrong where it belongs, and exit with the error's code."""
    if as_json:
        print(json.dumps({"error": error.as_dict()}), flush=True)
    whose = "".join(f" [{word}]" for word in (error.party, error.stage) if word)
    print(f"tally: {error.message}{whose}", file=sys.stderr)
    if error.hint:
        print(f"  try: {error.hint}", file=sys.stderr)
    sys.stderr.flush()
    sys.exit(error.exit_code)
