"""Private set intersection by elliptic-curve Diffie-Hellman: docs/protocols/03-ecdh-psi.md, steps 1 to 8.

Each side masks its identifiers with its own secret scalar, then the other's masked list; identifiers meet where both
scalars lie on them. Meadows 1986; Huberman, Franklin, Hogg 1999; hashing RFC 9380; X25519 RFC 7748. Semi-honest, with
the checks of a broken peer named in the page.

What each message shows: `psi.messages`. Together: each side the other's list length; the tag receiver the size of
the intersection and, when that reaches the minimum, its own matching rows; the tag sender one bit about the minimum
and, with `learns: both`, its own matching rows. An identifier outside the intersection stays hidden.

This file is over 250 lines because both roles stand in it, to be read from top to bottom.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernels import curve25519
from party.channel import Channel
from party.errors import DataError, InternalError, PeerError, PeerRefused, PolicyRefused, TallyError, UsageError
from party.guard import Guard
from psi.identifiers import Identifiers
from psi.messages import AHEAD, CHUNK, Agreed, Bitmap, Commitment, Digest, Enough, Masked, Seed, Tags
from psi.rows import Bytes2D, Rows, ascending, find, permutation, repeats, strictly_ascending, tags
from psi.store import MemoryStore, Store
from psi.terms import Alignment, Terms, receives_tags, tag_width

__all__ = ["Progress", "match", "prepared"]

Progress = Callable[[int, int], None]

_DOMAIN = b"tallystick/v1/psi/identifier/curve25519_XMD:SHA-512_ELL2_NU_/"
_TAG = b"tallystick/v1/psi/tag/"
_LIST = b"tallystick/v1/psi/list/"
_SEED = b"tallystick/v1/psi/seed/"
_DIGEST = b"tallystick/v1/psi/alignment/"
_OURS, _THEIRS, _TAGS = "masked-list", "peer-list", "peer-tags"  # records of the store
_STEP = 16_384  # points masked between two calls of `progress`


@dataclass(frozen=True, repr=False)
class _List:
    """Our side of a run, drawn once: never printed, stored sealed only."""

    scalar: bytes
    seed: bytes
    settings: bytes
    rows: Rows  # our row numbers in sent order
    points: Bytes2D  # masked, strictly ascending

    def packed(self) -> bytes:
        """One record: 32 + 32 + 32 bytes, rows, points."""
        return self.scalar + self.seed + self.settings + self.rows.astype("<i8").tobytes() + self.points.tobytes()

    @staticmethod
    def unpacked(record: bytes) -> _List:
        """The reverse; InternalError when the length is impossible."""
        count, rest = divmod(len(record) - 96, 40)
        if rest or count < 0:
            raise InternalError("the stored list of this alignment is broken: start a new run")
        rows = np.frombuffer(record, dtype="<i8", count=count, offset=96)
        points = np.frombuffer(record, dtype=np.uint8, offset=96 + 8 * count).reshape(count, 32)
        return _List(record[:32], record[32:64], record[64:96], rows.astype(np.int64), points)


class _Run:
    """What all steps of one alignment need."""

    def __init__(self, channel: Channel, terms: Terms, store: Store) -> None:
        self.channel = channel
        self.terms = terms
        self.store = store
        self.label = len(terms.run.encode()).to_bytes(4, "little") + terms.run.encode()
        self.tag_key = hashlib.sha256(_TAG + self.label).digest()[:16]

    def broken(self, text: str) -> PeerError:
        """The peer's fault: nothing of ours is published after it."""
        return PeerError(f"{self.channel.peer} {text}", party=self.channel.peer, stage=self.channel.stage_name)

    def hash(self, label: bytes, *parts: bytes) -> bytes:
        """SHA-256 of label, run and parts, the parts of fixed length or the last."""
        return hashlib.sha256(label + self.label + b"".join(parts)).digest()

    def remember(self, name: str, digest: bytes) -> None:
        """What the peer sent must be what it sent before the run broke: else it would try two lists on one scalar."""
        before = self.store.load(name)
        if before is None:
            self.store.save(name, digest)
        elif not hmac.compare_digest(before, digest):
            raise self.broken("sent another list or other tags than before this run was interrupted")


def prepared(store: Store) -> bool:
    """Whether this run's masked list is stored: then `match` needs no identifiers and no table is read again."""
    return store.load(_OURS) is not None


