"""An alignment of several chunks is killed anywhere on either side, or its disk is full: the same command finishes it.

40 places: each process is killed when a journal or record of its own has reached a size, or after so many bytes on
the wire. Then both homes together hold the join of the tables, no chunk that was on disk was made again, each run has
one scalar, and nothing is left over.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.runs import list_runs
from pipelines.verbs_run import runs_text

from .aligning import (
    ROWS,
    Field,
    Kept,
    again,
    check_alignment,
    fill,
    keys,
    kill,
    make_field,
    meanwhile,
    size,
    words,
)
from .homes import Pair, descendants, expect, start, tally, wait_until
from .small import check_nobody_left

pytestmark = pytest.mark.alone
PSI = "runs/*/psi/"
BEFORE_BITMAP, BEHIND_BITMAP = -25_000, -6_000  # bytes: a bitmap of 150,000 places has 18,750


@dataclass(frozen=True)
class Reference:
    """An undisturbed run: the largest size of each file of a side, the bytes that passed, and what `tally runs` of
    each side said while it went on."""

    field: Field
    sizes: dict[tuple[str, str], int]
    bytes: int
    shown: dict[str, set[str]]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    field = make_field(tmp_path_factory.mktemp("field"))
    pair = field.copy(tmp_path_factory.mktemp("undisturbed"))
    sizes: dict[tuple[str, str], int] = {}
    shown: dict[str, set[str]] = {"bank": set(), "telco": set()}

    def look() -> None:
        for name in ("bank", "telco"):
            for part in ("masking", "points", "tagged", "our-tags"):
                pattern = f"{PSI}{part}.journal"
                sizes[name, pattern] = max(sizes.get((name, pattern), 0), size(getattr(pair, name), pattern))
            shown[name].add(runs_text(list_runs(getattr(pair, name) / "state" / "runs")))

    with pair.served(), meanwhile(look, 0.005):
        check_alignment(pair, tally(pair.bank, *words(pair)))
    yield Reference(field, sizes, field.proxy.bytes, shown)
    field.proxy.close()


@dataclass(frozen=True)
class Point:
    """Where a process is killed: a file of its home has this share of its size (0: it is there), or the wire has
    carried this share of its bytes, or (negative) all but so many."""

    step: str
    pattern: str | None
    share: float

    def reached(self, reference: Reference, pair: Pair, name: str) -> bool:
        if self.pattern is None:
            due = self.share * reference.bytes if self.share > 0 else reference.bytes + self.share
            return reference.field.proxy.bytes >= due
        least = self.share * reference.sizes.get((name, self.pattern), 0)
        return size(getattr(pair, name), self.pattern) >= least


def points(side: str) -> list[Point]:
    """Twenty places of one side, in the order of a run."""
    found = [Point("first pass", f"{PSI}masking.journal", share) for share in (0.01, 0.35, 0.7, 1.0)]
    found += [Point("sort", f"{PSI}points.journal", share) for share in (0.01, 0.5, 0.9)]
    found += [Point("list", f"{PSI}list.sealed", 0)]
    found += [Point("exchange", f"{PSI}tagged.journal", share) for share in (0.01, 0.35, 0.7, 1.0)]
    if side == "run":  # the tag receiver
        found += [Point("tags", f"{PSI}our-tags.journal", share) for share in (0.01, 0.35, 1.0)]
        found += [Point("bitmap", f"{PSI}order.journal", 0)]
    else:
        found += [Point("tags", None, share) for share in (0.88, 0.92, 0.97)]
        found += [Point("bitmap", None, BEFORE_BITMAP)]
    found += [Point("bitmap", None, BEHIND_BITMAP)]
    found += [Point("alignment", f"runs/*/{name}", 0) for name in ("alignment.npz", "units.json", "psi/wiped")]
    return found


DEFAULT = {("run", 1), ("worker", 10), ("run", 13), ("worker", 17)}
CASES = [
    pytest.param(
        side,
        number,
        id=f"{side}-{number}-{point.step}",
        marks=[] if (side, number) in DEFAULT else [pytest.mark.slow],
    )
    for side in ("run", "worker")
    for number, point in enumerate(points(side))
]


def test_there_are_forty_places() -> None:
    assert len(CASES) == 40


def test_either_side_shows_how_far_how_fast_and_how_long_still(reference: Reference) -> None:
    for name, lines in reference.shown.items():
        wanted = r"running at align: \d+ %, [\dmin ]+ s left \(.*\d a second\)"
        told = [line for line in lines if re.search(wanted, line)]
        assert told, (name, lines)


@pytest.mark.parametrize(("victim", "number"), CASES)
def test_killed_anywhere_the_same_command_finishes(
    reference: Reference, tmp_path: Path, victim: str, number: int
) -> None:
    point, name = points(victim)[number], "bank" if victim == "run" else "telco"
    pair = reference.field.copy(tmp_path)
    killed_and_again(pair, victim, lambda: point.reached(reference, pair, name))
    check_nobody_left(tmp_path)


def killed_and_again(pair: Pair, victim: str, reached: Callable[[], bool]) -> None:
    """Kill one process when that is so, and run again."""
    folder = pair.bank.parent
    kept = Kept((pair.bank, pair.telco))
    with pair.served() as serve:
        process = start(pair.bank, *words(pair))

        def look() -> bool:
            if reached():
                kill(victim, process, serve.pid)
                return True
            return False

        with meanwhile(look, 0.001) as hit:
            stdout, stderr = process.communicate(timeout=120)
        assert hit.is_set(), (stdout, stderr)
        if victim == "run":
            assert process.returncode == -signal.SIGKILL
        else:
            assert process.returncode == 5 and "telco" in stderr and "try:" in stderr, stderr
        wait_until(lambda: not descendants(serve.pid), 30, "the worker ended")
        kept.note()
        check_alignment(pair, again(pair, kept))
        kept.check()
        check_nobody_left(folder, serve.pid)


@pytest.mark.slow
def test_killed_with_several_keys(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    field = make_field(tmp_path_factory.mktemp("field"), key="[[mail], [id]]")
    for name in ("bank", "telco"):  # half of the shared rows have another mail at the telco: their id matches
        numbers = keys(name)
        other = np.where((numbers % 2 == 0) & (name == "telco"), numbers + 10**7, numbers)
        fill(field.folder / name, numbers, other)
    for victim, name, key in (("worker", "telco", "key1"), ("run", "bank", "key2")):
        pair = field.copy(tmp_path / victim)
        home, pattern = tmp_path / victim / name, f"{PSI}{key}.tagged.journal"
        killed_and_again(pair, victim, lambda home=home, pattern=pattern: size(home, pattern) > 0)
    field.proxy.close()


@pytest.mark.slow
def test_killed_in_a_series(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    policy = "series: {runs: 30, days: 30}\n"
    field = make_field(tmp_path_factory.mktemp("field"), job=", incremental: true", policy=policy)
    pair = field.copy(tmp_path)
    work = "series/*/work-*/"
    killed_and_again(pair, "worker", lambda: size(pair.telco, f"{work}tagged.journal") > 1_500_000)
    whole = field.proxy.bytes
    for night, (victim, home, pattern) in enumerate(
        (
            ("run", pair.bank, f"{work}list.sealed"),
            ("worker", pair.telco, f"{work}tagged.journal"),
            ("run", pair.bank, "series/*/*.new/known.sealed"),
            ("worker", pair.telco, "series/*/*.new/known.sealed"),
        ),
        start=1,
    ):
        for name in ("bank", "telco"):  # 2,000 new keys on both sides, 1,000 have gone
            fresh = np.arange(10**6 * night, 10**6 * night + 2000)
            numbers = np.concatenate([keys(name)[1000 * night :], fresh])
            fill(getattr(pair, name), numbers, numbers)
        field.proxy.bytes = 0
        killed_and_again(pair, victim, lambda home=home, pattern=pattern: size(home, pattern) > 0)
        assert field.proxy.bytes < 0.3 * whole  # the series went on
    field.proxy.close()


# --- a full disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[Path, int], None]]:
    """Put a home's state on a file system of so many bytes, or give it more."""
    mounted: list[Path] = []

    def mount(home: Path, room: int) -> None:
        state = home / "state"
        option = f"size={room},mode=700"
        if state in mounted:
            subprocess.run(["mount", "-o", f"remount,{option}", str(state)], check=True)
            return
        state.rename(home / "moved")
        state.mkdir(mode=0o700)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(state)], capture_output=True)
        if done.returncode:
            pytest.skip(f"no file system of a given size can be mounted here: {done.stderr.decode().strip()}")
        mounted.append(state)
        shutil.copytree(home / "moved", state, dirs_exist_ok=True)

    try:
        yield mount
    finally:
        for state in mounted:
            subprocess.run(["umount", "-l", str(state)], check=False)


