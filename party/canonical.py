"""Canonical JSON: one value, one sequence of bytes, so that digests and signatures of both sides agree.

Keys sorted, no blanks, UTF-8. Numbers: integers in full; a float must be finite, is written in its shortest
form that reads back the same (as Python's repr), and as an integer when it is one below 2**53, so 1.0 and 1 are one.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from party.errors import InternalError, PeerError

__all__ = ["canonical", "digest", "parse_canonical"]

_DEPTH = 32


def canonical(value: object) -> bytes:
    """The canonical bytes of a value of dicts with text keys, lists, text, integers, finite floats, booleans, None."""
    try:
        return json.dumps(_plain(value, 0), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InternalError("text that is not Unicode cannot be made canonical") from None


def digest(purpose: str, *parts: bytes) -> bytes:
    """SHA-256 of labelled parts, each with its length: no two different lists of parts give the same input."""
    state = hashlib.sha256(b"tallystick/v1/" + purpose.encode() + b"/")
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.digest()


def parse_canonical(content: bytes, what: str) -> Any:
    """The value of bytes from a peer; PeerError unless they are exactly the canonical form of it."""
    refused = PeerError(f"{what} is not canonical JSON")
    try:
        value = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        raise refused from None
    try:
        same = canonical(value) == content  # repeated keys, blanks, other spellings of numbers: all differ here
    except InternalError:
        raise refused from None
    if not same:
        raise refused
    return value


def _plain(value: object, depth: int) -> object:
    if depth > _DEPTH:
        raise InternalError(f"nested more than {_DEPTH} deep")
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InternalError("a number that is not finite cannot be made canonical")
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise InternalError("a key that is not text cannot be made canonical")
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    raise InternalError(f"a {type(value).__name__} cannot be made canonical")
