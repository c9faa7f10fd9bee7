"""What `tally check` measures and `tally plan` counts with: our kernels' speed, and the link to each peer.

Kept in state/calibration.json: figures of machines and lines, nothing of a table. A whole measurement takes some two
seconds. Where nothing was measured, plans use the figures of the machine the formulas were fitted on (`REFERENCE`).
"""

from __future__ import annotations

import datetime
import json
import math
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kernels import curve25519, ntt
from mpc.lattice import NARROW
from mpc.ot import Ot
from party.channel import memory_pair
from party.home import Home, replace_file
from pipelines.link import Link
from pipelines.results import kernels

__all__ = ["REFERENCE", "Calibration", "keep", "known", "measure_kernels", "measure_link"]

_FILE = "calibration.json"
_PROBE_SECONDS = 0.4  # of the link
_PROBES = 24
_LARGEST = 4 << 20
_POINTS = 2048
_TRANSFERS = 1 << 16
_MACHINE = ("transform", "multiplications", "transfers")
_LINK = ("round_trip", "bandwidth")


@dataclass(frozen=True)
class Calibration:
    """Seconds of one transform of 8192 values for one prime, curve multiplications and transfers a second; and of one
    peer's link the seconds of a round trip and bytes a second. `since`: when (UTC), None for the reference."""

    transform: float
    multiplications: float
    transfers: float
    round_trip: float
    bandwidth: float
    since: str | None = None
    link_since: str | None = None


# One machine of 2 cores with AVX512-IFMA, both parties on it, loopback: where the formulas' constants were fitted.
REFERENCE = Calibration(2.5e-5, 3.6e5, 4e6, 1e-4, 4e8)


def measure_kernels() -> dict[str, Any]:
    """The speed of our own kernels, each briefly."""
    ring = ntt.basis(NARROW.primes)
    values = np.zeros((len(ring), ntt.N), dtype=np.uint64)
    transform = _least(lambda: ring.forward(values)) / len(ring)
    scalar = curve25519.random_scalar()
    points = np.frombuffer(secrets.token_bytes(32 * _POINTS), dtype=np.uint8).reshape(_POINTS, 32) & np.uint8(127)
    multiplications = _POINTS / _least(lambda: curve25519.multiply(scalar, points))
    return {
        "since": _now(),
        "kernels": kernels(),
        "transform": transform,
        "multiplications": multiplications,
        "transfers": _transfers(),
    }


def measure_link(link: Link) -> dict[str, Any]:
    """Round trip and bandwidth to a peer, in under a second; the peer sees random bytes and sends them back."""
    small = secrets.token_bytes(1)
    round_trip = min(_timed(lambda: link.probe(small)) for _ in range(8))
    moved, spent, size = 0, 0.0, 64 << 10
    for _ in range(_PROBES):
        content = secrets.token_bytes(size)
        seconds = _timed(lambda content=content: link.probe(content))  # type: ignore[misc]  # bound now, not later
        if seconds > 2 * round_trip or size == _LARGEST:
            moved, spent = moved + 2 * size, spent + max(seconds - round_trip, 1e-6)
        size = min(2 * size, _LARGEST)
        if spent > _PROBE_SECONDS:
            break
    return {"since": _now(), "round_trip": round_trip, "bandwidth": moved / spent}


def keep(home: Home, found: dict[str, Any], peer: str | None = None) -> None:
    """Write figures of our kernels, or of the link to a peer, over earlier ones."""
    content = _read(home)
    if peer is None:
        content["machine"] = found
    else:
        content.setdefault("peers", {})[peer] = found
    replace_file(home.state / _FILE, json.dumps(content, indent=1).encode())


def known(home: Home, peer: str) -> Calibration:
    """What is known of our machine and of the link to this peer; the reference for the rest."""
    content = _read(home)
    found = REFERENCE
    machine, link = content.get("machine", {}), content.get("peers", {}).get(peer, {})
    if machine.get("kernels") == kernels():  # another kernel is active now: what was measured says nothing
        found = replace(found, since=machine["since"], **{name: machine[name] for name in _MACHINE})
    if link:
        found = replace(found, link_since=link["since"], **{name: link[name] for name in _LINK})
    return found


def _read(home: Home) -> dict[str, Any]:
    """The file, or nothing: figures that cannot be read are measured again, they are never an error."""
    try:
        found: dict[str, Any] = json.loads((home.state / _FILE).read_bytes())
        parts: list[tuple[Any, tuple[str, ...]]] = [(part, _LINK) for part in found.get("peers", {}).values()]
        parts += [(found["machine"], _MACHINE)] if "machine" in found else []
        whole = all(_figure(part[name]) for part, names in parts for name in names)
        whole = whole and all(isinstance(part["since"], str) for part, _ in parts)
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return {}
    return found if whole else {}


def _figure(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _transfers() -> float:
    """Oblivious transfers a second, both sides in this process: so about the half of what a side of its own does."""
    ours, theirs = memory_pair()

    def offer() -> None:
        ot = Ot(theirs, 1)
        ot.prepare()
        ot.offer(_TRANSFERS)
        theirs.close()

    thread = threading.Thread(target=offer, daemon=True)
    thread.start()
    ot = Ot(ours, 0)
    ot.prepare()
    bits = np.zeros(_TRANSFERS, dtype=np.uint8)
    began = time.perf_counter()
    ot.choose(bits)
    ours.close()  # returns when the other side has all
    seconds = time.perf_counter() - began
    thread.join()
    return 2 * _TRANSFERS / seconds


def _least(work: Callable[[], object], seconds: float = 0.15) -> float:
    """The least seconds of some tries, after one that warms up."""
    work()
    end, least = time.perf_counter() + seconds, math.inf
    while time.perf_counter() < end:
        least = min(least, _timed(work))
    return least


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
