"""A broken alignment run again goes on where it was: the same bytes, no second scalar, at most a chunk done twice."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels import curve25519
from party.errors import InternalError, PeerError
from party.message import Message, encode
from psi import Alignment, Identifiers, Means, MemoryStore, SealedStore, Store, match
from psi.journal import Journal, SealedJournal
from psi.messages import Listed, Masked, Tags
from tests.psi.support import Tampered, both_ends, guard, ids, means, terms
from tests.support import channels

SMALL = 8  # points of a chunk, so that small lists have several


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("psi.") and hasattr(module, "CHUNK"):
            monkeypatch.setattr(module, "CHUNK", SMALL)


def bank() -> Identifiers:
    return ids(range(30))


def telco() -> Identifiers:
    return ids(range(10, 50))


class Cut(Exception):
    """The network is gone, or the process is killed."""


class Counted:
    """A store that counts its writes and dies at one of them, before or after it is done."""

    def __init__(self, inner: Store, at: int = -1, after: bool = False) -> None:
        self.inner, self.at, self.after, self.writes = inner, at, after, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def do(self, write: Callable[[], None]) -> None:
        self.writes += 1
        if self.writes == self.at and not self.after:
            raise Cut
        write()
        if self.writes == self.at:
            raise Cut

    def save(self, name: str, content: bytes) -> None:
        self.do(lambda: self.inner.save(name, content))

    def journal(self, name: str) -> Journal:
        found = self.inner.journal(name)
        outer = self

        class Watched:
            def __len__(self) -> int:
                return len(found)

            def __getattr__(self, name: str) -> Any:
                return getattr(found, name)

            def append(self, parts: Any) -> None:
                outer.do(lambda: found.append(parts))

        return Watched()  # type: ignore[return-value]


def one_attempt(
    stores: tuple[Any, Any], items: tuple[Identifiers, Identifiers], side: int, after: int, learns: str
) -> tuple[list[Any], list[list[bytes]]]:
    """Run until one side has sent `after` messages. What both returned, and what both sent."""
    pair = channels()
    sent: list[list[bytes]] = [[], []]

    def recorder(place: int) -> Any:
        def change(message: Message) -> Message:
            if place == side and len(sent[place]) == after:
                raise Cut
            sent[place].append(message.kind.to_bytes(2, "little") + encode(message))
            return message

        return change

    ends = [Tampered(channel, recorder(place)) for place, channel in enumerate(pair)]
    outcomes = both_ends(
        lambda: match(items[0], ends[0], guard("telco", learns)[0], terms(learns), means(stores[0])),
        lambda: match(items[1], ends[1], guard("bank", learns)[0], terms(learns), means(stores[1])),
        *pair,
    )
    return list(outcomes), sent


@pytest.fixture
def homes(tmp_path: Path) -> Callable[[], tuple[SealedStore, SealedStore]]:
    def stores() -> tuple[SealedStore, SealedStore]:
        first, second = (SealedStore(tmp_path / name, tmp_path / f"{name}.key", "r1") for name in ("bank", "telco"))
        return first, second

    return stores


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every scalar that is drawn."""
    found: list[bytes] = []
    draw = curve25519.random_scalar

    def counted() -> bytes:
        found.append(draw())
        return found[-1]

    curve25519.hash_to_curve(*curve25519.pack([b"self-test first"]), b"t")
    monkeypatch.setattr(curve25519, "random_scalar", counted)
    return found


def same(outcomes: list[Any], others: list[Any]) -> bool:
    return all(
        isinstance(one, Alignment) and one.rows.tolist() == other.rows.tolist() and one.digest == other.digest
        for one, other in zip(outcomes, others, strict=True)
    )


# What may differ between two tries: a chunk that the peer holds already is not sent again, and Listed says so.
CHUNKS = {kind.kind.to_bytes(2, "little") for kind in (Masked, Tags)}
LISTED = Listed.kind.to_bytes(2, "little")


def fixed(sent: list[bytes]) -> list[bytes]:
    return [body[:46] if body[:2] == LISTED else body for body in sent if body[:2] not in CHUNKS]


