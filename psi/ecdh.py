"""Private set intersection by elliptic-curve Diffie-Hellman: docs/protocols/03-ecdh-psi.md, steps 1 to 4.

Each side masks its identifiers with its own secret scalar, then the other's masked list; identifiers meet where both
scalars lie on them. Meadows 1986; Huberman, Franklin, Hogg 1999; hashing RFC 9380; X25519 RFC 7748. Semi-honest, with
the checks of a broken peer named in the page. Steps 5 to 8 are those of every form: `psi.reveal`.

What each message shows: `psi.messages`. Together: each side the other's list length; the tag receiver the size of
the intersection and, when that reaches the minimum, its own matching rows; the tag sender one bit about the minimum
and, with `learns: both`, its own matching rows; with `learns: size` both the size and nobody a row. An identifier
outside the intersection stays hidden.

Nothing here grows with the lists but the answer: lists, tags and orders stand in journals, a range at a time in memory.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from party.channel import Channel
from party.errors import UsageError
from party.guard import Guard
from psi import unbalanced
from psi.masking import KeyList, Secret, Source, chain, prepare, secret_of
from psi.means import Means, awaited
from psi.messages import AHEAD, CHUNK, Commitment, Listed, Masked, Tags
from psi.reveal import commitment, learn, matches, promised_order, refuse_repeats, show, word_bytes
from psi.rows import order_words, tags
from psi.run import LIST, SLOW, Run, agree, checked_product, chunked, chunks_of, numbered, tell_lengths, too_small
from psi.sorter import Sorter
from psi.terms import Alignment, Terms, receives_tags

__all__ = ["OURS", "TAGGED", "collect_tags", "exchange", "match", "meet"]

TAGGED, OURS = "tagged", "our-tags"  # journals


def match(identifiers: Source, channel: Channel, guard: Guard, terms: Terms, means: Means | None = None) -> Alignment:
    """Find which of our identifiers the peer holds too. Both sides call it; the roles follow from terms and lengths.

    identifiers: the table's, read only as far as the store has not kept them; a repeated one counts once.

    Peer learns: our list's length, whether the minimum is reached, and by `terms.learns` the intersection (see the top
    of the file). Rounds: 6 for the tag sender, 5 for the tag receiver. Bytes sent, without frames: 32 n + 10 m by the
    tag sender, 32 n + m / 8 by the tag receiver (`psi.predict` is exact); the unbalanced form: `psi.unbalanced`.
    Raises PeerError for a list that breaks the rules, PolicyRefused and PeerRefused below the minimum size,
    PeerRefused when the two sides normalise differently, DataError for repeated keys where they are an error and for
    a list of ours beyond the agreed length.
    Source: docs/protocols/03-ecdh-psi.md.
    """
    means = means or Means()
    found = meet(identifiers, channel, guard, terms, means)
    if found is None:
        raise too_small(Run(channel, guard, terms, means))
    return found


def meet(identifiers: Source, channel: Channel, guard: Guard, terms: Terms, means: Means) -> Alignment | None:
    """As `match`, but None on both sides where the intersection is below the minimum: for one of several keys."""
    if terms.learns not in ("both", "size", channel.us, channel.peer):
        raise UsageError(f"`learns: {terms.learns}` names neither {channel.us} nor {channel.peer}", stage="align")
    run = Run(channel, guard, terms, means)
    if terms.small is not None:
        return unbalanced.meet(run, identifiers)

    # 1. Agree on settings and terms before anything is masked.
    secret = secret_of(run.store, identifiers)
    agree(run, secret)

    # 2. Map to the curve, mask, sort; on disk before the first byte leaves. Then tell the lengths.
    run.report.begin(f"masking the keys of {channel.us}")
    ours = prepare(run.store, identifiers, run.hash(LIST), terms.salt, run.report.step, run.executor)
    told = tell_lengths(run, ours, len(run.store.journal(TAGGED)), len(run.store.journal(OURS)))
    if min(len(ours), told.count) < terms.min_size:
        return None
    receiver = receives_tags((channel.us, len(ours)), (channel.peer, told.count), terms.learns)

    # 3. Exchange the masked lists; check and mask theirs as it comes.
    run.report.total(2 * len(ours) + told.count if receiver else len(ours) + told.count)
    run.report.begin(f"masking the keys of {channel.peer}")
    tagged = exchange(run, ours, secret, told, receiver)

    # 4 to 8.
    found = _receive_tags(run, ours, tagged, told) if receiver else _send_tags(run, ours, tagged, told, secret.seed)
    return None if found is None else replace(found, facts=ours.facts, others=ours.others())


# --- step 3, alike on both sides ------------------------------------------------------------------------------------


def exchange(run: Run, ours: KeyList, secret: Secret, told: Listed, receiver: bool) -> Sorter:
    """What the tags of the peer's list become, a sorter over them.

    For the tag receiver (tag, place in the peer's sent order), 4 bytes for the place; for the tag sender (random word,
    tag): in this order, which only the seed tells, they are sent back.
    """
    width, back = run.tag_width(len(ours), told.count), chunks_of(told.count)
    tagged = Sorter(run.store.journal(TAGGED), width + (4 if receiver else 8))
    there = tagged.chunks
    note = tagged.note(there - 1) if there else run.hash(LIST)
    words = order_words(secret.seed, told.count, there)
    sending = iter(range(told.points_held, ours.chunks))
    _send_points(run, ours, sending, AHEAD)
    with run.dropping(TAGGED):
        for place in range(there, back):
            due = min(CHUNK, told.count - place * CHUNK)
            what = f"chunk {place + 1} of {back} of the masked list of {run.channel.peer}"
            points = awaited(run.channel, Masked, run.report, what, 2 * AHEAD * CHUNK * SLOW).points
            made = checked_product(run, secret.scalar, points, due, note[32:])
            tag = tags(run.tag_key, made, width)
            note = chain(note[:32], points) + points[-1].tobytes()
            tagged.append(numbered(tag, place) if receiver else np.hstack([word_bytes(next(words)), tag]), note)
            run.report.step(due)
            _send_points(run, ours, sending, 1)
        _send_points(run, ours, sending, ours.chunks)
        if not hmac.compare_digest(note[:32], told.digest):
            raise run.broken("sent another list than it announced")
    run.remember_list(told)
    return tagged


def _send_points(run: Run, ours: KeyList, sending: Iterator[int], most: int) -> None:
    for _, place in zip(range(most), sending, strict=False):
        run.channel.send(Masked(ours.content(place)))


# --- step 4, the side that sends tags -------------------------------------------------------------------------------


def _send_tags(run: Run, ours: KeyList, tagged: Sorter, told: Listed, seed: bytes) -> Alignment | None:
    """Return their tags in a secret order: they show the size of the intersection, not its rows."""
    refuse_repeats(run, tagged, told.count)
    run.guard.disclose("alignment.count", run.channel.peer, told.count)
    run.channel.send(Commitment(commitment(run, seed)))
    for place, chunk in enumerate(chunked(records[:, 8:] for records in tagged.ranges())):
        if place >= told.tags_held:
            run.channel.send(Tags(chunk))
    return show(run, ours, told, seed)


# --- step 4, the side that receives tags ----------------------------------------------------------------------------


def _receive_tags(run: Run, ours: KeyList, tagged: Sorter, told: Listed) -> Alignment | None:
    """Our own tags, in an order the peer keeps to itself, beside theirs: that shows how many match."""
    promised = promised_order(run, "our tags", SLOW * (len(ours) + told.count))
    with run.dropping(OURS):
        pairs = matches(run, tagged, collect_tags(run, ours, told.count), min(len(ours), told.count))
    return learn(run, ours, told, promised, pairs)


def collect_tags(run: Run, ours: KeyList, theirs: int) -> Sorter:
    """Our tags as they come: a sorter over (tag, place in the secret order)."""
    width = run.tag_width(len(ours), theirs)
    collected = Sorter(run.store.journal(OURS), width + 4)
    for place in range(collected.chunks, ours.chunks):
        what = f"chunk {place + 1} of {ours.chunks} of our tags"
        got = awaited(run.channel, Tags, run.report, what, CHUNK * SLOW).tags
        due = min(CHUNK, len(ours) - place * CHUNK)
        if got.shape != (due, width):
            raise run.broken(f"sent {got.shape[0]} tags of {got.shape[1]} bytes where {due} of {width} were due")
        collected.append(numbered(got, place))
        run.report.step(due)
    return collected
