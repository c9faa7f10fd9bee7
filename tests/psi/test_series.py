"""Series: each run's alignment equals a fresh one, only changes travel, and a crash anywhere leaves it whole."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels import curve25519
from party.errors import DataError, PeerError, PolicyRefused
from psi import Limits
from psi.messages import Bitmap, Held, Masked
from tests.psi.series_pair import NAMES, Pair, changed, check, source
from tests.psi.test_resume import Counted, Cut


@pytest.mark.parametrize(("n", "m"), [(100, 130), (130, 100), (0, 5), (5, 0), (1, 1), (60, 60)])
def test_every_run_equals_a_fresh_alignment(n: int, m: int, tmp_path: Path) -> None:
    rng = random.Random(n)
    pair = Pair(tmp_path, Limits(4, 30))
    a, b = rng.sample(range(250), n), rng.sample(range(250), m)
    first = 0
    for number in range(6):
        check(pair.run(f"run-{number}", (source(a), source(b))), a, b)
        points = sum(len(message.points) for sent in pair.sent for message in sent if isinstance(message, Masked))
        first = first or n + m
        assert points == (len(a) + len(b) if number in (0, 4) else 8)  # the key is drawn anew after four runs
        a, b = changed(a, rng), changed(b, rng)


def test_one_scalar_a_series_and_another_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[bytes] = set()
    real = curve25519.multiply

    def watched(scalar: bytes, points: np.ndarray, executor: Any = None) -> Any:
        used.add(scalar)
        return real(scalar, points, executor)

    monkeypatch.setattr(curve25519, "multiply", watched)
    pair = Pair(tmp_path, Limits(2, 30))
    for number, scalars in enumerate((2, 2, 4, 4, 6)):
        a, b = list(range(number, 40)), list(range(20, 50 + number))
        check(pair.run(f"run-{number}", (source(a), source(b))), a, b)
        assert len(used) == scalars


def test_a_key_is_drawn_anew_after_its_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair, now = Pair(tmp_path, Limits(100, 7)), time.time()
    a, b = list(range(30)), list(range(20, 60))
    lengths = []
    for days in (0, 6, 8, 9):
        monkeypatch.setattr(time, "time", lambda days=days: now + days * 86_400)
        check(pair.run(f"run-{days}", (source(a), source(b))), a, b)
        lengths.append(sum(len(m.points) for m in pair.sent[0] if isinstance(m, Masked)))
    assert lengths == [30, 0, 30, 0]


def test_a_key_is_drawn_anew_when_it_met_twice_the_agreed_list(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    rng = random.Random(7)
    a, b = list(range(10)), list(range(5, 15))
    pair.run("run-0", (source(a), source(b)))
    folder = pair.folder(0)
    root = folder._root()
    root.journal("spent").append([b"another run", ((1 << 21) + 1).to_bytes(8, "little")])
    root.journal("spent").close()
    a = changed(a, rng)
    check(pair.run("run-1", (source(a), source(b))), a, b)
    held = [message for message in pair.sent[0] if isinstance(message, Held)]
    assert held[0].roll and sum(len(m.points) for m in pair.sent[1] if isinstance(m, Masked)) == len(b)


def test_nothing_changed_costs_next_to_nothing(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    a, b = list(range(3000)), list(range(1500, 4500))
    check(pair.run("run-0", (source(a), source(b))), a, b)
    whole = sum(pair.bytes)
    check(pair.run("run-1", (source(a[::-1]), source(b))), a[::-1], b)
    assert sum(pair.bytes) < 0.02 * whole
    a, b = a[30:] + list(range(5000, 5030)), b[:-30] + list(range(5010, 5040))  # one in a hundred
    check(pair.run("run-2", (source(a), source(b))), a, b)
    assert sum(pair.bytes) < 0.05 * whole


@pytest.mark.parametrize("duplicates", ["first", "all"])
def test_repeated_keys_old_and_new(duplicates: str, tmp_path: Path) -> None:
    pair, multiple = Pair(tmp_path), duplicates == "all"
    days = [
        ([1, 2, 3, 2, 9], [2, 3, 4, 4, 9]),
        ([1, 2, 3, 2, 2, 7, 7], [4, 9, 2, 7, 3, 7]),
        ([7, 5, 5, 3, 1], [7, 7, 7, 3, 5, 3]),
    ]
    for number, (a, b) in enumerate(days):
        sources = (source(a, duplicates), source(b, duplicates))
        bank, telco = pair.run(f"run-{number}", sources, multiple=multiple)
        pairs = sorted(zip(bank.rows.tolist(), telco.rows.tolist(), strict=True))
        every = sorted((i, j) for i, x in enumerate(a) for j, y in enumerate(b) if x == y)
        firsts = sorted((i, j) for i, j in every if a.index(a[i]) == i and b.index(b[j]) == j)
        assert pairs == (every if multiple else firsts)


def test_repeated_keys_are_an_error_where_they_are_one(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    a, b = list(range(10)), list(range(5, 15))
    check(pair.run("run-0", (source(a), source(b))), a, b)
    for repeated in ([*a, 3], [*a, 20, 20]):
        outcome = pair.run(f"run-{len(repeated)}", (source(repeated), source(b)))[0]
        assert isinstance(outcome, DataError) and "repeat the key" in outcome.message
    check(pair.run("run-x", (source([*a, 20]), source(b))), [*a, 20], b)


def test_small_changes_stand_beside_their_base_and_large_ones_make_a_new_one(tmp_path: Path) -> None:
    """Eight runs, after each of which three in a hundred have gone or are new: an eighth after five."""
    rng, pair, bases = random.Random(5), Pair(tmp_path), []
    a, b = list(range(200)), list(range(100, 300))
    for number in range(8):
        check(pair.run(f"run-{number}", (source(a), source(b))), a, b)
        folder = tmp_path / "bank" / "series"
        kept = sorted(path.parent.name for path in folder.glob("v????/base-ours.sealed"))
        bases.append(kept[-1])
        held = sorted(path.name for path in folder.glob("v????"))
        assert held == sorted({*kept, f"v{number + 1:04d}", *([f"v{number:04d}"] if number else [])})
        a, b = changed(a, rng, 3, 3), changed(b, rng, 3, 3)
    assert bases == ["v0001"] * 5 + ["v0006"] * 3


def test_a_key_that_comes_back_matches_again(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    a, b = list(range(200)), list(range(100, 300))
    without = [value for value in a if value not in (3, 150)]
    for number, (ours, theirs) in enumerate([(a, b), (without, b), (a, b), (a, b), (without, b), (a, b[::-1])]):
        check(pair.run(f"run-{number}", (source(ours), source(theirs))), ours, theirs)
    assert (tmp_path / "bank/series/v0006/known.sealed").exists()
    assert not (tmp_path / "bank/series/v0006/base-ours.sealed").exists()


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("at", range(1, 14, 2))
@pytest.mark.parametrize("same_run", [True, False])
def test_killed_at_any_write_of_a_later_run(
    place: int, late: bool, at: int, same_run: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psi.series_folder as module

    pair, rng = Pair(tmp_path), random.Random(at)
    a, b = list(range(30)), list(range(10, 50))
    check(pair.run("run-0", (source(a), source(b))), a, b)
    a, b = changed(a, rng), changed(b, rng)
    real, writes = module.SealedStore, [0]

    class Dying(Counted):
        def __init__(self, folder: Path, key_file: Path, run: str) -> None:
            super().__init__(real(folder, key_file, run), at, late)
            self.mine = NAMES[place] in folder.parts

        def do(self, write: Callable[[], None]) -> None:
            if not self.mine:
                write()
                return
            writes[0] += 1
            self.writes = writes[0] - 1
            super().do(write)

    monkeypatch.setattr(module, "SealedStore", Dying)
    outcomes = pair.run("run-1", (source(a), source(b)))
    assert isinstance(outcomes[place], Cut) or writes[0] < at
    monkeypatch.setattr(module, "SealedStore", real)
    if not same_run:
        a, b = changed(a, rng), changed(b, rng)
    check(pair.run("run-1" if same_run else "run-2", (source(a), source(b))), a, b)
    a, b = changed(a, rng), changed(b, rng)
    check(pair.run("run-3", (source(a), source(b))), a, b)
    assert sum(len(m.points) for m in pair.sent[0] if isinstance(m, Masked)) == 4  # the series went on


@pytest.mark.parametrize("promote", [(True, False), (False, True), (False, False)])
def test_a_crash_between_the_two_promotions_goes_on_from_what_both_hold(
    promote: tuple[bool, bool], tmp_path: Path
) -> None:
    pair, rng = Pair(tmp_path), random.Random(3)
    a, b = list(range(60)), list(range(20, 90))
    check(pair.run("run-0", (source(a), source(b))), a, b)
    a, b = changed(a, rng), changed(b, rng)
    check(pair.run("run-1", (source(a), source(b)), promote=promote), a, b)
    a, b = changed(a, rng), changed(b, rng)
    check(pair.run("run-2", (source(a), source(b))), a, b)
    assert sum(len(m.points) for m in pair.sent[0] if isinstance(m, Masked)) < 15
    a, b = changed(a, rng), changed(b, rng)
    check(pair.run("run-3", (source(a), source(b))), a, b)
    assert sum(len(m.points) for m in pair.sent[0] if isinstance(m, Masked)) == 4


def test_a_side_that_lost_its_state_begins_a_new_series(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    a, b = list(range(40)), list(range(20, 70))
    check(pair.run("run-0", (source(a), source(b))), a, b)
    shutil.rmtree(tmp_path / "telco")
    check(pair.run("run-1", (source(a), source(b))), a, b)
    check(pair.run("run-2", (source(a), source(b))), a, b)
    assert not [m for m in pair.sent[0] if isinstance(m, Masked)]


def test_below_the_minimum_the_state_stays_as_it_was(tmp_path: Path) -> None:
    pair = Pair(tmp_path, minimum=10)
    a, b = list(range(30)), list(range(15, 45))
    check(pair.run("run-0", (source(a), source(b))), a, b)
    few = [*range(9), *range(100, 120)]
    outcomes = pair.run("run-1", (source([*range(119, 150)]), source(few)))
    assert isinstance(outcomes[0], PolicyRefused)
    assert not [m for sent in pair.sent for m in sent if isinstance(m, Bitmap)]
    assert "alignment.rows" not in [fields["what"] for ledger in pair.ledgers for _, fields in ledger.events]
    check(pair.run("run-2", (source(a), source(b))), a, b)


def test_the_state_on_disk_shows_no_identifier(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    a, b = list(range(100_000, 100_040)), list(range(100_020, 100_060))
    check(pair.run("run-0", (source(a), source(b))), a, b)
    content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert not [value for value in {*a, *b} if b"id%d" % value in content]
    root = pair.folder(0)._root()
    assert root.load("scalar") not in (None, b"") and (root.load("scalar") or b"") not in content


@pytest.mark.parametrize(
    "left", [["root/wiped"], ["root/wiped", "series.json"], ["series.json"], ["root/wiped", "v0001"]]
)
def test_a_series_whose_destruction_was_interrupted_is_begun_anew(left: list[str], tmp_path: Path) -> None:
    pair = Pair(tmp_path, Limits(1, 30))
    a, b = list(range(30)), list(range(20, 50))
    check(pair.run("run-0", (source(a), source(b))), a, b)
    folder = next((tmp_path / "bank").glob("series"))
    if "root/wiped" in left:
        pair.folder(0)._root().wipe()
    for path in sorted(folder.rglob("*"), reverse=True):
        name = str(path.relative_to(folder))
        if not any(name == kept or name.startswith(f"{kept}/") or kept.startswith(f"{name}/") for kept in left):
            path.rmdir() if path.is_dir() else path.unlink()
    check(pair.run("run-1", (source(a), source(b))), a, b)


def test_a_table_that_outgrows_the_agreement_is_refused(tmp_path: Path) -> None:
    """Few new keys a run, none gone: the list as a whole is what was agreed."""
    pair = Pair(tmp_path)
    a, b = list(range(30)), list(range(20, 60))
    check(pair.run("run-0", (source(a), source(b))), a, b)
    pair.most = 45
    outcomes = pair.run("run-1", (source(a), source([*b, *range(100, 106)])))
    assert isinstance(outcomes[0], PeerError) and "46 keys now" in outcomes[0].message


def test_lists_so_long_that_places_would_end_get_a_new_key_each_run(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.most = 1 << 25
    for run in ("run-0", "run-1"):
        check(pair.run(run, (source([1, 2, 3]), source([2, 3, 4]))), [1, 2, 3], [2, 3, 4])
        assert sum(len(m.points) for m in pair.sent[0] if isinstance(m, Masked)) == 3


@pytest.mark.parametrize("shorter", [0, 1])
def test_a_later_run_costs_what_its_docstring_says(shorter: int, tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    lists = [list(range(40)), list(range(20, 90))]
    if shorter:
        lists = [list(range(90)), list(range(60, 100))]
    check(pair.run("run-0", (source(lists[0]), source(lists[1]))), lists[0], lists[1])
    first = [len(values) for values in lists]
    new, gone = (3, 5), (2, 4)
    lists = [values[gone[i] :] + list(range(200 + 50 * i, 200 + 50 * i + new[i])) for i, values in enumerate(lists)]
    check(pair.run("run-1", (source(lists[0]), source(lists[1]))), lists[0], lists[1])
    receiver, sender = shorter, 1 - shorter
    agreed = 73 + 72 + 60 + 36  # Held, Agreed, Listed, Digest
    bitmap = 12 + -(-(first[sender] + new[sender]) // 8)
    bodies = {
        receiver: agreed + 5 + 4 * gone[receiver] + 4 + 32 * new[receiver] + 1 + bitmap + 24 * 8,
        sender: agreed + 5 + 4 * gone[sender] + 4 + 32 * new[sender] + 36 + 8 + 12 * new[receiver] + 36 + 24 * 9,
    }
    assert pair.bytes == [bodies[0], bodies[1]]
    assert (pair.rounds[receiver], pair.rounds[sender]) == (7, 8)  # and one for which state they go on from


def test_what_broken_runs_have_left_does_not_stay(tmp_path: Path) -> None:
    pair, rng = Pair(tmp_path), random.Random(4)
    a, b = list(range(40)), list(range(20, 70))
    check(pair.run("run-0", (source(a), source(b))), a, b)
    for run in ("run-1", "run-2"):  # given up after the exchange, never promoted
        a, b = changed(a, rng), changed(b, rng)
        pair.run(run, (source(a), source(b)), promote=(False, False))
    a, b = changed(a, rng), changed(b, rng)
    check(pair.run("run-3", (source(a), source(b))), a, b)
    for name in NAMES:
        left = sorted(path.name for path in (tmp_path / name / "series").iterdir())
        assert left == ["root", "series.json", "v0001", "v0002"]
