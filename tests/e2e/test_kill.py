"""A run's process dies at any record on the wire: the other side says so, the same command finishes the same run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .homes import TALLY, Answer, Pair, descendants, expect, start, tally, wait_until
from .small import (
    Outcome,
    Stage,
    abort_codes,
    check_ledgers,
    check_nobody_left,
    killed_at,
    make_stage,
    outcome,
    run_words,
)

pytestmark = pytest.mark.alone
STAGES = ("connect", "align", "analyse", "train", "score")


@dataclass(frozen=True)
class Reference:
    """An undisturbed run: its outcome, and how many records had passed at the end of each stage."""

    stage: Stage
    outcome: Outcome
    ends: dict[str, int]

    def within(self, stage: str, share: float) -> int:
        """How many records of a stage this share is."""
        return max(1, self.record(stage, share) - self.record(stage, 0))

    def record(self, stage: str, share: float) -> int:
        """The record at this share of a stage."""
        before = ([0] + [self.ends[name] for name in STAGES])[STAGES.index(stage)]
        return max(1, round(before + share * (self.ends[stage] - before)))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    stage = make_stage(tmp_path_factory.mktemp("stage"))
    pair = stage.copy(tmp_path_factory.mktemp("undisturbed"))
    ends: dict[str, int] = {}
    with pair.served():
        process = start(pair.bank, *run_words(pair))
        for line in process.stderr:
            if line.strip() == "align":
                ends["connect"] = stage.proxy.records
            name, _, rest = line.partition(": ")
            if rest.startswith("done"):
                ends[name] = stage.proxy.records
        stdout = process.stdout.read()
        answer = Answer(process.wait(), stdout, "")
        found = outcome(pair, answer)
        check_nobody_left(pair.bank.parent, None if answer.code else serving_of(pair))
    assert set(ends) == set(STAGES)
    check_ledgers(pair)
    yield Reference(stage, found, ends)
    stage.proxy.close()


def serving_of(pair: Pair) -> int:
    """The process id of the telco's `tally serve`."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(pair.telco).encode() in words and b"serve" in words:
                return int(entry.name)
    raise AssertionError("nobody serves")


def slow(*values: object) -> object:
    """Left to `make test-slow`."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("victim", "stage", "share"),
    [
        ("run", "align", 0.6),
        ("worker", "train", 0.5),
        ("serve", "analyse", 0.5),
        slow("run", "connect", 0.8),
        slow("worker", "align", 0.3),
        slow("run", "analyse", 0.7),
        slow("run", "train", 0.15),
        slow("serve", "train", 0.85),
        slow("worker", "score", 0.1),
        slow("run", "score", 0.1),
    ],
)
def test_a_killed_process_is_noticed_and_the_same_command_finishes(
    reference: Reference, tmp_path: Path, victim: str, stage: str, share: float
) -> None:
    pair = reference.stage.copy(tmp_path)
    with pair.served() as serve:
        process = start(pair.bank, *run_words(pair))
        proxy, within = reference.stage.proxy, reference.within(stage, share)
        with killed_at(
            proxy, within if stage == "connect" else None, lambda: kill(victim, process, serve.pid)
        ) as fired:
            said = []
            for line in process.stderr:
                said.append(line)
                if line.strip() == stage:  # the number of records varies a little: count from the stage's beginning
                    proxy.at = proxy.records + within
            process.wait(60)
        stderr = "".join(said)
        assert fired, stderr
        assert stage_reached(pair) == (None if stage == "connect" else stage)
        if victim == "run":
            assert process.returncode == -signal.SIGKILL
            wait_until(lambda: not descendants(serve.pid), 30, "the worker noticed")
            assert worker_left(pair)
        else:
            assert process.returncode == 5, stderr
            assert "telco" in stderr and "try:" in stderr
        assert time.monotonic() - fired[0] < 30
        check_nobody_left(tmp_path, None if victim == "serve" else serve.pid)
        if victim != "serve":
            resumed(reference, pair)
            check_nobody_left(tmp_path, serve.pid)
    if victim == "serve":
        with pair.served() as serve:
            resumed(reference, pair)
            check_nobody_left(tmp_path, serve.pid)
    check_nobody_left(tmp_path)
    check_ledgers(pair)


def kill(victim: str, process: subprocess.Popen[str], serving: int) -> None:
    """kill -9: our `tally run`, the telco's workers, or its whole `tally serve`."""
    for pid in {"run": [process.pid], "serve": [serving], "worker": descendants(serving)}[victim]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def stage_reached(pair: Pair) -> str | None:
    """The stage in which the bank's only run stood; None before the first."""
    found = list((pair.bank / "state" / "runs").glob("*/status.json"))
    return json.loads(found[0].read_bytes()).get("stage") if found else None


def worker_left(pair: Pair) -> bool:
    """Whether the telco's ledger tells that its peer vanished."""
    return abort_codes(pair.telco)[-1] in ("peer_vanished", "network")


def resumed(reference: Reference, pair: Pair) -> Answer:
    """The same command again: done, with the alignment of an undisturbed run."""
    answer = tally(pair.bank, *run_words(pair))
    assert outcome(pair, answer) == reference.outcome
    return answer


