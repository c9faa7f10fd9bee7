"""A list made ahead serves one run: whoever starts it, whatever is killed, whatever changes; and none is used twice."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kernels import curve25519
from party.errors import DataError, PolicyRefused, TallyError, UsageError
from pipelines import prepared, stages
from pipelines.progress import Progress
from tests.e2e.homes import expect, tally
from tests.pipelines.two_homes import TABLES, TwoHomes

JOB = "version: 1\nname: shared\npeer: telco\nalign: {bank: customers, telco: subscribers, learns: both}\n"
POLICY = "alignment: rows\nmin_size: 1\napprove: auto\nduplicates: all\ncolumns:\n"
LONG, SHORT = 400, 20
COMMON = 10
QUIET = Progress(quiet=True)
SIDES = pytest.mark.parametrize("long", ["bank", "telco"])


def keys(count: int, first: int) -> list[str]:
    return [f"k{number}" for number in range(first, first + count)]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., TwoHomes]:
    def made(long: str) -> TwoHomes:
        pair = TwoHomes(tmp_path)
        for name in TABLES:
            rows = keys(LONG, 0) if name == long else keys(SHORT, LONG - COMMON)
            pair.fill(name, {"id": rows})
            pair.declare(name, "key: [id]\n", POLICY + f"  {TABLES[name]}.id: [join]\n")
        return pair

    return made


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    found: list[bytes] = []
    draw = curve25519.random_scalar

    def counted() -> bytes:
        found.append(draw())
        return found[-1]

    curve25519.hash_to_curve(*curve25519.pack([b"self-test first"]), b"t")
    monkeypatch.setattr(curve25519, "random_scalar", counted)
    return found


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Salts that were told to a peer: one for each run that was answered."""
    from psi import unbalanced

    found: list[bytes] = []

    def salt(content: bytes) -> Any:
        found.append(content)
        return kind(content)

    kind = unbalanced.Salt
    monkeypatch.setattr(unbalanced, "Salt", type("Salt", (), {"__new__": lambda _, content: salt(content)}))
    monkeypatch.setattr(unbalanced, "awaited", lambda channel, wanted, *rest: awaited(
        channel, kind if wanted is unbalanced.Salt else wanted, *rest))  # fmt: skip
    from psi.means import awaited

    return found


def prepare(pair: TwoHomes, long: str) -> dict[str, Any]:
    return prepared.prepare(pair.homes[long], other(long), TABLES[long], QUIET)


def other(name: str) -> str:
    return "telco" if name == "bank" else "bank"


def lists(pair: TwoHomes, long: str) -> list[Path]:
    """All lists made ahead that lie anywhere in the home."""
    state = pair.homes[long] / "state"
    found = [path for path in (state / "prepared").glob("*") if path.is_dir()] if (state / "prepared").exists() else []
    return found + list((state / "runs").glob("*/ahead"))


def secret_files(pair: TwoHomes, long: str) -> list[Path]:
    return list((pair.homes[long] / "state").rglob("secret.sealed"))


@SIDES
def test_a_list_made_ahead_is_used_once_and_then_destroyed(
    long: str, make: Any, drawn: list[bytes], used: list[bytes]
) -> None:
    pair = make(long)
    made = prepare(pair, long)
    assert made == {
        "party": long,
        "table": TABLES[long],
        "peer": other(long),
        "keys": LONG,
        "repeats": 0,
        "rows": LONG,
        "made": True,
    }
    assert "lie ready" in prepared.prepare_text(made)
    again = prepare(pair, long)
    assert not again["made"] and "already" in prepared.prepare_text(again)
    assert len(drawn) == 1 and len(lists(pair, long)) == 1
    for path in (pair.homes[long] / "state" / "prepared").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
        assert path.is_dir() or (b"k399" not in path.read_bytes() and drawn[0] not in path.read_bytes())
    for place in range(2):
        run = pair.run(JOB, new=True)
        assert run["rows"] == COMMON
        assert pair.result(long, run["run"])["details"]["alignment"]["prepared"] == (place == 0)
        assert not pair.result(other(long), run["run"])["details"]["alignment"]["prepared"]
        shutil.rmtree(pair.homes[long] / "state" / "alignments")  # else the first run's is used again
    assert not lists(pair, long) and not secret_files(pair, long)
    assert [event["used"] for event in pair.events(long, "prepared")] == ["taken"]
    assert len(used) == len(set(used)) == 2


