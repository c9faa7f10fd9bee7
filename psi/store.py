"""What an alignment must remember to be resumed: our scalar, our masked list, what the peer sent; sealed on disk.

A run draws one scalar, ever. So a record is written once and never replaced, the masked list is on disk before its
first byte leaves, and after `wipe` the run takes no new record: whoever resumes it then is refused instead of given
a second scalar. Records are AES-256-GCM under the home's key file, bound to run and record name; written to a
temporary name, synced, renamed, folder synced.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from party.errors import InternalError

__all__ = ["MemoryStore", "SealedStore", "Store"]

_LABEL = b"tallystick/v1/psi/store/"
_WIPED = "wiped"


class Store(Protocol):
    """Records of one run and one alignment."""

    def load(self, name: str) -> bytes | None:
        """The record of this name, or None."""
        ...

    def save(self, name: str, content: bytes) -> None:
        """Write a record, once; returns when it is on disk. InternalError when there is one, or after `wipe`."""
        ...

    def wipe(self) -> None:
        """Destroy all records, for good."""
        ...


class MemoryStore:
    """A store that ends with the process: sessions that cannot be resumed, and tests."""

    def __init__(self) -> None:
        self._records: dict[str, bytes] = {}
        self._wiped = False

    def load(self, name: str) -> bytes | None:
        """The record of this name, or None."""
        return self._records.get(name)

    def save(self, name: str, content: bytes) -> None:
        """Keep a record, once."""
        if self._wiped or name in self._records:
            raise InternalError("this run's alignment was already made: start a new run")
        self._records[name] = content

    def wipe(self) -> None:
        """Forget all records, for good."""
        self._records.clear()
        self._wiped = True


class SealedStore:
    """Records as files `<name>.sealed` of one folder (0700), for one run."""

    def __init__(self, folder: Path, key_file: Path, run: str) -> None:
        """`key_file` holds 32 random bytes, 0600; it is made when missing. Both belong in the home's state."""
        self._folder = folder
        self._run = run.encode()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not key_file.exists():
                _write(key_file, secrets.token_bytes(32))
            key = key_file.read_bytes()
        except OSError as error:
            raise InternalError(f"the alignment's store cannot be opened: {error.strerror}") from None
        if len(key) != 32:
            raise InternalError(f"the key file {key_file.name} is broken")
        self._cipher = AESGCM(key)

    def load(self, name: str) -> bytes | None:
        """The record of this name, or None; InternalError when the file was changed or is another run's."""
        try:
            sealed = self._path(name).read_bytes()
        except FileNotFoundError:
            return None
        try:
            return self._cipher.decrypt(sealed[:12], sealed[12:], self._bound_to(name))
        except InvalidTag:
            raise InternalError(f"the alignment's record {name!r} is broken: start a new run") from None

    def save(self, name: str, content: bytes) -> None:
        """Seal, write, sync; once per name."""
        if self._path(name).exists() or (self._folder / _WIPED).exists():
            raise InternalError("this run's alignment was already made: start a new run")
        nonce = secrets.token_bytes(12)
        try:
            _write(self._path(name), nonce + self._cipher.encrypt(nonce, content, self._bound_to(name)))
        except OSError as error:
            raise InternalError(f"the alignment's record {name!r} cannot be written: {error.strerror}") from None

    def wipe(self) -> None:
        """Mark the run as done, overwrite each record and remove it."""
        try:
            _write(self._folder / _WIPED, b"")
            for path in self._folder.glob("*.sealed"):
                with path.open("r+b") as file:
                    file.write(bytes(path.stat().st_size))
                    file.flush()
                    os.fsync(file.fileno())
                path.unlink()
            _sync_folder(self._folder)
        except OSError as error:
            raise InternalError(f"the alignment's records cannot be removed: {error.strerror}") from None

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.sealed"

    def _bound_to(self, name: str) -> bytes:
        return _LABEL + len(self._run).to_bytes(4, "little") + self._run + name.encode()


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
