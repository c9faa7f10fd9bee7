"""Private set intersection where one list is much shorter: docs/protocols/10-unbalanced-psi.md, steps 1 to 4.

The side with the long list evaluates a pseudo-random function, its scalar times the identifier's point; it can do that
for its own list ahead of time. The other blinds its points with a scalar r of its own, has them evaluated, and takes
r off again: 3 n + m multiplications instead of 2 n + 2 m, and of the m none while the short side waits. Blinded
evaluation: Freedman, Ishai, Pinkas, Reingold, TCC 2005; Jarecki and Liu, TCC 2009 (there with exponents as here).
Evaluated points come back in a secret order, so that the short side learns how many match before which.

What each message shows: `psi.messages`; together as in `psi.ecdh`, the short side being the tag receiver. The long
side's salt and scalar serve one run.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np

from kernels import curve25519
from psi.masking import POINTS, KeyList, Source, chain, kept_list, prepare, secret_of
from psi.means import awaited
from psi.messages import AHEAD, CHUNK, Commitment, Evaluated, Listed, Masked, Salt, Tags
from psi.reveal import commitment, learn, matches, promised_order, refuse_repeats, show, word_bytes
from psi.rows import Bytes2D, order_words, strictly_ascending, tags
from psi.run import LIST, SLOW, Run, agree, checked_product, chunked, chunks_of, numbered, tell_lengths
from psi.sorter import Sorter
from psi.store import Store
from psi.terms import Alignment, tag_width

__all__ = ["meet", "prepare_ahead", "prepared_ahead", "smaller"]

_TAG = b"tallystick/v1/psi/unbalanced/tag/"
_SALT, _AHEAD = "salt", "ahead"  # records
_BY_TAG, _SORTING, _EVALUATED, _THEIRS, _OURS = "by-tag", "sorting", "evaluated", "their-tags", "our-tags"  # journals
_LEAST_RATIO = 8
_ORDER = 2**252 + 27742317777372353535851937790883648493  # of the group


def smaller(rows: dict[str, int], learns: str) -> str | None:
    """The party with the short list, when this form is the one to take: its table has at most an eighth of the other's
    rows, and it may learn. `rows`: of both tables as the catalogues tell them, so that both sides decide alike."""
    short, long = sorted(rows, key=lambda party: rows[party])
    return short if rows[long] >= _LEAST_RATIO * rows[short] and learns in ("both", "size", short) else None


def meet(run: Run, identifiers: Source) -> Alignment | None:
    """Our side of it; None on both sides where the intersection is below the minimum."""
    short = run.terms.small == run.channel.us
    return _short_side(run, identifiers) if short else _long_side(run, identifiers)


# --- the long list ----------------------------------------------------------------------------------------------------


def prepare_ahead(
    identifiers: Source, store: Store, report: Callable[[int], None], executor: Executor | None = None
) -> KeyList:
    """Draw salt and scalar, mask the table and keep its tags, ascending, for one run that is to come; what is there
    already is not made again. Raises DataError as `psi.match` does. Nothing leaves."""
    if store.load(_SALT) is None:
        store.save(_SALT, secrets.token_bytes(32))
    salt = _salt_of(store)
    if not prepared_ahead(store):
        start = hashlib.sha256(LIST + salt).digest()
        listed = prepare(store, identifiers, start, salt, report, executor)
        store.save(_AHEAD, _by_tag(store, listed, salt, start))
        store.drop(POINTS)
        store.drop(_SORTING)
    return KeyList(store, kept_list(store).facts, _ahead_of(store), _BY_TAG)


def prepared_ahead(store: Store) -> bool:
    """Whether the list is whole: then no table is read."""
    return store.load(_AHEAD) is not None


def _salt_of(store: Store) -> bytes:
    return store.load(_SALT) or b""


def _ahead_of(store: Store) -> bytes:
    return store.load(_AHEAD) or b""


def _by_tag(store: Store, listed: KeyList, salt: bytes, digest: bytes) -> bytes:
    """Turn masked points into tags, in the order of the tags; the digest of the list."""
    store.drop(_SORTING)  # of a call that was interrupted here
    store.drop(_BY_TAG)
    width = tag_width(len(listed), len(listed))
    sorter, kept = Sorter(store.journal(_SORTING), width + 4), store.journal(_BY_TAG)
    for place in range(listed.chunks):
        rows = listed.rows(place).astype(">u4").view(np.uint8).reshape(-1, 4)
        sorter.append(np.hstack([tags(_tag_key(salt), listed.content(place), width), rows]))
    for records in chunked(sorter.ranges()):
        content = np.ascontiguousarray(records[:, :width])
        digest = chain(digest, content)
        kept.append([content, records[:, width:].copy().view(">u4").astype("<u4")])
    return digest


def _tag_key(salt: bytes) -> bytes:
    return hashlib.sha256(_TAG + salt).digest()[:16]


def _long_side(run: Run, identifiers: Source) -> Alignment | None:
    channel, terms, store = run.channel, run.terms, run.ahead

    # 1. Agree; tell the salt, so that both sides can begin.
    secret = secret_of(store, identifiers)
    agree(run, secret)
    if store.load(_SALT) is None:
        store.save(_SALT, secrets.token_bytes(32))
    channel.send(Salt(_salt_of(store)))

    # 2. Our tags, unless they were made ahead; lengths.
    run.report.begin(f"masking the keys of {channel.us}")
    ours = prepare_ahead(identifiers, store, run.report.step, run.executor)
    told = tell_lengths(run, ours, len(run.store.journal(_EVALUATED)), 0)
    if min(len(ours), told.count) < terms.min_size:
        return None

    # 3. Our tags go out while their blinded points come in; each is evaluated once.
    run.guard.disclose("alignment.count", channel.peer, told.count)
    for place in range(told.points_held, ours.chunks):
        channel.send(Tags(ours.content(place)))
    run.report.begin(f"evaluating the keys of {channel.peer}")
    evaluated = _evaluate(run, secret.scalar, secret.seed, told)

    # 4. Back in a secret order.
    channel.send(Commitment(commitment(run, secret.seed)))
    for place, chunk in enumerate(chunked(records[:, 8:] for records in evaluated.ranges())):
        if place >= told.tags_held:
            channel.send(Evaluated(chunk))
    found = show(run, ours, told, secret.seed)
    return None if found is None else replace(found, facts=ours.facts, others=ours.others())


def _evaluate(run: Run, scalar: bytes, seed: bytes, told: Listed) -> Sorter:
    """The peer's points under our scalar: a sorter over (random word, point)."""
    evaluated, back = Sorter(run.store.journal(_EVALUATED), 40), chunks_of(told.count)
    there = evaluated.chunks
    note = evaluated.note(there - 1) if there else run.hash(LIST)
    words = order_words(seed, told.count, there)
    with run.dropping(_EVALUATED):
        for place in range(there, back):
            what = f"chunk {place + 1} of {back} of the blinded list of {run.channel.peer}"
            points = awaited(run.channel, Masked, run.report, what, 2 * AHEAD * CHUNK * SLOW).points
            made = checked_product(run, scalar, points, min(CHUNK, told.count - place * CHUNK), note[32:])
            note = chain(note[:32], points) + points[-1].tobytes()
            evaluated.append(np.hstack([word_bytes(next(words)), made]), note)
            run.report.step(len(points))
        if not hmac.compare_digest(note[:32], told.digest):
            raise run.broken("sent another list than it announced")
    run.remember_list(told)
    refuse_repeats(run, evaluated, told.count)
    return evaluated


