"""Honest sides of every form of the alignment with a recorded peer, and what must come of a changed message.

`expected` is the oracle: for each message that the decoder lets through, the one outcome that the protocol has for it.
"breach" is PeerError, exit 7. Anything else is what an honest peer with other data would have brought about: a refusal
(other terms, fewer matches than the minimum), or an alignment, whose rows are computed here without the protocol.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from kernels import curve25519
from party.message import Message
from psi import Alignment, Joined, Means, MemoryStore, Terms, align, request
from psi.known import Known, Table
from psi.masking import KeyList, kept_list
from psi.messages import (
    Agreed,
    Bitmap,
    Commitment,
    Digest,
    Enough,
    Evaluated,
    Listed,
    Masked,
    Multiplicities,
    Removed,
    Salt,
    Seed,
    Size,
    Tags,
    Unmatched,
)
from psi.reveal import _DIGEST as REVEALED
from psi.rows import order_words, tags
from psi.run import Run, chunks_of
from psi.series import _DIGEST as IN_SERIES
from psi.series import Keys, advance, begin
from psi.sorter import Sorter
from psi.terms import tag_width
from psi.unbalanced import _tag_key
from tests.psi.scripted import LATER, Scene, record
from tests.psi.series_pair import source
from tests.psi.support import KEYS, SALT
from tests.support import run_pair

OUR_MIN, THEIR_MIN, MOST = 4, 2, 64
Expected = tuple[str, list[int] | None]
BREACH: Expected = ("breach", None)
NOT_ENOUGH: Expected = ("refused by us", None)  # our minimum is the larger
OTHER_TERMS: Expected = ("refused by them", None)

A, B = list(range(100, 120)), list(range(106, 132))  # 14 in both
random.Random(1).shuffle(A)
random.Random(2).shuffle(B)


def terms(place: int, **more: Any) -> Terms:
    """Of the bank (0) or the telco (1)."""
    minima = (OUR_MIN, THEIR_MIN)
    given = {"our_min_size": minima[place], "their_min_size": minima[1 - place]}
    return Terms("r1", SALT, most_ours=MOST, most_theirs=MOST, **given, **more)


def hashed(wanted: Terms, *parts: bytes) -> bytes:
    return Run(None, None, wanted, Means()).hash(*parts)  # type: ignore[arg-type]


def balanced(name: str, ours: list[int], theirs: list[int], **more: Any) -> Scene:
    """One of `psi.align`; `more`: of its terms."""
    duplicates = "all" if more.get("multiple") else "error"
    learns = more.get("learns", "both")
    joined = Joined(KEYS, learns, more.get("keep"), more.get("multiple", False))

    def side(place: int, values: list[int]) -> Callable[..., Alignment]:
        keys = source(values, duplicates)
        return lambda channel, guard, store: align([keys], channel, guard, terms(place, **more), Means(store))

    def digest(heard: Message) -> bytes:
        wanted = terms(0, **more)
        if isinstance(heard, Size):
            return hashed(wanted, REVEALED, b"size", heard.count.to_bytes(8, "little"))
        assert isinstance(heard, Bitmap)
        return hashed(wanted, REVEALED, heard.count.to_bytes(8, "little"), heard.bits.tobytes())

    receives = learns in ("both", "size") and (len(ours) < len(theirs) or more.get("small") == "bank")
    later = tuple(part for part in LATER if part != "salt") if more.get("small") == "telco" else LATER
    scene = record(
        name, side(0, ours), side(1, theirs), request(joined).openings, later=later, digest=digest if receives else None
    )
    scene.terms, scene.learns = terms(0, **more), learns
    return scene


class InSeries:
    """A later run of a series between two sides that hold its first one."""

    def __init__(self, name: str, ours: list[int], theirs: list[int]) -> None:
        first = (ours[3:] + [5, 6], theirs[3:] + [7, 8])  # 5 to 8 go, the first three come
        openings = request(Joined(KEYS, incremental=True)).openings
        from party.guard import Guard
        from tests.support import Ledger, channels

        pair = channels()
        scalars = [curve25519.random_scalar() for _ in range(2)]
        keys = [Keys(scalar, bytes([place]) * 32, lambda count: None) for place, scalar in enumerate(scalars)]

        def start(place: int) -> Callable[[], Any]:
            guard = Guard("r0", pair[1 - place].us, openings, Ledger())
            run = Run(pair[place], guard, self.terms(place), Means(MemoryStore()))
            return lambda: begin(run, source(first[place]), keys[place])

        begun = run_pair(start(0), start(1), *pair)
        self.base = [made[1] for made in begun]
        self.known: Known | None = None

        def side(place: int, values: list[int]) -> Callable[..., Alignment]:
            def go(channel: Any, guard: Any, store: MemoryStore) -> Alignment:
                run = Run(channel, guard, self.terms(place), Means(store))
                found = advance(run, source(values), keys[place], self.base[place])
                if found is None:
                    from psi.run import too_small

                    raise too_small(run)
                if place == 0:
                    self.known = found[1]
                return found[0]

            return go

        def digest(heard: Message) -> bytes:
            assert isinstance(heard, Bitmap)
            return hashed(self.terms(0), IN_SERIES, heard.count.to_bytes(8, "little"), heard.bits.tobytes())

        receives = self.base[0].receiver
        self.scene = record(name, side(0, ours), side(1, theirs), openings, digest=digest if receives else None)
        self.scene.terms, self.scene.learns, self.scene.series = self.terms(0), "both", self
        assert self.known is not None
        self.clean = self.known

    @staticmethod
    def terms(place: int) -> Terms:
        return terms(place, series="label")


def make(name: str) -> Scene:
    """The scene of this name."""
    if name.startswith("series"):
        return InSeries(name, *((A, B) if name == "series, receiver" else (B, A))).scene
    ours, theirs, more = FORMS[name]
    return balanced(name, ours, theirs, **more)


_REPEATED = ([*A, *A[:5], A[2]], [*B, *B[3:9], B[4]])
FORMS: dict[str, tuple[list[int], list[int], dict[str, Any]]] = {
    "receiver": (A, B, {}),
    "sender": (B, A, {}),
    "size, receiver": (A, B, {"learns": "size"}),
    "size, sender": (B, A, {"learns": "size"}),
    "learner": (B, A, {"learns": "bank"}),
    "not the learner": (A, B, {"learns": "telco"}),
    "joined": (*_REPEATED, {"multiple": True, "keep": "telco"}),
    "short": (A[:9], B, {"small": "bank"}),
    "long": (B, A[:9], {"small": "telco"}),
}
NAMES = [*FORMS, "series, receiver", "series, sender"]


def kinds(scene: Scene) -> list[type[Message]]:
    """What the peer sends here and is to be changed."""
    found = list(dict.fromkeys(kind for kind, _ in scene.frames))
    return [Multiplicities, Unmatched] if scene.name == "joined" else found


# --- the oracle -----------------------------------------------------------------------------------------------------


def expected(scene: Scene, place: int, message: Any) -> Expected:
    """What must come of the frame at `place` carrying this message, None where the decoder refuses it."""
    right: Expected = ("aligned", scene.right.rows.tolist())
    if message is None:
        return BREACH
    if isinstance(message, Agreed):
        return OTHER_TERMS
    if isinstance(message, Listed):
        return _listed(scene, scene.message(place), message) or right
    if isinstance(message, Commitment):
        return right if scene.learns == "size" else BREACH  # where no seed follows, nothing is compared with it
    if isinstance(message, Enough):
        return right if message.enough else NOT_ENOUGH
    if isinstance(message, Removed):
        return _removed(scene, place, message)
    if isinstance(message, Tags) and scene.name != "short":
        return _tags(scene, place, [frame.tags for frame in _frames(scene, Tags, place, message)])
    if isinstance(message, Evaluated):
        return _evaluated(scene, place, message)
    if isinstance(message, Multiplicities):
        return _multiplicities(scene, place, message)
    if isinstance(message, Unmatched):
        unmatched = scene.right.unmatched
        rows = scene.right.rows.tolist()[: len(scene.right.rows) - unmatched]
        return BREACH if message.count > MOST else ("aligned", rows + [-1] * message.count)
    if isinstance(message, Masked | Salt | Seed | Size | Bitmap | Digest | Tags):
        return BREACH
    raise AssertionError(f"no outcome is defined for {type(message).__name__}")


def revealed(scene: Scene, place: int, message: Any) -> int:
    """The frame with which our side can know; nothing may be disclosed after it."""
    later: dict[type[Message], type[Message]] = {Commitment: Seed, Size: Digest, Bitmap: Digest, Removed: Bitmap}
    listed = Tags if scene.name == "short" else Masked
    later |= {Listed: listed, Masked: Masked, Salt: Tags, Tags: Tags, Evaluated: Evaluated}
    kind = type(message)
    if message is None or kind not in later:
        return place
    if kind is Listed and message.count != scene.message(place).count:
        return place if expected(scene, place, message) == NOT_ENOUGH else scene.places(listed)[-1]
    found = [number for number in scene.places(later[kind]) if number >= place]
    return found[-1] if found else place


def _frames(scene: Scene, kind: type[Message], place: int, message: Any) -> list[Any]:
    """All messages of this kind, one of them another."""
    return [message if number == place else scene.message(number) for number in scene.places(kind)]


def _listed(scene: Scene, told: Listed, message: Listed) -> Expected | None:
    ours = scene.right.ours if not hasattr(scene, "series") else scene.series.clean.next_ours
    ours -= scene.series.base[0].next_ours if hasattr(scene, "series") else 0
    if message.count > MOST or message.points_held > chunks_of(ours) or message.tags_held > chunks_of(message.count):
        return BREACH
    if not hasattr(scene, "series") and min(ours, message.count) < OUR_MIN:
        return NOT_ENOUGH
    if (message.count, message.digest) != (told.count, told.digest):
        return BREACH
    return None  # what it says it holds is its own loss: the recorded peer does hold it


def _by_place(scene: Scene, found: dict[int, int], theirs: int) -> Expected:
    """The alignment of these places of theirs with our rows."""
    if len(found) < OUR_MIN:
        return NOT_ENOUGH
    if scene.learns == "size":
        return ("aligned", [])
    if scene.learns == "both":
        return ("aligned", [found[place] for place in sorted(found)])
    return ("aligned", [found.get(place, -1) for place in range(theirs)])


def _sent(listed: KeyList, seed: bytes) -> np.ndarray:
    """Our row behind each place of the secret order."""
    rows = np.concatenate([listed.rows(chunk) for chunk in range(listed.chunks)])
    words = np.concatenate(list(order_words(seed, len(listed))))
    return rows[np.argsort(words, kind="stable")]


def _seed(scene: Scene) -> bytes:
    places = scene.places(Seed)
    return scene.message(places[0]).seed if places else bytes(32)


def _known_tags(scene: Scene, journal: str, width: int) -> dict[bytes, int]:
    """The peer's tags and their places, from what the recorded run left."""
    records = np.concatenate(list(Sorter(scene.after.journal(journal), width + 4).ranges()))
    return {row[:-4].tobytes(): int.from_bytes(row[-4:].tobytes(), "big") for row in records}