def match(
    identifiers: Identifiers | None,
    channel: Channel,
    guard: Guard,
    terms: Terms,
    store: Store | None = None,
    progress: Progress | None = None,
) -> Alignment:
    """Find which of our identifiers the peer holds too. Both sides call it; the roles follow from terms and lengths.

    identifiers: n distinct normalised byte strings with their row numbers; None when `prepared(store)`.
    store: with it, a broken run called again sends the same bytes; the caller wipes it when both sides have the
    result on disk. progress(done, total) counts multiplications.

    Peer learns: n, whether the minimum is reached, and by `terms.learns` the intersection (see the top of the file).
    Rounds: 5 for the tag sender, 4 for the tag receiver. Bytes sent, without frames: 32 n + 10 m by the tag sender,
    32 n + m / 8 by the tag receiver (`psi.predict` is exact).
    Raises PeerError for a list that breaks the rules, PolicyRefused and PeerRefused below the minimum size,
    PeerRefused when the two sides normalise differently, DataError for a list of ours beyond the agreed length.
    Source: docs/protocols/03-ecdh-psi.md.
    """
    if terms.learns not in ("both", channel.us, channel.peer):
        raise UsageError(f"`learns: {terms.learns}` names neither {channel.us} nor {channel.peer}", stage="align")
    run = _Run(channel, terms, MemoryStore() if store is None else store)
    stored = run.store.load(_OURS)
    ours = None if stored is None else _List.unpacked(stored)
    if ours is None and identifiers is None:
        raise InternalError("an alignment needs identifiers: nothing is stored for this run")

    # 1. Agree on settings, terms and lengths before anything is masked.
    settings, count = _announced(ours, identifiers)
    if count > terms.most_ours:
        raise DataError(f"our list has {count} keys, the agreement allows {terms.most_ours}", party=channel.us)
    theirs = _agree(run, settings, count)
    report = _counting(progress, count + theirs)

    # 2. Map to the curve, mask, sort; on disk before the first byte leaves.
    if ours is None and identifiers is not None:
        ours = _mask(run, identifiers, report)
        run.store.save(_OURS, ours.packed())
    if ours is None:
        raise InternalError("no list to send")
    guard.disclose("alignment.list", channel.peer, count)

    # 3. Exchange the masked lists; check and mask theirs as it comes.
    their_tags, their_list = _exchange(run, ours, theirs, report)
    run.remember(_THEIRS, their_list)

    if receives_tags((channel.us, count), (channel.peer, theirs), terms.learns):
        return _receive_tags(run, ours, their_tags, their_list, guard)
    return _send_tags(run, ours, their_tags, guard)


# --- steps 1 to 3, alike on both sides ------------------------------------------------------------------------------


def _announced(ours: _List | None, identifiers: Identifiers | None) -> tuple[bytes, int]:
    if ours is not None:
        return ours.settings, len(ours.rows)
    if identifiers is None:
        raise InternalError("an alignment needs identifiers")
    return identifiers.settings, len(identifiers.items)


def _agree(run: _Run, settings: bytes, count: int) -> int:
    """Step 1: the length of the peer's list."""
    terms, channel = run.terms, run.channel
    theirs = channel.swap(Agreed(settings, terms.digest(), count))
    if not hmac.compare_digest(theirs.terms, terms.digest()):
        raise PeerRefused(
            f"{channel.peer} and we do not mean the same alignment (run, salt, who learns, minimum size)",
            party=channel.peer,
            hint="compare both policies and run again",
        )
    if not hmac.compare_digest(theirs.settings, settings):
        raise PeerRefused(
            f"{channel.peer} normalises its key columns otherwise than we do",
            party=channel.peer,
            hint="`tally tables PEER` shows both sides' key columns and their `normalise`",
        )
    if theirs.count > terms.most_theirs:
        raise run.broken(f"announces {theirs.count} keys, the agreement allows {terms.most_theirs}")
    if min(count, theirs.count) < terms.min_size:
        raise _too_small(run)
    return theirs.count