# --- the short list ---------------------------------------------------------------------------------------------------


def blinding_scalar() -> tuple[bytes, bytes]:
    """(r, s), both clamped, with r s = 1 modulo the group's order: multiplying by both takes a blinding off.

    r is drawn again until s, lifted to the multiple of 8 that is 1/r, lies in [2^254, 2^255): an API that clamps would
    otherwise change it. Half of the draws pass.
    """
    while True:
        scalar = curve25519.random_scalar()
        inverse = pow(int.from_bytes(scalar, "little"), -1, _ORDER)
        lifted = inverse + _ORDER * (-inverse * pow(_ORDER, -1, 8) % 8)
        if 1 << 254 <= lifted < 1 << 255:
            return scalar, lifted.to_bytes(32, "little")


def _short_side(run: Run, identifiers: Source) -> Alignment | None:
    channel, terms = run.channel, run.terms

    # 1. Agree; hear the salt.
    secret = secret_of(run.store, identifiers, blinding_scalar)
    agree(run, secret)
    salt = awaited(channel, Salt, run.report, "the salt").salt
    run.remember(_SALT, salt)

    # 2. Blind and sort our points; lengths.
    run.report.begin(f"blinding the keys of {channel.us}")
    ours = prepare(run.store, identifiers, run.hash(LIST), salt, run.report.step, run.executor)
    told = tell_lengths(run, ours, len(run.store.journal(_THEIRS)), len(run.store.journal(_OURS)))
    if min(len(ours), told.count) < terms.min_size:
        return None

    # 3. Our blinded points go out; their tags come in.
    for place in range(told.points_held, ours.chunks):
        channel.send(Masked(ours.content(place)))
    width = tag_width(told.count, told.count)
    theirs = _their_tags(run, told, salt, width)

    # 4. Take the blinding off what comes back: our own tags, in an order the peer keeps to itself.
    promised = promised_order(run, "our evaluated keys", SLOW * len(ours))
    run.report.begin(f"unblinding the keys of {channel.us}")
    own = Sorter(run.store.journal(_OURS), width + 4)
    with run.dropping(_OURS):
        for place in range(own.chunks, ours.chunks):
            what = f"chunk {place + 1} of {ours.chunks} of our evaluated keys"
            points = awaited(channel, Evaluated, run.report, what, CHUNK * SLOW).points
            if len(points) != min(CHUNK, len(ours) - place * CHUNK):
                raise run.broken(f"sent {len(points)} evaluated points where another number was due")
            made = curve25519.multiply_checked(secret.inverse, points, run.executor)
            if not (made.canonical and made.nonzero):
                raise run.broken("sent an evaluated point that is not canonical or of small order")
            own.append(numbered(tags(_tag_key(salt), made.points, width), place))
            run.report.step(len(points))
        pairs = matches(run, theirs, own, len(ours))
    found = learn(run, ours, told, promised, pairs)
    return None if found is None else replace(found, facts=ours.facts, others=ours.others())


