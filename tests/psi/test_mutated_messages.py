"""Changed messages of the alignment: exit 7, or exactly what an honest peer with other data brings about.

Every message class of `psi.messages`, on every side and form that receives it: the body is changed in transit (bits,
bytes, lengths, rows, whole fields) and sent as a frame of the real channel. One outcome is right for each, computed by
`scenes.expected`; no other exception, no wait beyond a deadline, nothing disclosed once our side can know, and what
our side then holds still finishes with an honest peer.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import psi.messages
from party.channel import Channel
from party.errors import PeerError, PeerRefused, PeerVanished, PolicyRefused
from party.guard import Guard
from party.message import Message, encode
from psi import Alignment, Joined, Means, MemoryStore, Terms, align, request
from psi.messages import Commitment, Evaluated, Held, Masked, Salt, Tags
from tests.psi import scenes
from tests.psi.scripted import Liar, Outcome, Scene, Script, decoded, mutated, replay
from tests.psi.series_pair import Pair, changed, check, source
from tests.psi.support import KEYS, SALT, both_ends
from tests.psi.test_resume import SMALL
from tests.support import Ledger, channels

KINDS = sorted(
    (kind for kind in vars(psi.messages).values() if isinstance(kind, type) and issubclass(kind, Message)),
    key=lambda kind: kind.__name__,
)
KINDS.remove(Message)


@pytest.fixture(autouse=True, scope="module")
def small_chunks() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith(("psi.", "tests.psi.")) and hasattr(module, "CHUNK"):
                patch.setattr(module, "CHUNK", SMALL)
        patch.setattr(psi.means, "_STALLED", 5.0)  # what waits longer for a message that never comes hangs
        patch.setattr(psi.run, "SLOW", 0.0)
        for module in (psi.ecdh, psi.unbalanced, psi.reveal, psi.series):
            patch.setattr(module, "SLOW", 0.0)
        yield
        scene.cache_clear()


@cache
def scene(name: str) -> Scene:
    return scenes.make(name)


def label(outcome: Outcome) -> tuple[str, list[int] | None]:
    result = outcome.result
    if isinstance(result, PeerError):
        assert result.exit_code == 7 and result.party == "telco"
        return "breach", None
    if isinstance(result, PolicyRefused):
        return "refused by us", None
    if isinstance(result, PeerRefused):
        return "refused by them", None
    if isinstance(result, Alignment):
        return "aligned", result.rows.tolist()
    raise AssertionError(f"neither breach nor a defined outcome: {result!r}") from result


def held(store: MemoryStore, name: str) -> int:
    return len(store._journals.get(name, ()))


def rest(where: Scene, store: MemoryStore) -> list[Any]:
    """What the recorded peer says when it is told how much of it our side holds."""
    journals = {Masked: "tagged", Tags: "our-tags", Evaluated: "our-tags"}
    if where.name == "long":
        journals[Masked] = "evaluated"
    if where.name == "short":
        journals[Tags] = "their-tags"
    skipped = {kind: held(store, name) for kind, name in journals.items()}
    left = []
    for frame in where.frames:
        if skipped.get(frame[0], 0) > 0:
            skipped[frame[0]] -= 1
        else:
            left.append(frame)
    return left


def check_state(where: Scene, store: MemoryStore, message: Any) -> None:
    """What our side holds after a breach still finishes with an honest peer, unless it holds the peer to its word."""
    outcome = where.attempt(rest(where, store), store)
    if isinstance(message, Commitment | Salt):
        assert isinstance(outcome.result, PeerError) and "before this run was interrupted" in outcome.result.message
        assert outcome.result.hint is not None and "--new" in outcome.result.hint
    else:
        assert label(outcome) == ("aligned", where.right.rows.tolist()), outcome.result


def sweep(where: Scene, kind: type[Message], tries: int, every: int) -> Counter[str]:
    """So many changed messages of one kind; the state is looked at after one in `every` breaches."""
    counts: Counter[str] = Counter()
    rng = random.Random(f"{where.name}/{kind.__name__}")
    places = where.places(kind)
    for number in range(tries):
        place = rng.choice(places)
        body = mutated(kind, where.frames[place][1], rng)
        message = decoded(kind, body)
        wanted = scenes.expected(where, place, message)
        store = where.begin(("list", "points", "others") if kind is Salt else ())
        began = time.monotonic()
        outcome = where.attempt(where.changed(place, body), store)
        said = f"{where.name}, {kind.__name__} {number}, frame {place}: {body.hex()[:200]}"
        assert time.monotonic() - began < 30, said
        assert label(outcome) == wanted, (said, outcome.result, wanted)
        counts[wanted[0] if message is not None else "breach, not decoded"] += 1
        if wanted[0] == "aligned":
            continue
        told = outcome.disclosed
        most = where.came[scenes.revealed(where, place, message)]
        if wanted[0] == "refused by us" and isinstance(message, Tags | Evaluated):
            most += 1  # that they are too few is told
        assert told == where.disclosed[: len(told)] and len(told) <= most, (said, told, most)
        if wanted[0] == "breach" and number % every == 0:
            check_state(where, store, message)
    return counts


def everything(tries: int, every: int, name: str) -> Counter[str]:
    where, found = scene(name), Counter[str]()
    for kind in scenes.kinds(where):
        counts = sweep(where, kind, tries // SHARED[kind] + 1, every)
        print(f"{name:18} {kind.__name__:15} {dict(counts)}")
        found += counts
    return found


# In how many scenes a kind is received: its tries are shared among them.
SHARED: dict[type[Message], int] = {
    psi.messages.Agreed: 10,
    psi.messages.Listed: 10,
    psi.messages.Digest: 10,
    Masked: 9,
    Tags: 5,
    Commitment: 5,
    psi.messages.Enough: 5,
    psi.messages.Seed: 4,
    psi.messages.Bitmap: 3,
    psi.messages.Removed: 2,
    psi.messages.Size: 1,
    Salt: 1,
    Evaluated: 1,
    psi.messages.Multiplicities: 1,
    psi.messages.Unmatched: 1,
}


def test_every_message_of_the_alignment_is_changed_somewhere() -> None:
    received = Counter(kind for name in scenes.NAMES for kind in scenes.kinds(scene(name)))
    assert received == SHARED
    assert {*received, Held} == set(KINDS)


@pytest.mark.parametrize("name", scenes.NAMES)
def test_a_changed_message_is_a_breach_or_has_its_defined_outcome(name: str) -> None:
    counts = everything(150, 10, name)
    assert counts["breach"] + counts["breach, not decoded"] > 0.5 * counts.total()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", scenes.NAMES)
def test_ten_thousand_changed_messages_of_each_kind(name: str) -> None:
    everything(10_000, 50, name)


# --- against a live peer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", scenes.NAMES)
def test_a_liar_ends_the_run_on_both_sides_and_an_honest_peer_finishes_it(name: str) -> None:
    where = scene(name)
    for kind in scenes.kinds(where):
        for number in range(2):
            stores = MemoryStore(), MemoryStore()
            rng = random.Random(f"live/{name}/{kind.__name__}/{number}")
            place = rng.randrange(len(where.places(kind)))
            first, second = channels()
            liar = Liar(second, kind, place, rng)
            ours, theirs = live(where, stores, first, liar)
            assert liar.body is not None
            said = f"{name}, {kind.__name__} {place}: {liar.body.hex()[:200]}: {ours!r}, {theirs!r}"
            message = decoded(kind, liar.body)
            fine = PeerError | PolicyRefused | PeerRefused | Alignment
            assert isinstance(ours, fine) or (isinstance(ours, PeerVanished) and isinstance(theirs, Exception)), said
            assert message is not None or isinstance(ours, PeerError), said
            if isinstance(ours, Alignment) or (message is not None and kind in (Commitment, Salt)):
                continue
            first, second = channels()
            ours, theirs = live(where, stores, first, second)
            assert isinstance(ours, Alignment) and isinstance(theirs, Alignment), (said, ours, theirs)
            assert sorted(ours.rows) == sorted(where.right.rows) and ours.digest == theirs.digest, said


def live(where: Scene, stores: tuple[MemoryStore, MemoryStore], ours: Channel, theirs: Any) -> tuple[Any, Any]:
    """Both sides, each in a thread."""
    guards = [Guard("r1", peer, where.openings, Ledger()) for peer in ("telco", "bank")]
    plain = theirs._channel if isinstance(theirs, Liar) else theirs
    return both_ends(
        lambda: where.honest(ours, guards[0], stores[0]),
        lambda: where.peer(theirs, guards[1], stores[1]),
        ours,
        plain,
    )


# --- what a series holds ----------------------------------------------------------------------------------------------


def held_words(tmp_path: Path, tries: int, every: int) -> Counter[str]:
    """A peer that holds another state of the series than it says, or wants a new key."""
    rng, counts = random.Random(3), Counter[str]()
    before = Pair(tmp_path / "before")
    a, b = list(range(30)), list(range(12, 52))
    for run in ("run-0", "run-1"):
        check(before.run(run, (source(a), source(b))), a, b)
        a, b = changed(a, rng), changed(b, rng)
    recorded = Pair(tmp_path / "recorded")
    shutil.copytree(before.home, recorded.home)
    outcomes = recorded.run("run-2", (source(a), source(b)))
    check(outcomes, a, b)
    right = outcomes[0]
    frames = [(type(message), encode(message)) for message in recorded.sent[1]]
    clean = recorded.sent[1][0]
    assert isinstance(clean, Held) and bytes(32) not in (clean.newest, clean.before)
    for number in range(tries):
        pair = Pair(tmp_path / "try")
        shutil.copytree(before.home, pair.home)
        body = mutated(Held, frames[0][1], rng)
        message = decoded(Held, body)
        ledger = Ledger()
        guard = Guard("run-2", "telco", request(Joined(KEYS, incremental=True, multiple=True)).openings, ledger)
        terms = Terms("run-2", SALT[:-1] + b"2", most_ours=recorded.most, most_theirs=recorded.most)
        args = guard, terms, Means(), pair.folder(0)
        result, _ = replay(
            Script([(Held, body), *frames[1:]]),
            lambda channel, args=args: align([source(a)], channel, *args),
            ledger,
        )
        wanted: tuple[str, list[int] | None] = scenes.BREACH
        if message is not None:
            said = {message.newest, message.before}
            if message.roll or not said & {clean.newest, clean.before}:
                wanted = scenes.OTHER_TERMS  # we begin anew, the peer does not
            elif clean.newest in said:
                wanted = ("aligned", right.rows.tolist())
        got = label(Outcome(result, [], [], MemoryStore()))
        assert got == wanted, (number, body.hex(), result)
        counts[wanted[0]] += 1
        assert wanted[0] == "aligned" or "alignment.rows" not in [told["what"] for _, told in ledger.events][:-1]
        if number % every == 0:
            check(pair.run("run-3", (source(a), source(b))), a, b)
        shutil.rmtree(pair.home)
    return counts


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody pulls the plug here."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


def test_a_changed_word_about_the_series(tmp_path: Path, no_sync: None) -> None:
    counts = held_words(tmp_path, 150, 15)
    assert min(counts[name] for name in ("breach", "refused by them", "aligned")) > 5


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_changed_words_about_the_series(tmp_path: Path, no_sync: None) -> None:
    print(dict(held_words(tmp_path, 10_000, 100)))


# --- the decoder alone ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_decoder_refuses_or_returns_what_encodes_to_the_same_bytes(kind: type[Message]) -> None:
    rng = random.Random(kind.__name__)
    bodies = [body for name in scenes.NAMES for said, body in scene(name).frames if said is kind]
    bodies = bodies or [encode(Held(rng.randbytes(32), bytes(32), False))]
    accepted = 0
    for _ in range(2000):
        body = rng.choice(bodies)
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            body = mutated(kind, body, rng) or b"\x00"
            if decoded(kind, body) is None:
                break
        message = decoded(kind, body)
        assert message is None or encode(message) == body
        accepted += message is not None
    assert 0 < accepted < 2000
