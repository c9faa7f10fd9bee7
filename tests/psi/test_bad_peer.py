"""A peer that breaks a rule of the alignment is refused with exit code 7, and nothing is published after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from kernels import curve25519, curve25519_reference
from kernels.curve25519_reference import coordinate, lift
from party.errors import PeerError
from party.message import Message
from psi import Means, MemoryStore, Store, Terms, match
from psi.masking import chain, kept_list
from psi.messages import Bitmap, Commitment, Digest, Enough, Listed, Masked, Seed, Tags
from psi.rows import ascending
from tests.psi.support import LISTS_BEGIN, SALT, Tampered, both_ends, guard, ids, means, terms
from tests.support import channels

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
SHORT, LONG = ids(range(12)), ids(range(6, 26))  # the shorter list's owner receives the tags


def points(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Message], Message]:
    """Change the peer's masked list, which fits one chunk, and announce the changed one."""

    def tamper(message: Message) -> Message:
        if isinstance(message, Listed):
            listed = change(kept_list(PEER.store).content(0).copy())
            return replace(message, digest=chain(LISTS_BEGIN, listed))
        return Masked(change(message.points.copy())) if isinstance(message, Masked) else message

    return tamper


class Peer:
    """The broken peer's own store, where its true list lies."""

    store: Store = MemoryStore()


PEER = Peer()


def with_point(value: int) -> Callable[[np.ndarray], np.ndarray]:
    """Put one given u into the list, at the place where it keeps the order."""

    def change(listed: np.ndarray) -> np.ndarray:
        listed[0] = np.frombuffer(value.to_bytes(32, "little"), np.uint8)
        return listed[ascending(listed)]

    return change


def mapped(item: bytes) -> np.ndarray:
    return curve25519.hash_to_curve(*curve25519.pack([item]), b"t")


@cache
def eight_of_one() -> np.ndarray:
    base = lift(
        curve25519.multiply(
            curve25519.random_scalar(), curve25519.hash_to_curve(*curve25519.pack([b"x"]), b"t")
        ).tobytes()
    )
    for number in range(100):
        torsion = curve25519_reference._times(L, lift(mapped(b"%d" % number).tobytes()))
        shifted, point = set(), base
        for _ in range(8):
            shifted.add(coordinate(point))
            point = point + torsion
        if len(shifted) == 8:
            return np.frombuffer(b"".join(sorted(shifted)), np.uint8).reshape(8, 32)
    raise AssertionError("no point of order eight found")


def with_torsion(listed: np.ndarray) -> np.ndarray:
    listed[:8] = eight_of_one()
    return listed[ascending(listed)]


def flipped(field: bytes) -> bytes:
    return bytes([field[0] ^ 1]) + field[1:]


def replaced_tags(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Message], Message]:
    return lambda message: Tags(change(message.tags.copy())) if isinstance(message, Tags) else message


def bitmap(change: Callable[[Bitmap], Bitmap]) -> Callable[[Message], Message]:
    return lambda message: change(message) if isinstance(message, Bitmap) else message


def changed(kind: type[Message], name: str, change: Callable[[bytes], bytes]) -> Callable[[Message], Message]:
    return lambda m: replace(m, **{name: change(getattr(m, name))}) if isinstance(m, kind) else m


def outcome(
    change: Callable[[Message], Message | None], peer_is_longer: bool, minimum: int = 0
) -> tuple[BaseException, list[str], list[str]]:
    """The honest side's error, what its ledger holds as disclosed, and the order in which kinds went out."""
    ours, theirs = (SHORT, LONG) if peer_is_longer else (LONG, SHORT)
    first, second = channels()
    allowed, ledger = guard("telco")
    sent: list[str] = []

    def watched(message: Message) -> Message:
        sent.append(type(message).__name__)
        return message

    def honest() -> object:
        return match(ours, Tampered(first, watched), allowed, terms(ours=minimum))

    def cheating() -> object:
        PEER.store = MemoryStore()
        return match(theirs, Tampered(second, change), guard("bank")[0], terms(theirs=minimum), Means(PEER.store))

    error, _ = both_ends(honest, cheating, first, second)
    assert isinstance(error, BaseException), "the honest side noticed nothing"
    return error, [str(fields["what"]) for _, fields in ledger.events], sent


