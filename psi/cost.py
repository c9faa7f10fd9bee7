"""What an alignment costs, exactly: `tally plan` shows it, a test compares it with the channel's counters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psi.messages import AHEAD, CHUNK
from psi.terms import receives_tags, tag_width

__all__ = ["Cost", "predict"]

_FRAME = 24  # header of a frame; a field of variable length has 4 bytes in front, a digest so 36


@dataclass(frozen=True)
class Cost:
    """One side's share: bytes of frames sent, messages sent, rounds (waits after a send)."""

    sent: int
    messages: int
    rounds: int


def predict(
    sizes: Mapping[str, int],
    learns: str = "both",
    short: str | None = None,
    *,
    multiple: int | None = None,
    keep: str | None = None,
) -> dict[str, Cost]:
    """Costs of a successful alignment on one key for two parties with lists of these lengths; `short`: the party with
    the short list in the unbalanced form; `multiple`: how many keys match, where multiplicities are told of them.

    Heartbeats and the comparison of transcripts at the stage's end are left out.
    """
    first, second = sizes.items()
    found = {}
    for us, peer in ((first, second), (second, first)):
        side = _side(us, peer, learns) if short is None else _unbalanced(us[1], peer[1], learns, us[0] == short)
        found[us[0]] = _after(side, multiple or 0, us[0] == keep)
    return found


def _after(side: Cost, multiple: int, keeps: bool) -> Cost:
    """With what follows step 8."""
    chunks = _chunks(multiple)  # swapped one by one
    sent = 4 * multiple + (_FRAME + 4) * chunks + (_FRAME + 8) * keeps
    return Cost(side.sent + sent, side.messages + chunks + keeps, side.rounds + chunks)


def _side(us: tuple[str, int], peer: tuple[str, int], learns: str) -> Cost:
    ours, theirs = us[1], peer[1]
    out, back = _chunks(ours), _chunks(theirs)
    bodies = [36 + 36, 8 + 36 + 8 + 8, *[4] * out]  # steps 1, 2, 3 without points
    content = 32 * ours
    rounds = 2 + sum(out > (place + AHEAD - 1 if place else 0) for place in range(back))  # settings, lengths, points
    receiver = receives_tags(us, peer, learns)
    if receiver:
        rounds += out > (back + AHEAD - 1 if back else 0)  # waits for the commitment
    else:
        bodies += [36, *[8] * back]  # step 4 without tags
        content += theirs * tag_width(ours, theirs)
    return _revealed(receiver, learns, theirs, Cost(content + sum(bodies) + _FRAME * len(bodies), len(bodies), rounds))


def _unbalanced(ours: int, theirs: int, learns: str, short: bool) -> Cost:
    out, back = _chunks(ours), _chunks(theirs)
    bodies = [36 + 36, 8 + 36 + 8 + 8]  # steps 1, 2
    if short:
        bodies += [4] * out  # step 3 without points
        content, rounds = 32 * ours, 2 + (1 if out else 0)  # settings, lengths; tags or the commitment
    else:
        bodies += [36, *[8] * out, 36, *[4] * back]  # steps 1 (salt), 3 and 4 without tags and points
        content = tag_width(ours, ours) * ours + 32 * theirs
        rounds = 2 + (1 if out and back else 0)  # settings, lengths; their points
    return _revealed(short, learns, theirs, Cost(content + sum(bodies) + _FRAME * len(bodies), len(bodies), rounds))


def _revealed(receiver: bool, learns: str, theirs: int, before: Cost) -> Cost:
    """With steps 5 to 8 of the tag receiver, or the tag sender."""
    bodies, rounds = [36], 1  # step 8
    if receiver:
        bodies.append(1)  # step 5
        if learns == "size":
            bodies.append(8)
        else:
            rounds += 1  # waits for the seed
        if learns == "both":
            bodies.append(8 + 4 + -(-theirs // 8))  # step 7
    else:
        rounds += 1  # waits for step 5
        if learns != "size":
            bodies.append(36)  # step 6
        if learns == "both":
            rounds += 1  # waits for the bitmap
    sent = sum(bodies) + _FRAME * len(bodies)
    return Cost(before.sent + sent, before.messages + len(bodies), before.rounds + rounds)


def _chunks(count: int) -> int:
    return -(-count // CHUNK)