@SIDES
def test_without_a_list_nothing_is_different(long: str, make: Any) -> None:
    pair = make(long)
    run = pair.run(JOB)
    assert run["rows"] == COMMON and not pair.events(long, "prepared")
    assert not pair.result(long, run["run"])["details"]["alignment"]["prepared"]


class Cut(Exception):
    """The process is killed."""


PLACES = ["taken, not looked at", "looked at", "on its way", "both have it"]


def test_a_run_that_broke_behind_its_alignment_overwrites_the_secrets_first(make: Any) -> None:
    pair = make("telco")
    prepare(pair, "telco")
    wipe = prepared.wipe
    with pytest.MonkeyPatch.context() as patch, pytest.raises(TallyError):
        patch.setattr(stages.prepared, "wipe", lambda home, state: (_ for _ in ()).throw(Cut))
        pair.run(JOB)
    assert secret_files(pair, "telco")
    left: list[bool] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            stages.prepared,
            "wipe",
            lambda home, state: (wipe(home, state), left.append(any(state.folder.rglob("secret.sealed")))),
        )
        pair.run(JOB)
    assert left and not any(left)


def killed_at(place: str, patch: pytest.MonkeyPatch, long: str) -> None:
    """The long side dies there."""

    def once(owner: Any, name: str, *, after: bool) -> None:
        call = getattr(owner, name)

        def dying(first: Any, *rest: Any) -> Any:
            side = getattr(first, "us", None) or getattr(getattr(first, "channel", first), "us", long)
            if side != long:
                return call(first, *rest)
            if after:
                call(first, *rest)
            raise Cut

        patch.setattr(owner, name, dying)

    if place == "taken, not looked at":
        once(prepared, "_unusable", after=False)
    elif place == "looked at":
        once(stages.prepared, "take", after=True)
    elif place == "on its way":
        from psi import unbalanced

        once(unbalanced, "_evaluate", after=True)
    else:
        keep = stages.alignments.keep
        patch.setattr(stages.alignments, "keep", lambda live, found: dying(live, found))

        def dying(live: Any, found: Any) -> None:
            keep(live, found)
            if live.us == long:
                raise Cut


@SIDES
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("new", [False, True])
def test_a_killed_run_goes_on_with_its_list_and_no_other_run_gets_it(
    long: str, place: str, new: bool, make: Any, used: list[bytes]
) -> None:
    pair = make(long)
    prepare(pair, long)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(TallyError):
        killed_at(place, patch, long)
        pair.run(JOB)
    taken = lists(pair, long)
    assert all(path.name == "ahead" for path in taken)
    shutil.rmtree(pair.homes[long] / "state" / "alignments", ignore_errors=True)
    run = pair.run(JOB, new=new)
    assert run["rows"] == COMMON
    assert pair.result(long, run["run"])["details"]["alignment"]["prepared"] == (not new)
    told_before = place in PLACES[2:]
    assert len(used) == 1 + (told_before and (new or place == "on its way"))
    assert len(set(used)) == 1 + (told_before and new)
    if new:
        if long == "bank":  # it gave its run up, and the list with it
            assert not lists(pair, long) and not secret_files(pair, long)
    else:
        assert not lists(pair, long) and not secret_files(pair, long)


