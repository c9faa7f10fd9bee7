"""Agreement: before anything else both sides know the same job, each has asked its own policy, and both have signed.

docs/protocols/02-agreement.md has the same steps. `greet` and `exchange_catalogues` come first, once a connection;
then, once a run, the side that starts it calls `propose` and the other `answer`, with a `Side` each.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any

from party import limits
from party.canonical import canonical, digest, parse_canonical
from party.catalogue import Catalogue
from party.catalogue_wire import decode_catalogue, encode_catalogue
from party.channel import Channel
from party.errors import FileError, InternalError, PeerError, PeerRefused, PolicyRefused, TallyError, UsageError
from party.guard import Record
from party.message import Bytes, Int, Message, Text
from party.policy import PeerPolicy, decide
from party.request import Request

__all__ = [
    "PROTOCOL",
    "Agreement",
    "CatalogueMessage",
    "Hello",
    "Proposal",
    "Proposed",
    "Side",
    "Signed",
    "Verdict",
    "answer",
    "exchange_catalogues",
    "greet",
    "job_digest",
    "propose",
]

PROTOCOL = 1
_JOB = 1 << 20
_RESUME = 64 << 10
_REASONS = 8192


@dataclass(frozen=True, repr=False)
class Hello(Message, kind=0x0101):
    """Step 1, both ways. This layout never changes, so that any two versions can tell each other apart."""

    protocol: Annotated[int, Int(0, 65535)]
    program: Annotated[str, Text(64)]
    clock: Annotated[int, Int(0, 2**40)]  # seconds since 1970


@dataclass(frozen=True, repr=False)
class CatalogueMessage(Message, kind=0x0102):
    """Step 2, both ways: what the receiver may use of the sender's tables, as canonical JSON."""

    content: Annotated[bytes, Bytes(0, 1 << 20)]


@dataclass(frozen=True, repr=False)
class Proposal(Message, kind=0x0103):
    """Step 3, from the side that starts the run."""

    run: Annotated[str, Text(64)]
    job: Annotated[bytes, Bytes(2, _JOB)]
    resume: Annotated[bytes, Bytes(0, _RESUME)]


@dataclass(frozen=True, repr=False)
class Verdict(Message, kind=0x0104):
    """Step 5, both ways: accepted, or the reasons why not, and what the sender holds the run to."""

    accept: bool
    reasons: Annotated[str, Text(_REASONS)]
    request: Annotated[bytes, Bytes(32)]  # digest of the sender's own reading of the job
    resume: Annotated[bytes, Bytes(0, _RESUME)]
    min_rows: Annotated[int, Int(1, 2**31)]
    min_size: Annotated[int, Int(0, 2**31)]
    nonce: Annotated[bytes, Bytes(32)]


@dataclass(frozen=True, repr=False)
class Signed(Message, kind=0x0105):
    """Step 7, both ways: Ed25519 over the statement that both sides built."""

    signature: Annotated[bytes, Bytes(64)]


@dataclass(frozen=True)
class Proposed:
    """What a side reads before it decides. `resume` is the initiator's account of an earlier try, empty for none."""

    run: str
    job: bytes
    digest: bytes
    initiator: str
    resume: bytes


@dataclass(frozen=True)
class Side:
    """One side of an agreement.

    policy: ours towards this peer. read: derives the Request from the job, by our own reading and for both parties
    alike, and our account of an earlier try (at most 64 KiB); it raises a TallyError when the job cannot be run.
    record: our ledger. sign: our signature (64 bytes) of a content. verify: returns when the signature (second) of
    the content (first) is the peer's, raises PeerError otherwise. spend: debits the budget, told whether policy allows
    the rest; the reasons why it does not suffice.
    """

    policy: PeerPolicy
    read: Callable[[Proposed], tuple[Request, bytes]]
    record: Record
    sign: Callable[[bytes], bytes]
    verify: Callable[[bytes, bytes], None]
    spend: Callable[[Proposed, bool], tuple[str, ...]] = lambda proposed, allowed: ()


