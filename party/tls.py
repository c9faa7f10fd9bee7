"""TLS 1.3 to a pinned peer: `dial` and `accept` give a Channel or a NetworkError that says what to try.

Both sides show a certificate and each accepts exactly the ones it has pinned: the pinned certificates are the only
trust roots of the context, and after the handshake the fingerprint of what the peer showed is compared once more.
The peer's name is the one its pin bears. In TLS 1.3 the side that dials is done before the other has judged its
certificate, so both then send a hello of 12 bytes, and `dial` returns only when the other's hello is here.

Why MemoryBIO: in CPython 3.11 one `SSLSocket` must not be read by one thread while another writes (one OpenSSL
object without a lock). A lock around blocking socket calls would let a silent peer block our writer. So OpenSSL works
on memory under a lock held for computing only, and each thread does its own socket calls outside of it. Only who
writes (one thread at a time: the channel sees to it) takes bytes from OpenSSL's output, which is a queue: what reading
produces (answers to key updates) leaves before the next record, in order. Source: RFC 8446 sections 4.6.3 and 5.3.

Longer than 250 lines because a failed handshake must tell its user what to try, and the reasons stand beside the calls.
"""

from __future__ import annotations

import contextlib
import hmac
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Sequence
from typing import TypeVar

from cryptography.hazmat.primitives import hashes

from party import limits
from party.address import parse_address
from party.card import Pin
from party.certificate import fingerprint_of, load_certificate
from party.channel import Channel
from party.errors import DeadlineExceeded, NetworkError, PeerRefused, PeerVanished, TallyError, UsageError
from party.frame import VERSION
from party.identity import Identity
from party.service import announce_authenticated
from party.transport import Buffer

__all__ = ["Pin", "TlsTransport", "accept", "dial"]

E = TypeVar("E", bound=TallyError)

_CHUNK = 256 << 10  # encrypted or decrypted under one hold of the lock
_JOIN = 64 << 10  # frames up to this size go out as one record or few
_HELLO = struct.Struct("<10sH")
_MAGIC = b"tallystick"


class TlsTransport:
    """A `Transport` over a connected socket; see the module's text for its locking."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, listening: bool) -> None:
        self._socket = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=listening)
        self._lock = threading.Lock()
        self._down = False
        self._left = b""  # encrypted by `write_now`, not yet taken by the socket
        self._raw = memoryview(bytearray(_CHUNK))
        sock.setblocking(False)

    def read_into(self, buffer: memoryview, seconds: float) -> int:
        end = time.monotonic() + seconds
        fresh = 0
        while True:
            with self._lock:
                if fresh:
                    self._incoming.write(self._raw[:fresh])
                try:
                    return self._decrypt(buffer)
                except ssl.SSLWantReadError:
                    pass
                except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                    return 0
            fresh = self._receive(end)
            if not fresh:
                return 0

    def write(self, frame: Sequence[Buffer]) -> None:
        left, self._left = self._left, b""
        self._send(left)
        if sum(len(part) for part in frame) <= _JOIN:
            frame = (b"".join(frame),)
        for part in frame:
            view = memoryview(part)
            while view:
                with self._lock:
                    done = self._tls.write(view[:_CHUNK])
                    data = self._outgoing.read()
                self._send(data)
                view = view[done:]

    def write_now(self, frame: Sequence[Buffer]) -> bool:
        view = memoryview(b"".join(frame))
        with self._lock:
            while view:
                view = view[self._tls.write(view) :]
            self._left += self._outgoing.read()
        if self._down:
            raise BrokenPipeError("the connection was shut")
        try:
            while self._left:
                self._left = self._left[self._socket.send(self._left) :]
        except (BlockingIOError, InterruptedError):
            return False
        return True

    def finish(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def shutdown(self) -> None:
        self._down = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()

    def handshake(self, end: float) -> bytes:
        """Shake hands; the DER form of the peer's certificate. OSError when it fails, TimeoutError when time is up."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._send(self._outgoing.read(), end)
                fresh = self._receive(end)
                if not fresh:
                    raise ConnectionResetError("the connection ended during the handshake") from None
                self._incoming.write(self._raw[:fresh])
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._send(self._outgoing.read(), end)  # the alert tells the peer why
                raise
            else:
                self._send(self._outgoing.read(), end)
                return self._tls.getpeercert(binary_form=True) or b""

    def read_exactly(self, length: int, end: float) -> bytes:
        """So many bytes before that time, for the hello; ConnectionResetError at the end of the stream."""
        data = bytearray(length)
        at = 0
        while at < length:
            count = self.read_into(memoryview(data)[at:], end - time.monotonic())
            if not count:
                raise ConnectionResetError("the connection ended during the handshake")
            at += count
        return bytes(data)

    def _decrypt(self, buffer: memoryview) -> int:
        """At least one byte, at most what fits and what is there: OpenSSL gives one record (16 KiB) a call."""
        at = 0
        try:
            while at < min(len(buffer), _CHUNK):
                count = self._read_record(buffer[at:])
                if not count:
                    break
                at += count
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError, ssl.SSLEOFError):
            if not at:
                raise
        return at

    def _read_record(self, buffer: memoryview) -> int:
        count: object = self._tls.read(len(buffer), buffer)  # with a buffer a length, whatever its stub says
        return count if isinstance(count, int) else 0

    def _receive(self, end: float) -> int:
        """Bytes from the socket into `_raw`; 0 at the end of the stream."""
        while not self._down:
            try:
                return self._socket.recv_into(self._raw)
            except (BlockingIOError, InterruptedError):
                self._wait(select.POLLIN, end)
        return 0

    def _send(self, data: bytes, end: float | None = None) -> None:
        view = memoryview(data)
        while view:
            if self._down:
                raise BrokenPipeError("the connection was shut")
            try:
                view = view[self._socket.send(view) :]
            except (BlockingIOError, InterruptedError):
                self._wait(select.POLLOUT, end)

    def _wait(self, event: int, end: float | None) -> None:
        """Until the socket is ready, or half a second; TimeoutError when the time is up."""
        left = 0.5 if end is None else end - time.monotonic()
        if left <= 0:
            raise TimeoutError("nothing came in time")
        poll = select.poll()
        poll.register(self._socket.fileno(), event)
        poll.poll(min(left, 0.5) * 1000)


