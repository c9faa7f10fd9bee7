"""Split logistic regression: seconds, bytes and messages of a pass, and until the model is the pooled one.

    python benchmarks/vfl.py [--data FOLDER] [--case NAME] [--passes N] [--slow] [--json]

Two processes over mutual TLS on loopback, one core each, no third party. Cases: `default_credit` (needs --data with
the two halves of the table; 80 % of its rows, the training rows), `100k x 50` and `1M x 100` (synthetic; the last
only when named). `gap` is the penalised mean log-loss over the training rows minus that of scikit-learn's
LogisticRegression at the same penalty; `weights` their relative distance (L2) to its. Both are found after the run,
from the shares that both sides kept of each pass: only a benchmark may put them together. --slow: 100 Mbit/s and 40
ms between the two.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # not this folder: its files are named as packages are

import numpy as np

from benchmarks.slow_link import Network
from benchmarks.two_parties import NAMES, Record, machine, memory, run_both
from mpc import ring
from mpc.engine import Engine
from mpc.lattice import WIDE
from party.channel import Channel
from party.guard import Guard
from party.request import Opening
from vfl import prepare, schedule, spec
from vfl.checks import CHECK_BITS
from vfl.newton import INVERTIBLE
from vfl.prepare import MATRIX_BITS, Known
from vfl.secure import Secure
from vfl.sides import Settings
from vfl.state import MemoryCheckpoints
from vfl.train import fit_weights

SLOW = Network(100e6, 0.04)
CASES = {"100k x 50": (100_000, 25, 25), "1M x 100": (1_000_000, 50, 50)}


@dataclass(frozen=True)
class Task:
    """Which table, and at most how many passes."""

    case: str
    data: str | None
    passes: int | None


def table(task: Task) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardised, clipped blocks of both sides and the label."""
    if task.case in CASES:
        rows, *columns = CASES[task.case]
        rng = np.random.default_rng(1)
        common = rng.normal(size=(rows, 2))
        left, right = (rng.normal(size=(rows, d)) + common @ rng.normal(size=(2, d)) for d in columns)
        logits = sum(block @ rng.normal(size=block.shape[1]) * 1.5 / block.shape[1] ** 0.5 for block in (left, right))
        label = (rng.random(rows) < 1 / (1 + np.exp(1 - logits))).astype(np.int64)
    else:
        left, right, label = _read(Path(task.data or "."), task.case)
        training = ~prepare.split(len(label), 0.2, b"the benchmark's training rows")
        left, right, label = left[training], right[training], label[training]
    for block in (left, right):
        block -= block.mean(0)
        block /= block.std(0)
        np.clip(block, -3, 3, out=block)
    return left, right, label


