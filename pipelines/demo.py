"""`tally demo`: the main job on one machine, offline: two homes, two processes over mutual TLS, a Prefect flow.

Everything runs through the installed command, as two organisations would run it; only then the two tables are joined
in the clear, which nobody could do in earnest, to show the pooled answer beside the joint one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from party.errors import InternalError, TallyError, UsageError
from party.home import Home, replace_file
from pipelines import prefect_server
from pipelines.demo_data import BANK, DUPLICATES, TELCO, DemoTable, make_tables

__all__ = ["JOB", "QUERIES", "make_homes", "run", "text"]

_MARK = ".tally-demo"
QUERIES = {
    "overview": """
      SELECT COUNT(*) AS customers, AVG(b.balance) AS mean_balance, AVG(t.minutes) AS mean_minutes,
             CORR(b.income, t.minutes) AS income_and_minutes
      FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.msisdn""",
    "by_plan": """
      SELECT t.plan, COUNT(*) AS customers, SUM(b.balance) AS balance, AVG(b.defaulted) AS default_rate
      FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.msisdn
      WHERE b.region = 'north' GROUP BY t.plan""",
    "region_and_plan": """
      SELECT b.region, t.plan, COUNT(*) AS customers, SUM(b.balance * t.late_bills) AS balance_times_late_bills
      FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.msisdn
      GROUP BY b.region, t.plan""",
}
FEATURES = {"bank": ["balance", "income", "age"], "telco": ["minutes", "late_bills", "tenure"]}
_QUERY_ITEMS = "".join(f"  - name: {name}\n    sql: |{sql}\n    to: [bank]\n" for name, sql in QUERIES.items())
JOB = f"""\
version: 1
name: churn-risk
peer: telco
align: {{bank: customers, telco: subscribers, learns: both, duplicates: {DUPLICATES}}}
analyse:
{_QUERY_ITEMS}  - name: correlations
    statistics: {{correlation: [bank.balance, bank.income, telco.minutes, telco.late_bills]}}
    to: [bank]
train:
  label: bank.defaulted
  features: {{bank: [{", ".join(FEATURES["bank"])}], telco: [{", ".join(FEATURES["telco"])}]}}
  l2: 1.0
  winsorise: 3.0
  test_fraction: 0.2
score: {{receiver: bank, to: "parquet:scores.parquet"}}
"""


def run(folder: Path, rows: int) -> dict[str, Any]:
    """Make tables and homes under `folder`, run the job, put the pooled answer beside it."""
    began = time.perf_counter()
    folder = _fresh(folder)
    bank, telco = _homes(folder)
    with _prefect(bank) as server:
        _say(f"makes tables: {rows} bank customers, {rows * 3 // 2} telco subscribers")
        _make(folder, bank, telco, rows)
        with _served(telco.root):
            _wait(server)
            _say("runs the job as a Prefect flow: bank dials telco")
            result = _tally(bank.root, server[1], "run", str(bank.root / "job.yaml"), "--json")
    _say("joins both tables in the clear for comparison")
    from pipelines.pooled import pooled_answer

    result |= pooled_answer(bank, telco, result["run"], FEATURES, QUERIES)
    result["reports"] = [_report(home, result["run"]) for home in (bank.root, telco.root)]
    result["learned"] = {home.party.name: _learned(home, result["run"]) for home in (bank, telco)}
    result["seconds"] = round(time.perf_counter() - began, 2)
    return result


def make_homes(folder: Path, rows: int) -> tuple[Home, Home]:
    """The demo's two homes under `folder`, with tables, keys, trust and policies; nothing runs."""
    folder = _fresh(folder)
    bank, telco = _homes(folder)
    _make(folder, bank, telco, rows)
    return bank, telco


def _homes(folder: Path) -> tuple[Home, Home]:
    port = _free_port()
    telco = Home.init(folder / "telco", "telco", f"127.0.0.1:{port}", f"127.0.0.1:{port}")
    return Home.init(folder / "bank", "bank"), telco


def _fresh(folder: Path) -> Path:
    folder = folder.absolute()
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).exists():
        raise UsageError(
            f"{folder} is not empty, and not an earlier demo", hint="name a new folder: tally --home DIR demo"
        )
    for name in ("bank", "telco", "data"):
        shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).touch()
    return folder