@pytest.mark.parametrize("frozen", [slow("worker"), slow("run")])
def test_a_frozen_peer_is_given_up(reference: Reference, tmp_path: Path, frozen: str) -> None:
    pair = reference.stage.copy(tmp_path)
    with pair.served() as serve:
        process = start(pair.bank, *run_words(pair))
        pids: list[int] = []

        def freeze() -> None:
            pids.extend([process.pid] if frozen == "run" else descendants(serve.pid))
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)

        try:
            with killed_at(reference.stage.proxy, reference.record("train", 0.3), freeze) as fired:
                wait_until(lambda: bool(fired), 60, "the record")
                if frozen == "worker":
                    _, stderr = process.communicate(timeout=30)
                    assert process.returncode == 5 and "telco" in stderr
                else:
                    wait_until(lambda: not descendants(serve.pid), 30, "the worker gave up")
                    assert worker_left(pair)
        finally:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGCONT)
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            process.kill()
            process.communicate()
        check_nobody_left(tmp_path, serve.pid)
    check_ledgers(pair)


@pytest.mark.parametrize("number", [signal.SIGTERM, slow(signal.SIGINT)])
def test_a_stopped_run_tells_the_peer(reference: Reference, tmp_path: Path, number: signal.Signals) -> None:
    pair = reference.stage.copy(tmp_path)
    with pair.served() as serve:
        process = start(pair.bank, *run_words(pair))
        with killed_at(
            reference.stage.proxy, reference.record("train", 0.4), lambda: process.send_signal(number)
        ) as hit:
            wait_until(lambda: bool(hit), 60, "the record")
            wait_until(lambda: not descendants(serve.pid), 5, "the worker was told")
            process.communicate(timeout=10)
        assert process.returncode == 130 and time.monotonic() - hit[0] < 10
        check_nobody_left(tmp_path, serve.pid)
    assert abort_codes(pair.bank)[-1] == "interrupted" and abort_codes(pair.telco)
    check_ledgers(pair)


@pytest.mark.parametrize("number", [signal.SIGTERM, slow(signal.SIGINT)])
def test_a_stopped_service_tells_its_peers(reference: Reference, tmp_path: Path, number: signal.Signals) -> None:
    pair = reference.stage.copy(tmp_path)
    with pair.served() as serve:
        process = start(pair.bank, *run_words(pair))
        with killed_at(reference.stage.proxy, reference.record("train", 0.4), lambda: serve.send_signal(number)) as hit:
            wait_until(lambda: bool(hit), 60, "the record")
            _, stderr = process.communicate(timeout=8)
            serve.wait(8)
        assert serve.returncode == 0
        assert process.returncode != 0 and "telco" in stderr, stderr
    check_nobody_left(tmp_path)
    assert abort_codes(pair.bank) and abort_codes(pair.telco)[-1] == "interrupted"
    check_ledgers(pair)


@pytest.mark.parametrize("room", [12_000, slow(50_000)])
def test_a_full_disk_ends_the_run_and_it_resumes(reference: Reference, tmp_path: Path, room: int) -> None:
    pair = reference.stage.copy(tmp_path)
    capped = ["import os, resource, sys", f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))"]
    script = "; ".join([*capped, "import signal", "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)"])
    with pair.served() as serve:
        first = subprocess.run(
            [os.path.join(os.path.dirname(TALLY), "python"), "-c", f"{script}; os.execv(sys.argv[1], sys.argv[1:])"]
            + [TALLY, "--home", str(pair.bank), *run_words(pair)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert first.returncode == 1, (first.stdout, first.stderr)
        assert "disk" in first.stderr or "too large" in first.stderr, first.stderr
        assert not (pair.bank / "scores.parquet").exists()
        for kept in (pair.bank / "state").rglob("*.json"):
            json.loads(kept.read_bytes())
        expect(tally(pair.bank, "runs"))
        resumed(reference, pair)
        check_nobody_left(tmp_path, serve.pid)
    check_ledgers(pair)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["run", "worker"])
def test_a_killed_run_of_a_prefect_flow_finishes(reference: Reference, tmp_path: Path, victim: str) -> None:
    pair = reference.stage.copy(tmp_path)
    words = [word for word in run_words(pair) if word != "--direct"]
    with pair.served() as serve:
        process = start(pair.bank, *words)
        with killed_at(
            reference.stage.proxy, reference.record("train", 0.5), lambda: kill(victim, process, serve.pid)
        ) as fired:
            _, stderr = process.communicate(timeout=150)
        assert fired, stderr
        if victim == "run":
            wait_until(lambda: not descendants(serve.pid), 30, "the worker noticed")
            assert worker_left(pair)
        else:
            assert process.returncode == 5 and "telco" in stderr, stderr
            assert abort_codes(pair.bank)[-1] in ("peer_vanished", "network")
        check_nobody_left(tmp_path, serve.pid)
        assert outcome(pair, tally(pair.bank, *words)) == reference.outcome
        check_nobody_left(tmp_path, serve.pid)
    check_ledgers(pair)
