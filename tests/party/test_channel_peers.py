"""The channel against time and a peer that breaks its rules."""

from __future__ import annotations

import ctypes
import itertools
import random
import threading
import time
from typing import Any

import pytest

from party import limits
from party.channel import CutTransport, memory_pair
from party.errors import (
    DeadlineExceeded,
    PeerError,
    PeerRefused,
    PeerVanished,
    TallyError,
)
from party.frame import HEARTBEAT, Abort, Closing, Header
from party.message import encode
from tests.party.channels import Blob, Number, against, blob, frame, heard, number
from tests.support import run_pair

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

# --- time -------------------------------------------------------------------------------------------------------------


def test_a_silent_peer_is_noticed_and_a_computing_one_is_not() -> None:
    channel, _ = against(silence=0.3)
    start = time.monotonic()
    with pytest.raises(PeerVanished, match=r"silent for 0\.3 s") as caught:
        channel.recv(Number)
    assert 0.2 < time.monotonic() - start < 3
    channel.abort(caught.value)

    bank, telco = memory_pair(silence=0.3)
    with pytest.raises(DeadlineExceeded, match="is there but sent nothing"):
        bank.recv(Number, timeout=1.0)  # the other side does nothing at all, its threads send heartbeats
    run_pair(bank.close, telco.close)


def test_two_idle_sides_do_not_answer_heartbeats_with_heartbeats() -> None:
    class Counting(CutTransport):
        frames = 0

        def write(self, frame: Any) -> None:
            Counting.frames += 1
            super().write(frame)

    bank, telco = memory_pair(silence=2.5, wrap=lambda inner: Counting(inner, 1000))
    threading.Event().wait(2.2)  # both compute, their reader threads take what comes: a heartbeat each half second
    assert 2 <= Counting.frames <= 6
    run_pair(bank.close, telco.close)


def test_a_stopped_interpreter_of_ours_is_not_a_silent_peer() -> None:
    bank, telco = memory_pair(silence=0.4)
    ctypes.PyDLL(None).usleep(900_000)  # holds the interpreter lock: no thread of either side runs
    run_pair(lambda: bank.swap(Number(1)), lambda: telco.swap(Number(2)))
    run_pair(bank.close, telco.close)


def test_a_peer_that_trickles_bytes_meets_the_deadline() -> None:
    channel, theirs = against(number(1)[:-1], silence=5)
    with pytest.raises(DeadlineExceeded) as caught:
        channel.recv(Number, timeout=0.1)
    theirs.finish()
    channel.abort(caught.value)


# --- a bad peer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "kind", "words"),
    [
        (b"GET / HTTP/1.1\r\nHost: bank.example\r\n\r\n", PeerRefused, "version 71"),
        (Header(0, Number.kind, limits.FRAME_BYTES + 1, 0, bytes(8)).pack(), PeerError, "announces a frame"),
        (Header(0, Number.kind, 2**32 - 1, 0, bytes(8)).pack(), PeerError, "announces a frame"),
        (Header(0, HEARTBEAT, 1, 0, bytes(8)).pack() + b"x", PeerError, "announces a frame"),
        (b"\x02" + number(1)[1:], PeerRefused, "version 2"),
        (number(1, sequence=1), PeerError, "number 1 of stage 0"),
        (number(1, stage=1), PeerError, "of stage 1"),
        (number(1, tag=b"another!"), PeerError, "another run"),
        (frame(Blob.kind, bytes(4)), PeerError, "was due"),
        (frame(Number.kind, bytes(7)), PeerError, "shorter"),
        (frame(Number.kind, bytes(9)), PeerError, "longer"),
        (frame(Abort.kind, b"nonsense"), PeerError, "wrong length"),
    ],
)
def test_a_broken_frame_is_a_typed_error_and_the_peer_is_told(raw: bytes, kind: type[TallyError], words: str) -> None:
    channel, theirs = against(raw)
    with pytest.raises(kind, match=words) as caught:
        channel.recv(Number)
    assert (caught.value.party, caught.value.stage) == ("telco", "connect")
    theirs.finish()
    channel.abort(caught.value)
    assert caught.value.code.encode() in heard(theirs, channel)