def dial(address: str, identity: Identity, pin: Pin, timeout: float = limits.CONNECT_SECONDS) -> Channel:
    """Connect to a pinned peer and shake hands, all within `timeout` seconds.

    The peer learns our certificate and address. Raises NetworkError with party, reason and hint: unreachable, refused,
    another certificate, ours not accepted, not a tally, TLS below 1.3, no answer in time; PeerRefused: its version.
    """
    end = time.monotonic() + timeout
    try:
        sock = socket.create_connection(parse_address(address), timeout=max(0.001, timeout))
    except TimeoutError:
        raise _failed(
            DeadlineExceeded, pin.name, f"{pin.name} at {address} did not answer within {timeout:g} s",
            "check the address in party.yaml and the firewalls between",
        ) from None  # fmt: skip
    except OSError as error:
        raise _failed(
            NetworkError, pin.name, f"{pin.name} at {address} cannot be reached: {error.strerror or error}",
            f"check the address in party.yaml and that `tally serve` runs at {pin.name}",
        ) from None  # fmt: skip
    return _shake(sock, identity, [pin], end, listening=False)


def accept(
    sock: socket.socket, identity: Identity, pins: Sequence[Pin], timeout: float = limits.HANDSHAKE_SECONDS
) -> Channel:
    """Shake hands on a connection that came in; the channel's `peer` is the name of the pin that matched.

    Raises as `dial` does; the party of the error is None, because nobody has proved to be anybody.
    """
    return _shake(sock, identity, pins, time.monotonic() + timeout, listening=True)


