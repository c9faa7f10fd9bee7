"""A peer that breaks the rules of a series: each breach is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from party.errors import PeerError, TallyError
from party.message import Message
from psi.messages import Bitmap, Listed, Removed, Tags
from tests.psi.series_pair import Pair, check, source


def refused(tmp_path: Path, change: Callable[[Message], Message], cheat: int = 1) -> TallyError:
    """The honest side's error in the second run of a series; the cheating side's messages are changed."""
    pair = Pair(tmp_path)
    a, b = list(range(30)), list(range(20, 70))
    check(pair.run("run-0", (source(a), source(b))), a, b)
    a, b = [*a[3:], 60, 101], [*b[3:], 5, 101]
    outcomes = pair.run("run-1", (source(a), source(b)), lambda place, m: change(m) if place == cheat else m)
    outcome = outcomes[1 - cheat]
    assert isinstance(outcome, TallyError), outcome
    return outcome


@pytest.mark.parametrize(
    ("places", "text"),
    [([2, 1], "out of order"), ([1, 1], "out of order"), ([50], "not there"), ([49, 4_000_000_000], "not there")],
)
def test_places_that_cannot_be_removed_are_refused(places: list[int], text: str, tmp_path: Path) -> None:
    def change(message: Message) -> Message:
        return Removed(True, np.array(places, dtype="<u4")) if isinstance(message, Removed) else message

    error = refused(tmp_path, change)
    assert isinstance(error, PeerError) and text in error.message


def test_a_stream_of_empty_removals_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, lambda m: Removed(False, m.places[:0]) if isinstance(m, Removed) else m)
    assert isinstance(error, PeerError) and "out of order" in error.message


@pytest.mark.parametrize("cheat", [0, 1])
def test_a_known_key_that_comes_as_new_is_refused(cheat: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that forgets what it has sent would learn which of two tags is which."""
    import psi.series as module

    pair = Pair(tmp_path)
    a, b = list(range(30)), list(range(20, 70))
    check(pair.run("run-0", (source(a), source(b))), a, b)
    real = module.find_changes

    def forgetful(identifiers: Any, known: Any, key: bytes) -> Any:
        if known.receiver == (cheat == 0):
            known = replace(known, ours_gone=np.arange(known.next_ours) < 2)
        return real(identifiers, known, key)

    monkeypatch.setattr(module, "find_changes", forgetful)
    outcome = pair.run("run-1", (source(a), source(b)))[1 - cheat]
    assert isinstance(outcome, PeerError) and "torsion" in outcome.message


def test_a_bitmap_over_keys_that_are_gone_is_refused(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    a, b = list(range(30)), list(range(20, 70))
    check(pair.run("run-0", (source(a), source(b))), a, b)
    gone: list[int] = []

    def change(place: int, message: Message) -> Message:
        if isinstance(message, Removed) and place == 1:
            gone.extend(message.places.tolist())
        if not isinstance(message, Bitmap):
            return message
        bits = np.unpackbits(message.bits, bitorder="little")
        bits[np.flatnonzero(bits)[0]] = 0  # one match less, one key that is gone more
        bits[gone[0]] = 1
        return Bitmap(message.count, np.packbits(bits, bitorder="little"))

    outcome = pair.run("run-1", (source(a), source(b[3:])), change)[1]
    assert isinstance(outcome, PeerError) and "gone" in outcome.message


def test_tags_of_known_keys_given_for_new_ones_are_refused(tmp_path: Path) -> None:
    def change(message: Message) -> Message:
        return Tags(message.tags[[0, 0]]) if isinstance(message, Tags) else message

    error = refused(tmp_path, change)
    assert isinstance(error, PeerError) and "twice" in error.message


def test_more_new_keys_than_agreed_are_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, lambda m: replace(m, count=1 << 25) if isinstance(m, Listed) else m)
    assert isinstance(error, PeerError | TallyError)
