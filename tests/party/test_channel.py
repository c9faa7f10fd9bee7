"""The channel: what protocols rely on, what a bad peer meets, how a run ends. One process, no network."""

from __future__ import annotations

import ctypes
import gc
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pytest

from party import limits
from party.channel import Channel, CutTransport, memory_pair
from party.errors import (
    DataError,
    DeadlineExceeded,
    FileError,
    InternalError,
    Interrupted,
    NetworkError,
    PeerError,
    PeerRefused,
    PeerVanished,
    PolicyRefused,
    TallyError,
)
from party.frame import HEARTBEAT, Abort, Closing, Header
from party.message import Array, Cap, Int, Message, encode
from party.transport import MemoryTransport, memory_transports
from tests.support import run_pair


@dataclass(frozen=True, repr=False)
class Blob(Message, kind=0x7F10):
    content: Annotated[np.ndarray, Array("u1", Cap(1 << 24))]


@dataclass(frozen=True)
class Number(Message, kind=0x7F11):
    value: Annotated[int, Int()]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith(("to-", "from-"))]
    assert not left


def blob(size: int) -> Blob:
    return Blob(np.zeros(size, dtype=np.uint8))


def frame(kind: int, body: bytes = b"", sequence: int = 0, stage: int = 0, tag: bytes = bytes(8)) -> bytes:
    return Header(stage, kind, len(body), sequence, tag).pack() + body


def number(value: int, sequence: int = 0, **fields: int) -> bytes:
    return frame(Number.kind, encode(Number(value)), sequence, **fields)  # type: ignore[arg-type]


def against(raw: bytes = b"", *, end: bool = False, silence: float = 5.0) -> tuple[Channel, MemoryTransport]:
    """A channel whose peer is these bytes."""
    ours, theirs = memory_transports()
    channel = Channel(ours, "bank", "telco", silence=silence)
    if raw:
        theirs.write((raw,))
    if end:
        theirs.finish()
    return channel, theirs


def heard(theirs: MemoryTransport, channel: Channel) -> bytes:
    """Everything the channel wrote until it ended."""
    buffer, found = memoryview(bytearray(1 << 16)), b""
    while count := theirs.read_into(buffer, 5.0):
        found += bytes(buffer[:count])
    return found


# --- honest use ------------------------------------------------------------------------------------------------------


def test_counters_are_exact_on_both_sides_also_after_closing() -> None:
    bank, telco = memory_pair()

    def side(channel: Channel) -> None:
        with channel.stage("align"):
            channel.swap(Number(1))
            channel.send(blob(1000))
            channel.recv(Blob)
        channel.close()

    run_pair(lambda: side(bank), lambda: side(telco), bank, telco)
    # a header has 24 bytes; the bodies: number 8, array size and content, transcript and closing 4 + 32
    sent = 4 * Header.SIZE + 8 + (4 + 1000) + 36 + 36
    for channel in (bank, telco):
        counters = channel.counters
        assert (counters.sent, counters.received) == (sent, sent)
        assert (counters.messages_sent, counters.messages_received, counters.rounds) == (4, 4, 4)


def test_both_sides_may_send_far_more_than_the_queues_before_they_read() -> None:
    bank, telco = memory_pair()

    def side(channel: Channel) -> None:
        for _ in range(12):
            channel.send(blob(15 << 20))  # 180 MiB each way: the outbox and the soft inbox together hold 128
        for _ in range(12):
            channel.recv(Blob)
        channel.close()

    run_pair(lambda: side(bank), lambda: side(telco), bank, telco)


def test_a_fast_sender_is_slowed_down_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INBOX_SOFT_BYTES", 100_000)
    monkeypatch.setattr(limits, "INBOX_BYTES", 200_000)
    bank, telco = memory_pair()

    def slow() -> None:
        for _ in range(300):
            telco.recv(Blob)
            assert telco._line._inbox_bytes < 200_000
        telco.close()

    def fast() -> None:
        for _ in range(300):
            bank.send(blob(20_000))
        bank.close()

    run_pair(fast, slow, bank, telco)


def test_an_error_inside_a_stage_is_not_masked_and_learns_its_stage() -> None:
    bank, telco = memory_pair()
    with pytest.raises(DataError, match="no such thing") as caught, bank.stage("train"):
        raise DataError("no such thing")
    assert caught.value.stage == "train"
    with pytest.raises(ZeroDivisionError), bank.stage("score"):
        raise ZeroDivisionError
    bank.abort(caught.value)
    telco.abort(caught.value)


def test_stages_do_not_nest() -> None:
    bank, telco = memory_pair()
    with pytest.raises(InternalError, match="inside stage"), bank.stage("align"), bank.stage("train"):
        pass
    bank.abort(InternalError("x"))
    telco.abort(InternalError("x"))


def test_different_transcripts_are_an_integrity_error_on_both_sides() -> None:
    bank, telco = memory_pair()
    bank._hash_in.update(b"something the other side never sent")
    errors: list[TallyError] = []

    def side(channel: Channel) -> None:
        try:
            with channel.stage("align"):
                channel.swap(Number(1))
        except TallyError as error:
            errors.append(error)
            channel.abort(error)

    run_pair(lambda: side(bank), lambda: side(telco))
    assert [type(error) for error in errors] == [PeerError, PeerError] or {type(error) for error in errors} == {
        PeerError,
        NetworkError,  # the abort of the faster side came first
    }
    assert all(error.stage == "align" for error in errors)