LISTS = {
    "the neutral point": (with_point(0), "small order"),
    "u = 1": (with_point(1), "small order"),
    "u = -1": (with_point(P - 1), "small order"),
    "order eight": (
        with_point(325606250916557431795983626356110631294008115727848805560023387167927233504),
        "small order",
    ),
    "u = p": (with_point(P), "canonical"),
    "u = p + 9": (with_point(P + 9), "canonical"),
    "u = 2^255 - 1": (with_point(2**255 - 1), "canonical"),
    "bit 255": (with_point(9 + 2**255), "canonical"),
    "unsorted": (lambda listed: listed[::-1], "ascending"),
    "repeated": (lambda listed: np.concatenate([listed[:1], listed[:-1]]), "ascending"),
    "too many": (lambda listed: np.concatenate([listed, np.full((1, 32), 127, np.uint8)]), "were due"),
    "too few": (lambda listed: listed[:-1], "were due"),
    "none": (lambda listed: listed[:0], "were due"),
    "torsion-shifted": (with_torsion, "torsion"),
}


@pytest.mark.parametrize("peer_is_longer", [True, False])
@pytest.mark.parametrize("case", LISTS)
def test_a_broken_list_is_refused_before_anything_that_depends_on_it_leaves(case: str, peer_is_longer: bool) -> None:
    change, text = LISTS[case]
    error, disclosed, sent = outcome(points(change), peer_is_longer)
    assert isinstance(error, PeerError) and error.exit_code == 7 and text in error.message
    assert error.party == "telco"
    assert disclosed == ["alignment.list"]
    assert sent == ["Agreed", "Listed", "Masked"]


def test_the_eight_shifted_points_pass_every_check_but_the_last() -> None:
    shifted = eight_of_one()
    assert curve25519.is_canonical(shifted).all() and len(np.unique(shifted, axis=0)) == 8
    products = curve25519.multiply(curve25519.random_scalar(), shifted)
    assert products.any() and len(np.unique(products, axis=0)) == 1


FROM_TAG_SENDER = {
    "too few tags": (replaced_tags(lambda tags: tags[:-1]), "were due"),
    "too many tags": (replaced_tags(lambda tags: np.concatenate([tags, tags[:1]])), "were due"),
    "short tags": (replaced_tags(lambda tags: np.ascontiguousarray(tags[:, :-1])), "were due"),
    "long tags": (replaced_tags(lambda tags: np.hstack([tags, tags[:, :1]])), "were due"),
    "another seed": (changed(Seed, "seed", flipped), "another seed"),
    "another commitment": (changed(Commitment, "digest", flipped), "another seed"),
    "another digest": (changed(Digest, "digest", flipped), "another alignment"),
}


@pytest.mark.parametrize("case", FROM_TAG_SENDER)
def test_a_broken_tag_sender_is_refused(case: str) -> None:
    change, text = FROM_TAG_SENDER[case]
    error, disclosed, _ = outcome(change, peer_is_longer=True)
    assert isinstance(error, PeerError) and text in error.message
    assert ("alignment.rows" in disclosed) == (case == "another digest")


def test_a_tag_that_matches_and_comes_twice_is_refused() -> None:
    def inside_out(tags: np.ndarray) -> np.ndarray:
        half = len(tags) // 2
        return np.concatenate([tags[:half], tags[:half]])

    same = ids(range(12))  # all match, so whichever tags are repeated, they match
    first, second = channels()
    tamper = replaced_tags(inside_out)
    error, _ = both_ends(
        lambda: match(same, first, guard("telco")[0], terms()),
        lambda: match(same, Tampered(second, tamper), guard("bank")[0], terms()),
        first,
        second,
    )
    assert isinstance(error, PeerError) and "one tag twice" in error.message


