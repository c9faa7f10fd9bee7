"""Group keys without a declared domain: how many groups there are, padded, and the labels of those that are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from mpc.engine import Engine
from mpc.sql.answer import Labels
from mpc.sql.products import CELLS
from mpc.sql.types import Plan
from party.errors import DataError, InternalError, PeerError
from party.message import Array, Bytes, Cap, Int, Message

__all__ = ["GroupCount", "exchange_labels"]

_TEXT = 4 << 20
_KEYS = 64
_NULL = 2**32 - 1


@dataclass(frozen=True, repr=False)
class GroupCount(Message, kind=0x0510):
    """Step 1: how many groups the sender's keys make, rounded up to a power of 4."""

    count: Annotated[int, Int(1, CELLS)]


@dataclass(frozen=True, repr=False)
class GroupLabels(Message, kind=0x0511):
    """Step 6: the sender's labels of its groups that are shown, in order; a length of 2^32 - 1 is NULL."""

    lengths: Annotated[np.ndarray, Array("u4", Cap(CELLS), Cap(_KEYS))]
    text: Annotated[bytes, Bytes(0, _TEXT)]


def exchange_labels(
    engine: Engine, plan: Plan, owner: int, labels: Labels | None, shown: npt.NDArray[np.bool_]
) -> Labels:
    """Give the peer our labels of shown groups, or take the peer's.

    shown: bool (padded groups of the owner,), which the receiver of the labels knows too. Returns the labels by place;
    those of hidden groups are not known to the receiver and empty. Bytes: the labels' own.
    """
    keys = [key for key in plan.keys if key.owner == owner]
    if owner == engine.index:
        if labels is None:
            raise InternalError("groups without labels")
        chosen = [labels[place] for place in np.flatnonzero(shown).tolist()]
        parts = [None if value is None else _text(value) for label in chosen for value in label]
        if sum(len(part) for part in parts if part is not None) > _TEXT:
            raise DataError("the labels of the groups are too long to send", hint="group by a shorter expression")
        lengths = np.array([_NULL if part is None else len(part) for part in parts], dtype=np.uint32)
        engine.guard.disclose(f"query.{plan.name}.labels", engine.channel.peer, len(chosen))
        text = b"".join(part for part in parts if part is not None)
        engine.channel.send(GroupLabels(lengths.reshape(len(chosen), len(keys)), text))
        return labels
    got = engine.channel.recv(GroupLabels)
    if got.lengths.shape != (int(shown.sum()), len(keys)):
        raise PeerError("the labels of the groups have a wrong number")
    found: list[tuple[str | int | bool | None, ...]] = [()] * len(shown)
    start = 0
    for place, lengths_of in zip(np.flatnonzero(shown).tolist(), got.lengths.tolist(), strict=True):
        label: list[str | int | bool | None] = []
        for length, key in zip(lengths_of, keys, strict=True):
            if length == _NULL:
                label.append(None)
                continue
            if start + length > len(got.text):
                raise PeerError("the labels of the groups are shorter than they say")
            label.append(_value(got.text[start : start + length], key.expr.kind))
            start += length
        found[place] = tuple(label)
    if start != len(got.text):
        raise PeerError("the labels of the groups are longer than they say")
    known = [label for label in found if label]
    if len(set(known)) != len(known):
        raise PeerError("two groups have one label")
    return tuple(found)


def _text(value: str | int | bool) -> bytes:
    return (str(value).lower() if isinstance(value, bool) else str(value)).encode()


def _value(text: bytes, kind: str) -> str | int | bool:
    try:
        decoded = text.decode()
        if kind == "integer":
            number = int(decoded)
            if str(number) != decoded or not -(2**63) <= number < 2**63:
                raise ValueError("not a plain number")
            return number
        if kind == "bool":
            return {"true": True, "false": False}[decoded]
        return decoded
    except (ValueError, KeyError):
        raise PeerError("a label of a group is not what its type says") from None