def test_replayed_and_reordered_frames_are_refused() -> None:
    for second in (number(1, 0), number(3, 2)):
        channel, _ = against(number(1, 0) + second, end=True)
        assert channel.recv(Number) == Number(1)
        with pytest.raises(PeerError, match="was due") as caught:
            channel.recv(Number)
        channel.abort(caught.value)


def test_frames_after_the_closing_message_are_refused() -> None:
    channel, _ = against(frame(Closing.kind, encode(Closing(bytes(32)))) + number(1, 1), end=True)
    with pytest.raises((PeerError, PeerVanished)):
        channel.recv(Number)
    with pytest.raises(PeerError, match="after its closing"):
        channel.recv(Number)
    channel.abort(PeerError("x"))


def test_a_flood_stays_under_the_cap_and_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUTBOX_BYTES", 100_000)
    monkeypatch.setattr(limits, "INBOX_SOFT_BYTES", 1 << 20)
    monkeypatch.setattr(limits, "INBOX_BYTES", 3 << 20)
    channel, theirs = against()
    most = 0

    def flood() -> None:
        nonlocal most
        body = encode(blob(100_000))
        with pytest.raises(OSError, match="gone"):
            for sequence in itertools.count():
                theirs.write((frame(Blob.kind, body, sequence),))
                most = max(most, channel._line._inbox_bytes)

    def waits_in_send() -> None:
        with pytest.raises(PeerError, match="more than we can hold") as caught:
            while True:
                channel.send(blob(3 << 20))  # the peer reads nothing
        monkeypatch.setattr(limits, "ABORT_SECONDS", 0.2)
        channel.abort(caught.value)

    run_pair(flood, waits_in_send, timeout=20)
    assert 3 << 20 < most < (3 << 20) + 300_000


def test_a_flood_of_empty_frames_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INBOX_SOFT_BYTES", 50_000)
    channel, _ = against(b"".join(frame(Number.kind, b"", sequence) for sequence in range(20_000)), end=True)
    with pytest.raises(PeerError, match="shorter") as caught:
        channel.recv(Number)
    assert channel._line._inbox_bytes <= 52_000
    channel.abort(caught.value)


def test_words_of_the_peer_cannot_steer_a_terminal() -> None:
    channel, _ = against(
        frame(Abort.kind, encode(Abort("policy", "a\x1b]0;x\x07", "\x1b[2Jno\r\nway\u202e"))), end=True
    )
    with pytest.raises(PeerRefused) as caught:
        channel.recv(Number)
    assert all(letter.isprintable() for letter in caught.value.message + (caught.value.stage or ""))
    channel.abort(caught.value)


def test_mutated_streams_raise_nothing_but_tally_errors() -> None:
    good = b"".join(
        [number(7, 0), frame(Blob.kind, encode(blob(50)), 1), frame(HEARTBEAT), number(8, 2),
         frame(Abort.kind, encode(Abort("policy", "train", "no grant")), 3)]
    )  # fmt: skip
    choose = random.Random(20261123)
    for _ in range(400):
        raw = bytearray(good)
        for _ in range(choose.randint(1, 4)):
            place = choose.randrange(len(raw))
            what = choose.randrange(4)
            if what == 0:
                raw[place] ^= 1 << choose.randrange(8)
            elif what == 1:
                raw[place : place + 4] = choose.randbytes(4)
            elif what == 2:
                del raw[place : place + choose.randint(1, 30)]
            else:
                raw[place:place] = raw[: choose.randint(1, 60)]
        channel, _ = against(bytes(raw), end=True)
        with pytest.raises(TallyError) as caught:
            channel.recv(Number)
            channel.recv(Blob)
            channel.recv(Number)
            channel.close()
        assert caught.value.exit_code in (4, 5, 6, 7)
        channel.abort(caught.value)