def _shake(sock: socket.socket, identity: Identity, pins: Sequence[Pin], end: float, *, listening: bool) -> Channel:
    party = None if listening else pins[0].name
    them = party or "whoever connected"
    transport = None
    try:
        if not pins:
            raise UsageError("no peer is pinned yet", hint="run `tally trust CARD` first")
        _tune(sock)
        transport = TlsTransport(sock, _context(identity, pins, listening=listening), listening=listening)
        pin = _matching(transport.handshake(end), pins, party, them)
        transport.write((_HELLO.pack(_MAGIC, VERSION),))
        magic, version = _HELLO.unpack(transport.read_exactly(_HELLO.size, end))
        if magic != _MAGIC:
            raise _failed(NetworkError, party, f"{them} speaks TLS but is not a tally", _CHECK_ADDRESS)
        if version != VERSION:
            raise _failed(
                PeerRefused, pin.name, f"{pin.name} speaks version {version} of the protocol, we speak {VERSION}",
                "install the same release of tallystick on both sides",
            )  # fmt: skip
        if listening:
            announce_authenticated()
        return Channel(transport, identity.name, pin.name)
    except TimeoutError:
        error: Exception = _failed(
            DeadlineExceeded, party, f"{them} did not finish the handshake in time",
            f"see whether `tally serve` at {party} is overloaded, and that the address is a tally's" if party else None,
        )  # fmt: skip
    except OSError as reason:
        error = _explain(reason, party, them)
    except Exception as reason:  # noqa: BLE001  # nothing of the socket may be left open; raised again below
        error = reason
    if transport is not None:
        transport.shutdown()
    sock.close()
    raise error


_CHECK_ADDRESS = "check the address in party.yaml: another program may listen there"


def _explain(reason: OSError, party: str | None, them: str) -> NetworkError:
    """What a failed handshake means to the user."""
    name = (getattr(reason, "reason", None) or "").upper()
    if isinstance(reason, ssl.SSLCertVerificationError) or "SELF_SIGNED" in name or "CERTIFICATE_VERIFY" in name:
        code = getattr(reason, "verify_message", "")
        if "expired" in code or "not yet valid" in code:
            text, hint = (
                f"the certificate of {them} is out of date: {code}",
                "check the clocks; else ask for a new card",
            )
        else:
            text = f"{them} showed a certificate that is not the pinned one"
            hint = "compare fingerprints with the peer, then `tally trust CARD --replace`; else check the address"
    elif "ALERT" in name and ("UNKNOWN_CA" in name or "CERTIFICATE" in name or "ACCESS_DENIED" in name):
        text, hint = (
            f"{them} does not accept our certificate",
            f"send our `tally card` to {party or 'the peer'} to trust",
        )
    elif "PEER_DID_NOT_RETURN" in name:
        text, hint = f"{them} showed no certificate", None
    elif "PROTOCOL" in name and "UNEXPECTED" not in name:
        text, hint = f"{them} does not speak TLS 1.3", _CHECK_ADDRESS
    elif isinstance(reason, ssl.SSLError):
        text, hint = f"{them} does not speak TLS ({reason.reason or 'garbage'})", _CHECK_ADDRESS
    elif isinstance(reason, ConnectionError):
        text = f"{them} ended the connection during the handshake"
        hint = (
            f"ask {party} whether it has trusted our card, whether its `tally serve` tells of a wrong file, and"
            " whether it has too many runs already"
            if party
            else None
        )
        return _failed(PeerVanished, party, text, hint)
    else:
        text, hint = f"the connection to {them} failed: {reason.strerror or reason}", None
    return _failed(NetworkError, party, text, hint)


def _failed(kind: type[E], party: str | None, text: str, hint: str | None) -> E:
    return kind(text, party=party, stage="connect", hint=hint)


def _matching(der: bytes, pins: Sequence[Pin], party: str | None, them: str) -> Pin:
    """The pin of exactly this certificate; all are compared, in constant time each."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(der)
    shown = "sha256:" + digest.finalize().hex()
    found = [pin for pin in pins if hmac.compare_digest(shown, pin.fingerprint)]
    if len(found) != 1:
        raise _failed(
            NetworkError, party, f"{them} showed a certificate that is not the pinned one",
            "compare fingerprints with the peer, then `tally trust CARD --replace`",
        )  # fmt: skip
    return found[0]


def _context(identity: Identity, pins: Sequence[Pin], *, listening: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if listening else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the certificate is pinned: its names mean nothing
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
    if listening:
        context.num_tickets = 0  # no resumption: every connection proves both keys
    context.load_cert_chain(identity.certificate_file, identity.key_file)
    for pin in pins:
        if not hmac.compare_digest(fingerprint_of(load_certificate(pin.certificate_pem)), pin.fingerprint):
            raise UsageError(f"the pin of {pin.name} does not belong to its certificate")
        context.load_verify_locations(cadata=pin.certificate_pem)
    return context


def _tune(sock: socket.socket) -> None:
    """No delay for small messages; the kernel's own probes for connections whose other end is gone without a word."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
