"""A run in progress on one side: what its stages share, how they are timed, kept and skipped when resumed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

from mpc.engine import Engine
from party.catalogue import Catalogue
from party.channel import Channel
from party.errors import PeerError
from party.guard import Guard
from party.home import Home
from party.ledger import Ledger
from party.message import Bytes, Message
from pipelines.job import Job
from pipelines.progress import Progress
from pipelines.runs import RunState
from psi import Alignment

__all__ = ["Live", "receipt_of"]


@dataclass(frozen=True, repr=False)
class Kept(Message, kind=0x0704):
    """Both ways, after a unit: we have its result on disk."""


@dataclass(frozen=True, repr=False)
class Finished(Message, kind=0x0705):
    """Both ways, at the end: a digest of the units done, equal on both sides."""

    digest: Annotated[bytes, Bytes(32)]


@dataclass
class Live:
    """One side of an agreed run. `index` is our place in the job's `align`: 0 or 1."""

    home: Home
    channel: Channel
    job: Job
    state: RunState
    guard: Guard
    ledger: Ledger
    engine: Engine
    catalogues: tuple[Catalogue, Catalogue]
    salt: bytes
    progress: Progress
    realign: bool = False
    alignment: Alignment | None = None
    reused: bool = False
    prepared: bool = False
    done: frozenset[str] = frozenset()
    asked: tuple[str, ...] | None = None  # keys of the rows we ask scores of
    shared: dict[str, Any] = field(default_factory=dict)  # what the runs of one connection share
    stages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def us(self) -> str:
        """Our name."""
        return self.channel.us

    @property
    def peer(self) -> str:
        """The peer's name, by its certificate."""
        return self.channel.peer

    @property
    def index(self) -> int:
        """Our place in the job."""
        return self.job.parties.index(self.us)

    @property
    def resumed(self) -> bool:
        """Whether this run goes on after its alignment was made in an earlier try."""
        return "align" in self.done

    @property
    def ours(self) -> bool:
        """Whether we run the job."""
        return self.job.initiator == self.us

    @property
    def names(self) -> list[str]:
        """The stages of this job, in order."""
        wanted = {"align": True, "analyse": self.job.analyse, "train": self.job.train, "score": self.job.score}
        return [name for name, there in wanted.items() if there]

    def kept(self, unit: str) -> None:
        """Our result of this unit is on disk; wait until the peer's is, too."""
        known = self.state.get_json("units") or {}
        self.state.put_json("units", known | {unit: time.time()})
        self.channel.swap(Kept())

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Run one stage: timed, counted, its transcript compared at the end."""
        self.state.update(stage=name)
        self.progress.stage(name)
        began = time.perf_counter()
        before = self.channel.counters
        sent, received, rounds = before.sent, before.received, before.rounds
        with self.channel.stage(name):
            yield
        after = self.channel.counters
        entry: dict[str, Any] = {
            "stage": name,
            "seconds": time.perf_counter() - began,
            "sent": after.sent - sent,
            "received": after.received - received,
            "rounds": after.rounds - rounds,
        }
        self.stages.append(entry)
        self.progress.end(f"{(entry['sent'] + entry['received']) / 1e6:.1f} MB")

    def receipt(self, url: str) -> dict[str, Any] | None:
        """What an earlier run of this job wrote there: only that may be replaced."""
        return receipt_of(self.home, self.job.name, url)

    def keep_receipt(self, url: str, receipt: dict[str, Any]) -> None:
        """Remember what this job wrote there."""
        state = RunState(self.home.state / "receipts", _place(self.job.name, url))
        state.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        state.put_json("receipt", receipt)

    def agree_end(self) -> None:
        """Both sides have done the same units."""
        units = sorted(self.state.get_json("units") or {})
        digest = hashlib.sha256(b"tallystick/v1/pipelines/finished/" + json.dumps(units).encode()).digest()
        if self.channel.swap(Finished(digest)).digest != digest:
            raise PeerError("the two sides did different things", party=self.peer)


def receipt_of(home: Home, job: str, url: str) -> dict[str, Any] | None:
    """What an earlier run of this job wrote to this place."""
    return RunState(home.state / "receipts", _place(job, url)).get_json("receipt")


def _place(job: str, url: str) -> str:
    return hashlib.sha256(f"{job}\n{url}".encode()).hexdigest()[:32]