FROM_TAG_RECEIVER = {
    "count and bits differ": (bitmap(lambda m: replace(m, count=m.count + 1)), "hold the count"),
    "one bit more": (bitmap(lambda m: replace(m, bits=np.bitwise_or(m.bits, 255))), "hold the count"),
    "shorter": (bitmap(lambda m: replace(m, bits=m.bits[:-1])), "another length"),
    "longer": (bitmap(lambda m: replace(m, bits=np.append(m.bits, np.uint8(0)))), "another length"),
    "bits beyond the list": (
        bitmap(lambda m: replace(m, bits=np.append(m.bits[:-1], m.bits[-1] | np.uint8(128)), count=m.count + 1)),
        "hold the count",
    ),
    "below the minimum": (bitmap(lambda m: replace(m, bits=m.bits * 0, count=0)), "impossible count"),
    "more than either list": (
        bitmap(lambda m: replace(m, bits=np.array([255, 255, 15], np.uint8), count=20)),
        "impossible count",
    ),
    "another digest": (changed(Digest, "digest", flipped), "another alignment"),
}


@pytest.mark.parametrize("case", FROM_TAG_RECEIVER)
def test_a_broken_tag_receiver_is_refused(case: str) -> None:
    change, text = FROM_TAG_RECEIVER[case]
    error, _, _ = outcome(change, peer_is_longer=False, minimum=3)
    assert isinstance(error, PeerError) and text in error.message


def test_a_bitmap_other_than_the_receivers_own_is_refused_by_both_digests() -> None:
    """The tag receiver keeps one alignment and sends another of the same count: the digests differ."""

    def rotated(message: Bitmap) -> Bitmap:
        bits = np.unpackbits(message.bits, bitorder="little")[:20]
        return Bitmap(message.count, np.packbits(np.roll(bits, 1), bitorder="little"))

    error, _, _ = outcome(bitmap(rotated), peer_is_longer=False)
    assert isinstance(error, PeerError) and "another alignment" in error.message


def test_more_keys_than_agreed_are_refused_before_anything_is_masked() -> None:
    first, second = channels()
    capped = Terms(run="r1", salt=SALT, most_theirs=19)
    error, _ = both_ends(
        lambda: match(SHORT, first, guard("telco")[0], capped),
        lambda: match(LONG, second, guard("bank")[0], terms()),
        first,
        second,
    )
    assert isinstance(error, PeerError) and "agreement allows 19" in error.message


@pytest.mark.parametrize("announced", [13, 11])
def test_a_list_of_another_length_than_announced_is_refused(announced: int) -> None:
    error, _, sent = outcome(lambda m: replace(m, count=announced) if isinstance(m, Listed) else m, False)
    assert isinstance(error, PeerError) and "were due" in error.message
    assert sent == ["Agreed", "Listed", "Masked"]


def test_a_message_out_of_turn_is_refused() -> None:
    error, _, _ = outcome(lambda m: Enough(True) if isinstance(m, Masked) else m, True)
    assert isinstance(error, PeerError)


@pytest.mark.parametrize("peer_is_longer", [True, False])
def test_a_resumed_run_with_another_list_of_the_peer_is_refused(peer_is_longer: bool) -> None:
    """Otherwise a peer could try one list after the other on one scalar of ours."""
    ours, theirs = (SHORT, LONG) if peer_is_longer else (LONG, SHORT)
    store = MemoryStore()
    for turn, text in ((0, ""), (1, "before this run was interrupted")):
        first, second = channels()
        peer = theirs if turn == 0 else ids(range(100, 100 + (20 if peer_is_longer else 12)))
        error, _ = both_ends(
            lambda chan=first: match(ours, chan, guard("telco")[0], terms(), means(store)),
            lambda chan=second, peer=peer: match(peer, chan, guard("bank")[0], terms()),
            first,
            second,
        )
        assert not isinstance(error, BaseException) if turn == 0 else text in getattr(error, "message", "")
    assert isinstance(error, PeerError)
