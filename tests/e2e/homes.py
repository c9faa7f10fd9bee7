"""Two homes and their processes, made and driven through the installed command only."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TALLY = str(Path(sys.executable).parent / "tally")
SHARED = Path(__file__).resolve().parents[3] / "shared"


@dataclass
class Answer:
    """What one command printed, and its exit code."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TALLY_", "PREFECT_"))}
    return kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def tally(home: Path, *words: str, stdin: str | None = None, timeout: float = 240.0, **extra: str) -> Answer:
    """Run one command to its end."""
    done = subprocess.run(
        [TALLY, "--home", str(home), *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment() | extra,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def start(home: Path, *words: str, **extra: str) -> subprocess.Popen[str]:
    """Start one command."""
    return subprocess.Popen(
        [TALLY, "--home", str(home), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment() | extra,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Pair:
    """Two homes that trust each other; telco listens on `port`, bank dials it, or a proxy in front of it."""

    bank: Path
    telco: Path
    port: int

    @contextmanager
    def served(self, **extra: str) -> Iterator[subprocess.Popen[str]]:
        """`tally serve` of the telco while the block runs."""
        process = start(self.telco, "serve", **extra)
        try:
            line = process.stdout.readline()
            if not line.startswith("ready telco "):
                raise RuntimeError(f"serve said {line!r}: {process.stderr.read()}")
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            process.stdout.close()
            process.stderr.close()


def make_pair(folder: Path, bank: Sequence[str], telco: Sequence[str], dial_port: int | None = None) -> Pair:
    """Two homes by `tally init`, `card`, `trust`; `bank`, `telco`: (tables block, policy block for the peer)."""
    port = free_port()
    pair = Pair(folder / "bank", folder / "telco", port)
    expect(tally(pair.bank, "init", "bank"))
    expect(
        tally(
            pair.telco, "init", "telco", "--listen", f"127.0.0.1:{port}", "--address", f"127.0.0.1:{dial_port or port}"
        )
    )
    for home, other in ((pair.bank, pair.telco), (pair.telco, pair.bank)):
        card = folder / f"{other.name}.card"
        card.write_text(expect(tally(other, "card")).stdout)
        expect(tally(home, "trust", str(card)))
    for home, (tables, policy), peer in ((pair.bank, bank, "telco"), (pair.telco, telco, "bank")):
        write_tables(home, tables)
        (home / "policy.yaml").write_text(f"version: 1\npeers:\n  {peer}:\n" + indent(policy, 4))
    return pair


def write_tables(home: Path, tables: str) -> None:
    """Put a tables block into party.yaml in the place of the empty one."""
    lines = [line for line in (home / "party.yaml").read_text().splitlines() if not line.startswith("tables:")]
    (home / "party.yaml").write_text("\n".join(lines) + "\ntables:\n" + indent(tables, 2))


def indent(text: str, by: int) -> str:
    return "".join(" " * by + line + "\n" for line in text.strip("\n").splitlines())


def expect(answer: Answer, code: int = 0) -> Answer:
    """The answer, if it ended with this code."""
    if answer.code != code:
        raise AssertionError(f"exit {answer.code}, not {code}\n{answer.stdout}\n{answer.stderr}")
    return answer


def descendants(pid: int) -> list[int]:
    """Process ids below this one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def alive(pid: int) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Any, seconds: float, what: str) -> None:
    """Wait for a condition; fails with what was awaited."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)
