"""What a pass leaves behind: shares, and where to keep them so that a killed run goes on.

A share alone says nothing; it is stored in the owner's own state folder only. All randomness of a pass comes from a
secret of the run and the run's name, so a repeated pass sends the same bytes and ends with the same weights. The name
stands for both sides' inputs: with others a pass is never repeated under the same masks, and shares of different runs
are never joined.
"""

from __future__ import annotations

import hmac
import io
import os
import secrets
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np

from party.errors import InternalError
from party.message import Array, Bytes, Cap, Message
from vfl.schedule import CHORDS
from vfl.secure import Arithmetic

__all__ = ["Checkpoints", "FileCheckpoints", "MemoryCheckpoints", "State", "resume", "saved"]

MARK = 16
_KEPT = 3
_SECRET = 48


@dataclass(frozen=True, repr=False)
class Resume(Message, kind=0x0602):
    """Both ways, before the first pass: our run's nonce, a keyed digest of our inputs, marks of our checkpoints.

    Reveals how far we came, and whether our inputs are those of an attempt before.
    """

    nonce: Annotated[bytes, Bytes(16)]
    inputs: Annotated[bytes, Bytes(32)]
    marks: Annotated[np.ndarray, Array("u1", Cap(8), MARK)]


def _none() -> np.ndarray:
    return np.zeros(1, dtype=np.uint64)


def _no_matrix() -> np.ndarray:
    return np.zeros((0, 0), dtype=np.uint64)


