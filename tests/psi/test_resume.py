"""A broken alignment run again sends the same bytes, draws no second scalar and ends in the same alignment."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from kernels import curve25519
from party.errors import InternalError
from party.message import Message, encode
from psi import Alignment, Identifiers, MemoryStore, SealedStore, match, prepared
from tests.psi.support import Tampered, both_ends, guard, ids, terms
from tests.support import channels

BANK, TELCO = ids(range(30)), ids(range(10, 50))


class Cut(Exception):
    """The network is gone."""


def one_attempt(
    stores: tuple[Any, Any], items: tuple[Identifiers | None, Identifiers | None], side: int, after: int, learns: str
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
        lambda: match(items[0], ends[0], guard("telco", learns)[0], terms(learns), store=stores[0]),
        lambda: match(items[1], ends[1], guard("bank", learns)[0], terms(learns), store=stores[1]),
        *pair,
    )
    return list(outcomes), sent


@pytest.mark.parametrize("learns", ["both", "bank"])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("after", range(6))
def test_cut_after_any_message_and_run_again(
    side: int, after: int, learns: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[bytes] = []
    draw = curve25519.random_scalar

    def counted() -> bytes:
        drawn.append(draw())
        return drawn[-1]

    curve25519.hash_to_curve([b"self-test first"], b"t")
    monkeypatch.setattr(curve25519, "random_scalar", counted)

    def stores() -> tuple[SealedStore, SealedStore]:
        return tuple(SealedStore(tmp_path / name, tmp_path / f"{name}.key", "r1") for name in ("bank", "telco"))

    outcomes, before = one_attempt(stores(), (BANK, TELCO), side, after, learns)
    cut = isinstance(outcomes[side], Cut)
    again = tuple(None if prepared(store) else items for store, items in zip(stores(), (BANK, TELCO), strict=True))
    outcomes, sent = one_attempt(stores(), again, -1, 0, learns)
    assert all(isinstance(outcome, Alignment) for outcome in outcomes)
    for place in (0, 1):  # every message sent before is a beginning of what is sent now, byte for byte
        assert sent[place][: len(before[place])] == before[place]
    assert len(set(drawn)) == len(drawn) == 2
    third, _ = one_attempt(stores(), (None, None), -1, 0, learns)
    for first, second in zip(outcomes, third, strict=True):
        assert first.rows.tolist() == second.rows.tolist() and first.digest == second.digest
    assert cut or after >= len(sent[side])


def test_the_masked_list_is_on_disk_before_its_first_byte_leaves() -> None:
    store = MemoryStore()
    first, second = channels()
    stored: list[tuple[str, bool]] = []

    def watch(message: Message) -> Message:
        stored.append((type(message).__name__, prepared(store)))
        return message

    both_ends(
        lambda: match(BANK, Tampered(first, watch), guard("telco")[0], terms(), store=store),
        lambda: match(TELCO, second, guard("bank")[0], terms()),
        first,
        second,
    )
    assert stored[:2] == [("Agreed", False), ("Masked", True)]


def test_a_full_disk_stops_the_run_before_anything_masked_leaves() -> None:
    class Full(MemoryStore):
        def save(self, name: str, content: bytes) -> None:
            raise InternalError("no space left")

    first, second = channels()
    kinds: list[str] = []
    outcome, _ = both_ends(
        lambda: match(
            BANK,
            Tampered(first, lambda m: kinds.append(type(m).__name__) or m),
            guard("telco")[0],
            terms(),
            store=Full(),
        ),
        lambda: match(TELCO, second, guard("bank")[0], terms()),
        first,
        second,
    )
    assert isinstance(outcome, InternalError) and kinds == ["Agreed"]


def test_after_wiping_the_run_gets_no_second_scalar(tmp_path: Path) -> None:
    for store in (MemoryStore(), SealedStore(tmp_path / "s", tmp_path / "key", "r1")):
        outcomes, _ = one_attempt((store, MemoryStore()), (BANK, TELCO), -1, 0, "both")
        assert isinstance(outcomes[0], Alignment)
        store.wipe()
        assert not prepared(store)
        outcomes, _ = one_attempt((store, MemoryStore()), (BANK, TELCO), -1, 0, "both")
        assert isinstance(outcomes[0], InternalError)


def test_without_identifiers_and_without_a_stored_list_it_is_our_own_fault() -> None:
    with pytest.raises(InternalError, match="identifiers"):
        match(None, channels()[0], guard("telco")[0], terms())


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