def _mask(run: _Run, identifiers: Identifiers, report: Callable[[int], None]) -> _List:
    """Step 2: hash to the curve, mask with a fresh scalar, sort by the masked bytes: the order now says nothing."""
    scalar, seed = curve25519.random_scalar(), secrets.token_bytes(32)
    items = identifiers.items
    points = np.empty((len(items), 32), dtype=np.uint8)
    for at in range(0, len(items), _STEP):
        mapped = curve25519.hash_to_curve(items[at : at + _STEP], _DOMAIN + run.terms.salt)
        points[at : at + _STEP] = curve25519.multiply(scalar, mapped)
        report(len(mapped))
    order = ascending(points)
    points = points[order]
    if not strictly_ascending(points):
        raise InternalError("two of our identifiers are equal")
    return _List(scalar, seed, identifiers.settings, identifiers.rows[order], points)


def _exchange(run: _Run, ours: _List, count: int, report: Callable[[int], None]) -> tuple[Bytes2D, bytes]:
    """Step 3: the tags of the peer's list in its sent order, uint8 (m, width), and a digest of the list."""
    out, back = -(-len(ours.rows) // CHUNK), -(-count // CHUNK)
    width = tag_width(len(ours.rows), count)
    found = np.empty((count, width), dtype=np.uint8)
    heads = np.empty((count, 2), dtype=np.uint64)  # 16 bytes of each product, to find repeats
    listed = hashlib.sha256(_LIST + run.label)
    last: Bytes2D | None = None
    for place in range(min(out, AHEAD)):
        run.channel.send(Masked(_chunk(ours.points, place)))
    for place in range(max(out, back)):
        if place < back:
            rows = slice(place * CHUNK, min((place + 1) * CHUNK, count))
            points = run.channel.recv(Masked).points
            _check_points(run, points, rows.stop - rows.start, last)
            last = points[-1:]
            listed.update(points.tobytes())
            for at in range(0, len(points), _STEP):
                twice = curve25519.multiply(ours.scalar, points[at : at + _STEP])
                if not twice.any(axis=1).all():
                    raise run.broken("sent a point of small order")
                part = slice(rows.start + at, rows.start + at + len(twice))
                heads[part] = np.ascontiguousarray(twice[:, :16]).view("<u8")
                found[part] = tags(run.tag_key, twice, width)
                report(len(twice))
        if place + AHEAD < out:
            run.channel.send(Masked(_chunk(ours.points, place + AHEAD)))
    if repeats(heads):  # the eight u(P + T) differ, their products do not
        raise run.broken("sent points that differ by torsion only")
    return found, listed.digest()


def _check_points(run: _Run, points: Bytes2D, due: int, last: Bytes2D | None) -> None:
    if len(points) != due:
        raise run.broken(f"sent {len(points)} points where {due} were due")
    if not curve25519.is_canonical(points).all():
        raise run.broken("sent a point that is not canonical")
    if not strictly_ascending(points if last is None else np.concatenate([last, points])):
        raise run.broken("sent a list that is not strictly ascending")


# --- steps 4 to 8, the side that sends tags -------------------------------------------------------------------------


def _send_tags(run: _Run, ours: _List, their_tags: Bytes2D, guard: Guard) -> Alignment:
    channel, terms, theirs = run.channel, run.terms, len(their_tags)

    # 4. Return their tags in a secret order: they show the size of the intersection, not its rows.
    guard.disclose("alignment.count", channel.peer, theirs)
    channel.send(Commitment(run.hash(_SEED, ours.seed)))
    shuffled = their_tags[permutation(ours.seed, theirs)]
    for place in range(-(-theirs // CHUNK)):
        channel.send(Tags(_chunk(shuffled, place)))

    # 5. The tag receiver says whether the intersection is large enough.
    if not channel.recv(Enough).enough:
        raise _too_small(run)

    # 6. Large enough: show the order.
    guard.disclose("alignment.rows", channel.peer, theirs)
    channel.send(Seed(ours.seed))

    # 7. The bitmap over our sent order; without one, all of our list is the common order.
    if terms.learns != "both":
        digest = _list_digest(run, len(ours.rows), run.hash(_LIST, ours.points.tobytes()))
        _compare(run, digest)
        return Alignment(ours.rows, None, None, digest, len(ours.rows), theirs)
    count, bits = _checked_bitmap(run, channel.recv(Bitmap), len(ours.rows), theirs)

    # 8. Both hold the same alignment, or neither publishes one.
    digest = run.hash(_DIGEST, count.to_bytes(8, "little"), np.packbits(bits, bitorder="little").tobytes())
    _compare(run, digest)
    return Alignment(ours.rows[bits], None, count, digest, len(ours.rows), theirs)


def _checked_bitmap(run: _Run, got: Bitmap, ours: int, theirs: int) -> tuple[int, npt.NDArray[np.bool_]]:
    if len(got.bits) != -(-ours // 8):
        raise run.broken("sent a bitmap of another length than our list")
    bits = np.unpackbits(got.bits, bitorder="little").astype(np.bool_)
    count = int(bits.sum())
    if bits[ours:].any() or count != got.count:
        raise run.broken("sent a bitmap that does not hold the count it says")
    if not run.terms.min_size <= count <= min(ours, theirs):
        raise run.broken("sent a bitmap with an impossible count")
    return count, bits[:ours]


# --- steps 4 to 8, the side that receives tags ----------------------------------------------------------------------


def _receive_tags(run: _Run, ours: _List, their_tags: Bytes2D, their_list: bytes, guard: Guard) -> Alignment:
    channel, terms, theirs = run.channel, run.terms, len(their_tags)

    # 4. Our own tags, in an order the peer keeps to itself.
    commitment = channel.recv(Commitment).digest
    our_tags = _collect_tags(run, len(ours.rows), their_tags.shape[1])
    run.remember(_TAGS, run.hash(_TAG, commitment, our_tags.tobytes()))
    places = find(our_tags, their_tags)  # for each of our tags its place in their list, or -1
    found = np.flatnonzero(places >= 0)
    if len(np.unique(places[found])) != len(found):
        raise run.broken("returned one tag twice")

    # 5. Say whether the intersection is large enough, no more.
    guard.disclose("alignment.enough", channel.peer, 1)
    enough = len(found) >= terms.min_size
    channel.send(Enough(enough))
    if not enough:
        raise _too_small(run)

    # 6. The seed tells which of our rows stand behind the tags.
    seed = channel.recv(Seed).seed
    if not hmac.compare_digest(run.hash(_SEED, seed), commitment):
        raise run.broken("sent another seed than it promised")
    by_place = np.full(theirs, -1, dtype=np.int64)
    by_place[places[found]] = ours.rows[permutation(seed, len(ours.rows))[found]]
    matched = by_place >= 0

    # 7. The bitmap over their sent order, unless only we learn.
    count = len(found)
    if terms.learns != "both":
        digest = _list_digest(run, theirs, their_list)
        _compare(run, digest)
        return Alignment(by_place, matched.astype(np.uint8), count, digest, len(ours.rows), theirs)
    guard.disclose("alignment.rows", channel.peer, count)
    bits = np.packbits(matched, bitorder="little")
    channel.send(Bitmap(count, bits))

    # 8. Both hold the same alignment, or neither publishes one.
    digest = run.hash(_DIGEST, count.to_bytes(8, "little"), bits.tobytes())
    _compare(run, digest)
    return Alignment(by_place[matched], None, count, digest, len(ours.rows), theirs)


def _collect_tags(run: _Run, count: int, width: int) -> Bytes2D:
    collected = np.empty((count, width), dtype=np.uint8)
    for at in range(0, count, CHUNK):
        got = run.channel.recv(Tags).tags
        due = min(CHUNK, count - at)
        if got.shape != (due, width):
            raise run.broken(f"sent {got.shape[0]} tags of {got.shape[1]} bytes where {due} of {width} were due")
        collected[at : at + due] = got
    return collected


# --- small parts ----------------------------------------------------------------------------------------------------


def _compare(run: _Run, digest: bytes) -> None:
    if not hmac.compare_digest(run.channel.swap(Digest(digest)).digest, digest):
        raise run.broken("holds another alignment than we do")


def _list_digest(run: _Run, length: int, listed: bytes) -> bytes:
    return run.hash(_DIGEST, b"list", length.to_bytes(8, "little"), listed)


def _too_small(run: _Run) -> TallyError:
    """The same texts on both sides whatever the count; who refused follows from the two policies alone."""
    terms, channel = run.terms, run.channel
    if terms.our_min_size >= terms.their_min_size:
        return PolicyRefused(
            f"the intersection is smaller than our minimum of {terms.our_min_size}", party=channel.us, stage="align"
        )
    return PeerRefused(
        f"the intersection is smaller than {channel.peer}'s minimum of {terms.their_min_size}",
        party=channel.peer,
        stage="align",
    )


def _chunk(array: Bytes2D, place: int) -> Bytes2D:
    return array[place * CHUNK : (place + 1) * CHUNK]


def _counting(progress: Progress | None, total: int) -> Callable[[int], None]:
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    return report
