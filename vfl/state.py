"""What a pass leaves behind: shares, and where to keep them so that a killed run goes on.

A share alone says nothing; it is stored in the owner's own state folder only. A checkpoint carries a mark made of
both sides' nonces of that attempt and the pass number, so the two sides never join shares of different attempts.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Protocol

import numpy as np

from party.errors import InternalError
from party.message import Array, Bytes, Cap, Message
from vfl.secure import Arithmetic

__all__ = ["Checkpoints", "FileCheckpoints", "MemoryCheckpoints", "State", "resume", "saved"]

MARK = 16
_KEPT = 3


@dataclass(frozen=True, repr=False)
class Resume(Message, kind=0x0602):
    """Both ways, before the first pass: a fresh nonce and the marks of our checkpoints. Reveals how far we came."""

    nonce: Annotated[bytes, Bytes(16)]
    marks: Annotated[np.ndarray, Array("u1", Cap(8), MARK)]


@dataclass(frozen=True, repr=False)
class State:
    """After a pass: our shares of the weights (now, one pass ago, two passes ago) and the public schedule."""

    weights: np.ndarray  # uint64 (3, D)
    period: int
    number: int = 0  # passes done, dropped ones included
    k: int = 0  # passes since momentum began
    loss: np.ndarray = field(default_factory=lambda: np.zeros(1, dtype=np.uint64))  # share of the last summed loss
    has_loss: bool = False
    stopped: bool = False


class Checkpoints(Protocol):
    """Where a side keeps its passes; `save` returns when they are on disk. At least the last two are kept."""

    def save(self, number: int, arrays: dict[str, np.ndarray]) -> None: ...

    def load(self) -> list[dict[str, np.ndarray]]: ...


class MemoryCheckpoints:
    """Checkpoints that die with the process: tests, and runs that are not to be resumed."""

    def __init__(self) -> None:
        self._kept: dict[int, dict[str, np.ndarray]] = {}

    def save(self, number: int, arrays: dict[str, np.ndarray]) -> None:
        """Keep a copy; older than the last few go."""
        self._kept = {n: kept for n, kept in self._kept.items() if number - _KEPT < n < number}
        self._kept[number] = {name: array.copy() for name, array in arrays.items()}

    def load(self) -> list[dict[str, np.ndarray]]:
        """All that is kept, newest first."""
        return [self._kept[number] for number in sorted(self._kept, reverse=True)]


class FileCheckpoints:
    """Checkpoints in a folder, one .npz a pass: written, synced, renamed, folder synced; never unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def save(self, number: int, arrays: dict[str, np.ndarray]) -> None:
        """Write pass `number`; drop what is older than the last few, or left over from a pass beyond it."""
        place = self._folder / f"pass-{number:04d}.npz"
        new = self._folder / f"pass-{number:04d}.new"
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        new.rename(place)
        for other, path in self._files():
            if not number - _KEPT < other <= number:
                path.unlink()
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def load(self) -> list[dict[str, np.ndarray]]:
        """All that is kept, newest first. Raises InternalError when a file is damaged."""
        found = []
        for _, path in sorted(self._files(), reverse=True):
            try:
                with np.load(path, allow_pickle=False) as arrays:
                    found.append({name: arrays[name] for name in arrays.files})
            except (OSError, ValueError) as error:
                raise InternalError(f"checkpoint {path.name} cannot be read: {error}") from None
        return found

    def _files(self) -> list[tuple[int, Path]]:
        return [(int(path.stem.removeprefix("pass-")), path) for path in self._folder.glob("pass-*.npz")]


def saved(checkpoints: Checkpoints, state: State, attempt: bytes) -> None:
    """Store a state under the mark of this attempt."""
    numbers = [state.number, state.k, state.period, state.has_loss, state.stopped]
    checkpoints.save(
        state.number,
        {
            "mark": np.frombuffer(_mark(attempt, state.number), dtype=np.uint8),
            "numbers": np.array(numbers, dtype=np.int64),
            "weights": state.weights,
            "loss": state.loss,
        },
    )


def resume(arithmetic: Arithmetic, checkpoints: Checkpoints, weights: int) -> tuple[State | None, bytes]:
    """The newest state that both sides hold, if any, and this attempt's name. One round.

    Every attempt draws fresh randomness throughout (keys, masks, seeds, transfers), so a repeated pass never meets a
    mask of the earlier attempt again.
    """
    kept = [entry for entry in checkpoints.load() if entry["weights"].shape == (3, weights)]
    marks = np.array([entry["mark"] for entry in kept], dtype=np.uint8).reshape(-1, MARK)
    ours = Resume(secrets.token_bytes(16), marks)
    theirs = arithmetic.swap(ours)
    both = ours.nonce + theirs.nonce if arithmetic.index == 0 else theirs.nonce + ours.nonce
    attempt = sha256(b"tallystick/v1/train/attempt/" + both).digest()
    held = {mark.tobytes() for mark in theirs.marks}
    for entry in kept:
        if entry["mark"].tobytes() in held:
            number, k, period, has_loss, stopped = (int(value) for value in entry["numbers"])
            state = State(entry["weights"], period, number, k, entry["loss"], bool(has_loss), bool(stopped))
            return state, attempt
    return None, attempt


def _mark(attempt: bytes, number: int) -> bytes:
    return sha256(b"tallystick/v1/train/mark/" + attempt + number.to_bytes(4, "big")).digest()[:MARK]