@pytest.mark.parametrize("ahead", [False, True])
def test_a_run_given_up_overwrites_its_secrets(ahead: bool, make: Any, tmp_path: Path) -> None:
    pair = make("bank")
    if ahead:
        prepare(pair, "bank")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(TallyError):
        killed_at("on its way", patch, "bank")
        pair.run(JOB)
    held = list((pair.homes["bank"] / "state" / "runs").rglob("*.sealed"))
    assert any("ahead" in path.parts for path in held) == ahead
    seen = [tmp_path / f"seen-{place}" for place in range(len(held))]
    for path, link in zip(held, seen, strict=True):
        link.hardlink_to(path)  # what the disk holds of it
        assert any(link.read_bytes())
    assert seen and pair.run(JOB, new=True)["rows"] == COMMON
    assert not any(path.exists() for path in held) and not any(any(link.read_bytes()) for link in seen)


@SIDES
def test_a_list_over_a_table_that_has_changed_is_destroyed_and_the_run_reads_the_table(long: str, make: Any) -> None:
    pair = make(long)
    prepare(pair, long)
    pair.fill(long, {"id": keys(LONG + 5, 0)})
    run = pair.run(JOB)
    assert run["rows"] == COMMON + 5
    assert [event["used"] for event in pair.events(long, "prepared")] == [
        "taken",
        "destroyed: the table has changed since",
    ]
    assert not lists(pair, long) and not secret_files(pair, long)


def test_preparing_again_after_a_change_destroys_the_old_list(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pair = make("telco")
    prepare(pair, "telco")
    pair.fill("telco", {"id": keys(LONG + 5, 0)})
    made = prepared.prepare(pair.homes["telco"], "bank", "subscribers", Progress())
    assert made["made"] and made["keys"] == LONG + 5 and "destroyed" in capsys.readouterr().err
    pair.declare(
        "telco",
        "key: [id]\ncolumns: {id: {type: string, normalise: name}}\n",
        POLICY + "  subscribers.id: [join]\n",
    )
    assert prepared.prepare(pair.homes["telco"], "bank", "subscribers", Progress())["made"]
    assert "destroyed" in capsys.readouterr().err and len(lists(pair, "telco")) == 1


def test_a_list_of_another_home_is_destroyed(make: Any) -> None:
    pair = make("telco")
    prepare(pair, "telco")
    (pair.homes["telco"] / "state" / "psi.key").write_bytes(bytes(range(32)))
    assert pair.run(JOB)["rows"] == COMMON
    assert "another home" in pair.events("telco", "prepared")[-1]["used"]
    assert not lists(pair, "telco")


def test_a_list_that_was_not_finished_is_gone_on_with(make: Any, drawn: list[bytes]) -> None:
    pair = make("telco")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Cut):
        patch.setattr(prepared, "content_digest", lambda *_: (_ for _ in ()).throw(Cut))
        prepare(pair, "telco")
    assert len(lists(pair, "telco")) == 1 and pair.run(JOB)["rows"] == COMMON  # no run takes an unfinished one
    assert not pair.events("telco", "prepared")
    count = len(drawn)
    assert prepare(pair, "telco")["made"] and len(drawn) == count


