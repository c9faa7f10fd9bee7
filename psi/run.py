"""What all steps of one alignment share, in whichever form it is made: channel, guard, terms, what is kept, labels."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from kernels import curve25519
from party.channel import Channel
from party.errors import DataError, PeerError, PeerRefused, PolicyRefused, TallyError
from party.guard import Guard
from psi.masking import KeyList, Secret
from psi.means import Means, Reporter, awaited
from psi.messages import CHUNK, Agreed, Digest, Listed
from psi.rows import Bytes2D, strictly_ascending
from psi.terms import Terms, tag_width

__all__ = [
    "LIST",
    "SERIES_TAG",
    "SLOW",
    "Run",
    "agree",
    "checked_product",
    "chunked",
    "chunks_of",
    "compare",
    "numbered",
    "tell_lengths",
    "too_small",
]

LIST = b"tallystick/v1/psi/list/"
SLOW = 2e-4  # seconds that the slowest backend may need for one multiplication or map
SERIES_TAG = 12  # bytes: 40 bits of safety for lists that have grown to 2^28 keys
_TAG = b"tallystick/v1/psi/tag/"
_PEER = "peer-list"  # record
_COMPARE_KEYS = "if more was expected, compare how both party.yaml declare the keys: columns, `normalise`, `region`"


class Run:
    """One alignment on one key, on our side."""

    def __init__(self, channel: Channel, guard: Guard, terms: Terms, means: Means) -> None:
        self.channel = channel
        self.guard = guard
        self.terms = terms
        self.means = means
        self.store = means.store
        self.ahead = means.ahead or means.store
        self.executor = means.executor
        self.report = Reporter(means.progress, 2 * (terms.most_ours + terms.most_theirs))
        self.label = _sized(terms.run)
        self.tag_key = hashlib.sha256(_TAG + _sized(terms.series or terms.run)).digest()[:16]

    def tag_width(self, ours: int, theirs: int) -> int:
        """Bytes of a tag for lists of these lengths; one width for a whole series, whose lists grow."""
        return SERIES_TAG if self.terms.series else tag_width(ours, theirs)

    def broken(self, text: str) -> PeerError:
        """The peer's fault: nothing of ours is published after it."""
        return PeerError(f"{self.channel.peer} {text}", party=self.channel.peer, stage=self.channel.stage_name)

    def torsion(self) -> PeerError:
        """The eight u(P + T) differ, their products do not."""
        return self.broken("sent points that differ by torsion only")

    def hash(self, label: bytes, *parts: bytes) -> bytes:
        """SHA-256 of label, run and parts, the parts of fixed length or the last."""
        return hashlib.sha256(label + self.label + b"".join(parts)).digest()

    def recall(self, name: str, digest: bytes) -> bool:
        """Whether the peer said this before the run broke. PeerError when it said something else: it would try two
        lists on one scalar."""
        before = self.store.load(name)
        if before is not None and not hmac.compare_digest(before, digest):
            error = self.broken("sent another list or other tags than before this run was interrupted")
            error.hint = "run again with --new, once you know why"
            raise error
        return before is not None

    def remember(self, name: str, digest: bytes) -> None:
        """From here on the peer is held to what it said."""
        if not self.recall(name, digest):
            self.store.save(name, digest)

    def remember_list(self, told: Listed) -> None:
        """The list that was announced has come, whole; nothing has been sent yet that depends on it."""
        self.remember(_PEER, _announced(told))

    @contextmanager
    def dropping(self, journal: str) -> Iterator[None]:
        """What a peer that breaks the rules has put into a journal is not kept: an honest one may still finish the
        run. For what comes before anything is sent that depends on it."""
        try:
            yield
        except PeerError:
            self.store.drop(journal)
            raise


def _announced(told: Listed) -> bytes:
    return told.count.to_bytes(8, "little") + told.digest


def _sized(name: str) -> bytes:
    return len(name.encode()).to_bytes(4, "little") + name.encode()