@pytest.mark.parametrize(
    "room", [1.5, pytest.param(0.1, marks=pytest.mark.slow), pytest.param(2.5, marks=pytest.mark.slow)]
)
def test_a_disk_that_is_full_half_way(reference: Reference, tmp_path: Path, small_disk: Any, room: float) -> None:
    pair = reference.field.copy(tmp_path)
    chunk = reference.sizes["bank", f"{PSI}masking.journal"] * 65_536 // ROWS["bank"]
    small_disk(pair.bank, int(room * chunk) + 600_000)
    with pair.served() as serve:
        first = tally(pair.bank, *words(pair))
        assert first.code == 1, (first.stdout, first.stderr)
        check_full(first.json["error"], "bank")
        (run,) = expect(tally(pair.bank, "runs", "--json")).json
        assert run["status"] == "failed"
        finished(pair, serve.pid, lambda: small_disk(pair.bank, 200_000_000), whole=room > 1)


@pytest.mark.slow
def test_the_other_sides_disk_is_full_half_way(reference: Reference, tmp_path: Path, small_disk: Any) -> None:
    pair = reference.field.copy(tmp_path)
    chunk = reference.sizes["telco", f"{PSI}masking.journal"] * 65_536 // ROWS["telco"]
    small_disk(pair.telco, int(2.5 * chunk) + 600_000)
    with pair.served() as serve:
        first = tally(pair.bank, *words(pair))
        assert first.code == 5 and "telco stopped the run" in first.stderr, first.stderr
        (run,) = expect(tally(pair.telco, "runs", "--json")).json
        check_full(expect(tally(pair.telco, "show", run["run"], "--json")).json["status"]["error"], "telco")
        finished(pair, serve.pid, lambda: small_disk(pair.telco, 200_000_000))


def check_full(error: dict[str, str], party: str) -> None:
    """Who, what, where, and what to do."""
    assert error["party"] == party and error["stage"] == "align"
    assert "journal" in error["message"] and "No space left" in error["message"]
    assert "make room" in error["hint"] and "same command" in error["hint"]


def finished(pair: Pair, serving: int, make_room: Callable[[], None], whole: bool = True) -> None:
    """With room again the same command goes on from the chunks that were whole."""
    wait_until(lambda: not descendants(serving), 30, "the worker ended")
    make_room()
    kept = Kept((pair.bank, pair.telco))
    kept.note()
    assert any(kept.chunks.values()) == whole
    check_alignment(pair, again(pair, kept))
    kept.check()
    check_nobody_left(pair.bank.parent, serving)