@dataclass(frozen=True, repr=False)
class State:
    """After a pass: our shares of the weights (now, one pass ago, two passes ago) and the public schedule."""

    weights: np.ndarray  # uint64 (3, D)
    period: int
    number: int = 0  # passes done, dropped ones included
    k: int = 0  # passes since momentum began
    halvings: int = 0  # of the step
    loss: np.ndarray = field(default_factory=_none)  # share of the last summed loss
    has_loss: bool = False
    split: np.ndarray = field(default_factory=_none)  # with l1 shares of z and y after these passes, (3, 2, D)
    best: np.ndarray = field(default_factory=_none)  # share (D,) of the weights with the lowest held-out loss
    best_loss: np.ndarray = field(default_factory=_none)
    has_best: bool = False
    waited: int = 0  # checks since then
    inverse: np.ndarray = field(default_factory=_no_matrix)  # share of that of the information, (D, D), or none
    chords: int = 0  # steps taken with one (`vfl.newton`); -1: it has none
    inside: bool = False  # all margins lie in the window, the last word of a training
    stopped: bool = False
    found: np.ndarray = field(default_factory=lambda: np.zeros(0))  # float64, public: what cross-validation measured

    def without_inverse(self) -> State:
        """The same, to go on with an inverse computed anew."""
        return replace(self, inverse=_no_matrix(), chords=-(-self.chords // CHORDS) * CHORDS)

    @property
    def model(self) -> np.ndarray:
        """The weights that training ends with: those of the lowest held-out loss where rows are held out."""
        return self.best if self.has_best else self.now

    @property
    def whitened(self) -> np.ndarray:
        """The same, or with l1 those next to them, as the passes have them: of whitened columns."""
        found: np.ndarray = self.model if self.split.ndim == 1 else self.weights[0]
        return found

    @property
    def now(self) -> np.ndarray:
        """The weights after the last pass: whitened ones, or with l1 those of the columns, zeros exact."""
        found: np.ndarray = self.weights[0] if self.split.ndim == 1 else self.split[0, 0]
        return found


class Checkpoints(Protocol):
    """Where a side keeps its passes; `save` returns when they are on disk. At least the last two are kept."""

    def save(self, number: int, arrays: dict[str, np.ndarray]) -> None: ...

    def load(self) -> list[dict[str, np.ndarray]]: ...

    def secret(self) -> bytes:
        """48 bytes of this run of ours, the same whenever it is asked: a key of 32, a nonce of 16."""
        ...

    def under(self, name: str) -> Checkpoints:
        """A place of its own, with a secret of its own, for another training of this run; the same whenever asked."""
        ...


class MemoryCheckpoints:
    """Checkpoints that die with the process: tests, and runs that are not to be resumed."""

    def __init__(self) -> None:
        self._kept: dict[int, dict[str, np.ndarray]] = {}
        self._secret = secrets.token_bytes(_SECRET)
        self._under: dict[str, MemoryCheckpoints] = {}

    def save(self, number: int, arrays: dict[str, np.ndarray]) -> None:
        """Keep a copy; older than the last few go."""
        self._kept = {n: kept for n, kept in self._kept.items() if number - _KEPT < n < number}
        self._kept[number] = {name: array.copy() for name, array in arrays.items()}

    def load(self) -> list[dict[str, np.ndarray]]:
        """All that is kept, newest first."""
        return [self._kept[number] for number in sorted(self._kept, reverse=True)]

    def secret(self) -> bytes:
        """Drawn when this object was made."""
        return self._secret

    def under(self, name: str) -> MemoryCheckpoints:
        """Made at the first call of this name."""
        return self._under.setdefault(name, MemoryCheckpoints())


class FileCheckpoints:
    """Checkpoints in a folder, one .npz a pass: written, synced, renamed, folder synced; never unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def save(self, number: int, arrays: dict[str, np.ndarray]) -> None:
        """Write pass `number`; drop what is older than the last few, or left over from a pass beyond it."""
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        self._write(f"pass-{number:04d}.npz", buffer.getvalue())
        for other, path in self._files():
            if not number - _KEPT < other <= number:
                path.unlink()

    def secret(self) -> bytes:
        """Of the file `secret`, made and synced at the first call. Raises InternalError when it is damaged."""
        place = self._folder / "secret"
        if not place.exists():
            self._write("secret", secrets.token_bytes(_SECRET))
        found = place.read_bytes()
        if len(found) != _SECRET:
            raise InternalError("the secret of this training is damaged", hint="run again with --new")
        return found

    def under(self, name: str) -> FileCheckpoints:
        """A folder inside."""
        return FileCheckpoints(self._folder / name)

    def _write(self, name: str, content: bytes) -> None:
        new = self._folder / f"{name}.new"
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.rename(self._folder / name)
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


_NUMBERS = ("number", "k", "period", "halvings", "has_loss", "has_best", "waited", "chords", "inside", "stopped")
_ARRAYS = ("weights", "split", "inverse", "loss", "best", "best_loss", "found")


def saved(checkpoints: Checkpoints, state: State, run: bytes) -> None:
    """Store a state under the mark of this run."""
    numbers = np.array([int(getattr(state, name)) for name in _NUMBERS], dtype=np.int64)
    mark = np.frombuffer(_mark(run, state.number), dtype=np.uint8)
    arrays = {name: getattr(state, name) for name in _ARRAYS}
    checkpoints.save(state.number, {"mark": mark, "numbers": numbers, **arrays})


def resume(arithmetic: Arithmetic, checkpoints: Checkpoints, inputs: bytes, weights: int) -> tuple[State | None, bytes]:
    """The newest state that both sides hold of this very run, if any, and the run's name. One round.

    inputs: a digest of all that our passes compute with. The name is made of both sides' nonces and digests: other
    inputs of either side make another run, which begins at pass 1 under randomness of its own.
    """
    secret = checkpoints.secret()
    key, nonce = secret[:32], secret[32:]
    kept = [entry for entry in checkpoints.load() if entry["weights"].shape == (3, weights)]
    marks = np.array([entry["mark"] for entry in kept], dtype=np.uint8).reshape(-1, MARK)
    ours = Resume(nonce, hmac.digest(key, inputs + _arithmetic_here(), "sha256"), marks)
    theirs = arithmetic.swap(ours)
    both = (ours, theirs) if arithmetic.index == 0 else (theirs, ours)
    named = b"".join(message.nonce + message.inputs for message in both)
    run = sha256(b"tallystick/v1/train/run/" + named).digest()
    held = {mark.tobytes() for mark in theirs.marks}
    for entry in kept:
        numbers = dict(zip(_NUMBERS, map(int, entry["numbers"]), strict=True))
        mark = entry["mark"].tobytes()
        if mark in held and mark == _mark(run, numbers["number"]):
            fields: dict[str, Any] = {name: entry[name] for name in _ARRAYS} | numbers
            return State(**fields), run
    return None, run


def _mark(run: bytes, number: int) -> bytes:
    return sha256(b"tallystick/v1/train/mark/" + run + number.to_bytes(4, "big")).digest()[:MARK]


def _arithmetic_here() -> bytes:
    """How this machine rounds what a pass rounds: sines that came out otherwise must not meet the same randomness."""
    angles = np.arange(4097) * (2 * np.pi / 4096)
    return sha256(np.__version__.encode() + np.cos(angles).tobytes() + np.sin(angles).tobytes()).digest()