@dataclass(frozen=True)
class Agreement:
    """What both sides signed. `parties`: the initiator first; `signatures`, `min_rows`, `min_size` in that order.

    salt: 32 bytes that both sides contributed to. statement: digest of what both signed. `our_resume`,
    `their_resume`: what each side said of an earlier try. `request`: what was asked and allowed.
    """

    run: str
    job: bytes
    digest: bytes
    parties: tuple[str, str]
    salt: bytes
    min_rows: tuple[int, int]
    min_size: tuple[int, int]
    signatures: tuple[bytes, bytes]
    request: Request
    our_resume: bytes
    their_resume: bytes
    statement: bytes = b""

    @property
    def initiator(self) -> str:
        """The party that started the run."""
        return self.parties[0]

    def encode(self) -> bytes:
        """The agreement as a file, without the request, which is derived from the job again."""
        content = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "request"}
        return canonical({name: _packed(value) for name, value in content.items()})

    @classmethod
    def decode(cls, content: bytes, request: Request) -> Agreement:
        """The agreement in a file of ours; InternalError when it is damaged."""
        try:
            found: dict[str, Any] = {k: _unpacked(v) for k, v in parse_canonical(content, "an agreement").items()}
            return cls(request=request, **found)
        except (PeerError, AttributeError, TypeError, ValueError):
            raise InternalError("the stored agreement is damaged", hint="start afresh with --new") from None


def job_digest(job: bytes) -> bytes:
    """The digest of a canonical job."""
    return digest("agreement/job", job)


def greet(channel: Channel, program: str) -> Hello:
    """Step 1: compare versions; PeerRefused on both sides when they differ. One round, some 60 bytes each way."""
    theirs = channel.swap(Hello(PROTOCOL, program, int(time.time())), limits.SETUP_SECONDS)
    if theirs.protocol != PROTOCOL:
        raise PeerRefused(
            f"{channel.peer} speaks version {theirs.protocol} of the protocol, we speak {PROTOCOL}",
            party=channel.peer, hint="install the same release on both sides",
        )  # fmt: skip
    return theirs


def exchange_catalogues(channel: Channel, ours: Catalogue) -> Catalogue:
    """Step 2: send what the peer may use of our tables (`policy.visible`), receive theirs. One round.

    The peer learns the names, types, ranges, domains and grants in it. PeerError on a malformed one.
    """
    content = encode_catalogue(ours)
    try:
        decode_catalogue(content, channel.us)
    except PeerError as error:
        raise InternalError(error.message.replace("the peer's", "our")) from None
    theirs = channel.swap(CatalogueMessage(content), limits.SETUP_SECONDS)
    return decode_catalogue(theirs.content, channel.peer)


def propose(channel: Channel, side: Side, run: str, job: bytes, resume: bytes = b"") -> Agreement:
    """Steps 3 to 8 on the side that starts a run. `job`: canonical bytes. Three rounds; returns when both signed.

    Raises PolicyRefused when our policy says no (the peer is told), PeerRefused when the peer's does.
    """
    try:
        parse_canonical(job, "our job")
    except PeerError as error:
        raise InternalError(error.message) from None
    proposed = Proposed(run, job, job_digest(job), channel.us, resume)
    with channel.stage("agree"):
        # 3. Say what we want to run.
        channel.send(Proposal(run, job, resume))
        return _agree(channel, side, proposed)


def answer(channel: Channel, side: Side) -> Agreement:
    """Steps 3 to 8 on the other side: receive a proposal, decide by our own policy, sign. Raises as `propose`."""
    with channel.stage("agree"):
        # 3. Hear what the peer wants to run.
        heard = channel.recv(Proposal, limits.SETUP_SECONDS)
        if not heard.run or not all(c.isascii() and (c.isalnum() or c in "-_") for c in heard.run):
            raise PeerError("the name of a run has letters, digits, - and _ only")
        parse_canonical(heard.job, "the job")
        return _agree(channel, side, Proposed(heard.run, heard.job, job_digest(heard.job), channel.peer, heard.resume))


