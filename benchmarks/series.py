"""Later runs of a series beside a whole one: seconds, CPU and bytes where one key in a hundred has changed.

    python benchmarks/series.py [--rows 1000000] [--changed 0.01] [--days 5] [--json]

Two processes, one core each, over mutual TLS on loopback, from Parquet to alignment each day. On each day after the
first `changed` of each side's keys are gone and as many are new; the last day's alignment is compared with a fresh one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import pyarrow as pa
import pyarrow.parquet

import psi
from benchmarks.psi import KEYS, values
from benchmarks.two_parties import NAMES, Record, machine, memory, run_both
from connectors import Declared, open_source
from kernels import curve25519
from party.channel import Channel
from party.guard import Guard
from pipelines import alignments
from pipelines.runs import RunState


def side(place: int, channel: Channel, task: dict[str, Any]) -> dict[str, Any]:
    """One party on one day."""
    curve25519.self_test()
    name, other = NAMES[place], NAMES[1 - place]
    folder = Path(task["folder"]) / name
    folder.mkdir(exist_ok=True)
    source = open_source(task["urls"][place], folder, {"key": Declared.of("string", None, None, False)}, ["key"])
    run, most = task["run"], 2 * task["rows"] + 100
    terms = psi.Terms(run, b"benchmark salt, 24 bytes", most_ours=most, most_theirs=most)
    guard = Guard(run, other, psi.request(psi.Joined(KEYS, incremental=True)).openings, Record())
    series = psi.SeriesFolder(folder / "series", folder / "psi.key", psi.Limits(100, 100)) if task["series"] else None
    source.schema()  # imports and opens
    before, start, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    keys = psi.from_scan(lambda: source.scan(["key"]), [psi.KeyColumn("key")])
    found = psi.align([keys], channel, guard, terms, psi.Means(), series)
    if series is not None:
        series.promote(run)
    state = RunState(folder, f"bench-{run}")
    state.folder.mkdir()
    state.put_arrays("alignment", alignments.to_arrays(found))
    return {
        "wall": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "sent": channel.counters.sent,
        "memory": memory("VmHWM") - before,
        "rows": found.rows,
        "kernel": curve25519.active(),
    }


def day(task: dict[str, Any], run: str, series: bool = True) -> tuple[dict[str, Any], np.ndarray]:
    """Both parties; the figures, and the pairs of rows in the order of the first party's."""
    os.sync()  # no run waits for what the one before has left to be written
    first, second = run_both(side, task | {"run": run, "series": series})
    rows, count = task["rows"], len(first["rows"])
    figures = {
        "run": run,
        "rows": rows,
        "matches": count,
        "wall_s": round(max(first["wall"], second["wall"]), 3),
        "cpu_us_an_identifier": round((first["cpu"] + second["cpu"]) / (2 * rows) * 1e6, 3),
        "bytes_an_identifier": round((first["sent"] + second["sent"]) / (2 * rows), 3),
        "memory_mb": round(max(first["memory"], second["memory"]) / 1e6),
        "kernel": first["kernel"],
    }
    pairs = np.stack([first["rows"], second["rows"]])
    return figures, pairs[:, np.argsort(pairs[0])]


def tables(folder: Path, rows: int, gone: int, number: int) -> list[str]:
    """Both parties' tables on a day, as URLs: on each `gone` keys have gone since the day before, as many are new."""
    rng, urls = np.random.default_rng(number), []
    for place, name in enumerate(NAMES):
        old = values("text", place * (rows - rows // 2) + number * gone, rows - number * gone)
        new = pa.concat_arrays([old, values("text", 10 * rows + place * (gone // 2), number * gone)])
        path = folder / f"{name}-{number}.parquet"
        pa.parquet.write_table(pa.table({"key": new.take(pa.array(rng.permutation(rows)))}), path)
        urls.append(f"parquet:{path}")
    return urls


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--changed", type=float, default=0.01)
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows, gone = options.rows, int(options.rows * options.changed)
    with tempfile.TemporaryDirectory() as folder:
        task: dict[str, Any] = {"rows": rows, "folder": folder}
        runs = []
        for number in range(options.days + 1):
            task["urls"] = tables(Path(folder), rows, gone, number)
            figures, pairs = day(task, f"day-{number}")
            runs.append(figures)
        fresh, expected = day(task, "fresh", series=False)
    if not np.array_equal(pairs, expected):
        raise SystemExit("wrong: the last run's alignment is not the fresh one's")
    wall, sent = (median(run[name] for run in runs[1:]) for name in ("wall_s", "bytes_an_identifier"))
    time_part, bytes_part = wall / fresh["wall_s"], sent / fresh["bytes_an_identifier"]
    if options.json:
        found = {"machine": machine(), "changed": options.changed, "runs": [*runs, fresh]}
        print(json.dumps(found | {"time_over_fresh": time_part, "bytes_over_fresh": bytes_part}))
        return
    print(f"{machine()}; {fresh['kernel']}; each day {100 * options.changed:g} % of {rows:,} keys a side changed")
    names = ("run", "matches", "wall_s", "cpu_us_an_identifier", "bytes_an_identifier", "memory_mb")
    print("  ".join(f"{name:>10}" for name in names))
    for row in (*runs, fresh):
        print("  ".join(f"{row[name]!s:>{max(10, len(name))}}" for name in names))
    print(
        f"a later day over a fresh run: {time_part:.1%} of the time, {bytes_part:.1%} of the bytes (median);"
        " the same alignment on the last"
    )


if __name__ == "__main__":
    main()