def test_a_table_that_changes_while_it_is_read_is_an_error_and_leaves_no_list(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = make("telco")
    digest = prepared.content_digest

    def changing(home: Any, name: str) -> str:
        found = digest(home, name)
        pair.fill("telco", {"id": keys(LONG, 1)})
        return found

    monkeypatch.setattr(prepared, "content_digest", changing)
    with pytest.raises(DataError, match="changed while it was read"):
        prepare(pair, "telco")
    assert not lists(pair, "telco")


@pytest.mark.parametrize(("duplicates", "used"), [("error", False), ("first", True), ("all", True)])
def test_repeated_keys_are_for_the_run_to_judge(duplicates: str, used: bool, make: Any) -> None:
    pair = make("telco")
    pair.fill("telco", {"id": keys(LONG, 0) + keys(5, LONG - 5)})
    made = prepare(pair, "telco")
    assert made["repeats"] == 5 and "duplicates: first" in prepared.prepare_text(made)
    job = JOB.replace("both}", f"both, duplicates: {duplicates}}}")
    if not used:
        with pytest.raises(TallyError, match="telco"):
            pair.run(job)
        assert isinstance(pair.met[0], DataError) and "5 rows repeat" in str(pair.met[0])
        assert len(lists(pair, "telco")) == 1
        return
    assert pair.run(job)["rows"] == COMMON + (5 if duplicates == "all" else 0)
    assert [event["used"] for event in pair.events("telco", "prepared")] == ["taken"]


@pytest.mark.parametrize(
    ("peer", "table", "kind", "code"),
    [
        ("insurer", "subscribers", UsageError, 2),
        ("bank", "customers", UsageError, 2),
        ("bank", "subscribers", PolicyRefused, 3),
    ],
)
def test_what_cannot_be_prepared_is_refused(
    peer: str, table: str, kind: type[TallyError], code: int, make: Any
) -> None:
    pair = make("telco")
    if kind is PolicyRefused:
        (pair.homes["telco"] / "policy.yaml").write_text("version: 1\n")
    with pytest.raises(kind) as caught:
        prepared.prepare(pair.homes["telco"], peer, table, QUIET)
    assert caught.value.exit_code == code and caught.value.hint
    assert not (pair.homes["telco"] / "state" / "prepared").exists()


def test_an_unchanged_table_is_not_read_again_for_its_digest(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import time

    from connectors import Source
    from party.home import Home
    from pipelines import tables

    pair = make("telco")
    home, data = Home.open(pair.homes["telco"]), pair.homes["telco"] / "data.parquet"
    read: list[str] = []
    digest = Source.content_digest
    monkeypatch.setattr(
        Source, "content_digest", lambda self, columns, key: read.append(self.label) or digest(self, columns, key)
    )
    young = tables.content_digest(home, "subscribers")
    assert tables.content_digest(home, "subscribers") == young and len(read) == 2  # changed a moment ago: not trusted
    os.utime(data, ns=(time.time_ns() - 10**11,) * 2)
    assert tables.content_digest(home, "subscribers") == young == tables.content_digest(home, "subscribers")
    assert len(read) == 3
    pair.fill("telco", {"id": keys(LONG, 1)})
    assert tables.content_digest(home, "subscribers") != young and len(read) == 4


def test_the_plan_of_the_long_side_knows_that_its_list_lies_ready(make: Any) -> None:
    from pipelines import verbs_plan

    pair = make("bank")
    path = pair.homes["bank"] / "job.yaml"
    path.write_text(JOB)
    with pair.linked():
        pass
    before = verbs_plan.plan(pair.homes["bank"], path, offline=True)
    assert any("`tally prepare telco customers`" in line for line in before["explain"])
    prepare(pair, "bank")
    after = verbs_plan.plan(pair.homes["bank"], path, offline=True)
    assert any("lies ready" in line for line in after["explain"])
    assert after["predicted"]["align"]["seconds"] < before["predicted"]["align"]["seconds"]
    assert after["predicted"]["align"]["bytes"] == before["predicted"]["align"]["bytes"]


def test_through_the_installed_command(make: Any) -> None:
    pair = make("telco")
    said = expect(tally(pair.homes["telco"], "prepare", "bank", "subscribers"))
    assert said.stdout.startswith(f"{LONG} keys of telco.subscribers lie ready") and "prepare: done" in said.stderr
    again = expect(tally(pair.homes["telco"], "prepare", "bank", "subscribers", "--json")).json
    assert not again["made"] and again["keys"] == LONG
    wrong = expect(tally(pair.homes["telco"], "prepare", "bank", "subscriber", "--json"), 2).json
    assert "subscribers" in wrong["error"]["hint"]
