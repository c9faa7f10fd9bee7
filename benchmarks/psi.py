"""Seconds, CPU, bytes and memory of an alignment: two processes, one core each, over mutual TLS on loopback.

    python benchmarks/psi.py [--rows 10000 100000 1000000] [--format parquet csv] [--key text phone] [--json]

Each party reads its table's key column, normalises, aligns with `learns: both` (half of the keys are shared), keeps
its journals sealed and synced, and writes its alignment. CPU is of both parties over all identifiers of both; bytes
are TLS payload both ways over all identifiers; memory is the peak over what was resident after imports, a party.
With --peers OpenMined's `openmined_psi` and SecretFlow's `spu` run on the same keys, where they are installed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # else this file is `import psi`

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

import psi
from benchmarks import psi_peers
from benchmarks.two_parties import NAMES, Record, machine, memory, run_both
from connectors import Declared, open_source
from kernels import curve25519
from party.channel import Channel
from party.guard import Guard
from pipelines import alignments
from pipelines.runs import RunState

KEYS = {"bank": ("customers", (("key",),)), "telco": ("subscribers", (("key",),))}
STEP = 1 << 20
COLUMNS = (
    "rows",
    "format",
    "key",
    "first_pass_until_s",
    "second_until_s",
    "wall_s",
    "cpu_us_an_identifier",
    "bytes_an_identifier",
    "memory_mb",
)


def values(kind: str, first: int, count: int) -> pa.Array:
    """`count` distinct keys from one number on: texts of 16 letters, or E.164 numbers."""
    numbers = np.arange(first, first + count, dtype=np.uint64)
    if kind == "phone":
        return pa.array(numbers + np.uint64(447_000_000_000)).cast(pa.string()).cast(pa.binary()).cast(pa.string())
    mixed = numbers * np.uint64(0x9E3779B97F4A7C15)
    letters = np.frombuffer(np.ascontiguousarray(mixed).tobytes(), dtype=np.uint8)
    text = np.stack([letters >> 4, letters & 15], axis=1).reshape(-1, 16) + np.uint8(97)
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), count, [None, pa.py_buffer(np.ascontiguousarray(text))]
    ).cast(pa.string())


def table(path: Path, kind: str, first: int, rows: int) -> None:
    """One party's table, its rows in random order within pieces, written piece by piece."""
    import pyarrow.compute as pc

    rng = np.random.default_rng(first)
    schema = pa.schema([("key", pa.string())])
    with path.open("wb") as file:
        writer: Any = (
            pa.csv.CSVWriter(file, schema) if path.suffix == ".csv" else pa.parquet.ParquetWriter(file, schema)
        )
        for at in range(0, rows, STEP):
            count = min(STEP, rows - at)
            keys = values(kind, first + at, count)
            if kind == "phone":
                keys = pc.binary_join_element_wise("+", keys, "")
            writer.write_table(pa.table({"key": keys.take(pa.array(rng.permutation(count)))}, schema=schema))
        writer.close()


def side(place: int, channel: Channel, task: dict[str, Any]) -> dict[str, Any]:
    """One party: from its table to its alignment."""
    curve25519.self_test()
    name, other = NAMES[place], NAMES[1 - place]
    folder = Path(task["folder"]) / name
    folder.mkdir(exist_ok=True)
    source = open_source(task["urls"][place], folder, {"key": Declared.of("string", None, None, False)}, ["key"])
    rule = "phone" if task["key"] == "phone" else "text"
    run = f"bench-{task['rows']}-{task['format']}-{task['key']}"
    store = psi.SealedStore(folder / run, folder / "psi.key", run)
    most = 2 * task["rows"] + 100
    terms = psi.Terms(
        run, b"benchmark salt, 24 bytes", our_min_size=1, their_min_size=1, most_ours=most, most_theirs=most
    )
    guard = Guard(run, other, psi.request(psi.Joined(KEYS)).openings, Record())
    ends: dict[str, float] = {}

    def progress(done: int, total: int, note: str) -> None:
        ends[note.split(",")[0]] = time.perf_counter() - start

    source.schema()  # imports and opens
    before, start, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    keys = psi.from_scan(lambda: source.scan(["key"]), [psi.KeyColumn("key", rule)])
    found = psi.align([keys], channel, guard, terms, psi.Means(store, progress=progress))
    state = RunState(folder, run)
    state.put_arrays("alignment", alignments.to_arrays(found))
    wall, spent = time.perf_counter() - start, time.process_time() - cpu
    peak, counters = memory("VmHWM"), channel.counters
    store.wipe()
    return {
        "count": found.count,
        "rows": len(found.rows),
        "wall": wall,
        "cpu": spent,
        "sent": counters.sent,
        "memory": peak - before,
        "first_pass": ends.get(f"masking the keys of {name}", 0.0),
        "second_pass": ends.get(f"masking the keys of {other}", 0.0),
        "kernel": curve25519.active(),
    }


def measure(rows: int, kind: str, key: str, folder: Path) -> dict[str, Any]:
    """Both parties once: `rows` a side, half shared."""
    urls = []
    for place, name in enumerate(NAMES):
        path = folder / f"{name}-{rows}-{key}.{kind}"
        if not path.exists():
            table(path, key, place * (rows - rows // 2), rows)
        urls.append(f"{kind}:{path}")
    task = {"rows": rows, "format": kind, "key": key, "urls": urls, "folder": str(folder)}
    first, second = run_both(side, task)
    expected = rows // 2
    if first["count"] != expected or second["count"] != expected:
        raise SystemExit(f"wrong: {first['count']} and {second['count']} matches for {expected}")
    return {
        "rows": rows,
        "format": kind,
        "key": key,
        "first_pass_until_s": round(max(first["first_pass"], second["first_pass"]), 2),
        "second_until_s": round(max(first["second_pass"], second["second_pass"]), 2),
        "wall_s": round(max(first["wall"], second["wall"]), 2),
        "cpu_us_an_identifier": round((first["cpu"] + second["cpu"]) / (2 * rows) * 1e6, 2),
        "bytes_an_identifier": round((first["sent"] + second["sent"]) / (2 * rows), 2),
        "memory_mb": round(max(first["memory"], second["memory"]) / 1e6),
        "kernel": first["kernel"],
    }


def compare(rows: int, key: str, folder: Path) -> list[dict[str, Any]]:
    """What else is installed, on CSV tables of the same keys."""
    paths = [folder / f"{name}-{rows}-{key}-peers.csv" for name in NAMES]
    for place, path in enumerate(paths):
        table(path, key, place * (rows - rows // 2), rows)
    return [getattr(psi_peers, name)(paths) for name in psi_peers.installed()]


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--format", nargs="+", default=["parquet"], choices=["parquet", "csv"])
    parser.add_argument("--key", nargs="+", default=["text", "phone"], choices=["text", "phone"])
    parser.add_argument("--peers", action="store_true", help="other implementations too, where installed")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = [
            measure(rows, kind, key, Path(folder))
            for rows in options.rows
            for kind in options.format
            for key in options.key
        ]
        others = compare(max(options.rows), options.key[0], Path(folder)) if options.peers else []
    if options.json:
        print(json.dumps({"machine": machine(), "runs": figures, "peers": others}))
        return
    print(f"{machine()}; {figures[0]['kernel']}")
    print("  ".join(f"{name:>10}" for name in COLUMNS))
    for row in figures:
        print("  ".join(f"{row[name]!s:>{max(10, len(name))}}" for name in COLUMNS))
    for row in others:
        print(", ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