@pytest.mark.parametrize("learns", ["both", "bank", "size"])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("after", range(0, 14, 2))
def test_cut_after_any_message_and_run_again(
    side: int, after: int, learns: str, homes: Any, drawn: list[bytes]
) -> None:
    outcomes, before = one_attempt(homes(), (bank(), telco()), side, after, learns)
    cut = isinstance(outcomes[side], Cut)
    outcomes, sent = one_attempt(homes(), (bank(), telco()), -1, 0, learns)
    assert all(isinstance(outcome, Alignment) for outcome in outcomes), outcomes
    for place in (0, 1):  # what was sent before is sent again, byte for byte, or not at all
        assert fixed(sent[place])[: len(fixed(before[place]))] == fixed(before[place])
        again = [body for body in sent[place] if body[:2] in CHUNKS]
        first = [body for body in before[place] if body[:2] in CHUNKS]
        assert len(set(again)) == len(again)
        assert not first or not again or first[-1] in again or len(again) + len(first) >= len({*first, *again})
    assert len(set(drawn)) == len(drawn) == 2
    third, _ = one_attempt(homes(), (bank(), telco()), -1, 0, learns)
    assert same(outcomes, third)
    assert cut or after >= len(sent[side])


def multiplications(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, int]]:
    """What goes through the kernel: the scalar and how many points."""
    done: list[tuple[bytes, int]] = []
    multiply, checked = curve25519.multiply, curve25519.multiply_checked

    def count(call: Any) -> Any:
        def counted(scalar: bytes, points: np.ndarray, executor: Any = None) -> Any:
            done.append((scalar, len(points)))
            return call(scalar, points, executor)

        return counted

    monkeypatch.setattr(curve25519, "multiply", count(multiply))
    monkeypatch.setattr(curve25519, "multiply_checked", count(checked))
    return done


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("at", range(1, 26, 3))
def test_killed_at_any_write_and_run_again_repeats_at_most_a_chunk(
    place: int, late: bool, at: int, homes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = multiplications(monkeypatch)
    stores = list(homes())
    stores[place] = Counted(stores[place], at, late)
    outcomes, _ = one_attempt((stores[0], stores[1]), (bank(), telco()), -1, 0, "both")
    assert isinstance(outcomes[place], Cut) or stores[place].writes < at
    outcomes, _ = one_attempt(homes(), (bank(), telco()), -1, 0, "both")
    plain, _ = one_attempt((MemoryStore(), MemoryStore()), (bank(), telco()), -1, 0, "both")
    for mine, other in zip(outcomes, plain, strict=True):
        assert isinstance(mine, Alignment) and sorted(mine.rows) == sorted(other.rows)
    assert len({scalar for scalar, _ in done}) == 4  # two for the broken run, two for the plain one
    assert sum(points for _, points in done) - 2 * 2 * 70 <= 2 * SMALL  # each side has at most one chunk under way


def test_the_masked_list_is_on_disk_before_its_first_byte_leaves() -> None:
    store = MemoryStore()
    first, second = channels()
    stored: list[tuple[str, bool]] = []

    def watch(message: Message) -> Message:
        stored.append((type(message).__name__, store.load("list") is not None))
        return message

    both_ends(
        lambda: match(bank(), Tampered(first, watch), guard("telco")[0], terms(), means(store)),
        lambda: match(telco(), second, guard("bank")[0], terms()),
        first,
        second,
    )
    assert stored[:3] == [("Agreed", False), ("Listed", True), ("Masked", True)]


def test_a_full_disk_stops_the_run_before_anything_masked_leaves() -> None:
    class Full(MemoryStore):
        def save(self, name: str, content: bytes) -> None:
            if name == "list":
                raise InternalError("no space left")
            super().save(name, content)

    first, second = channels()
    kinds: list[str] = []
    outcome, _ = both_ends(
        lambda: match(
            bank(),
            Tampered(first, lambda m: kinds.append(type(m).__name__) or m),
            guard("telco")[0],
            terms(),
            Means(Full()),
        ),
        lambda: match(telco(), second, guard("bank")[0], terms()),
        first,
        second,
    )
    assert isinstance(outcome, InternalError) and kinds == ["Agreed"]


def test_after_wiping_the_run_gets_no_second_scalar(tmp_path: Path) -> None:
    for store in (MemoryStore(), SealedStore(tmp_path / "s", tmp_path / "key", "r1")):
        outcomes, _ = one_attempt((store, MemoryStore()), (bank(), telco()), -1, 0, "both")
        assert isinstance(outcomes[0], Alignment)
        store.wipe()
        assert store.load("secret") is None
        outcomes, _ = one_attempt((store, MemoryStore()), (bank(), telco()), -1, 0, "both")
        assert isinstance(outcomes[0], InternalError)


@pytest.mark.parametrize("field", ["points_held", "tags_held"])
def test_a_peer_that_says_it_holds_more_than_there_is_is_refused(field: str) -> None:
    from dataclasses import replace

    first, second = channels()
    error, _ = both_ends(
        lambda: match(bank(), first, guard("telco")[0], terms()),
        lambda: match(
            telco(),
            Tampered(second, lambda m: replace(m, **{field: 99}) if isinstance(m, Listed) else m),
            guard("bank")[0],
            terms(),
        ),
        first,
        second,
    )
    assert isinstance(error, PeerError) and "more of this run than there is" in error.message


KEY = bytes(32)


def journal(path: Path, label: bytes = b"run/list") -> SealedJournal:
    return SealedJournal(path, KEY, label)


def test_a_journal_gives_back_what_was_appended_and_loses_a_torn_entry_only(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    written = journal(path)
    entries = [[b"secret one", b""], [np.arange(12, dtype=np.uint8).reshape(3, 4)], [b"last", b"part"]]
    for entry in entries:
        written.append(entry)
    written.close()
    content = path.read_bytes()
    assert b"secret one" not in content and stat.S_IMODE(path.stat().st_mode) == 0o600
    read = journal(path)
    assert len(read) == 3 and read.read(0, 0) == b"secret one" and read.read(0, 1) == b""
    assert read.read(1) == bytes(range(12)) and read.read(2, 1) == b"part"
    read.close()
    ends = []
    for length in range(len(content)):
        path.write_bytes(content[:length])
        opened = journal(path)
        ends.append(len(opened))
        opened.append([b"again"])
        assert opened.read(len(opened) - 1) == b"again"
        opened.close()
    assert ends == sorted(ends) and set(ends) == {0, 1, 2}


def test_a_changed_or_foreign_journal_is_our_own_fault_and_said(tmp_path: Path) -> None:
    path = tmp_path / "x.journal"
    written = journal(path)
    written.append([b"one", b"two"])
    written.append([b"three"])
    written.close()
    content = path.read_bytes()
    with pytest.raises(InternalError, match="broken"):
        journal(path, b"other run/list")
    assert path.read_bytes() == content  # nothing was cut off
    changed = bytearray(content)
    changed[30] ^= 1
    opened = journal(path)
    path.write_bytes(changed)
    with pytest.raises(InternalError, match="broken"):
        opened.read(0)
    with pytest.raises(InternalError, match="broken"):
        journal(path)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # as a power cut may leave it
    assert len(journal(path)) == 1


def test_a_journal_on_a_full_disk_keeps_what_it_had() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    import psi.journal

    with pytest.raises(OSError, match="No space"):
        handle = psi.journal.os.open(full, psi.journal.os.O_WRONLY)
        try:
            psi.journal._write_all(handle, [b"x" * 10], 0)
        finally:
            psi.journal.os.close(handle)


def test_wiping_destroys_the_key_of_the_journals(tmp_path: Path) -> None:
    store = SealedStore(tmp_path / "s", tmp_path / "key", "r1")
    store.journal("list").append([b"content"])
    kept = (tmp_path / "s" / "list.journal").read_bytes()
    store.wipe()
    assert not list((tmp_path / "s").glob("*.journal")) and not list((tmp_path / "s").glob("*.sealed"))
    with pytest.raises(InternalError, match="already"):
        store.journal("list")
    home_key = (tmp_path / "key").read_bytes()
    (tmp_path / "copy.journal").write_bytes(kept)  # what a disk may still hold: the home's key does not open it
    with pytest.raises(InternalError, match="broken"):
        SealedJournal(tmp_path / "copy.journal", home_key, store._bound_to("list"))


def test_sealed_records_are_private_bound_and_show_nothing(tmp_path: Path) -> None:
    store = SealedStore(tmp_path / "s", tmp_path / "key", "r1")
    store.save("one", b"secret content")
    path = tmp_path / "s" / "one.sealed"
    assert b"secret" not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 == stat.S_IMODE((tmp_path / "key").stat().st_mode)
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700
    assert SealedStore(tmp_path / "s", tmp_path / "key", "r1").load("one") == b"secret content"
    assert store.load("two") is None
    with pytest.raises(InternalError, match="already"):
        store.save("one", b"other")
    with pytest.raises(InternalError, match="broken"):
        SealedStore(tmp_path / "s", tmp_path / "key", "r2").load("one")
    (tmp_path / "s" / "two.sealed").write_bytes(path.read_bytes())
    with pytest.raises(InternalError, match="broken"):
        store.load("two")
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(InternalError, match="broken"):
        store.load("one")
    (tmp_path / "key").write_bytes(b"short")
    with pytest.raises(InternalError, match="key file"):
        SealedStore(tmp_path / "s", tmp_path / "key", "r1")


def test_a_wiped_folder_holds_no_record(tmp_path: Path) -> None:
    store = SealedStore(tmp_path / "s", tmp_path / "key", "r1")
    store.save("one", b"content")
    store.wipe()
    assert not list((tmp_path / "s").glob("*.sealed*"))
    with pytest.raises(InternalError, match="already"):
        store.save("one", b"content")
