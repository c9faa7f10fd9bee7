"""Logits with known parts, and `measure` on two real engines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from mpc import ring
from party.request import Opening
from tests.vfl.real import Pair
from vfl import metrics_cost, metrics_reference, metrics_shared
from vfl.grid import Shares
from vfl.metrics_shared import measure
from vfl.wanted import ENDS, Wanted

BOTH = ("bank", "telco")


def allowed(wanted: Wanted) -> Any:
    """A request that opens what is wanted to its receivers."""
    names = {Opening(name, party) for name in wanted.names for party in wanted.receivers(BOTH)}
    return SimpleNamespace(openings=names | {Opening(ENDS, party) for party in BOTH})


def scored(rows: int, seed: int = 1, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Both parts of logits that are right about the label, the label, and which fifth are test rows."""
    rng = np.random.default_rng(seed)
    ours, theirs = spread * rng.normal(size=rows) - 0.8, spread * rng.gumbel(size=rows) - 0.3
    label = (rng.random(rows) < 1 / (1 + np.exp(-ours - theirs))).astype(np.int64)
    test = np.zeros(rows, dtype=bool)
    test[rng.permutation(rows)[: rows // 5]] = True
    return ours, theirs, label, test


def shared(table: Any, bits: int = 40, period: int = 64) -> Any:
    """The same logits as shares that say nothing by themselves."""
    ours, theirs, label, test = table
    masks = np.random.default_rng(5).integers(0, 2**64 - 1, len(ours), dtype=np.uint64, endpoint=True)
    words = ring.encode(ours + theirs, bits)
    return Shares(words - masks, bits, period), Shares(masks, bits, period), label, test


def measured(table: Any, wanted: Wanted, min_rows: int = 1, features: int = 8, pair: Pair | None = None) -> Any:
    """What both sides found: the label holder first."""
    ours, theirs, label, test = table
    pair = pair or Pair(allowed(wanted), min_rows)
    return pair.run(
        lambda engine: measure(engine, wanted, ours, label, test, features),
        lambda engine: measure(engine, wanted, theirs, None, test, features),
    )


def coarse(monkeypatch: Any, bins: int) -> None:
    """A coarse grid where rounding does not matter: the same counts sooner."""
    for module in (metrics_shared, metrics_reference, metrics_cost):
        monkeypatch.setattr(module, "bins_for", lambda rows: bins)
    for module in (metrics_shared, metrics_cost):
        monkeypatch.setattr(module, "shared_bins_for", lambda rows: bins)
