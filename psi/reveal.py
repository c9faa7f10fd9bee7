"""Steps 5 to 8 of the alignment, in every form: whether enough match, which, and that both sides hold the same.

Before them the tag receiver holds the tags of both lists, its own in an order that only the seed of the tag sender
tells: it knows how many match. docs/protocols/03-ecdh-psi.md.
"""

from __future__ import annotations

import hmac

import numpy as np
import numpy.typing as npt

from psi.masking import KeyList
from psi.means import awaited
from psi.messages import CHUNK, Bitmap, Commitment, Enough, Listed, Seed, Size
from psi.rows import Rows, Words, heads, join, order_words, repeated
from psi.run import SLOW, Run, compare
from psi.sorter import Sorter
from psi.terms import Alignment

__all__ = [
    "SEED_TOLD",
    "checked_bitmap",
    "commitment",
    "learn",
    "matches",
    "promised_order",
    "refuse_repeats",
    "show",
    "told_order",
    "word_bytes",
]

_SEED = b"tallystick/v1/psi/seed/"
_DIGEST = b"tallystick/v1/psi/alignment/"
SEED_TOLD = "seed-told"  # record
_COMMITMENT = "peer-commitment"  # record
_ORDER = "order"  # journal
_AT_ONCE = 2_000_000  # products compared at one time
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def commitment(run: Run, seed: bytes) -> bytes:
    """What the tag sender sends before the tags, so that it cannot choose the order afterwards."""
    return run.hash(_SEED, seed)


def refuse_repeats(run: Run, made: Sorter, count: int) -> None:
    """Equal products, or tags, of different points: PeerError. `made`: over (random word, product or tag). They are
    looked for in as many parts as memory asks for."""
    parts = 1 + count // _AT_ONCE
    for part in range(parts):
        some = [np.empty(0, dtype=np.uint64)]
        for records in made.unsorted():
            first = heads(records[:, 8:])
            some.append(first if parts == 1 else first[(first >> _32) * np.uint64(parts) >> _32 == part])
        first = np.sort(np.concatenate(some))
        suspects = np.unique(first[1:][first[1:] == first[:-1]])
        if len(suspects):
            alike = [records[np.isin(heads(records[:, 8:]), suspects), 8:] for records in made.unsorted()]
            if len(np.unique(np.concatenate(alike), axis=0)) < sum(map(len, alike)):
                raise run.torsion()


def promised_order(run: Run, what: str, seconds: float) -> bytes:
    """The tag receiver: what the sender has bound itself to; another promise in a resumed run is a PeerError."""
    promised = awaited(run.channel, Commitment, run.report, what, seconds).digest
    run.remember(_COMMITMENT, promised)
    return promised


def told_order(run: Run, promised: bytes) -> bytes:
    """The tag receiver, step 6: the seed, PeerError for another than was promised."""
    seed = awaited(run.channel, Seed, run.report, "the order of our tags").seed
    if not hmac.compare_digest(commitment(run, seed), promised):
        raise run.broken("sent another seed than it promised")
    return seed


def show(run: Run, ours: KeyList, told: Listed, seed: bytes) -> Alignment | None:
    """The tag sender: None when the intersection is below the minimum. `ours` in the order that the peer sees it."""
    channel, terms, theirs = run.channel, run.terms, told.count

    # 5. The tag receiver says whether the intersection is large enough.
    if not awaited(channel, Enough, run.report, "word whether enough keys match", SLOW * (len(ours) + theirs)).enough:
        return None
    if terms.learns == "size":
        count = awaited(channel, Size, run.report, "the size of the intersection").count
        if not terms.min_size <= count <= min(len(ours), theirs):
            raise run.broken("tells an impossible size")
        return _size(run, count, len(ours), theirs)

    # 6. Large enough: show the order.
    run.guard.disclose("alignment.rows", channel.peer, theirs)
    channel.send(Seed(seed))

    # 7. The bitmap over our sent order; without one, all of our list is the common order.
    if terms.learns != "both":
        digest = _list_digest(run, len(ours), ours.digest)
        compare(run, digest)
        return Alignment(_rows(ours), None, None, digest, len(ours), theirs)
    got = awaited(channel, Bitmap, run.report, "the bitmap of matches", SLOW * (len(ours) + theirs))
    count, bits = checked_bitmap(run, got, len(ours), min(len(ours), theirs))

    # 8. Both hold the same alignment, or neither publishes one.
    digest = run.hash(_DIGEST, count.to_bytes(8, "little"), np.packbits(bits, bitorder="little").tobytes())
    compare(run, digest)
    return Alignment(_rows(ours, bits), None, count, digest, len(ours), theirs)