def _read(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sides = []
    for side in ("guest", "host"):
        with open(folder / f"{name}_hetero_{side}.csv") as file:
            lines = csv.reader(file)
            next(lines)
            sides.append({row[0]: [float(x) for x in row[1:]] for row in lines})
    ids = sorted(set(sides[0]) & set(sides[1]), key=int)
    left, right = (np.array([side[key] for key in ids]) for side in sides)
    return left[:, 1:], right, left[:, 0].astype(np.int64)


class Kept(MemoryCheckpoints):
    """Our share of the weights after each pass, and what had been spent by then."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self.passes: list[tuple[np.ndarray, float, int, int]] = []
        self._channel, self._start = channel, time.perf_counter()

    def save(self, number: int, arrays: dict[str, np.ndarray]) -> None:
        """Keep it."""
        counters = self._channel.counters
        spent = time.perf_counter() - self._start, counters.sent, counters.messages_sent
        if number > len(self.passes):  # the last state is kept once more, with the last look at the window
            self.passes.append((arrays["weights"][0].copy(), *spent))
        super().save(number, arrays)


def side(place: int, channel: Channel, task: Task) -> dict[str, Any]:
    """One party: train, report."""
    blocks = table(task)
    openings = (spec.SCALE, CHECK_BITS, INVERTIBLE, *map(spec.weights_name, NAMES))
    guard = Guard("bench", NAMES[1 - place], [Opening(what, to) for what in openings for to in NAMES], Record())
    engine = Engine.start(channel, guard, place)
    theirs = blocks[1 - place].shape[1] + place
    what = (blocks[place], Known(blocks[2] if place == 0 else None), theirs)
    del blocks
    before, cpu = memory("VmRSS"), time.process_time()
    kept = Kept(channel)
    half = fit_weights(Secure(engine, MATRIX_BITS), what, Settings(passes=task.passes), kept)
    return {
        "passes": kept.passes,
        "stopped": half.stopped,
        "period": half.period,
        "cpu": time.process_time() - cpu,
        "rounds": channel.counters.rounds,
        "memory": memory("VmHWM"),
        "before": before,
    }


def figures(task: Task, network: Network | None) -> dict[str, Any]:
    """One row of the table."""
    from sklearn.linear_model import LogisticRegression

    first, second = run_both(side, task, network)
    left, right, label = table(task)
    both = np.hstack([np.ones((len(label), 1)), left, right])
    pooled = LogisticRegression(C=1.0, tol=1e-8, max_iter=3000).fit(both[:, 1:], label)
    wanted = np.concatenate([pooled.intercept_, pooled.coef_[0]])
    whitened = [prepare.whiten(left, 1.0, intercept=True), prepare.whiten(right, 1.0, intercept=False)]
    width = left.shape[1] + 1
    signs = 2.0 * label - 1.0

    def loss(weights: np.ndarray) -> float:
        return float(np.logaddexp(0.0, -signs * (both @ weights)).mean() + (weights[1:] ** 2).sum() / 2 / len(label))

    best, reached = loss(wanted), {}
    for (share, seconds, sent, _), (other, _, received, _) in zip(first["passes"], second["passes"], strict=True):
        raw = ring.decode(share + other, schedule.WEIGHT_BITS)
        weights = np.concatenate([whitened[0].transform @ raw[:width], whitened[1].transform @ raw[width:]])
        off = float(np.linalg.norm(weights - wanted) / np.linalg.norm(wanted))
        gap, here = loss(weights) - best, (seconds, (sent + received) / 1e6)
        for name, good in (("gap 1e-3", gap <= 1e-3), ("gap 1e-4", gap <= 1e-4), ("weights 1 %", off <= 0.01)):
            if good:
                reached.setdefault(name, here)
    passes = len(first["passes"])
    stamps = [seconds for _, seconds, _, _ in first["passes"]]
    moved = [a[2] + b[2] for a, b in zip(first["passes"], second["passes"], strict=True)]
    messages = [a[3] + b[3] for a, b in zip(first["passes"], second["passes"], strict=True)]
    row: dict[str, Any] = {
        "case": task.case,
        "network": str(network) if network else "loopback",
        "rows": len(label),
        "passes": passes,
        "stopped": first["stopped"],
        "period": first["period"],
        "s/pass": float(np.median(np.diff(stamps))) if passes > 1 else None,
        "MB/pass": float(np.median(np.diff(moved))) / 1e6 if passes > 1 else None,
        "messages/pass": float(np.diff(messages).mean()) if passes > 1 else None,
        "most messages": int(np.diff(messages).max()) if passes > 1 else None,
        "cpu s": [round(one["cpu"], 1) for one in (first, second)],
        "memory MB": [round(one["memory"] / 1e6) for one in (first, second)],
        "gap at the end": gap,
        "weights at the end": off,
    }
    for name in ("gap 1e-3", "gap 1e-4", "weights 1 %"):
        row[f"{name}: s, MB"] = tuple(round(value, 2) for value in reached[name]) if name in reached else None
    return row


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", help="the folder of default_credit_hetero_guest.csv and ..._host.csv")
    parser.add_argument("--case", action="append", help="default_credit, 100k x 50, 1M x 100; may be given again")
    parser.add_argument("--passes", type=int)
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cases = options.case or (["default_credit"] if options.data else []) + ["100k x 50"]
    rows = [figures(Task(case, options.data, options.passes), SLOW if options.slow else None) for case in cases]
    told = {"machine": machine(), "kernel": WIDE.basis.variant or "numpy twin", "cases": rows}
    if options.json:
        print(json.dumps(told))
        return
    print(f"{told['machine']}; kernel {told['kernel']}")
    for row in rows:
        print()
        for name, value in row.items():
            print(f"{name:<20} {value:.3g}" if isinstance(value, float) else f"{name:<20} {value}")


if __name__ == "__main__":
    main()