def _make(folder: Path, bank: Home, telco: Home, rows: int) -> None:
    made = make_tables(folder / "data", rows, rows * 3 // 2)
    for home, table, path, other in ((bank, BANK, made.bank, "telco"), (telco, TELCO, made.telco, "bank")):
        (home.root / "data").mkdir(exist_ok=True)
        path.rename(home.root / table.url.partition(":")[2])
        _declare(home.root, table, other)
    (folder / "data").rmdir()
    for ours, them in ((bank, telco), (telco, bank)):
        theirs = Home.open(them.root)
        Home.open(ours.root).add_peer(theirs.identity().card(theirs.party.listen))
    replace_file(bank.root / "job.yaml", JOB.encode())


def _declare(root: Path, table: DemoTable, peer: str) -> None:
    """Put the table into party.yaml and its grants into policy.yaml, as `tally add-table` and an editor would."""
    text = (root / "party.yaml").read_text()
    columns = "".join(f"      {name}: {json.dumps(spec)}\n" for name, spec in table.columns.items())
    key = f"    key: [{', '.join(table.key)}]\n    duplicates: {DUPLICATES}\n"
    block = f"tables:\n  {table.name}:\n    url: {table.url}\n{key}    columns:\n{columns}"
    replace_file(root / "party.yaml", text.replace("tables: {}\n", block).encode())
    grants = "".join(f"      {table.name}.{name}: [{', '.join(words)}]\n" for name, words in table.grants.items())
    policy = (
        f"version: 1\npeers:\n  {peer}:\n    alignment: rows\n    min_size: 100\n    min_rows: 20\n    approve: auto\n"
    )
    replace_file(root / "policy.yaml", f"{policy}    columns:\n{grants}".encode())


@contextmanager
def _prefect(bank: Home) -> Iterator[tuple[subprocess.Popen[bytes] | None, str]]:
    """The user's server, or one of ours, starting while tables are made."""
    given = os.environ.get("PREFECT_API_URL")
    if given:
        yield None, given
        return
    child, url = prefect_server.start(bank.state)
    try:
        yield child, url
    finally:
        prefect_server.stop(child)


def _wait(server: tuple[subprocess.Popen[bytes] | None, str]) -> None:
    child, url = server
    if child is not None:
        prefect_server.wait(child, url)


@contextmanager
def _served(home: Path) -> Iterator[None]:
    process = subprocess.Popen(
        [*_command(home), "serve"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=sys.stderr, text=True
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line.startswith("ready "):
            raise InternalError("`tally serve` of the telco did not start", party="telco")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _tally(home: Path, api: str, *words: str) -> dict[str, Any]:
    """One command of the bank; its progress goes to our stderr."""
    environment = os.environ | {"PREFECT_API_URL": api}
    done = subprocess.run([*_command(home), *words], stdout=subprocess.PIPE, text=True, env=environment, check=False)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise InternalError(f"`tally {words[0]}` ended with {done.returncode} and no answer") from None
    if "error" in answer and done.returncode:
        error = answer["error"]
        failure = TallyError(error["message"], party=error["party"], stage=error["stage"], hint=error["hint"])
        failure.exit_code, failure.code = done.returncode, error["code"]
        raise failure
    return answer


def _command(home: Path) -> list[str]:
    return [sys.executable, "-m", "pipelines", "--home", str(home)]


def _report(home: Path, run: str) -> str:
    from pipelines.verbs_run import report

    return str(report(home, run)["report"])


def _learned(home: Home, run: str) -> list[str]:
    """What a party let out, by its own ledger: the kind of value, to whom, how many; details are in the reports."""
    from party.ledger import Ledger

    ledger = Ledger.open(home.state / "ledger.db")
    try:
        events = [event.fields for event in ledger.events(run) if event.event == "disclosure"]
    finally:
        ledger.close()
    told: dict[tuple[str, str], list[int]] = {}
    for event in events:
        what = str(event["what"])
        part = ".".join(what.split(".")[:2]) if what.startswith("query.") else what
        told.setdefault((part, str(event["to"])), []).append(int(event["rows"]))
    return [f"{what} -> {to}: {sum(rows)} values in {len(rows)} openings" for (what, to), rows in told.items()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _say(line: str) -> None:
    print(f"demo: {line}", file=sys.stderr, flush=True)


def text(result: dict[str, Any]) -> str:
    """The demo's answer for people."""
    from pipelines import results

    joint = result["model"]["metrics"]
    lines = [results.text(result), "", f"{'':12} {'AUC':>8} {'KS':>8} {'log-loss':>9}"]
    for name, metrics in (("joint", joint), ("pooled", result["pooled"]), ("bank only", result["bank_only"])):
        lines.append(f"{name:12} {metrics['auc']:8.4f} {metrics['ks']:8.4f} {metrics['log_loss']:9.4f}")
    same = [name for name, rows in result["pooled"]["queries"].items() if same_rows(rows, result["queries"][name])]
    lines += ["", f"queries equal to DuckDB on the joined tables: {', '.join(same) or 'none'}"]
    if other := [name for name in result["pooled"]["queries"] if name not in same]:
        lines.append(f"queries that differ, which is a bug: {', '.join(other)}")
    lines += ["", f"{'stage':10} {'seconds':>8} {'MB':>8}"]
    for entry in result["details"]["stages"]:
        lines.append(f"{entry['stage']:10} {entry['seconds']:8.2f} {(entry['sent'] + entry['received']) / 1e6:8.2f}")
    for party, disclosures in result["learned"].items():
        lines += ["", f"{party} let out (by its ledger):", *(f"  {line}" for line in disclosures)]
    lines += ["", "reports:", *(f"  {path}" for path in result["reports"]), "", f"{result['seconds']:.0f} s in all"]
    return "\n".join(lines)


def same_rows(pooled: list[dict[str, Any]], joint: list[dict[str, Any]]) -> bool:
    """Whether two answers agree: exactly, floats to 1e-9."""

    def key(row: dict[str, Any]) -> str:
        return json.dumps(sorted((name, value) for name, value in row.items() if not isinstance(value, float)))

    if len(pooled) != len(joint):
        return False
    for ours, theirs in zip(sorted(pooled, key=key), sorted(joint, key=key), strict=True):
        for name, a in ours.items():
            b = theirs.get(name)
            if isinstance(a, float) and isinstance(b, float):
                if abs(a - b) > 1e-9 * max(1.0, abs(a)):
                    return False
            elif a != b:
                return False
    return True
