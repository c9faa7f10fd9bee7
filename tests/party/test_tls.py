"""TLS to a pinned peer, over real sockets on loopback."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

from party import tls
from party.channel import Channel
from party.errors import (
    DeadlineExceeded,
    Interrupted,
    NetworkError,
    PeerRefused,
    PeerVanished,
    TallyError,
    UsageError,
)
from party.identity import Identity, create
from party.message import Array, Cap, Message
from party.tls import Pin, accept, dial
from tests.support import run_pair


@dataclass(frozen=True, repr=False)
class Blob(Message, kind=0x7F12):
    content: Annotated[np.ndarray, Array("u1", Cap(1 << 24))]


def blob(size: int) -> Blob:
    return Blob(np.arange(size, dtype=np.uint8))


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Identity]:
    folder = tmp_path_factory.mktemp("keys")
    made = {name: create(folder / name, name) for name in ("bank", "telco", "shop")}
    made["false_telco"] = create(folder / "false_telco", "telco")
    return made


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def address(listener: socket.socket) -> str:
    return f"127.0.0.1:{listener.getsockname()[1]}"


def pin(identity: Identity) -> Pin:
    return identity.card().pin


def answer(listener: socket.socket, identity: Identity, *pins: Pin, timeout: float = 5.0) -> Channel:
    sock, _ = listener.accept()
    return accept(sock, identity, pins, timeout)


def both(ours: Callable[[], Channel], theirs: Callable[[], Channel]) -> tuple[object, object]:
    """What each side got: a channel or its error."""

    def caught(side: Callable[[], Channel]) -> Channel | TallyError:
        try:
            return side()
        except TallyError as error:
            return error

    return run_pair(lambda: caught(ours), lambda: caught(theirs), timeout=20)


def connected(parties: dict[str, Identity], listener: socket.socket) -> tuple[Channel, Channel]:
    bank, telco = parties["bank"], parties["telco"]
    found = both(
        lambda: dial(address(listener), bank, pin(telco)),
        lambda: answer(listener, telco, pin(parties["shop"]), pin(bank)),
    )
    assert isinstance(found[0], Channel) and isinstance(found[1], Channel)
    return found[0], found[1]


def test_both_names_come_from_the_pins_and_bytes_are_those_of_the_frames(
    parties: dict[str, Identity], listener: socket.socket
) -> None:
    bank, telco = connected(parties, listener)
    assert (bank.us, bank.peer, telco.us, telco.peer) == ("bank", "telco", "telco", "bank")

    def side(channel: Channel) -> int:
        with channel.stage("align"):
            for _ in range(3):
                channel.send(blob(15_000_000))
            total = sum(int(channel.recv(Blob).content.sum()) for _ in range(3))
        channel.close()
        return total

    expected = 3 * int(blob(15_000_000).content.sum())
    assert run_pair(lambda: side(bank), lambda: side(telco), bank, telco) == (expected, expected)
    assert bank.counters == telco.counters
    assert bank.counters.sent == 3 * (15_000_000 + 4) + 2 * 36 + 5 * 24


def test_the_session_is_tls_1_3_with_both_certificates_shown(
    parties: dict[str, Identity], listener: socket.socket
) -> None:
    before = set(threading.enumerate())
    bank, telco = connected(parties, listener)
    session = bank._transport._tls  # type: ignore[attr-defined]
    assert session.version() == "TLSv1.3"
    assert ssl.DER_cert_to_PEM_cert(session.getpeercert(True)) == parties["telco"].certificate_pem
    run_pair(bank.close, telco.close)
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name.startswith(("to-", "from-"))]


@pytest.mark.parametrize(
    ("dialler", "dialled", "listens", "allowed", "dial_says", "listener_says"),
    [
        ("bank", "telco", "false_telco", "bank", "is not the pinned one", "accept our certificate"),
        ("bank", "telco", "shop", "bank", "is not the pinned one", "accept our certificate"),
        ("shop", "telco", "telco", "bank", "does not accept our certificate", "is not the pinned one"),
        ("false_telco", "bank", "bank", "telco", "does not accept our certificate", "is not the pinned one"),
    ],
)
def test_another_certificate_is_refused_with_a_reason_on_both_sides(
    parties: dict[str, Identity], listener: socket.socket, dialler: str, dialled: str, listens: str, allowed: str,
    dial_says: str, listener_says: str,
) -> None:  # fmt: skip
    ours, theirs = both(
        lambda: dial(address(listener), parties[dialler], pin(parties[dialled])),
        lambda: answer(listener, parties[listens], pin(parties[allowed])),
    )
    assert isinstance(ours, NetworkError) and isinstance(theirs, NetworkError)
    assert dial_says in ours.message and ours.hint and ours.party == parties[dialled].name
    assert listener_says in theirs.message and theirs.party is None
    assert (ours.exit_code, theirs.exit_code, ours.stage) == (5, 5, "connect")


def test_the_fingerprint_decides_even_when_the_chain_is_accepted(
    parties: dict[str, Identity], listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls.ssl.SSLContext, "load_verify_locations", _trust(parties["false_telco"].certificate_pem))
    ours, _ = both(
        lambda: dial(address(listener), parties["bank"], pin(parties["telco"])),
        lambda: answer(listener, parties["false_telco"], pin(parties["bank"])),
    )
    assert isinstance(ours, NetworkError) and "is not the pinned one" in ours.message


def _trust(extra: str) -> Callable[..., None]:
    original = ssl.SSLContext.load_verify_locations

    def load(context: ssl.SSLContext, cadata: str) -> None:
        original(context, cadata=cadata)
        original(context, cadata=extra)

    return load


def test_a_pin_whose_fingerprint_is_of_another_certificate_is_refused(parties: dict[str, Identity]) -> None:
    with pytest.raises(TallyError, match="another fingerprint"):
        Pin("telco", parties["false_telco"].fingerprint, parties["telco"].certificate_pem)


def test_nobody_pinned_is_a_usage_error(parties: dict[str, Identity]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(UsageError, match="no peer is pinned"):
        accept(ours, parties["bank"], [])


def test_refused_and_unknown_addresses_say_what_to_check(parties: dict[str, Identity]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        closed = address(sock)
    for where in (closed, "no-such-name.invalid:7101"):
        with pytest.raises(NetworkError, match="cannot be reached") as caught:
            dial(where, parties["bank"], pin(parties["telco"]), timeout=5)
        assert caught.value.party == "telco" and "tally serve" in (caught.value.hint or "")


def test_a_peer_that_accepts_and_says_nothing_meets_the_deadline(
    parties: dict[str, Identity], listener: socket.socket
) -> None:
    start = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="did not finish the handshake"):
        dial(address(listener), parties["bank"], pin(parties["telco"]), timeout=0.3)
    ours, theirs = socket.socketpair()
    with theirs, pytest.raises(DeadlineExceeded, match="whoever connected did not finish"):
        accept(ours, parties["bank"], [pin(parties["telco"])], timeout=0.3)
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("raw", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", bytes(5000), b"\x16\x03\x01"])
def test_a_plain_text_peer_is_a_network_error_on_either_side(parties: dict[str, Identity], raw: bytes) -> None:
    for listening in (False, True):
        ours, theirs = socket.socketpair()
        theirs.sendall(raw)
        theirs.shutdown(socket.SHUT_WR)
        end = time.monotonic() + 5
        with theirs, pytest.raises(NetworkError, match=r"does not speak TLS|ended the connection"):
            tls._shake(ours, parties["bank"], [pin(parties["telco"])], end, listening=listening)
        assert ours.fileno() == -1


def test_a_tls_1_2_peer_is_refused_on_either_side(parties: dict[str, Identity], listener: socket.socket) -> None:
    bank, telco = parties["bank"], parties["telco"]

    def old(sock: socket.socket, *, listening: bool) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if listening else ssl.PROTOCOL_TLS_CLIENT)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(telco.certificate_file, telco.key_file)
        with sock, contextlib.suppress(OSError):
            context.wrap_socket(sock, server_side=listening)

    thread = threading.Thread(target=lambda: old(listener.accept()[0], listening=True))
    thread.start()
    with pytest.raises(NetworkError, match=r"does not speak TLS 1.3") as caught:
        dial(address(listener), bank, pin(telco), timeout=5)
    assert caught.value.party == "telco"
    thread.join()
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=old, args=(theirs,), kwargs={"listening": False})
    thread.start()
    with pytest.raises(NetworkError, match=r"does not speak TLS 1.3"):
        accept(ours, bank, [pin(telco)], 5)
    thread.join()


def test_another_version_is_refused_by_both_sides_before_any_message(
    parties: dict[str, Identity], monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, telco = parties["bank"], parties["telco"]
    sockets = socket.socketpair()
    hellos = iter([1, 2])
    pack = tls._HELLO.pack

    class Hello:
        size, unpack = tls._HELLO.size, tls._HELLO.unpack
        pack = staticmethod(lambda magic, version: pack(magic, next(hellos)))

    monkeypatch.setattr(tls, "_HELLO", Hello)
    end = time.monotonic() + 5
    found = both(
        lambda: tls._shake(sockets[0], bank, [pin(telco)], end, listening=False),
        lambda: tls._shake(sockets[1], telco, [pin(bank)], end, listening=True),
    )
    assert any(isinstance(side, PeerRefused) and "version 2" in side.message for side in found)
    for side in found:
        if isinstance(side, Channel):  # heard version 1; the other side has hung up
            with pytest.raises(PeerVanished):
                side.close()


def test_bytes_changed_on_the_way_end_the_run(parties: dict[str, Identity], listener: socket.socket) -> None:
    choose = random.Random(7)
    with socket.create_server(("127.0.0.1", 0)) as front:

        def relay() -> None:
            near, _ = front.accept()
            far = socket.create_connection(listener.getsockname())
            back = threading.Thread(target=pump, args=(far, near, 10**9))
            back.start()
            pump(near, far, 6_000)  # behind the handshake, inside the first message
            back.join()
            near.close()
            far.close()

        def pump(source: socket.socket, sink: socket.socket, flip: int) -> None:
            passed = 0
            with contextlib.suppress(OSError):
                while data := bytearray(source.recv(65536)):
                    if passed <= flip < passed + len(data):
                        data[flip - passed] ^= 1 << choose.randrange(8)
                    passed += len(data)
                    sink.sendall(data)
            for sock in (source, sink):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=relay)
        thread.start()
        found = both(
            lambda: dial(address(front), parties["bank"], pin(parties["telco"])),
            lambda: answer(listener, parties["telco"], pin(parties["bank"])),
        )
        bank, telco = found
        assert isinstance(bank, Channel) and isinstance(telco, Channel)
        bank.send(blob(20_000))
        with pytest.raises(PeerVanished, match="broke") as caught:
            telco.recv(Blob)
        telco.abort(caught.value)
        with pytest.raises(NetworkError) as caught:
            bank.recv(Blob)
        bank.abort(caught.value)
        thread.join()


def test_one_thread_may_write_while_another_reads(parties: dict[str, Identity], listener: socket.socket) -> None:
    bank, telco = connected(parties, listener)

    def side(channel: Channel) -> None:
        numbers = np.random.default_rng(1).integers(1, 200_000, 150)
        for size in numbers:
            channel.send(blob(int(size)))
        for size in numbers:
            assert np.array_equal(channel.recv(Blob).content, blob(int(size)).content)
        channel.close()

    run_pair(lambda: side(bank), lambda: side(telco), bank, telco)


_FROZEN = """
import socket, sys
from dataclasses import dataclass
from typing import Annotated
from party.identity import Identity, load_pin
from party.message import Int, Message
from party.tls import accept
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
pin = load_pin(sys.argv[1], "bank", sys.argv[2])
channel = accept(listener.accept()[0], Identity.load(sys.argv[1]), [pin])
print("connected", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("number", "words"), [(signal.SIGSTOP, "silent"), (signal.SIGKILL, "connection")])
def test_a_frozen_or_killed_process_is_a_vanished_peer(
    parties: dict[str, Identity], tmp_path: Path, number: signal.Signals, words: str
) -> None:
    telco = create(tmp_path / "telco", "telco")
    (tmp_path / "telco/peers/bank.pem").write_text(parties["bank"].certificate_pem)
    process = subprocess.Popen(
        [sys.executable, "-c", _FROZEN, tmp_path / "telco", parties["bank"].fingerprint],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    with process:
        try:
            port = int(process.stdout.readline())  # type: ignore[union-attr]
            channel = dial(f"127.0.0.1:{port}", parties["bank"], pin(telco))
            assert process.stdout.readline() == "connected\n"  # type: ignore[union-attr]
            channel._line.silence = 0.5
            process.send_signal(number)
            start = time.monotonic()
            with pytest.raises(PeerVanished, match=words) as caught:
                channel.recv(Blob)
            channel.abort(caught.value)
            assert time.monotonic() - start < 5
        finally:
            process.kill()


def test_a_peer_that_does_not_read_does_not_hold_up_an_abort(
    parties: dict[str, Identity], listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls.limits, "ABORT_SECONDS", 0.5)
    bank, telco = connected(parties, listener)
    telco._transport.read_into = lambda buffer, seconds: time.sleep(seconds) or 0  # type: ignore[method-assign]
    for _ in range(4):
        bank.send(blob(15 << 20))
    start = time.monotonic()
    bank.abort(Interrupted("enough"))
    telco.abort(Interrupted("enough"))
    assert time.monotonic() - start < 4
