"""A link: one authenticated connection, versions compared, catalogues exchanged; it carries one run after another."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from types import FrameType
from typing import Annotated, Any

from party import agreement, identity, tls
from party.catalogue import Catalogue
from party.channel import Channel
from party.errors import InternalError, Interrupted, PeerError, PolicyRefused, TallyError, UsageError
from party.home import Home
from party.ledger import Ledger
from party.message import Bytes, Message, Text
from party.yamlfile import nearest
from pipelines.lean import load_meanwhile
from pipelines.tables import catalogue, keep_catalogue

__all__ = ["Command", "Link", "Probe", "Reply", "answer", "dial"]

_FACT = 200  # characters of one fact


@dataclass(frozen=True, repr=False)
class Command(Message, kind=0x0701):
    """From the side that dialled: `run` (a proposal follows), `facts`, `probe` (a Probe follows) or `close`."""

    verb: Annotated[str, Text(20)]


@dataclass(frozen=True, repr=False)
class Reply(Message, kind=0x0702):
    """Facts for `tally check`, as a JSON object: version, clock, kernels. No value of a table."""

    body: Annotated[bytes, Bytes(2, 64 << 10)]


@dataclass(frozen=True, repr=False)
class Probe(Message, kind=0x0703):
    """For `tally check`, from the side that dialled, and the same bytes back: random, they tell nothing."""

    content: Annotated[bytes, Bytes(1, 4 << 20)]


@dataclass
class Link:
    """One connection of this home to a peer."""

    home: Home
    channel: Channel
    ledger: Ledger
    ours: Catalogue
    theirs: Catalogue
    hello: agreement.Hello
    connected: float
    shared: dict[str, Any] = field(default_factory=dict)  # joint keys, made once a connection
    noted: TallyError | None = None  # the error that the ledger has already
    read_at: tuple[int, ...] = ()  # states of our files when they were last compared
    restore: Callable[[], None] = field(default=lambda: None, repr=False)  # puts signal handlers back

    @property
    def peer(self) -> str:
        """The peer's name, by its certificate."""
        return self.channel.peer

    def catalogues(self, parties: tuple[str, ...]) -> tuple[Catalogue, Catalogue]:
        """Both catalogues in the order of a job's parties."""
        known = {self.ours.party: self.ours, self.theirs.party: self.theirs}
        if set(parties) != set(known):
            raise PeerError(f"the job is not between {' and '.join(sorted(known))}", party=self.peer)
        return known[parties[0]], known[parties[1]]

    def check_files(self) -> None:
        """Before each run of a connection: what our files say of this peer is what they said when it began.

        PolicyRefused when they changed: a grant taken back, or a peer no longer trusted, ends its open connections.
        """
        now = _stamps(self.home)
        if now == self.read_at:
            return
        fresh = Home.open(self.home.root)
        same = fresh.policy.towards(self.peer) == self.home.policy.towards(self.peer)
        if not same or fresh.party.peers.get(self.peer) != self.home.party.peers.get(self.peer):
            raise PolicyRefused(
                f"our policy towards {self.peer} has changed since this connection began", party=self.channel.us,
                stage="agree", hint="connect again: the new policy is read then",
            )  # fmt: skip
        self.read_at = now

    def sign(self, content: bytes) -> bytes:
        """Our signature."""
        return self.home.identity().sign(content)

    def verify(self, content: bytes, signature: bytes) -> None:
        """PeerError unless the peer signed this."""
        identity.verify(self.home.pin(self.peer).certificate_pem, content, signature)

    def facts(self) -> dict[str, Any]:
        """What the peer says of itself, for `tally check`."""
        from pipelines.results import printable

        self.channel.send(Command("facts"))
        try:
            found = json.loads(self.channel.recv(Reply).body)
            facts = {name: found[name] for name in ("version", "clock", "kernels")}
        except (ValueError, RecursionError, TypeError, KeyError):
            raise PeerError("facts that are none", party=self.peer) from None
        clock = facts["clock"]
        texts = all(isinstance(facts[name], str) and len(facts[name]) <= _FACT for name in ("version", "kernels"))
        if not texts or isinstance(clock, bool) or not isinstance(clock, int | float) or not 0 <= clock < 2**40:
            raise PeerError("facts that are none", party=self.peer)
        return facts | {name: printable(facts[name]) for name in ("version", "kernels")}

    def answer_facts(self) -> None:
        """Tell the peer what it asked with `facts`."""
        self.channel.send(Reply(json.dumps(our_facts()).encode()))

    def probe(self, content: bytes) -> None:
        """Send random bytes and have them back: what a round trip of them takes."""
        self.channel.send(Command("probe"))
        if self.channel.swap(Probe(content)).content != content:
            raise PeerError("a probe came back changed", party=self.peer)

    def answer_probe(self) -> None:
        """Send the peer's random bytes back."""
        self.channel.send(self.channel.recv(Probe))

    def close(self) -> None:
        """End in agreement, from the side that dialled."""
        self.channel.send(Command("close"))
        self.channel.close()

    def __enter__(self) -> Link:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Nothing of the connection is left, and the peer knows why."""
        try:
            if error is not None:
                known = error if isinstance(error, TallyError) else InternalError(f"{type(error).__name__} at our side")
                self.channel.abort(known)
                if error is not self.noted:  # outside of a run: what came was no proposal, or one that nobody may make
                    _note(self.ledger, self.peer, self.channel.stage_name, known)
        finally:
            self.restore()
            self.ledger.close()


def _note(ledger: Ledger, peer: str, stage: str, error: TallyError) -> None:
    ledger.append("abort", peer=peer, stage=error.stage or stage, code=error.code, reason=error.message[:500])


def _stamps(home: Home) -> tuple[int, ...]:
    """Tells one state of party.yaml and policy.yaml from another."""
    found: list[int] = []
    for name in ("party.yaml", "policy.yaml"):
        try:
            stat = (home.root / name).stat()
        except OSError:
            return ()
        found += [stat.st_mtime_ns, stat.st_size, stat.st_ino]
    return tuple(found)


def our_facts() -> dict[str, Any]:
    """Version, clock and kernels of this side."""
    from pipelines.results import kernels

    return {"version": version("tallystick"), "clock": time.time(), "kernels": kernels()}


def dial(home: Home, peer: str) -> Link:
    """Connect to a peer of ours and exchange catalogues. Raises NetworkError, PeerRefused, UsageError."""
    spec = home.party.peers.get(peer)
    if spec is None:
        hint = nearest(peer, list(home.party.peers)) if home.party.peers else "run `tally trust CARD` first"
        raise UsageError(f"no peer named {peer!r} in party.yaml", hint=hint)
    if spec.address is None:
        raise UsageError(
            f"party.yaml has no address of {peer}", hint=f"only {peer} dials us, or add its address under `peers`"
        )
    ours = catalogue(home, peer)  # our own files and tables are read before anything is sent
    ledger = Ledger.open(home.state / "ledger.db")
    try:
        channel = tls.dial(spec.address, home.identity(), home.pin(peer))
    except TallyError as error:
        ledger.append("unreachable", peer=peer, code=error.code, reason=error.message[:500])
        ledger.close()
        raise
    return _greeted(home, channel, ledger, ours)


def answer(home: Home, sock: socket.socket) -> Link:
    """Take a connection that came in."""
    ledger = Ledger.open(home.state / "ledger.db")
    try:
        channel = tls.accept(sock, home.identity(), [home.pin(name) for name in home.party.peers])
    except TallyError as error:
        ledger.append("rejected", code=error.code, reason=error.message[:500])
        ledger.close()
        raise
    load_meanwhile("pipelines.execute", "duckdb")  # not before we know who it is: a stranger is not worth the time
    try:
        ours = catalogue(home, channel.peer)
    except TallyError as error:
        channel.abort(error)
        _note(ledger, channel.peer, "connect", error)
        ledger.close()
        raise
    return _greeted(home, channel, ledger, ours)


def _greeted(home: Home, channel: Channel, ledger: Ledger, ours: Catalogue) -> Link:
    began = time.perf_counter()
    restore = interruptible(channel)
    try:
        with channel.stage("connect"):
            hello = agreement.greet(channel, version("tallystick"))
            theirs = agreement.exchange_catalogues(channel, ours)
            keep_catalogue(home, theirs)
    except TallyError as error:
        restore()
        channel.abort(error)
        _note(ledger, channel.peer, "connect", error)
        ledger.close()
        raise
    link = Link(home, channel, ledger, ours, theirs, hello, time.perf_counter() - began)
    link.restore = restore
    return link


def interruptible(channel: Channel) -> Callable[[], None]:
    """SIGTERM and SIGINT end the run on both sides; a second signal ends this process at once. What is returned puts
    the handlers back that were there before."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        channel.interrupt(Interrupted(f"{channel.us} stopped by {signal.Signals(number).name}", party=channel.us))

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return restore
