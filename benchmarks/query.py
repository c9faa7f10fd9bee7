"""Seconds of `tally query` from the shell over two small tables: process start, connection, alignment, answer.

    python benchmarks/query.py [--rows 1000] [--times 5] [--json]

Two homes in a temporary folder, `tally serve` of the telco running; the bank's command is timed from its start to its
end, each time with `--realign`: nothing of an earlier one is used again but the files on disk. Every answer is compared
with the plain one. The target is 1.5 s for 1,000 by 1,000 rows, the median of five.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # not this folder: its files are named as packages are

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.two_parties import machine

TALLY = (sys.executable, "-m", "pipelines")
TARGET = 1.5
JOIN = "FROM bank.customers b JOIN telco.subscribers t ON b.phone = t.phone"
TABLES = {
    "bank": """customers:
    url: parquet:data.parquet
    key: [phone]
    columns:
      phone: {type: string, normalise: text}
      balance: {type: integer, range: [-10000, 10000], nullable: false}
""",
    "telco": """subscribers:
    url: parquet:data.parquet
    key: [phone]
    columns:
      phone: {type: string, normalise: text}
      minutes: {type: integer, range: [0, 1000], nullable: false}
      plan: {type: string, domain: [basic, plus, pro], nullable: false}
""",
}
GRANTS = {
    "bank": "customers.phone: [join]\n      customers.balance: [aggregate, filter]\n",
    "telco": "subscribers.phone: [join]\n      subscribers.minutes: [aggregate, filter]\n"
    "      subscribers.plan: [group]\n",
}
STATEMENTS = {
    "one product": f"SELECT COUNT(*) AS n, SUM(b.balance * t.minutes) AS s {JOIN}",
    "groups of the peer": f"SELECT t.plan, COUNT(*) AS n, SUM(b.balance) AS s {JOIN} GROUP BY t.plan",
}


def environment() -> dict[str, str]:
    """As a shell has it, with this tree first and one thread a process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TALLY_", "PREFECT_", "PYTHON"))}
    return kept | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def tally(home: Path, *words: str) -> str:
    """One command to its end; what it printed."""
    command = [*TALLY, "--home", str(home), *words]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise SystemExit(f"tally {words[0]} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def homes(folder: Path, tables: dict[str, str], grants: dict[str, str], policy: str = "") -> None:
    """Two homes that trust each other. tables: what stands under `tables:`; grants: under `columns:`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    tally(folder / "bank", "init", "bank")
    tally(folder / "telco", "init", "telco", "--listen", address, "--address", address)
    for name, other in (("bank", "telco"), ("telco", "bank")):
        card = folder / f"{other}.card"
        card.write_text(tally(folder / other, "card"))
        tally(folder / name, "trust", str(card))
        party = folder / name / "party.yaml"
        lines = [line for line in party.read_text().splitlines() if not line.startswith("tables:")]
        party.write_text("\n".join(lines) + f"\ntables:\n  {tables[name]}")
        head = f"version: 1\npeers:\n  {other}:\n    alignment: rows\n    approve: auto\n{policy}    columns:\n"
        (folder / name / "policy.yaml").write_text(f"{head}      {grants[name]}")


@contextmanager
def serving(home: Path) -> Iterator[None]:
    """`tally serve` of a home, until the end."""
    process = subprocess.Popen(
        [*TALLY, "--home", str(home), "serve"], env=environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        if process.stdout is None or not process.stdout.readline().startswith("ready"):
            raise SystemExit("`tally serve` does not start")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def make(folder: Path, rows: int) -> dict[str, list[dict[str, Any]]]:
    """The homes, with half of the rows in common; the plain answers."""
    homes(folder, TABLES, GRANTS)
    rng = np.random.default_rng(1)
    balance, minutes = rng.integers(-10000, 10001, rows), rng.integers(0, 1001, rows)
    plan = rng.integers(0, 3, rows)
    shift = rows // 2
    keys = [f"+44790{n:07d}" for n in range(rows + shift)]
    pq.write_table(pa.table({"phone": keys[:rows], "balance": balance}), folder / "bank" / "data.parquet")
    names = [("basic", "plus", "pro")[n] for n in plan]
    telco = {"phone": keys[shift:], "minutes": minutes, "plan": names}
    pq.write_table(pa.table(telco), folder / "telco" / "data.parquet")
    ours, theirs, kinds = balance[shift:], minutes[: rows - shift], plan[: rows - shift]
    groups = [
        {"plan": name, "n": int((kinds == n).sum()), "s": int(ours[kinds == n].sum())}
        for n, name in enumerate(("basic", "plus", "pro"))
    ]
    return {
        "one product": [{"n": len(ours), "s": int((ours * theirs).sum())}],
        "groups of the peer": groups,
    }


def measure(rows: int, times: int) -> list[dict[str, Any]]:
    """Each statement `times` times; the median, the fastest, and where the time of the last one went."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        right = make(folder, rows)
        with serving(folder / "telco"):
            return [_timed(folder, case, rows, times, right[case]) for case in STATEMENTS]


def _timed(folder: Path, case: str, rows: int, times: int, right: list[dict[str, Any]]) -> dict[str, Any]:
    seconds, cpu = [], []
    for _ in range(times):
        began, before = time.perf_counter(), _spent()
        text = tally(folder / "bank", "query", "--peer", "telco", "--realign", "--json", STATEMENTS[case])
        seconds.append(time.perf_counter() - began)
        cpu.append(_spent() - before)
        answer = json.loads(text)
        if answer["rows"] != right:
            raise SystemExit(f"wrong: {case}")
    return {
        "case": case,
        "rows": rows,
        "median_s": round(statistics.median(seconds), 3),
        "fastest_s": round(min(seconds), 3),
        "cpu_s": round(statistics.median(cpu), 3),
        "timings": {stage: round(part, 3) for stage, part in answer["timings"].items() if isinstance(part, float)},
        "bytes": answer["bytes"]["sent"] + answer["bytes"]["received"],
    }


def _spent() -> float:
    """CPU seconds of the commands that have ended: on a busy machine they say more than the clock."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.rows, options.times)
    if options.json:
        print(json.dumps({"machine": machine(), "runs": found}))
        return
    print(f"{machine()}; target {TARGET} s at 1,000 by 1,000 rows")
    print(f"{'rows':>7}  {'case':<20} {'median s':>8} {'fastest':>8} {'cpu s':>7} {'MB':>7}  last run's stages")
    for row in found:
        stages = ", ".join(f"{name} {seconds}" for name, seconds in row["timings"].items())
        print(
            f"{row['rows']:>7}  {row['case']:<20} {row['median_s']:>8} {row['fastest_s']:>8}"
            f" {row['cpu_s']:>7} {row['bytes'] / 1e6:>7.2f}  {stages}"
        )


if __name__ == "__main__":
    main()
