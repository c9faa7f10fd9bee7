"""How many models one alignment has shown row by row to one receiver, counted by the side whose features show in them.

Scores of one model are one linear combination of the giver's features a row. With as many models as it has features the
receiver could solve for the features themselves, so the giver refuses beyond half of them. Models of the same features
whose own weights differ by at most 2 % (relative, Euclidean) count as one: a job trained again. Kept in state/scored, a
file for each alignment and receiver; written, synced, before the scores leave.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from party.errors import InternalError, PolicyRefused
from party.home import replace_file
from pipelines.live import Live

if TYPE_CHECKING:
    from vfl import ModelHalf

__all__ = ["admit"]

_SAME = 0.02
_KEPT_SECONDS = 366 * 86400  # an alignment is not used that long


def admit(live: Live, half: ModelHalf) -> None:
    """At the giver: remember that this model is shown to the receiver over this alignment, or refuse.

    The receiver does nothing. Raises PolicyRefused, which the receiver is told, beyond half of our features.
    """
    if live.job.score is None or live.alignment is None:
        raise InternalError("scores without a job or an alignment")
    receiver = live.job.score.receiver
    if receiver == live.us:
        return
    folder = live.home.state / "scored"
    folder.mkdir(exist_ok=True, mode=0o700)
    path = folder / f"{live.alignment.digest.hex()}-{receiver}.json"
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for old in folder.glob("*.json"):
            if old.stat().st_mtime < time.time() - _KEPT_SECONDS:
                old.unlink(missing_ok=True)
        known = _known(path)
        entry = {"model": half.id, "weights": half.coefficients}
        if any(_same(entry, other) for other in known):
            return
        features = {name for one in [entry, *known] for name in one["weights"]}
        most = max(1, len(features) // 2)
        if len(known) + 1 > most:
            reason = (
                f"scores of {len(known)} other models were shown to {receiver} over this alignment, of {len(features)}"
                f" features of {live.us}: more than half as many models as features would show the features themselves"
            )
            live.ledger.append("refused", run=live.state.run, peer=live.peer, by="models", reasons=reason)
            raise PolicyRefused(
                reason, party=live.us, stage="score", hint="score with one of the models shown already, or align anew"
            )
        replace_file(path, json.dumps([*known, entry]).encode())
    finally:
        os.close(lock)


def _known(path: Any) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads(path.read_bytes())
        return [{"model": str(one["model"]), "weights": dict(one["weights"])} for one in found]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError):
        raise InternalError(f"{path.name} in state/scored is damaged", hint="align anew") from None


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two models show the same of our features."""
    if one["model"] == other["model"]:
        return True
    if one["weights"].keys() != other["weights"].keys():
        return False
    ours = np.array([one["weights"][name] for name in one["weights"]])
    theirs = np.array([other["weights"][name] for name in one["weights"]])
    return bool(np.linalg.norm(ours - theirs) <= _SAME * min(np.linalg.norm(ours), np.linalg.norm(theirs)))
