"""A later run of a series beside a whole one: seconds, CPU and bytes where one key in a hundred has changed.

    python benchmarks/series.py [--rows 1000000] [--changed 0.01] [--json]

Two processes, one core each, over mutual TLS on loopback, from Parquet to alignment on both days. On the second day
`changed` of each side's keys are gone and as many are new; its alignment is compared with a fresh one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
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


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--changed", type=float, default=0.01)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows, gone = options.rows, int(options.rows * options.changed)
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        tasks = []
        for number in (0, 1):
            urls = []
            for place, name in enumerate(NAMES):
                first = place * (rows - rows // 2)
                old = values("text", first + number * gone, rows - number * gone)
                new = pa.concat_arrays([old, values("text", 10 * rows + place * (gone // 2), number * gone)])
                path = Path(folder) / f"{name}-{number}.parquet"
                pa.parquet.write_table(pa.table({"key": new.take(pa.array(rng.permutation(rows)))}), path)
                urls.append(f"parquet:{path}")
            tasks.append({"rows": rows, "urls": urls, "folder": folder})
        whole, _ = day(tasks[0], "whole-run")
        later, pairs = day(tasks[1], "later-run")
        fresh, expected = day(tasks[1], "fresh-run", series=False)
    if not np.array_equal(pairs, expected):
        raise SystemExit("wrong: the later run's alignment is not the fresh one's")
    if options.json:
        print(json.dumps({"machine": machine(), "changed": options.changed, "runs": [whole, later, fresh]}))
        return
    print(f"{machine()}; {whole['kernel']}; {100 * options.changed:g} % of {rows:,} keys a side changed")
    names = ("run", "matches", "wall_s", "cpu_us_an_identifier", "bytes_an_identifier", "memory_mb")
    print("  ".join(f"{name:>10}" for name in names))
    for row in (whole, later, fresh):
        print("  ".join(f"{row[name]!s:>{max(10, len(name))}}" for name in names))
    print(
        f"later over fresh: {later['wall_s'] / fresh['wall_s']:.1%} of the time,"
        f" {later['bytes_an_identifier'] / fresh['bytes_an_identifier']:.1%} of the bytes; the same alignment"
    )


if __name__ == "__main__":
    main()