def _agree(channel: Channel, side: Side, proposed: Proposed) -> Agreement:
    us, peer, digest_hex = channel.us, channel.peer, proposed.digest.hex()
    channel.bind(proposed.run)

    def refused(by: str, reasons: str) -> None:
        side.record.append("refused", run=proposed.run, digest=digest_hex, peer=peer, by=by, reasons=reasons[:_REASONS])

    # 4. Read the job ourselves and ask our own policy. A job of the peer's that cannot be run here is refused too.
    try:
        request, resume = side.read(proposed)
        missing = decide(side.policy, us, peer, request)
    except PeerError:
        raise
    except TallyError as error:
        if proposed.initiator == us or not isinstance(error, UsageError) or isinstance(error, FileError):
            refused(us, error.message)
            raise
        request, resume, missing = Request(), b"", (error.message,)
    if not missing and proposed.initiator != us and side.policy.approve == "manual":
        missing = (f"{us} wants to approve runs of {peer} by hand (`approve: manual`), which this release cannot do",)
    unpaid = side.spend(proposed, not missing)
    # 5. Swap verdicts: whoever says no says why.
    nonce = secrets.token_bytes(32)
    policy = side.policy
    reasons = _short("; ".join(missing + unpaid))
    read = _request_digest(request)
    ours = Verdict(not reasons, reasons, read, resume, policy.min_rows, policy.min_size, nonce)
    if reasons:
        refused(us, reasons)
    try:
        theirs = channel.swap(ours, limits.SETUP_SECONDS)
    except PeerRefused as error:  # the end of its refusal has overtaken its verdict
        if not reasons:
            refused(peer, error.message)
        raise
    if reasons:
        raise PolicyRefused(
            f"our policy does not allow it: {reasons}", party=us,
            hint=f"grant it to {peer} in policy.yaml if you agree, then run again" if missing
            else "wait until then, or raise `budget` in policy.yaml",
        )  # fmt: skip
    if not theirs.accept:
        told = _printable(theirs.reasons)
        refused(peer, told)
        raise PeerRefused(
            f"{peer} does not allow it: {told}", party=peer, hint=f"ask {peer}: its policy.yaml decides that"
        )
    if not hmac.compare_digest(theirs.request, read):
        refused(us, "the two sides read the job differently")
        raise PeerRefused(
            "the two sides read the job differently", party=peer, hint="install the same release on both sides"
        )
    # 6. Both build the same statement. The salt depends on both nonces.
    first, second = (ours, theirs) if proposed.initiator == us else (theirs, ours)
    parties = (us, peer) if proposed.initiator == us else (peer, us)
    salt = digest("agreement/salt", proposed.run.encode(), first.nonce, second.nonce)
    accounts = [proposed.resume.hex(), digest("agreement/resume", first.resume, second.resume).hex()]
    statement = canonical(
        {
            "protocol": PROTOCOL,
            "run": proposed.run,
            "job": digest_hex,
            "parties": parties,
            "request": read.hex(),
            "min_rows": [first.min_rows, second.min_rows],
            "min_size": [first.min_size, second.min_size],
            "resume": digest("agreement/accounts", *(account.encode() for account in accounts)).hex(),
            "salt": salt.hex(),
        }
    )
    # 7. Write it down, then sign, then swap signatures.
    side.record.append("agreement", run=proposed.run, digest=digest_hex, peer=peer, initiator=proposed.initiator,
                       statement=statement.decode())  # fmt: skip
    signature = side.sign(statement)
    their_signature = channel.swap(Signed(signature), limits.SETUP_SECONDS).signature
    # 8. Check the peer's.
    side.verify(statement, their_signature)
    signatures = (signature, their_signature) if proposed.initiator == us else (their_signature, signature)
    return Agreement(
        proposed.run,
        proposed.job,
        proposed.digest,
        parties,
        salt,
        (first.min_rows, second.min_rows),
        (first.min_size, second.min_size),
        signatures,
        request,
        resume,
        theirs.resume,
        digest("agreement/statement", statement),
    )


def _request_digest(request: Request) -> bytes:
    uses = sorted([use.party, use.table, use.column, use.use] for use in request.uses)
    openings = sorted([opening.what, opening.to] for opening in request.openings)
    return digest("agreement/request", canonical([uses, openings]))


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _short(text: str) -> str:
    return text.encode()[: _REASONS - 4].decode("utf-8", "ignore") + " ..." if len(text.encode()) > _REASONS else text


def _packed(value: object) -> object:
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    return [_packed(item) for item in value] if isinstance(value, tuple) else value


def _unpacked(value: Any) -> Any:
    if isinstance(value, dict):
        return base64.b64decode(value["bytes"], validate=True)
    return tuple(_unpacked(item) for item in value) if isinstance(value, list) else value