def agree(run: Run, secret: Secret) -> None:
    """Step 1: settings and terms are the same on both sides, before anything is masked."""
    terms, channel = run.terms, run.channel
    channel.send(Agreed(secret.settings, terms.digest()))
    theirs = awaited(channel, Agreed, run.report, "the beginning of the alignment")
    if not hmac.compare_digest(theirs.terms, terms.digest()):
        raise PeerRefused(
            f"{channel.peer} and we do not mean the same alignment (run, salt, who learns, minimum size)",
            party=channel.peer,
            hint="compare both policies and run again",
        )
    if not hmac.compare_digest(theirs.settings, secret.settings):
        raise PeerRefused(
            f"{channel.peer} normalises its key columns otherwise than we do",
            party=channel.peer,
            hint="`tally tables PEER` shows both sides' key columns and their `normalise`",
        )


def tell_lengths(run: Run, ours: KeyList, points_held: int, tags_held: int) -> Listed:
    """The end of step 2: length and digest of the peer's list, and where an interrupted exchange goes on."""
    terms, channel = run.terms, run.channel
    if len(ours) > terms.most_ours:
        raise DataError(f"our list has {len(ours)} keys, the agreement allows {terms.most_ours}", party=channel.us)
    run.guard.disclose("alignment.list", channel.peer, len(ours))
    channel.send(Listed(len(ours), ours.digest, points_held, tags_held))
    told = awaited(channel, Listed, run.report, f"the end of masking at {channel.peer}", SLOW * terms.most_theirs)
    if told.count > terms.most_theirs:
        raise run.broken(f"announces {told.count} keys, the agreement allows {terms.most_theirs}")
    if told.points_held > ours.chunks or told.tags_held > chunks_of(told.count):
        raise run.broken("says that it holds more of this run than there is")
    run.recall(_PEER, _announced(told))
    return told


def compare(run: Run, digest: bytes) -> None:
    """Step 8: both hold the same alignment, or neither publishes one."""
    run.channel.send(Digest(digest))
    if not hmac.compare_digest(awaited(run.channel, Digest, run.report, "the alignment's digest").digest, digest):
        raise run.broken("holds another alignment than we do")


def too_small(run: Run) -> TallyError:
    """The same texts on both sides whatever the count; who refused follows from the two policies alone."""
    terms, channel = run.terms, run.channel
    if terms.our_min_size >= terms.their_min_size:
        return PolicyRefused(
            f"the intersection is smaller than our minimum of {terms.our_min_size}",
            party=channel.us,
            stage="align",
            hint=_COMPARE_KEYS,
        )
    return PeerRefused(
        f"the intersection is smaller than {channel.peer}'s minimum of {terms.their_min_size}",
        party=channel.peer,
        stage="align",
        hint=_COMPARE_KEYS,
    )


def chunks_of(count: int) -> int:
    """How many chunks a list of this length has."""
    return -(-count // CHUNK)


def checked_product(run: Run, scalar: bytes, points: Bytes2D, due: int, last: bytes) -> Bytes2D:
    """The peer's points under our scalar; PeerError unless they are `due`, canonical, ascending behind `last`, and of
    large order."""
    if len(points) != due:
        raise run.broken(f"sent {len(points)} points where {due} were due")
    before = np.frombuffer(last, dtype=np.uint8).reshape(-1, 32)
    if not strictly_ascending(np.concatenate([before, points])):
        raise run.broken("sent a list that is not strictly ascending")
    made = curve25519.multiply_checked(scalar, points, run.executor)
    if not made.canonical:
        raise run.broken("sent a point that is not canonical")
    if not made.nonzero:
        raise run.broken("sent a point of small order")
    return made.points


def chunked(parts: Iterable[Bytes2D]) -> Iterator[Bytes2D]:
    """The same rows in pieces of exactly CHUNK, the last one shorter and not empty."""
    waiting: Bytes2D | None = None
    for part in parts:
        waiting = part if waiting is None else np.concatenate([waiting, part])
        whole = len(waiting) // CHUNK * CHUNK
        for at in range(0, whole, CHUNK):
            yield np.ascontiguousarray(waiting[at : at + CHUNK])
        waiting = waiting[whole:]
    if waiting is not None and len(waiting):
        yield np.ascontiguousarray(waiting)


def numbered(rows: Bytes2D, chunk: int) -> Bytes2D:
    """Rows of one chunk, each with its place in the whole list behind it, 4 bytes, big endian."""
    places = np.arange(chunk * CHUNK, chunk * CHUNK + len(rows)).astype(">u4")
    return np.hstack([rows, places.view(np.uint8).reshape(-1, 4)])
