"""Costs of a job's stages, for `tally plan`: bytes from the protocols' own counts, seconds from a calibration.

Seconds are computing (counted in transforms, curve multiplications and transfers, at the measured speed of this
machine; the peer's is taken to be alike) plus bytes and round trips on the measured link. Give or take a third for the
analysis, a half for the rest; reading a large table from a slow disk, and what else runs on the machine, are not in
them.
"""

from __future__ import annotations

from typing import Any

import psi
import vfl
from mpc.sql import Step
from party.catalogue import Catalogue
from pipelines import asked
from pipelines.calibration import REFERENCE, Calibration
from pipelines.history import Known
from pipelines.job import Job
from vfl.cohort import score_bytes

__all__ = ["predict", "steps"]

_ALIGN_SECONDS = 0.2
_KEY_SECONDS = 1e-5  # reading, normalising, sorting a key, beside its two multiplications
_ALIGN_ROUNDS = 8
# fitted to `benchmarks/predictions.py` at 20,000 to 400,000 rows; transforms and transfers at their measured speed
_UPLOAD_TRANSFORMS = 24  # one block of 8192 values encrypted, sent, expanded
_MULTIPLIER_TRANSFORMS = 18  # one block of a multiplier computed and transformed
_PRODUCT_TRANSFORMS = 5.7  # one block multiplied and added
_ANSWER_TRANSFORMS = 36  # one answer masked, sent, decrypted
_TRANSFERS = 0.83  # of one transfer
_ROUND_SECONDS = 4e-4  # of one wait, beside the line's round trip
_ROW_SECONDS = 9e-8  # of a party's local columns, one row
_ITEM_SECONDS = 0.125  # planning, agreeing, opening tables
_SCORED_SECONDS = 6e-6  # reading, preparing, opening, writing one row
_SCORE_ROUNDS = 4
_TRAIN_TRANSFERS = 0.25  # the part of a pass's computing that is transfers, not transforms

Predicted = dict[str, dict[str, float | int]]


def predict(
    job: Job,
    catalogues: tuple[Catalogue, Catalogue],
    speed: Calibration = REFERENCE,
    *,
    ahead: bool = False,
    known: Known | None = None,
) -> Predicted:
    """Seconds, and bytes both ways, of each stage of a job. `ahead`: the long list of the alignment lies ready. known:
    what was answered before over an alignment that is kept.

    Of several keys each is counted as if no earlier one had matched anything.
    """
    sizes, short = asked.sizes(job, catalogues), asked.short_side(job, catalogues)
    tried = asked.keys_tried(job, catalogues)
    sent = tried * sum(cost.sent for cost in psi.predict(sizes, job.align.learns, short).values())
    keys = tried * (sum(sizes.values()) + (sizes[short] if short else 0)) - (max(sizes.values()) if ahead else 0)
    computing = keys / speed.multiplications + keys * _KEY_SECONDS + _ALIGN_SECONDS
    found: Predicted = {"align": {"seconds": computing + _line(speed, sent, tried * _ALIGN_ROUNDS), "bytes": sent}}
    rows = asked.row_bound(job, catalogues)
    if job.analyse:
        listed = steps(job, catalogues, speed, known)
        seconds = sum(step["seconds"] for step in listed) + _ITEM_SECONDS * len(job.analyse)
        found["analyse"] = {"seconds": seconds, "bytes": sum(step["bytes"] for step in listed)}
    if job.train is not None:
        plan = vfl.plan(asked.train_spec(job), rows)
        slower = (1 - _TRAIN_TRANSFERS) * speed.transform / REFERENCE.transform
        slower += _TRAIN_TRANSFERS * REFERENCE.transfers / speed.transfers
        line = _line(speed, plan.likely.bytes, plan.likely.rounds)
        found["train"] = {"seconds": plan.likely.seconds * slower + line, "bytes": plan.likely.bytes}
    if job.score is not None:
        sent = score_bytes(rows)
        found["score"] = {"seconds": rows * _SCORED_SECONDS + _line(speed, sent, _SCORE_ROUNDS), "bytes": sent}
    return found


def steps(
    job: Job, catalogues: tuple[Catalogue, Catalogue], speed: Calibration = REFERENCE, known: Known | None = None
) -> list[dict[str, Any]]:
    """Each step of each joint query: query, step, who, rounds, bytes both ways, seconds."""
    return [
        {
            "query": name,
            "step": step.name,
            "who": step.who,
            "rounds": step.rounds,
            "bytes": step.bytes,
            "seconds": _step_seconds(step, speed),
        }
        for name, step in asked.steps(
            job, catalogues, None if known is None else known.rows, () if known is None else known.plans
        )
    ]


def _step_seconds(step: Step, speed: Calibration) -> float:
    transforms: float = _UPLOAD_TRANSFORMS * step.uploaded + _MULTIPLIER_TRANSFORMS * step.transformed
    transforms += _PRODUCT_TRANSFORMS * step.multiplied + _ANSWER_TRANSFORMS * step.answers
    computing = transforms * speed.transform + _TRANSFERS * step.transfers / speed.transfers
    own = step.rows * _ROW_SECONDS + step.rounds * _ROUND_SECONDS
    return computing + own + _line(speed, step.bytes, step.rounds)


def _line(speed: Calibration, moved: int, rounds: int) -> float:
    """Seconds on the link."""
    return moved / speed.bandwidth + rounds * speed.round_trip
