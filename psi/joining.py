"""The alignment of two tables as their users mean it: keys tried in order, repeated keys, rows without a match.

One key is one run of `psi.ecdh`. Of several, each is tried on the rows that no earlier one has matched, as a run of
its own with its own scalar; its matches are revealed only where they alone reach the minimum size. Then, where a
repeated key stands for each of its rows, both sides tell how many rows each matched key has, and the pairs of rows
are laid out as SQL's join has them. Last, where one side keeps its rows without a match, it tells how many.
docs/protocols/03-ecdh-psi.md, section "Joins".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from party.channel import Channel
from party.errors import DataError, PeerError
from party.guard import Guard
from psi.ecdh import meet
from psi.identifiers import Identifiers
from psi.means import Means, Reporter, awaited
from psi.messages import CHUNK, MOST_ROWS, Multiplicities, Unmatched
from psi.rows import Rows
from psi.run import Run, too_small
from psi.series_folder import SeriesFolder
from psi.store import PartOfStore
from psi.terms import Alignment, Terms

__all__ = ["align"]

_LABEL = b"tallystick/v1/psi/joined/"


def align(
    sources: Sequence[Identifiers],
    channel: Channel,
    guard: Guard,
    terms: Terms,
    means: Means | None = None,
    series: SeriesFolder | None = None,
) -> Alignment:
    """Align our table with the peer's: `sources` holds our identifiers for each key, in the order they are tried.

    `series`: where it stands on our side, for a run that exchanges only what changed; the caller promotes its state.
    Both sides call it with as many keys. Peer learns: what `psi.match` says, for each key; the multiplicities of
    matched keys with `duplicates: all` on either side; the number of our rows without a match where we keep them.
    Rounds: those of `match` for each key, one for multiplicities.
    Raises what `match` raises; DataError where the pairs of repeated keys are more than an alignment can hold.
    """
    means = means or Means()
    parts: list[Alignment] = []
    by_key: list[int | None] = []
    gone = np.empty(0, dtype=np.int64)  # our rows that are matched or left out
    for number, source in enumerate(sources, start=1):
        of_key, own = terms, means
        if len(sources) > 1:
            of_key = replace(terms, run=f"{terms.run}/key{number}")
            ahead = means.ahead if number == 1 else None  # the rows of later keys are not known ahead
            own = replace(means, store=PartOfStore(means.store, f"key{number}"), ahead=ahead)
        wanted = source.without(gone) if len(gone) else source
        if series is not None:
            found = series.align(Run(channel, guard, of_key, own), wanted)
        else:
            found = meet(wanted, channel, guard, of_key, own)
        by_key.append(None if found is None else found.count)
        if found is None:
            continue
        others = found.others if found.others is not None else np.empty((0, 2), dtype=np.int64)
        if source.duplicates == "first":
            left_out, repeats = others[:, 1], others[:0]
        else:
            repeats = others[np.isin(others[:, 0], found.rows)] if len(others) else others
            left_out = repeats[:, 1]
        if number < len(sources) or terms.keep is not None:
            gone = np.concatenate([gone, found.rows[found.rows >= 0], left_out])
        parts.append(_laid_out(found, repeats, Run(channel, guard, of_key, own)) if terms.multiple else found)
    if not parts:
        raise too_small(Run(channel, guard, terms, means))
    whole = replace(_joined(parts), by_key=tuple(by_key))
    return whole if terms.keep is None else _with_unmatched(whole, gone, Run(channel, guard, terms, means))


def _joined(parts: list[Alignment]) -> Alignment:
    """The matches of all keys as one alignment."""
    if len(parts) == 1:
        return parts[0]
    return replace(
        parts[0],
        rows=np.concatenate([part.rows for part in parts]),
        count=sum(part.count or 0 for part in parts),
        digest=hashlib.sha256(_LABEL + b"".join(part.digest for part in parts)).digest(),
        ours=max(part.ours for part in parts),
        theirs=max(part.theirs for part in parts),
    )


def _laid_out(found: Alignment, others: Rows, run: Run) -> Alignment:
    """Each matched key's rows on one side with each of the other's, ours by number, the first party's outermost."""
    channel = run.channel
    starts = np.searchsorted(others[:, 0], found.rows, side="left")
    ours = 1 + np.searchsorted(others[:, 0], found.rows, side="right") - starts
    run.guard.disclose("alignment.multiplicities", channel.peer, len(ours))
    theirs = _swapped(channel, ours, Reporter(run.means.progress, len(ours)))
    if int(theirs.sum()) > run.terms.most_theirs:
        raise PeerError(f"{channel.peer} has more rows of matched keys than the agreement allows", party=channel.peer)
    pairs = ours * theirs
    total = int(pairs.sum())
    if total > MOST_ROWS:
        raise DataError(
            f"the repeated keys of both sides make {total:,} pairs of rows, more than {MOST_ROWS:,}",
            stage="align",
            hint="set `duplicates: first` on one side",
        )
    place = np.repeat(np.arange(len(ours)), pairs)
    number = np.arange(total) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    which = number // theirs[place] if channel.us < channel.peer else number % ours[place]
    rows = found.rows[place]
    later = which > 0
    rows[later] = others[(starts[place] + which - 1)[later], 1]
    counts = (ours, theirs) if channel.us < channel.peer else (theirs, ours)
    told = hashlib.sha256(_LABEL + found.digest + b"".join(side.astype("<u4").tobytes() for side in counts))
    return replace(found, rows=rows, digest=told.digest())


def _swapped(channel: Channel, ours: Rows, report: Reporter) -> Rows:
    """Our rows of each matched key for theirs, chunk by chunk."""
    got = []
    for at in range(0, len(ours), CHUNK):
        part = ours[at : at + CHUNK].astype("<u4")
        channel.send(Multiplicities(part))
        counts = awaited(channel, Multiplicities, report, "the multiplicities of matched keys").counts
        if len(counts) != len(part) or not counts.all():
            raise PeerError(f"{channel.peer} sent multiplicities that do not fit the matches", party=channel.peer)
        got.append(counts.astype(np.int64))
    return np.concatenate([np.empty(0, np.int64), *got])


def _with_unmatched(found: Alignment, gone: Rows, run: Run) -> Alignment:
    """The keeper's other rows behind the matches, in the order of its table; the other side has -1 there."""
    channel, terms, report = run.channel, run.terms, run.report
    if terms.keep == channel.us:
        stays: npt.NDArray[np.bool_] = np.ones(found.facts.total if found.facts else 0, dtype=np.bool_)
        stays[gone] = False
        added = np.flatnonzero(stays)
        run.guard.disclose("alignment.unmatched", channel.peer, len(added))
        channel.send(Unmatched(len(added)))
    else:
        count = awaited(channel, Unmatched, report, "the number of rows without a match").count
        if count > terms.most_theirs:
            raise PeerError(f"{channel.peer} keeps more rows than the agreement allows", party=channel.peer)
        added = np.full(count, -1, dtype=np.int64)
    digest = hashlib.sha256(_LABEL + b"unmatched/" + found.digest + len(added).to_bytes(8, "little")).digest()
    return replace(found, rows=np.concatenate([found.rows, added]), digest=digest, unmatched=len(added))
