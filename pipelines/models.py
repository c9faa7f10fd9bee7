"""Model halves of this home: one JSON file each under state/models, found by id or by path.

A half belongs to one training and to one peer; the other half lies at the peer under the same id. Before a model
scores, each side compares what the job says of it (id, agreement, columns) with its own half.
"""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from party.errors import DataError, TallyError, UsageError
from party.home import Home, replace_file
from party.yamlfile import nearest
from pipelines.job import Job
from pipelines.job_score import Model

if TYPE_CHECKING:
    from vfl import ModelHalf

__all__ = ["check", "find", "keep", "listing", "listing_text", "named", "peer_of", "reference"]

_ID = re.compile(r"[0-9a-f]{16}")


def named(half: ModelHalf, job: Job, us: str, facts: dict[str, Any]) -> ModelHalf:
    """A half just trained with what it is called and where it comes from.

    facts: `id`, `agreement` and `metrics`, as both sides have them.
    """
    from dataclasses import replace

    from vfl.model import FEATURE_HOLDER, LABEL_HOLDER

    label = "" if job.train is None else job.train.label.partition(".")[0]
    return replace(
        half,
        **facts,
        parties=job.parties,
        role=LABEL_HOLDER if label == us else FEATURE_HOLDER,
        tables=dict(job.align.tables),
        columns={} if job.train is None else job.train.columns_read(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        job=job.name,
    )


def keep(home: Home, half: ModelHalf) -> Path:
    """Write a half into the home, mode 0600, synced; returns its path."""
    folder = home.state / "models"
    folder.mkdir(exist_ok=True, mode=0o700)
    path = folder / f"{half.id}.json"
    replace_file(path, half.to_json().encode())
    return path


def find(home: Home, model: str) -> ModelHalf:
    """The half of this id, or in this file. UsageError when there is none, DataError for a damaged one."""
    if _ID.fullmatch(model):
        path = home.state / "models" / f"{model}.json"
        if not path.exists():
            known = [path.stem for path in (home.state / "models").glob("*.json")]
            raise UsageError(
                f"{home.party.name} has no half of model {model}",
                party=home.party.name,
                hint=f"`tally models` lists ours; {nearest(model, known)}" if known else "train one: `tally run JOB`",
            )
        return _read(path)
    path = Path(model)
    if not path.is_file():
        raise UsageError(f"{model!r} is neither the id of a model nor a file", hint="`tally models` lists ours")
    return _read(path)


def _read(path: Path) -> ModelHalf:
    from vfl import ModelHalf

    try:
        return ModelHalf.from_json(path.read_text("utf-8"))
    except UnicodeDecodeError:
        raise DataError(f"{path.name} is not a model half: not UTF-8") from None
    except DataError as error:
        raise DataError(f"{path.name}: {error.message}", hint=error.hint) from None


def peer_of(half: ModelHalf, us: str) -> str:
    """The party with the other half. UsageError for a half of format 1, or of another party."""
    if not half.id or not half.agreement or us not in half.parties:
        raise UsageError(
            "this half does not say which training it comes from, or is another party's", party=us,
            hint="train the model again: halves of this release name their training",
        )  # fmt: skip
    return next(party for party in half.parties if party != us)


def label_holder(half: ModelHalf, us: str) -> str:
    """The party that held the label."""
    from vfl.model import LABEL_HOLDER

    return us if half.role == LABEL_HOLDER else peer_of(half, us)


def reference(half: ModelHalf, us: str) -> Model:
    """What a job says of a model, for both sides to compare with their halves."""
    features = tuple((party, tuple(half.columns[party])) for party in half.parties)
    return Model(half.id, half.agreement, label_holder(half, us), features)


def check(home: Home, job: Job) -> ModelHalf | None:
    """Our half of the model that a job scores with; None for a job that uses none.

    UsageError, which the peer is told, when we have none of it, a damaged one, or one of another training.
    """
    if job.score is None or job.score.model is None:
        return None
    wanted, us = job.score.model, home.party.name
    try:
        half = find(home, wanted.id)
    except TallyError as error:
        why = error.message if isinstance(error, DataError) else f"{us} has no half of model {wanted.id}"
        raise UsageError(
            f"{why}: {us} restores state/models/{wanted.id}.json from a backup, or both train anew", party=us
        ) from None
    if peer_of(half, us) != job.other(us) or reference(half, us) != wanted:
        raise UsageError(
            f"the half of model {wanted.id} at {us} comes from another agreement than the other side's:"
            " the two halves do not belong together, train anew",
            party=us,
        )
    return half


def listing(home: Home) -> list[dict[str, Any]]:
    """All halves of this home, newest first; a damaged one with its error."""
    found = []
    for path in sorted((home.state / "models").glob("*.json")):
        try:
            half = _read(path)
            found.append(
                {
                    "id": half.id,
                    "job": half.job,
                    "peer": peer_of(half, home.party.name),
                    "role": half.role,
                    "trained": half.created,
                    "features": list(half.features),
                    "metrics": half.metrics,
                    "error": None,
                }
            )
        except TallyError as error:
            empty = dict.fromkeys(("job", "peer", "role", "trained", "metrics"))
            found.append({"id": path.stem, **empty, "features": [], "error": error.message})
    return sorted(found, key=lambda entry: str(entry["trained"] or ""), reverse=True)


def listing_text(found: list[dict[str, Any]]) -> str:
    """The list for people."""
    lines = []
    for entry in found:
        if entry["error"]:
            lines.append(f"{entry['id']}  {entry['error']}")
            continue
        auc = (entry["metrics"] or {}).get("auc")
        told = "-" if auc is None else f"{auc:.4f}"
        lines.append(
            f"{entry['id']}  {entry['trained'][:16].replace('T', ' ')}  {entry['job']:20} with {entry['peer']:12}"
            f" {len(entry['features']):3} features  auc {told}"
        )
    return "\n".join(lines) or "no models yet"
