"""A series: alignments of one pair of tables under one key, each exchanging what changed: docs/protocols/12-series.md.

The first run is one of `psi.ecdh`, whose scalar, salt and tags are kept, sealed. A later run reads the table, knows
its identifiers again by a keyed digest, and sends the points of new ones and the places of those that are gone; tags,
bit, seed and bitmap follow as in `psi.reveal`, for what is new. `learns: both`, one key.

What each message shows: `psi.messages`. Beside what `psi.match` tells, a later run tells each side how many keys of
the other are new and how many are gone, and which of the other's masked points these are: a point is a name that
lasts as long as the series, though it tells nothing of the identifier behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from party.errors import UsageError
from psi.changes import Changes, find_changes, identities
from psi.ecdh import OURS, TAGGED, collect_tags, exchange, meet
from psi.known import WIDTH, Known, Sorted, Table, merged, pack, split, still
from psi.masking import Facts, KeyList, Secret, Source, kept_list, prepare, secret_of
from psi.means import awaited
from psi.messages import CHUNK, MOST_ROWS, Bitmap, Commitment, Enough, Listed, Removed, Seed, Tags
from psi.reveal import SEED_TOLD, checked_bitmap, commitment, promised_order, told_order
from psi.rows import Rows, Words, order_words
from psi.run import LIST, SLOW, Run, agree, chunked, compare, tell_lengths
from psi.sorter import Sorter
from psi.terms import Alignment

__all__ = ["Keys", "advance", "begin"]

_DIGEST = b"tallystick/v1/psi/series/alignment/"


class Keys:
    """What a series keeps to itself: the scalar, and the key of the digests by which identifiers are known again.
    `debit` writes down how many keys of the peer will meet the scalar, before they do."""

    def __init__(self, scalar: bytes, identity: bytes, debit: Callable[[int], None]) -> None:
        self.scalar = scalar
        self.identity = identity
        self.debit = debit

    def drawn(self) -> tuple[bytes, bytes]:
        """As `masking.secret_of` draws."""
        return self.scalar, b""


# --- the first run ----------------------------------------------------------------------------------------------------


def begin(run: Run, identifiers: Source, keys: Keys) -> tuple[Alignment, Known] | None:
    """The first alignment of a series, and what is to be kept of it; None on both sides below the minimum size."""
    secret = secret_of(run.store, identifiers, keys.drawn)
    found = meet(identifiers, run.channel, run.guard, run.terms, run.means)
    if found is None:
        return None
    ours = kept_list(run.store)
    known = _first_known(run, ours, secret, found)
    digests = _first_identities(identifiers, keys.identity, ours)
    return found, replace(known, ours=Table(digests, Sorted.none()))


def _first_known(run: Run, ours: KeyList, secret: Secret, found: Alignment) -> Known:
    """From the journals of a whole run: tags and places, ours left out."""
    told = run.store.load(SEED_TOLD)
    tagged = run.store.journal(TAGGED)
    own, pairs = Sorted.none(), np.empty(0, np.uint64)
    if told is None:  # we sent the tags
        theirs = _by_word(Sorter(tagged, WIDTH + 8), secret.seed, found.theirs)
    else:
        theirs = _numbered(Sorter(tagged, WIDTH + 4))
        own = _numbered(Sorter(run.store.journal(OURS), WIDTH + 4)).placed(_sent_places(told, len(ours)))
        pairs = pack(theirs.find(own), own.places)
    ours_gone, theirs_gone = (np.zeros(count, dtype=np.bool_) for count in (len(ours), found.theirs))
    nothing, known, returned = (Table(table, Sorted.none()) for table in (Sorted.none(), theirs, own))
    return Known(told is not None, None, ours_gone, theirs_gone, nothing, known, returned, pairs, pairs[:0])


def _first_identities(identifiers: Source, key: bytes, ours: KeyList) -> Sorted:
    """The digests of our keys, by reading the table once more."""
    place_of_row = np.full(max(ours.facts.total, 1), -1, dtype=np.int64)
    for chunk in range(ours.chunks):
        rows = ours.rows(chunk)
        place_of_row[rows] = np.arange(chunk * CHUNK, chunk * CHUNK + len(rows))
    digests, places = [], []
    for batch in identifiers.batches():
        place = place_of_row[batch.rows]
        digests.append(identities(key, batch)[place >= 0])
        places.append(place[place >= 0])
    if not places:
        return Sorted.none()
    return Sorted.of(np.concatenate(digests), np.concatenate(places))


# --- a later run ------------------------------------------------------------------------------------------------------


def advance(run: Run, identifiers: Source, keys: Keys, base: Known) -> tuple[Alignment, Known] | None:
    """The next alignment after the state `base`, which both sides hold; None on both sides below the minimum size.

    Peer learns: see the top of the file. Rounds: 7 for the tag sender, 6 for the tag receiver. Bytes sent, for a new
    and r gone keys of n: 32 a + 4 r, and 12 b or n / 8 by the tag sender or receiver, b new keys of the peer.
    Raises PeerError for lists and places that break the rules; DataError as `psi.match`.
    """
    # 1. What changed, and agreement.
    run.report.begin(f"reading the keys of {run.channel.us}")
    changes = find_changes(identifiers, base, keys.identity)
    secret = secret_of(run.store, identifiers, keys.drawn)
    agree(run, secret)

    # 2. Mask what is new; tell lengths.
    added = prepare(run.store, changes.added, run.hash(LIST), run.terms.salt, run.report.step, run.executor)
    told = tell_lengths(run, added, len(run.store.journal(TAGGED)), len(run.store.journal(OURS)))
    alive = base.next_ours + len(added), base.next_theirs + told.count
    if max(alive) > MOST_ROWS:
        raise UsageError(
            "the series has grown too long: start a new one",
            stage="align",
            hint="fewer `runs` under `series` in policy.yaml",
        )

    # 3. Places that have become empty, and new points.
    keys.debit(told.count)
    gone = _swap_removed(run, changes.removed, base)
    run.report.total(len(added) + told.count)
    run.report.begin(f"masking the new keys of {run.channel.peer}")
    tagged = exchange(run, added, secret, told, base.receiver)

    # 4 to 8.
    step = _Step(run, base, changes, added, told, gone)
    return step.receive(tagged) if base.receiver else step.send(tagged, secret.seed)


def _swap_removed(run: Run, removed: Rows, base: Known) -> npt.NDArray[np.bool_]:
    """For each place of the peer's whether it is empty now."""
    run.guard.disclose("alignment.series", run.channel.peer, len(removed))
    for at in range(0, max(len(removed), 1), CHUNK):
        part = removed[at : at + CHUNK].astype("<u4")
        run.channel.send(Removed(at + CHUNK >= len(removed), part))
    alive = ~base.theirs_gone
    while True:
        got = awaited(run.channel, Removed, run.report, f"the keys that {run.channel.peer} has no more")
        places = got.places.astype(np.int64)
        if (np.diff(places) <= 0).any() or (not len(places) and not got.last):
            raise run.broken("removes keys out of order")
        if (places >= base.next_theirs).any() or not alive[places].all():
            raise run.broken("removes a key that is not there")
        alive[places] = False
        if got.last:
            return ~alive


