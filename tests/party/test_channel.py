"""The channel: what protocols rely on, what a bad peer meets, how a run ends. One process, no network."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time

import pytest

from party import limits
from party.channel import Channel, CutTransport, memory_pair
from party.errors import (
    DataError,
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
from party.frame import Closing, Header
from tests.party.channels import Blob, Number, against, blob, frame, number
from tests.support import run_pair

pytestmark = pytest.mark.usefixtures("no_thread_is_left")

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
