"""Other implementations of ECDH-PSI on the same keys, for benchmarks/psi.py; only where they are installed.

OpenMined's `openmined_psi` (both roles in one process, as its interface has it: its seconds are both parties' CPU) and
SecretFlow's `spu` (two processes, one core each, CSV in and out). Neither is a dependency.
"""

from __future__ import annotations

import csv
import importlib.util
import multiprocessing
import os
import socket
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

__all__ = ["installed", "openmined", "secretflow"]


def installed() -> list[str]:
    """Which of them can be imported here."""
    there = {"openmined": "private_set_intersection", "secretflow": "spu"}
    return [name for name, module in there.items() if importlib.util.find_spec(module) is not None]


def keys_of(path: Path) -> list[str]:
    """The key column of a CSV table."""
    with path.open() as file:
        return [row[0] for row in csv.reader(file)][1:]


def openmined(paths: list[Path]) -> dict[str, Any]:
    """Setup, request, response, intersection; the client alone learns."""
    import private_set_intersection.python as other

    lists = [keys_of(path) for path in paths]
    start, cpu = time.perf_counter(), time.process_time()
    client, server = other.client.CreateWithNewKey(True), other.server.CreateWithNewKey(True)
    setup = server.CreateSetupMessage(1e-12, len(lists[0]), lists[1], other.DataStructure.RAW)
    request = client.CreateRequest(lists[0])
    response = server.ProcessRequest(request)
    found = client.GetIntersection(setup, response)
    seconds, spent = time.perf_counter() - start, time.process_time() - cpu
    moved = sum(len(message.SerializeToString()) for message in (setup, request, response))
    total = sum(map(len, lists))
    return {
        "name": "openmined_psi",
        "matches": len(found),
        "wall_s": round(seconds, 2),
        "cpu_us_an_identifier": round(spent / total * 1e6, 2),
        "bytes_an_identifier": round(moved / total, 2),
    }


def _party(place: int, ports: list[int], path: str, pipe: Connection) -> None:
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[place % len(cores)]})
    import resource

    from spu import psi
    from spu.libspu import link

    description = link.Desc()
    for number, port in enumerate(ports):
        description.add_party(f"party{number}", f"127.0.0.1:{port}")
    context = link.create_brpc(description, place)
    config = psi.PsiExecuteConfig(
        protocol_conf=psi.PsiProtocolConfig(
            protocol=psi.PsiProtocol.PROTOCOL_ECDH,
            broadcast_result=True,
            ecdh_params=psi.EcdhParams(curve=psi.EllipticCurveType.CURVE_25519),
        ),
        input_params=psi.InputParams(path=path, selected_keys=["key"], keys_unique=True),
        output_params=psi.OutputParams(path=path + ".out"),
    )
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    report = psi.psi_execute(config, context)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    pipe.send({"matches": report.intersection_count, "wall": seconds, "cpu": spent, "mb": after.ru_maxrss / 1000})
    context.stop_link()


def secretflow(paths: list[Path]) -> dict[str, Any]:
    """ECDH on Curve25519, both learn."""
    context = multiprocessing.get_context("spawn")
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in paths]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    pipes, processes = [], []
    for place, path in enumerate(paths):
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=_party, args=(place, ports, str(path), theirs)))
        processes[-1].start()
        pipes.append(ours)
    found = [pipe.recv() for pipe in pipes]
    for process in processes:
        process.join()
    total = sum(len(keys_of(path)) for path in paths)
    return {
        "name": "spu ECDH",
        "matches": found[0]["matches"],
        "wall_s": round(max(side["wall"] for side in found), 2),
        "cpu_us_an_identifier": round(sum(side["cpu"] for side in found) / total * 1e6, 2),
        "bytes_an_identifier": None,
        "memory_mb": round(max(side["mb"] for side in found)),
    }
