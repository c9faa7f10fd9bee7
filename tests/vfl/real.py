"""Two real engines over an in-memory channel, with guards that allow exactly what a job's training opens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mpc.engine import Engine
from party.channel import Channel
from party.guard import Guard
from tests.support import Ledger, channels, run_pair
from vfl import spec
from vfl.newton import INVERTIBLE


class Pair:
    """Engines of bank (index 0) and telco, their ledgers, and `run` for two functions of an engine."""

    def __init__(self, request: Any = None, min_rows: int = 1, openings: list[str] | None = None) -> None:
        self.channels: tuple[Channel, Channel] = channels()
        self.ledgers = (Ledger(), Ledger())
        if request is None:
            names = (
                spec.SCALE,
                spec.CHECK_BITS,
                INVERTIBLE,
                spec.SCORES,
                spec.weights_name("bank"),
                spec.weights_name("telco"),
            )
            openings = [spec.Opening(name, party) for name in openings or names for party in ("bank", "telco")]
        else:
            openings = list(request.openings)
        guards = [
            Guard("test-run", channel.peer, openings, ledger, min_rows)
            for channel, ledger in zip(self.channels, self.ledgers, strict=True)
        ]
        self.engines = [Engine.start(c, g, i) for i, (c, g) in enumerate(zip(self.channels, guards, strict=True))]

    def run(self, ours: Callable[[Engine], Any], theirs: Callable[[Engine], Any], timeout: float = 250) -> Any:
        return run_pair(lambda: ours(self.engines[0]), lambda: theirs(self.engines[1]), *self.channels, timeout=timeout)


def valid(columns: np.ndarray, prefix: str = "x") -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(n, d) as named columns without missing values."""
    return {f"{prefix}{i}": (column, np.ones(len(column), dtype=bool)) for i, column in enumerate(columns.T)}