def learn(run: Run, ours: KeyList, told: Listed, promised: bytes, pairs: Words) -> Alignment | None:
    """The tag receiver. `pairs`: (place in the secret order of ours << 32) + place in the peer's order, ascending; it
    is used up."""
    channel, terms, theirs = run.channel, run.terms, told.count

    # 5. Say whether the intersection is large enough, no more.
    run.guard.disclose("alignment.enough", channel.peer, 1)
    count = len(pairs)
    channel.send(Enough(count >= terms.min_size))
    if count < terms.min_size:
        return None
    if terms.learns == "size":
        run.guard.disclose("alignment.count", channel.peer, count)
        channel.send(Size(count))
        return _size(run, count, len(ours), theirs)

    # 6. The seed tells which of our rows stand behind the tags.
    seed = told_order(run, promised)
    if terms.series and run.store.load(SEED_TOLD) is None:
        run.store.save(SEED_TOLD, seed)  # later runs of the series look up what it shows
    _resolve(run, ours, seed, pairs)
    matched = np.zeros(theirs, dtype=np.bool_)
    for at in range(0, count, CHUNK):
        matched[pairs[at : at + CHUNK] >> _32] = True
    pairs &= _LOW  # of each match our row is left, in the peer's order
    rows = pairs.view(np.int64)

    # 7. The bitmap over their sent order, unless only we learn.
    if terms.learns != "both":
        digest = _list_digest(run, theirs, told.digest)
        compare(run, digest)
        by_place = np.full(theirs, -1, dtype=np.int64)
        by_place[matched] = rows
        return Alignment(by_place, matched.view(np.uint8), count, digest, len(ours), theirs)
    run.guard.disclose("alignment.rows", channel.peer, count)
    bits = np.packbits(matched, bitorder="little")
    channel.send(Bitmap(count, bits))

    # 8. Both hold the same alignment, or neither publishes one.
    digest = run.hash(_DIGEST, count.to_bytes(8, "little"), bits.tobytes())
    compare(run, digest)
    return Alignment(rows, None, count, digest, len(ours), theirs)


def matches(run: Run, theirs: Sorter, ours: Sorter, most: int) -> Words:
    """Equal tags of two sorters over (tag, place), as `learn` takes them: (place in the secret order of ours << 32) +
    place in the peer's order, ascending. `most`: the shorter list's length."""
    pairs = np.empty(most, dtype=np.uint64)  # its pages are taken as they are filled
    count = 0
    for known, wanted in zip(theirs.ranges(), ours.ranges(), strict=True):
        if repeated(known[:, :-4]).any():
            raise run.torsion()
        if repeated(wanted[:, :-4]).any():
            raise run.broken("returned one tag twice")
        at, place = join(wanted[:, :-4], known[:, :-4])
        pairs[count : count + len(at)] = _place_of(wanted[at]) << _32 | _place_of(known[place])
        count += len(at)
    pairs = pairs[:count]
    pairs.sort()
    return pairs


def word_bytes(words: Words) -> npt.NDArray[np.uint8]:
    """Words as rows of eight bytes that sort as they do."""
    return words.astype(">u8").view(np.uint8).reshape(-1, 8)


def _place_of(records: npt.NDArray[np.uint8]) -> Words:
    """The number in the last four bytes of each record."""
    return records[:, -4:].copy().view(">u4").ravel().astype(np.uint64)


def checked_bitmap(run: Run, got: Bitmap, places: int, most: int) -> tuple[int, npt.NDArray[np.bool_]]:
    """How many match and which of our places; PeerError unless the bitmap has so many places, the count that it says,
    and between the minimum size and `most` of them."""
    if len(got.bits) != -(-places // 8):
        raise run.broken("sent a bitmap of another length than our list")
    bits = np.unpackbits(got.bits, bitorder="little").view(np.bool_)
    count = int(bits.sum())
    if bits[places:].any() or count != got.count:
        raise run.broken("sent a bitmap that does not hold the count it says")
    if not run.terms.min_size <= count <= most:
        raise run.broken("sent a bitmap with an impossible count")
    return count, bits[:places]


def _rows(ours: KeyList, chosen: npt.NDArray[np.bool_] | None = None) -> Rows:
    """Our rows in sent order, or those of the chosen places."""
    rows = np.empty(len(ours) if chosen is None else int(chosen.sum()), dtype=np.int64)
    at = 0
    for place in range(ours.chunks):
        part = ours.rows(place)
        if chosen is not None:
            part = part[chosen[place * CHUNK : (place + 1) * CHUNK]]
        rows[at : at + len(part)] = part
        at += len(part)
    return rows


def _resolve(run: Run, ours: KeyList, seed: bytes, pairs: Words) -> None:
    """Turn `pairs` in place into (place in the peer's order << 32) + our row, ascending."""
    run.store.drop(_ORDER)  # of a call that was interrupted here
    order = Sorter(run.store.journal(_ORDER), 12)
    for place, words in enumerate(order_words(seed, len(ours))):
        rows = ours.rows(place).astype(">u4").view(np.uint8).reshape(-1, 4)
        order.append(np.hstack([word_bytes(words), rows]))
    first = done = 0
    for records in order.ranges():
        last = first + len(records)
        end = int(np.searchsorted(pairs[done:], np.uint64(last) << _32)) + done
        part = pairs[done:end]
        rows_here = _place_of(records)[(part >> _32).astype(np.int64) - first]
        pairs[done:end] = (part & _LOW) << _32 | rows_here
        first, done = last, end
    run.store.drop(_ORDER)
    pairs.sort()


def _size(run: Run, count: int, ours: int, theirs: int) -> Alignment:
    digest = run.hash(_DIGEST, b"size", count.to_bytes(8, "little"))
    compare(run, digest)
    return Alignment(np.empty(0, np.int64), None, count, digest, ours, theirs)


def _list_digest(run: Run, length: int, listed: bytes) -> bytes:
    return run.hash(_DIGEST, b"list", length.to_bytes(8, "little"), listed)