# --- how a run ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "kind", "code", "words"),
    [
        (PolicyRefused("column balance is not granted"), PeerRefused, 4, "balance is not granted"),
        (PeerRefused("version"), PeerRefused, 4, "version"),
        (FileError("wrong key", file="/home/x/policy.yaml"), PeerRefused, 4, "its own files"),
        (DataError("a label is missing"), DataError, 6, "its own data does not fit"),
        (PeerError("a point is not canonical"), NetworkError, 5, "we broke the protocol"),
        (Interrupted("by a signal"), NetworkError, 5, "stopped at telco"),
        (InternalError("secret of our process"), NetworkError, 5, "its own fault"),
        (PeerVanished("gone"), NetworkError, 5, "gone"),
    ],
)
def test_an_abort_reads_as_what_it_is_on_the_other_side(
    cause: TallyError, kind: type[TallyError], code: int, words: str
) -> None:
    bank, telco = memory_pair()
    telco.stage_name = "train"
    telco.abort(cause)
    with pytest.raises(kind, match=words) as caught:
        bank.recv(Number)
    assert (type(caught.value), caught.value.exit_code) == (kind, code)
    assert (caught.value.party, caught.value.stage) == ("telco", "train")
    assert "secret" not in caught.value.message and "/home" not in caught.value.message
    bank.abort(caught.value)
    assert bank.counters.messages_sent == 0  # an abort is never answered


def test_an_abort_reaches_a_side_that_waits_in_send(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUTBOX_BYTES", 100_000)
    monkeypatch.setattr(limits, "INBOX_SOFT_BYTES", 100_000)
    bank, telco = memory_pair()
    full = threading.Event()

    def sends() -> None:
        with pytest.raises(PeerRefused, match="no grant"):
            while True:
                bank.send(blob(500_000))
                full.set()
        bank.abort(PeerRefused("again"))

    def aborts() -> None:
        assert full.wait(5)
        telco.abort(PolicyRefused("no grant"))

    run_pair(sends, aborts, timeout=10)


def test_an_abort_overtakes_what_is_queued_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, telco = memory_pair()
    for _ in range(3):
        telco.send(blob(10 << 20))  # more than a pipe holds
    start = time.monotonic()
    telco.abort(PolicyRefused("no grant"))
    assert time.monotonic() - start < 3
    with pytest.raises(PeerRefused):
        bank.recv(Blob)
    bank.abort(PeerRefused("x"))


def test_a_signal_handler_can_end_a_wait() -> None:
    bank, telco = memory_pair()
    start = time.monotonic()
    old = signal.signal(signal.SIGUSR1, lambda number, frame: bank.interrupt(Interrupted("stopped by SIGUSR1")))
    timer = threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGUSR1])
    try:
        timer.start()
        with pytest.raises(Interrupted, match="SIGUSR1") as caught:
            bank.recv(Number)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, old)
    bank.abort(caught.value)
    assert time.monotonic() - start < 2
    with pytest.raises(NetworkError, match="stopped at bank"):
        telco.recv(Number)
    telco.abort(caught.value)


def test_the_end_of_the_stream_is_never_success() -> None:
    for raw in (b"", number(1)[:30], frame(Closing.kind, b"")[:10]):
        channel, _ = against(raw, end=True)
        with pytest.raises(PeerVanished, match="without a closing message"):
            channel.close()


def test_an_early_closing_is_an_error_where_a_message_was_due() -> None:
    bank, telco = memory_pair()

    def ends() -> None:
        with pytest.raises(TallyError):
            telco.close()

    def waits() -> None:
        with pytest.raises(PeerVanished, match="ended the run early") as caught:
            bank.recv(Number)
        bank.abort(caught.value)

    run_pair(waits, ends)


def test_a_closed_channel_says_so() -> None:
    bank, telco = memory_pair()
    run_pair(bank.close, telco.close)
    bank.close()
    bank.abort(InternalError("too late"))
    with pytest.raises(InternalError, match="closed"):
        bank.send(Number(1))
    with pytest.raises(InternalError, match="closed"):
        bank.recv(Number)


def test_a_forgotten_channel_is_a_vanished_peer_and_leaves_no_thread() -> None:
    bank, telco = memory_pair()
    for _ in range(3):
        telco.send(blob(10 << 20))  # more than a pipe takes: the writer thread waits
    threads = bank._line._threads + telco._line._threads
    del telco
    gc.collect()
    with pytest.raises(PeerVanished):
        for _ in range(4):
            bank.recv(Blob)
    del bank
    gc.collect()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


@pytest.mark.parametrize("frames", range(5))
def test_a_cut_after_any_frame_is_a_vanished_peer_after_what_came_before(frames: int) -> None:
    bank, telco = memory_pair(wrap=lambda inner: CutTransport(inner, frames))
    seen: list[int] = []

    def cut() -> None:
        with pytest.raises(PeerVanished) as caught:
            for value in range(5):
                bank.swap(Number(value))
        bank.abort(caught.value)

    def stays() -> None:
        with pytest.raises(PeerVanished) as caught:
            for value in range(5):
                seen.append(telco.recv(Number).value)
                telco.send(Number(value))
        telco.abort(caught.value)

    run_pair(cut, stays)
    assert seen == list(range(frames))


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
