"""Both sides' series over runs, for their tests; tables of numbers, and what another day makes of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from party.channel import Channel
from party.guard import Guard
from party.message import Message
from psi import Alignment, Identifiers, Joined, KeyColumn, Limits, Means, SeriesFolder, Terms, align, from_scan, request
from tests.psi.support import KEYS, SALT, Tampered, both_ends
from tests.support import Ledger, channels

NAMES = ("bank", "telco")


class Pair:
    """Both sides' series, and runs over them."""

    def __init__(self, home: Path, limits: Limits = Limits(100, 100), minimum: int = 0) -> None:
        self.home, self.limits, self.minimum = home, limits, minimum
        self.sent: list[list[Message]] = [[], []]
        self.ledgers = [Ledger(), Ledger()]
        self.bytes = [0, 0]
        self.rounds = [0, 0]
        self.most = 1 << 20

    def folder(self, place: int) -> SeriesFolder:
        return SeriesFolder(self.home / NAMES[place] / "series", self.home / f"{NAMES[place]}.key", self.limits)

    def run(
        self,
        run: str,
        items: tuple[Identifiers, Identifiers],
        change: Callable[[int, Message], Message] = lambda _, message: message,
        promote: tuple[bool, bool] = (True, True),
        multiple: bool = False,
    ) -> list[Any]:
        """One run of both; what each returned or raised."""
        pair = channels()
        self.sent, self.ledgers = [[], []], [Ledger(), Ledger()]

        def side(place: int) -> Callable[[], Alignment]:
            def tamper(message: Message) -> Message:
                self.sent[place].append(message)
                return change(place, message)

            end: Any = Tampered(pair[place], tamper)
            openings = request(Joined(KEYS, incremental=True, multiple=True)).openings
            guard = Guard(run, pair[place].peer, openings, self.ledgers[place])
            terms = Terms(run, SALT[:-1] + run.encode()[-1:], their_min_size=self.minimum, our_min_size=self.minimum)
            terms = replace(terms, multiple=multiple, most_ours=self.most, most_theirs=self.most)
            channel: Channel = end
            return lambda: align([items[place]], channel, guard, terms, Means(), self.folder(place))

        outcomes = list(both_ends(side(0), side(1), *pair))
        self.bytes = [channel.counters.sent for channel in pair]
        self.rounds = [channel.counters.rounds for channel in pair]
        if all(isinstance(outcome, Alignment) for outcome in outcomes):
            for place in (0, 1):
                if promote[place]:
                    self.folder(place).promote(run)
        return outcomes


def source(values: list[int], duplicates: str = "error") -> Identifiers:
    """Identifiers of these numbers, in this order, repeats allowed."""
    batch = pa.record_batch({"key": pa.array([f"id{value}" for value in values], pa.string())})
    return from_scan(lambda: [batch], [KeyColumn("key")], duplicates=duplicates)


def check(outcomes: list[Any], a: list[int], b: list[int]) -> None:
    for outcome in outcomes:
        if not isinstance(outcome, Alignment):
            raise outcome
    bank, telco = outcomes
    assert [a[row] for row in bank.rows] == [b[row] for row in telco.rows]
    assert sorted(a[row] for row in bank.rows) == sorted(set(a) & set(b))
    assert bank.count == telco.count == len(set(a) & set(b)) and bank.digest == telco.digest
    assert (bank.ours, bank.theirs) == (telco.theirs, telco.ours) == (len(a), len(b))


def changed(values: list[int], rng: random.Random, gone: int = 3, new: int = 4) -> list[int]:
    """Another day's table: some rows have gone, some are new, all in another order."""
    left = rng.sample(values, max(len(values) - gone, 0))
    fresh = [value for value in rng.sample(range(400), 40) if value not in values][:new]
    both = left + fresh
    rng.shuffle(both)
    return both
