"""What the benchmarks of two parties share: two processes, one core each, that meet over mutual TLS on loopback."""

from __future__ import annotations

import multiprocessing
import os
import platform
import socket
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.slow_link import Network, between
from party import identity, tls
from party.card import Pin
from party.channel import Channel
from pipelines.lean import refuse_pandas

NAMES = ("bank", "telco")


class Record:
    """A ledger that keeps nothing."""

    def append(self, event: str, /, **fields: str | int) -> None:
        """Drop it."""


def machine() -> str:
    """The machine, as every table names it."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        model = next((line.split(":")[1].strip() for line in cpuinfo.open() if line.startswith("model name")), model)
    return f"{model}, {platform.machine()}, {os.cpu_count()} cores"


def memory(field: str) -> int:
    """VmRSS or VmHWM of this process in bytes; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    return next((int(line.split()[1]) << 10 for line in status.open() if line.startswith(f"{field}:")), 0)


def meet(place: int, pipe: Connection, keys: Path) -> Channel:
    """One party's channel to the other: keys, fingerprints over the pipe, TLS."""
    ours = identity.create(keys / NAMES[place], NAMES[place])
    pipe.send((ours.fingerprint, ours.certificate_pem))
    pin = Pin(NAMES[1 - place], *pipe.recv())
    if place == 1:
        return tls.dial(f"127.0.0.1:{pipe.recv()}", ours, pin)
    listener = socket.create_server(("127.0.0.1", 0))
    pipe.send(listener.getsockname()[1])
    return tls.accept(listener.accept()[0], ours, [pin])


def _start(side: Callable[[int, Channel, Any], dict[str, Any]], place: int, pipe: Connection, task: Any) -> None:
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[place % len(cores)]})
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    refuse_pandas()  # as in our own processes
    with tempfile.TemporaryDirectory() as keys:
        channel = meet(place, pipe, Path(keys))
        found = side(place, channel, task)
        channel.close()
        pipe.send(found)


def run_both(
    side: Callable[[int, Channel, Any], dict[str, Any]], task: Any, network: Network | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`side(place, channel, task)` in a process of its own for each party; what both returned. network: slows it."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for place in (0, 1):
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=_start, args=(side, place, theirs, task)))
        processes[-1].start()
        pipes.append(ours)
    cards = [pipe.recv() for pipe in pipes]
    pipes[0].send(cards[1])
    pipes[1].send(cards[0])
    port = pipes[0].recv()
    pipes[1].send(port if network is None else between(network, port))
    first, second = (pipe.recv() for pipe in pipes)
    for process in processes:
        process.join()
    return first, second
