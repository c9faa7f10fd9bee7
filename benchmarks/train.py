"""Seconds, bytes and messages of split training, two processes over mutual TLS on loopback.

    python benchmarks/train.py [--rows 24000] [--columns 13 10] [--passes N]
        [--data FOLDER --table default_credit] [--json]

Without --data a synthetic table with labels from both sides. Prints the machine, the active kernel, and passes until
the training stopped by itself (or --passes), beside scikit-learn's weights on the same rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import platform
import socket
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from mpc.engine import Engine
from mpc.lattice import WIDE
from party import identity, tls
from party.card import Pin
from party.guard import Guard
from party.request import Opening
from vfl import spec
from vfl.metrics import auc
from vfl.prepare import MATRIX_BITS
from vfl.secure import Secure
from vfl.state import MemoryCheckpoints
from vfl.train import Settings, fit_weights

NAMES = ("bank", "telco")


class Record:
    """A ledger that keeps nothing."""

    def append(self, event: str, /, **fields: str | int) -> None:
        """Drop it."""


def table(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardised blocks of both sides and the label."""
    if options.data:
        sides = []
        for side in ("guest", "host"):
            with open(Path(options.data) / f"{options.table}_hetero_{side}.csv") as file:
                lines = csv.reader(file)
                next(lines)
                sides.append({row[0]: [float(x) for x in row[1:]] for row in lines})
        ids = sorted(set(sides[0]) & set(sides[1]), key=int)[: options.rows]
        left, right = (np.array([side[key] for key in ids]) for side in sides)
        left, label = left[:, 1:], left[:, 0].astype(np.int64)
    else:
        rng = np.random.default_rng(1)
        common = rng.normal(size=(options.rows, 2))
        left, right = (rng.normal(size=(options.rows, d)) + common @ rng.normal(size=(2, d)) for d in options.columns)
        logits = left @ rng.normal(size=left.shape[1]) * 0.3 + right @ rng.normal(size=right.shape[1]) * 0.3 - 1
        label = (rng.random(options.rows) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    left, right = (np.clip((block - block.mean(0)) / block.std(0), -3, 3) for block in (left, right))
    return left, right, label


def side(place: int, options: argparse.Namespace, pipe: Connection, keys: str) -> None:
    """One party's process: meet over TLS, train, report."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    name, other = NAMES[place], NAMES[1 - place]
    ours = identity.create(Path(keys) / name, name)
    pipe.send((ours.fingerprint, ours.certificate_pem))
    pin = Pin(other, *pipe.recv())
    if place == 0:
        listener = socket.create_server(("127.0.0.1", 0))
        pipe.send(listener.getsockname()[1])
        channel = tls.accept(listener.accept()[0], ours, [pin])
    else:
        channel = tls.dial(f"127.0.0.1:{pipe.recv()}", ours, pin)
    left, right, label = table(options)
    openings = {spec.SCALE, spec.CHECK_BITS, spec.weights_name("bank"), spec.weights_name("telco")}
    guard = Guard("bench", other, [Opening(what, to) for what in openings for to in NAMES], Record())
    arithmetic = Secure(Engine.start(channel, guard, place), MATRIX_BITS)
    data = (left, label, right.shape[1]) if place == 0 else (right, None, left.shape[1] + 1)
    start, cpu = time.perf_counter(), time.process_time()
    stamps: list[float] = []
    half = fit_weights(
        arithmetic,
        data,
        Settings(passes=options.passes),
        MemoryCheckpoints(),
        lambda number, text: stamps.append(time.perf_counter() - start),
    )
    seconds, counters = time.perf_counter() - start, channel.counters
    channel.close()
    pipe.send(
        {
            "weights": half.weights,
            "passes": half.passes,
            "stopped": half.stopped,
            "period": half.period,
            "seconds": seconds,
            "cpu": time.process_time() - cpu,
            "sent": counters.sent,
            "messages": counters.messages_sent,
            "rounds": counters.rounds,
            "stamps": stamps,
        }
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Both processes; the figures of both."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as keys:
        pipes, processes = [], []
        for place in (0, 1):
            ours, theirs = context.Pipe()
            processes.append(context.Process(target=side, args=(place, options, theirs, keys)))
            processes[-1].start()
            pipes.append(ours)
        cards = [pipe.recv() for pipe in pipes]
        pipes[0].send(cards[1])
        pipes[1].send(cards[0])
        pipes[1].send(pipes[0].recv())
        first, second = (pipe.recv() for pipe in pipes)
        for process in processes:
            process.join()
    left, right, label = table(options)
    both = np.hstack([left, right])
    pooled = LogisticRegression(C=1.0, tol=1e-10, max_iter=5000).fit(both, label)
    found = np.concatenate([first["weights"], second["weights"]])
    wanted = np.concatenate([pooled.intercept_, pooled.coef_[0]])
    passes = first["passes"]
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "kernel": WIDE.basis.variant or "numpy twin",
        "rows": len(label),
        "columns": both.shape[1],
        "passes": passes,
        "stopped": first["stopped"],
        "period": first["period"],
        "seconds": round(first["seconds"], 2),
        "seconds_each_pass": round(float(np.diff(first["stamps"]).mean()), 3) if passes > 1 else None,
        "cpu_seconds": [round(first["cpu"], 2), round(second["cpu"], 2)],
        "mb": round((first["sent"] + second["sent"]) / 1e6, 1),
        "mb_each_pass": round((first["sent"] + second["sent"]) / 1e6 / passes, 2),
        "messages_each_pass": round((first["messages"] + second["messages"]) / passes, 1),
        "rounds": first["rounds"],
        "weights_off": round(float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted)), 5),
        "auc_off": round(auc(label, both @ found[1:]) - auc(label, both @ wanted[1:]), 6),
    }


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=24_000)
    parser.add_argument("--columns", type=int, nargs=2, default=(13, 10))
    parser.add_argument("--passes", type=int)
    parser.add_argument("--data")
    parser.add_argument("--table", default="default_credit")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = run(options)
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<20} {value}")


if __name__ == "__main__":
    main()
