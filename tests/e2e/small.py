"""The demo's job over small tables: two homes made once and copied for each test, one run takes seconds."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipelines.demo_data import BANK, TELCO, DemoTable, make_tables

from .homes import Answer, Pair, alive, descendants, expect, make_pair, tally, wait_until
from .proxy import Proxy

JOB = """\
version: 1
name: small
peer: telco
align: {bank: customers, telco: subscribers, learns: both, duplicates: first}
analyse:
  - name: by_plan
    sql: |
      SELECT t.plan, COUNT(*) AS n, SUM(b.balance * t.late_bills) AS weighted
      FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.msisdn GROUP BY t.plan
train:
  label: bank.defaulted
  features: {bank: [balance, income, age], telco: [minutes, late_bills, tenure]}
  max_passes: 2
score: {receiver: bank, to: "parquet:scores.parquet"}
"""


def declared(table: DemoTable) -> tuple[str, str]:
    """The tables block and the policy block of one side."""
    columns = "".join(f"    {name}: {json.dumps(spec)}\n" for name, spec in table.columns.items())
    tables = f"{table.name}:\n  url: {table.url}\n  key: [{', '.join(table.key)}]\n  columns:\n{columns}"
    grants = "".join(f"  {table.name}.{name}: [{', '.join(words)}]\n" for name, words in table.grants.items())
    return tables, f"alignment: rows\nmin_size: 20\nmin_rows: 10\napprove: auto\ncolumns:\n{grants}"


@dataclass
class Stage:
    """Homes to copy, and the proxy through which the bank dials the telco."""

    folder: Path
    proxy: Proxy
    port: int

    def copy(self, to: Path) -> Pair:
        """Fresh homes, nothing run yet; the proxy counts from zero and calls nobody."""
        for name in ("bank", "telco"):
            shutil.copytree(self.folder / name, to / name)
        self.proxy.records, self.proxy.at, self.proxy.after = 0, None, None
        return Pair(to / "bank", to / "telco", self.port)


def make_stage(folder: Path, rows: int = 600) -> Stage:
    """Two homes with tables, policies and the bank's job."""
    proxy = Proxy(0)
    pair = make_pair(folder, declared(BANK), declared(TELCO), proxy.listening)
    proxy.port = pair.port
    made = make_tables(folder / "made", rows, rows * 3 // 2)
    for home, table, path in ((pair.bank, BANK, made.bank), (pair.telco, TELCO, made.telco)):
        (home / "data").mkdir(exist_ok=True)
        path.rename(home / table.url.partition(":")[2])
    (pair.bank / "job.yaml").write_text(JOB)
    return Stage(folder, proxy, pair.port)


@dataclass(frozen=True)
class Outcome:
    """What two runs of one job must have in common."""

    rows: int
    scored: tuple[str, ...]
    bank: tuple[int, ...]
    telco: tuple[int, ...]


def run_words(pair: Pair, *more: str) -> list[str]:
    return ["run", str(pair.bank / "job.yaml"), "--direct", "--json", *more]


def outcome(pair: Pair, answer: Answer) -> Outcome:
    """The alignment as both sides have kept it, and the keys of the score table."""
    found = expect(answer).json
    table = pq.read_table(pair.bank / "scores.parquet")
    halves = []
    for home in (pair.bank, pair.telco):
        with np.load(home / "state" / "runs" / found["run"] / "alignment.npz") as kept:
            halves.append(tuple(sorted(kept["rows"].tolist())))
    return Outcome(found["rows"], tuple(sorted(table.column("phone").to_pylist())), *halves)


def check_ledgers(pair: Pair) -> None:
    for home in (pair.bank, pair.telco):
        expect(tally(home, "audit", "verify"))


def abort_codes(home: Path) -> list[str]:
    """The codes of the aborts in a ledger, oldest first."""
    from party.ledger import Ledger

    ledger = Ledger.open(home / "state" / "ledger.db")
    try:
        return [str(event.fields["code"]) for event in ledger.events() if event.event == "abort"]
    finally:
        ledger.close()


def processes_of(folder: Path) -> list[int]:
    """Processes whose command line names a home of this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in words and alive(int(entry.name)):
                found.append(int(entry.name))
    return found


def check_nobody_left(folder: Path, serving: int | None = None) -> None:
    """No process of these homes runs, except `tally serve` itself, which has no child left."""
    allowed = set() if serving is None else {serving}

    def left() -> list[int]:
        below = [] if serving is None else [pid for pid in descendants(serving) if alive(pid)]
        return sorted({*processes_of(folder), *below} - allowed)

    wait_until(lambda: not left(), 10, f"no process left over: {left()}")


@contextmanager
def killed_at(proxy: Proxy, record: int | None, victim: Any) -> Iterator[list[float]]:
    """Call `victim` when the proxy has forwarded so many records; returns when. None: `at` is set later."""
    fired: list[float] = []

    def strike() -> None:
        victim()
        fired.append(time.monotonic())

    proxy.records, proxy.at, proxy.after = 0, record, strike
    try:
        yield fired
    finally:
        proxy.at = proxy.after = None
