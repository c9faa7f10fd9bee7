"""An alignment of several chunks through the installed command, watched on disk, killed where it stands."""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from party.ledger import Ledger

from .homes import Answer, Pair, descendants, expect, make_pair, tally
from .proxy import Proxy

ROWS = {"bank": 140_000, "telco": 150_000}  # three chunks of 65,536 on each side; the bank receives the tags
SHARED = 70_000
TABLES = {"bank": "customers", "telco": "subscribers"}
JOB = """\
version: 1
name: shared
peer: telco
align: {{bank: customers, telco: subscribers, learns: both{more}}}
"""
SEALED = ("secret.sealed", "scalar.sealed")  # what holds a scalar


@dataclass
class Field:
    """Homes to copy, and the proxy through which the bank dials."""

    folder: Path
    proxy: Proxy
    port: int

    def copy(self, to: Path) -> Pair:
        for name in TABLES:
            shutil.copytree(self.folder / name, to / name)
        self.proxy.bytes = 0
        return Pair(to / "bank", to / "telco", self.port)


def keys(name: str) -> np.ndarray:
    """Whole numbers, SHARED of them on both sides, in random order."""
    first = 0 if name == "bank" else ROWS["bank"] - SHARED
    return np.random.default_rng(first).permutation(np.arange(first, first + ROWS[name]))


def texts(numbers: np.ndarray, word: str) -> pa.Array:
    return pc.binary_join_element_wise(word, pa.array(numbers).cast(pa.string()), "-")


def make_field(folder: Path, job: str = "", key: str = "[id]", policy: str = "") -> Field:
    """Two homes with a table each; `job`: more of `align`; `policy`: more of what the peer may do."""
    proxy = Proxy(0)
    halves = {}
    for name, table in TABLES.items():
        declared = f"{table}:\n  url: parquet:data.parquet\n  key: {key}\n"
        grants = f"  {table}.id: [join]\n  {table}.mail: [join]\n"
        halves[name] = declared, f"alignment: rows\nmin_size: 100\napprove: auto\n{policy}columns:\n{grants}"
    pair = make_pair(folder, halves["bank"], halves["telco"], proxy.listening)
    proxy.port = pair.port
    for name in TABLES:
        fill(folder / name, keys(name), keys(name))
    (pair.bank / "job.yaml").write_text(JOB.format(more=job))
    return Field(folder, proxy, pair.port)


def fill(home: Path, numbers: np.ndarray, mails: np.ndarray) -> None:
    pq.write_table(pa.table({"id": texts(numbers, "customer"), "mail": texts(mails, "mail")}), home / "data.parquet")


def words(pair: Pair) -> list[str]:
    return ["run", str(pair.bank / "job.yaml"), "--direct", "--json"]


# --- what lies on disk ------------------------------------------------------------------------------------------------


def found(home: Path, pattern: str) -> list[Path]:
    """Files of the home's state: of its runs' journals, or of its series."""
    return sorted(path for path in (home / "state").glob(pattern) if path.is_file())


def size(home: Path, pattern: str) -> int:
    """Bytes in the files of this pattern; -1 when there is none."""
    try:
        sizes = [path.stat().st_size for path in found(home, pattern)]
    except OSError:
        return -1
    return sum(sizes) if sizes else -1


JOURNALS = ("runs/*/psi/*.journal", "series/*/work-*/*.journal")


def entries(content: bytes) -> bytes:
    """The whole entries at the beginning of a journal."""
    at = 0
    while at + 4 <= len(content):
        (count,) = struct.unpack_from("<I", content, at)
        if not 0 < count <= 64 or at + 4 + 4 * count > len(content):
            break
        after = at + 4 + 4 * count + sum(struct.unpack_from(f"<{count}I", content, at + 4))
        if after > len(content):
            break
        at = after
    return content[:at]


# The passes over many keys. The others are made of these and may be made again: they cost no multiplication.
PASSES = ("masking.journal", "tagged.journal", "our-tags.journal")


@dataclass
class Kept:
    """What both homes held when a process was killed, and what became of it in the next try."""

    homes: tuple[Path, ...]
    chunks: dict[Path, bytes] = field(default_factory=dict)
    secrets: dict[Path, set[bytes]] = field(default_factory=dict)
    seen_again: set[Path] = field(default_factory=set)
    changed: set[Path] = field(default_factory=set)

    def note(self) -> None:
        """After the kill."""
        for home in self.homes:
            for pattern in JOURNALS:
                for path in found(home, pattern):
                    if path.name.endswith(PASSES):
                        self.chunks[path] = entries(path.read_bytes())
        self.look()

    def look(self) -> None:
        """Now and then while the next try goes on: chunks that were there are not made again, nor is a scalar."""
        for home in self.homes:
            for path in [*found(home, "runs/*/psi/*.sealed"), *found(home, "series/*/*/*.sealed")]:
                if path.name.endswith(SEALED):
                    content = read(path)
                    if content and any(content):  # it is overwritten before it is removed
                        self.secrets.setdefault(path, set()).add(content)
        for path, before in self.chunks.items():
            if before and path not in self.seen_again:
                now = read(path, len(before))
                if len(now) == len(before):
                    self.seen_again.add(path)
                    if now != before:
                        self.changed.add(path)

    def check(self) -> None:
        assert not self.changed, f"made again: {self.changed}"
        assert all(len(contents) == 1 for contents in self.secrets.values()), "a second scalar in one run"


def read(path: Path, most: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError:
        return b""


@contextmanager
def meanwhile(look: Callable[[], bool | None], every: float) -> Iterator[threading.Event]:
    """Call `look` again and again in a thread until it returns True, or the block ends. The event: it returned True."""
    over, hit = threading.Event(), threading.Event()

    def loop() -> None:
        while not over.wait(every):
            if look():
                hit.set()
                return

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield hit
    finally:
        over.set()
        thread.join()


def kill(victim: str, process: subprocess.Popen[Any], serving: int) -> None:
    """kill -9: our `tally run`, or the telco's worker."""
    for pid in [process.pid] if victim == "run" else descendants(serving):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def again(pair: Pair, kept: Kept) -> Answer:
    """The same command, watched."""
    with meanwhile(kept.look, 0.02):
        return tally(pair.bank, *words(pair))


def check_alignment(pair: Pair, answer: Answer) -> None:
    """Both halves together are the join of the two tables."""
    run = expect(answer).json
    sides = []
    for home in (pair.bank, pair.telco):
        with np.load(home / "state" / "runs" / run["run"] / "alignment.npz") as kept:
            rows = kept["rows"]
        column = pq.read_table(home / "data.parquet").column("id")
        sides.append((column.take(pa.array(rows)).to_pylist(), set(column.to_pylist())))
    (bank, all_bank), (telco, all_telco) = sides
    assert run["rows"] == len(bank) == len(set(bank)) and bank == telco
    assert set(bank) == all_bank & all_telco
    for home in (pair.bank, pair.telco):
        ledger = Ledger.open(home / "state" / "ledger.db")
        assert ledger.verify() > 3
        ledger.close()
        left = [path for pattern in ("runs/*/psi/*", "series/*/work-*/*") for path in found(home, pattern)]
        assert not left, left
