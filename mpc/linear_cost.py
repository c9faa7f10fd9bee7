"""What the linear engine's methods put on the wire, before anything runs: bytes and rounds for plans and cost tests.

All figures include frame headers and are exact; heartbeats, and the one public key that an owner sends for a
parameter set at its first use (`key_bytes`), come on top.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kernels.ntt import N
from mpc.exchange import ANSWERS, BLOCKS, batch_of, messages
from mpc.lattice import ANSWER_BYTES, NARROW, SEED_BYTES, WIDE, Parameters
from mpc.lattice_long import LONG_BYTES
from mpc.linear import limb_count, slot_groups, slot_set

__all__ = [
    "Cost",
    "answer_bytes",
    "key_bytes",
    "predict_inner",
    "predict_long",
    "predict_matvec",
    "predict_slots",
    "predict_upload",
    "predict_upload_long",
    "upload_cost",
]

_HEADER = 24
_DIMENSION = 4


@dataclass(frozen=True)
class Cost:
    """Bytes the owner sends, bytes the multiplier sends, and how often the owner waits after sending."""

    owner: int
    multiplier: int
    rounds: int


def _pieces(count: int, most: int) -> Iterable[int]:
    return (min(most, count - start) for start in range(0, count, most))


def upload_cost(parameters: Parameters, count: int, batch: int = BLOCKS) -> Cost:
    """So many ciphertexts of one upload."""
    body = SEED_BYTES + parameters.body_bytes
    sent = sum(_HEADER + 3 * _DIMENSION + piece * body for piece in _pieces(count, batch))
    waits = sum(pause for _, pause in messages(count, batch))
    return Cost(sent, waits * _HEADER, waits)


def answer_bytes(answers: int, coefficients: int) -> int:
    """So many answers with so many coefficients together."""
    frames = -(-answers // ANSWERS)
    return frames * (_HEADER + 2 * _DIMENSION) + (coefficients + answers * N) * ANSWER_BYTES


def key_bytes(parameters: Parameters) -> int:
    """The owner's public key for one parameter set, sent once with its first upload."""
    return _HEADER + 8 + 2 * _DIMENSION + SEED_BYTES + parameters.body_bytes


def predict_upload(columns: int, rows: int) -> Cost:
    """`upload` of columns modulo 2^64: 18.8 bytes a value."""
    return upload_cost(NARROW, columns * -(-rows // N))


def predict_inner(columns: int, others: int, bits: int) -> Cost:
    """One query of uploaded columns against `others` columns of the multiplier: 81,930 bytes a pair and limb."""
    count = columns * others * limb_count(bits)
    answer = (1 + N) * ANSWER_BYTES
    sent = sum(_HEADER + 2 * _DIMENSION + piece * answer for piece in _pieces(count, ANSWERS))
    return Cost(0, sent, 1)


def predict_upload_long(columns: int, rows: int) -> Cost:
    """`upload_long`: 25 bytes a value."""
    return upload_cost(WIDE, columns * -(-rows // N))


def predict_long(columns: int, others: int) -> Cost:
    """One query modulo 2^104: 122,895 bytes a pair."""
    answer = (1 + N) * LONG_BYTES
    sent = sum(_HEADER + 2 * _DIMENSION + piece * answer for piece in _pieces(columns * others, ANSWERS))
    return Cost(0, sent, 1)


def predict_matvec(weights: int, rows: int) -> Cost:
    """`matvec_vector` and `matvec_matrix` together: 204,816 bytes a weight up; 81,920 a block and 10 a row back."""
    up = upload_cost(WIDE, weights, batch_of(WIDE))
    return Cost(up.owner, up.multiplier + answer_bytes(-(-rows // N), rows), up.rounds + 1)


def predict_slots(height: int, rows: int, t: int, outputs: int) -> Cost:
    """`slots_owner` and `slots_multiplier` together: 15 bytes a value up (t under 2^26), 20 a row and output back."""
    parameters = slot_set(t)
    owner = multiplier = rounds = 0
    groups = slot_groups(height, rows)
    for group in groups:
        up = upload_cost(parameters, len(group) * height, batch_of(parameters))
        answers = len(group) * outputs
        owner, multiplier = owner + up.owner, multiplier + up.multiplier + answer_bytes(answers, answers * N)
        rounds += up.rounds
    return Cost(owner, multiplier, rounds + max(1, len(groups) - 1))