def _looked_up(scene: Scene, got: np.ndarray, known: dict[bytes, int]) -> Expected:
    seen = [row.tobytes() for row in got]
    if len(set(seen)) < len(seen):
        return BREACH
    rows = _sent(kept_list(scene.after), _seed(scene))
    return _by_place(scene, {known[tag]: int(rows[at]) for at, tag in enumerate(seen) if tag in known}, len(known))


def _tags(scene: Scene, place: int, chunks: list[np.ndarray]) -> Expected:
    clean = [scene.message(number).tags for number in scene.places(Tags)]
    if [chunk.shape for chunk in chunks] != [chunk.shape for chunk in clean]:
        return BREACH
    got = np.concatenate(chunks)
    if hasattr(scene, "series"):
        return _tags_in_series(scene, got)
    return _looked_up(scene, got, _known_tags(scene, "tagged", got.shape[1]))


def _tags_in_series(scene: Scene, got: np.ndarray) -> Expected:
    series, seen = scene.series, [row.tobytes() for row in got]
    clean, base = series.clean, series.base[0]
    theirs, own = _table(clean.theirs, clean.theirs_gone), _table(clean.own, clean.ours_gone)
    if len(set(seen)) < len(seen) or any(own.get(tag, base.next_ours) < base.next_ours for tag in seen):
        return BREACH
    pairs = {int(pair >> np.uint64(32)): int(pair & np.uint64(0xFFFFFFFF)) for pair in clean.matched()}
    row_of = dict(zip((pairs[place] for place in sorted(pairs)), scene.right.rows.tolist(), strict=True))
    found = {there: row_of[here] for there, here in pairs.items() if here < base.next_ours}
    rows = _sent(kept_list(scene.after), _seed(scene))
    found |= {theirs[tag]: int(rows[at]) for at, tag in enumerate(seen) if tag in theirs}
    return _by_place(scene, found, 0)