class _Step:
    """Steps 4 to 8 of a later run, after both sides know what changed."""

    def __init__(
        self, run: Run, base: Known, changes: Changes, added: KeyList, told: Listed, gone: npt.NDArray[np.bool_]
    ) -> None:
        self.run = run
        self.base = base
        self.changes = changes
        self.added = added
        self.told = told
        self.rows = np.concatenate([changes.rows, *(added.rows(chunk) for chunk in range(added.chunks))])
        self.ours_gone = self.rows < 0
        self.theirs_gone = np.concatenate([gone, np.zeros(told.count, dtype=np.bool_)])
        self.alive_ours = int((~self.ours_gone).sum())
        self.alive_theirs = int((~self.theirs_gone).sum())
        if self.alive_theirs > run.terms.most_theirs:
            raise run.broken(f"has {self.alive_theirs} keys now, the agreement allows {run.terms.most_theirs}")

    def send(self, tagged: Sorter, seed: bytes) -> tuple[Alignment, Known] | None:
        """The tag sender."""
        run, channel = self.run, self.run.channel
        new = _by_word(tagged, seed, self.told.count)
        theirs = self._theirs(new)

        # 4. Tags of what is new, in a secret order.
        run.guard.disclose("alignment.count", channel.peer, self.told.count)
        channel.send(Commitment(commitment(run, seed)))
        for place, chunk in enumerate(chunked(records[:, 8:] for records in tagged.ranges())):
            if place >= self.told.tags_held:
                channel.send(Tags(chunk))

        # 5, 6. Enough: show the order.
        if not awaited(channel, Enough, run.report, "word whether enough keys match", SLOW * self.told.count).enough:
            return None
        run.guard.disclose("alignment.rows", channel.peer, self.told.count)
        channel.send(Seed(seed))

        # 7, 8. The bitmap over all of our places.
        got = awaited(channel, Bitmap, run.report, "the bitmap of matches")
        count, bits = checked_bitmap(run, got, len(self.ours_gone), min(self.alive_ours, self.alive_theirs))
        rows = self.rows[bits]
        if (rows < 0).any():
            raise run.broken("sent a bitmap with keys that are gone")
        return self._aligned(rows, count, got.bits), self._known(theirs, self.base.own, self.base.new_pairs)

    def receive(self, tagged: Sorter) -> tuple[Alignment, Known] | None:
        """The tag receiver."""
        run, channel, base = self.run, self.run.channel, self.base
        new = _numbered(tagged)
        theirs = self._theirs(new)

        # 4. Tags of our new keys.
        promised = promised_order(run, "our tags", SLOW * len(self.added))
        with run.dropping(OURS):
            fresh = _numbered(collect_tags(run, self.added, self.told.count))
            if fresh.repeats() or (base.own.find(fresh, self.ours_gone) >= 0).any():
                raise run.broken("returned one tag twice")
        met = theirs.find(fresh, self.theirs_gone)
        before, since = (still(pairs, self.theirs_gone, self.ours_gone) for pairs in (base.pairs, base.new_pairs))
        since = merged(since, pack(new.places + base.next_theirs, base.own.find(new, self.ours_gone)))
        count = len(before) + len(since) + int((met >= 0).sum())

        # 5, 6. Enough? Then the seed tells which.
        run.guard.disclose("alignment.enough", channel.peer, 1)
        channel.send(Enough(count >= run.terms.min_size))
        if count < run.terms.min_size:
            return None
        seed = told_order(run, promised)
        fresh = fresh.placed(_sent_places(seed, len(self.added)) + base.next_ours)
        since = merged(since, pack(met, fresh.places))
        pairs = merged(before, since)

        # 7, 8. The bitmap over all places of the peer's.
        there, here = split(pairs)
        matched = np.zeros(len(self.theirs_gone), dtype=np.bool_)
        matched[there] = True
        run.guard.disclose("alignment.rows", channel.peer, count)
        bits = np.packbits(matched, bitorder="little")
        channel.send(Bitmap(count, bits))
        own = base.own.changed(self.ours_gone, fresh)
        return self._aligned(self.rows[here], count, bits), self._known(theirs, own, since)

    def _theirs(self, new: Sorted) -> Table:
        """The peer's tags now; PeerError for one that is new and known."""
        known = self.base.theirs
        if new.repeats() or (known.find(new, self.theirs_gone) >= 0).any():
            raise self.run.torsion()
        return known.changed(self.theirs_gone, new.placed(np.arange(self.base.next_theirs, len(self.theirs_gone))))

    def _aligned(self, rows: Rows, count: int, bits: npt.NDArray[np.uint8]) -> Alignment:
        digest = self.run.hash(_DIGEST, count.to_bytes(8, "little"), bits.tobytes())
        compare(self.run, digest)
        changes = self.changes
        others = np.concatenate([changes.others, self.added.others()])
        facts = Facts(self.alive_ours, changes.total, changes.nulls, changes.unreadable, len(others))
        others = others[np.lexsort((others[:, 1], others[:, 0]))]
        return Alignment(rows, None, count, digest, self.alive_ours, self.alive_theirs, facts=facts, others=others)

    def _known(self, theirs: Table, own: Table, since: Words) -> Known:
        """What is kept; `since`: the pairs that have come since the base."""
        base = self.base
        digests = self.changes.added.identities(self.rows[base.next_ours :])
        ours = base.ours.changed(self.ours_gone, Sorted.of(digests, np.arange(base.next_ours, len(self.rows))))
        known = replace(base, ours=ours, theirs=theirs, own=own, new_pairs=since)
        return replace(known, ours_gone=self.ours_gone, theirs_gone=self.theirs_gone)


def _numbered(records: Sorter) -> Sorted:
    """A sorter over (tag, place) as a whole."""
    whole = np.concatenate(list(records.ranges()))
    return Sorted.of(whole[:, :-4], whole[:, -4:].copy().view(">u4").ravel())


def _by_word(records: Sorter, seed: bytes, count: int) -> Sorted:
    """A sorter over (random word, tag) with the places that stand behind the words."""
    whole = np.concatenate(list(records.ranges()))
    return Sorted.of(whole[:, 8:], _sent_places(seed, count))


def _sent_places(seed: bytes, count: int) -> Rows:
    """For each place in the secret order the place in the sent one."""
    words = np.concatenate([np.empty(0, np.uint64), *order_words(seed, count)])
    return np.argsort(words, kind="stable")