def _their_tags(run: Run, told: Listed, salt: bytes, width: int) -> Sorter:
    """The peer's tags as they come, ascending: a sorter over (tag, place)."""
    theirs, back = Sorter(run.store.journal(_THEIRS), width + 4), chunks_of(told.count)
    there = theirs.chunks
    note = theirs.note(there - 1) if there else hashlib.sha256(LIST + salt).digest()
    with run.dropping(_THEIRS):
        for place in range(there, back):
            what = f"chunk {place + 1} of {back} of the tags of {run.channel.peer}"
            got = awaited(run.channel, Tags, run.report, what, CHUNK * SLOW).tags
            due = min(CHUNK, told.count - place * CHUNK)
            if got.shape != (due, width):
                raise run.broken(f"sent {got.shape[0]} tags of {got.shape[1]} bytes where {due} of {width} were due")
            if not strictly_ascending(_behind(note[32:], got)):
                raise run.broken("sent tags that are not strictly ascending")
            note = chain(note[:32], got) + got[-1].tobytes()
            theirs.append(numbered(got, place), note)
        if not hmac.compare_digest(note[:32], told.digest):
            raise run.broken("sent other tags than it announced")
    run.remember_list(told)
    return theirs


def _behind(last: bytes, rows: Bytes2D) -> Bytes2D:
    return np.concatenate([np.frombuffer(last, dtype=np.uint8).reshape(-1, rows.shape[1]), rows])