def _table(table: Table, gone: np.ndarray) -> dict[bytes, int]:
    """Tags that are not gone, with their places."""
    found = {}
    for part in (table.base, table.added):
        for first, tail in zip(part.first, part.tail, strict=True):
            if not gone[int(tail) & 0xFFFFFFFF]:
                found[first.tobytes() + tail.tobytes()[4:]] = int(tail) & 0xFFFFFFFF
    return found


def _evaluated(scene: Scene, place: int, message: Evaluated) -> Expected:
    clean = scene.message(place).points
    if len(message.points) != len(clean) or not curve25519.is_canonical(message.points).all():
        return BREACH
    points = np.concatenate([frame.points for frame in _frames(scene, Evaluated, place, message)])
    inverse = (scene.after.load("secret") or b"")[96:]
    made = curve25519.multiply(inverse, points)
    if not made.any(axis=1).all():
        return BREACH
    count = scene.right.theirs
    width = tag_width(count, count)
    salt = scene.message(scene.places(Salt)[0]).salt
    return _looked_up(scene, tags(_tag_key(salt), made, width), _known_tags(scene, "their-tags", width))


def _removed(scene: Scene, place: int, message: Removed) -> Expected:
    series, told = scene.series, scene.message(place).places.tolist()
    base, places = series.base[0], message.places.tolist()
    alive = set(np.flatnonzero(~base.theirs_gone).tolist())
    if places != sorted(set(places)) or not set(places) <= alive or not message.last:
        return BREACH
    if not base.receiver:  # the bitmap was made with what has really gone
        left = len(alive) - len(places) + scene.message(scene.places(Listed)[0]).count
        fits = (scene.right.count or 0) <= left
        return ("aligned", scene.right.rows.tolist()) if fits else BREACH
    pairs = {int(pair >> np.uint64(32)): int(pair & np.uint64(0xFFFFFFFF)) for pair in series.clean.matched()}
    found = dict(zip(sorted(pairs), scene.right.rows.tolist(), strict=True))
    back = set(told) - set(places)  # none of these matched: the peer's 7 and 8 are not ours
    assert not back & set(found)
    return _by_place(scene, {there: row for there, row in found.items() if there not in set(places)}, 0)


def _multiplicities(scene: Scene, place: int, message: Multiplicities) -> Expected:
    clean = scene.message(place).counts
    counts = np.concatenate([frame.counts for frame in _frames(scene, Multiplicities, place, message)]).tolist()
    if len(message.counts) != len(clean) or 0 in counts or sum(counts) > MOST:
        return BREACH
    values = _REPEATED[0]
    firsts = [scene.right.rows[at] for at in _starts(scene)]
    rows = []
    for first, theirs in zip(firsts, counts, strict=True):
        mine = [row for row, value in enumerate(values) if value == values[first]]
        rows += [row for row in mine for _ in range(theirs)]
    return ("aligned", rows + [-1] * scene.right.unmatched)


def _starts(scene: Scene) -> list[int]:
    """Where each matched key begins in the recorded alignment."""
    clean = np.concatenate([scene.message(number).counts for number in scene.places(Multiplicities)]).tolist()
    values, at, found = _REPEATED[0], 0, []
    for count in clean:
        found.append(at)
        at += count * values.count(values[scene.right.rows[at]])
    return found
