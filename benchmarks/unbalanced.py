"""Seconds, bytes and memory of an alignment of a short list with a long one: two processes, one core each, over TLS.

    python benchmarks/unbalanced.py [--short 10000] [--long 1000000] [--kernel ifma portable] [--json]

The telco has the long table, the bank the short one; all keys of the short one but a half are shared; Parquet in,
sealed and synced journals, alignment out. Three forms: balanced (what equal lists take), unbalanced, and unbalanced
with the long list made ahead (`tally prepare`), whose own seconds are given beside. Wall seconds begin when both sides
are connected and end when both have their alignment on disk.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # else psi.py beside this file is `import psi`

import psi
from benchmarks.psi import table
from benchmarks.two_parties import NAMES, Record, machine, memory, run_both
from connectors import Declared, open_source
from kernels import curve25519
from party.channel import Channel
from party.guard import Guard
from pipelines import alignments
from pipelines.runs import RunState

KEYS = {"bank": ("customers", (("key",),)), "telco": ("subscribers", (("key",),))}
SALT = b"benchmark salt, 24 bytes"
FORMS = ("balanced", "unbalanced", "prepared")
COLUMNS = ("short", "long", "form", "ahead_s", "wall_s", "cpu_s", "mb", "memory_mb", "kernel")


def side(place: int, channel: Channel, task: dict[str, Any]) -> dict[str, Any]:
    """One party: from its table to its alignment on disk."""
    if task["kernel"] is not None:
        chosen = curve25519.Kernel(task["kernel"])
        curve25519.best = lambda: chosen  # type: ignore[assignment]
    curve25519.self_test()
    name, other = NAMES[place], NAMES[1 - place]
    folder = Path(task["folder"]) / name
    folder.mkdir(exist_ok=True)
    run = f"bench-{task['form']}"
    source = open_source(task["urls"][place], folder, {"key": Declared.of("string", None, None, False)}, ["key"])
    keys = psi.from_scan(lambda: source.scan(["key"]), [psi.KeyColumn("key")])
    before, ahead, spent_ahead = memory("VmRSS"), None, 0.0
    if task["form"] == "prepared" and place == 1:
        began = time.perf_counter()
        psi.prepare_ahead(keys, psi.SealedStore(folder / "ahead", folder / "psi.key", run), lambda _: None)
        spent_ahead = time.perf_counter() - began
        ahead = psi.SealedStore(folder / "ahead", folder / "psi.key", run)
    most = 2 * task["long"]
    small = None if task["form"] == "balanced" else "bank"
    terms = psi.Terms(
        run,
        b"benchmark salt, 24 bytes",
        our_min_size=1,
        their_min_size=1,
        small=small,
        most_ours=most,
        most_theirs=most,
    )
    guard = Guard(run, other, psi.request(psi.Joined(KEYS)).openings, Record())
    source.schema()  # imports and opens
    with channel.stage("ready"):
        pass  # both have come so far
    start, cpu = time.perf_counter(), time.process_time()
    store = psi.SealedStore(folder / run, folder / "psi.key", run)
    found = psi.align([keys], channel, guard, terms, psi.Means(store, ahead))
    RunState(folder, run).put_arrays("alignment", alignments.to_arrays(found))
    with channel.stage("done"):
        pass
    wall, spent = time.perf_counter() - start, time.process_time() - cpu
    for used in (store, *([ahead] if ahead is not None else [])):
        used.wipe()
    return {
        "count": found.count,
        "wall": wall,
        "cpu": spent,
        "ahead": spent_ahead,
        "sent": channel.counters.sent,
        "memory": memory("VmHWM") - before,
        "kernel": task["kernel"] or curve25519.active().split(", ")[0].removeprefix("curve25519: "),
    }


def measure(short: int, long: int, form: str, kernel: str | None, folder: Path) -> dict[str, Any]:
    """Both parties once."""
    urls = []
    for place, rows in enumerate((short, long)):
        path = folder / f"{NAMES[place]}-{rows}.parquet"
        if not path.exists():
            table(path, "text", place * (short - short // 2), rows)
        urls.append(f"parquet:{path}")
    task = {"form": form, "kernel": kernel, "long": long, "urls": urls}
    with tempfile.TemporaryDirectory() as work:
        bank, telco = run_both(side, task | {"folder": work})
    if (bank["count"], telco["count"]) != (short // 2, short // 2):
        raise SystemExit(f"wrong: {bank['count']} and {telco['count']} matches for {short // 2}")
    return {
        "short": short,
        "long": long,
        "form": form,
        "ahead_s": round(telco["ahead"], 2),
        "wall_s": round(max(bank["wall"], telco["wall"]), 2),
        "cpu_s": round(bank["cpu"] + telco["cpu"], 2),
        "mb": round((bank["sent"] + telco["sent"]) / 1e6, 1),
        "memory_mb": round(max(bank["memory"], telco["memory"]) / 1e6),
        "kernel": bank["kernel"],
    }


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--short", type=int, default=10_000)
    parser.add_argument("--long", type=int, default=1_000_000)
    parser.add_argument("--forms", nargs="+", default=list(FORMS), choices=FORMS)
    parser.add_argument("--turns", type=int, default=1, help="how often; the fastest counts")
    parser.add_argument("--kernel", nargs="+", default=[None], help="such as ifma, avx2, portable; default: the best")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for kernel in options.kernel:
            for form in options.forms:
                tries = [measure(options.short, options.long, form, kernel, Path(folder)) for _ in range(options.turns)]
                figures.append(min(tries, key=lambda found: found["wall_s"]))
    if options.json:
        print(json.dumps({"machine": machine(), "runs": figures}))
        return
    print(machine())
    print("  ".join(f"{name:>10}" for name in COLUMNS))
    for row in figures:
        print("  ".join(f"{row[name]!s:>10}" for name in COLUMNS))


if __name__ == "__main__":
    main()
