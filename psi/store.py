"""What an alignment must remember to be resumed: our scalar, our masked list, what the peer sent; sealed on disk.

A run draws one scalar, ever. So a record is written once and never replaced, the masked list is on disk before its
first byte leaves, and after `wipe` the run takes no new record: whoever resumes it then is refused instead of given
a second scalar. Records are AES-256-GCM under the home's key file, bound to run and record name; written to a
temporary name, synced, renamed, folder synced. Journals (`psi.journal`) are sealed under a key of this run alone,
itself a record: `wipe` overwrites that, and what a disk still holds of a journal can never be opened again.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from party.errors import InternalError
from psi.journal import Journal, MemoryJournal, SealedJournal

__all__ = ["MemoryStore", "PartOfStore", "SealedStore", "Store", "write_synced"]

_LABEL = b"tallystick/v1/psi/store/"
_WIPED = "wiped"
_KEY = "journals"  # the record that holds the key of all journals


class Store(Protocol):
    """Records of one run and one alignment."""

    def load(self, name: str) -> bytes | None:
        """The record of this name, or None."""
        ...

    def save(self, name: str, content: bytes) -> None:
        """Write a record, once; returns when it is on disk, and with it all that the store's journals hold.
        InternalError when there is one, or after `wipe`."""
        ...

    def journal(self, name: str) -> Journal:
        """The journal of this name, empty at first. InternalError after `wipe`."""
        ...

    def drop(self, name: str) -> None:
        """Remove a journal; its name may be used again."""
        ...

    def wipe(self) -> None:
        """Destroy all records and journals, for good."""
        ...


class PartOfStore:
    """Records and journals of one step of a run, such as the second of several keys, in the run's store."""

    def __init__(self, whole: Store, name: str) -> None:
        self._whole = whole
        self._name = name

    def load(self, name: str) -> bytes | None:
        """As `Store.load`."""
        return self._whole.load(f"{self._name}.{name}")

    def save(self, name: str, content: bytes) -> None:
        """As `Store.save`."""
        self._whole.save(f"{self._name}.{name}", content)

    def journal(self, name: str) -> Journal:
        """As `Store.journal`."""
        return self._whole.journal(f"{self._name}.{name}")

    def drop(self, name: str) -> None:
        """As `Store.drop`."""
        self._whole.drop(f"{self._name}.{name}")

    def wipe(self) -> None:
        """The whole store: parts do not outlive it."""
        self._whole.wipe()


class MemoryStore:
    """A store that ends with the process: sessions that cannot be resumed, and tests."""

    def __init__(self) -> None:
        self._records: dict[str, bytes] = {}
        self._journals: dict[str, MemoryJournal] = {}
        self._wiped = False

    def load(self, name: str) -> bytes | None:
        """The record of this name, or None."""
        return self._records.get(name)

    def save(self, name: str, content: bytes) -> None:
        """Keep a record, once."""
        if self._wiped or name in self._records:
            raise _over()
        self._records[name] = content

    def journal(self, name: str) -> Journal:
        """The journal of this name."""
        if self._wiped:
            raise _over()
        return self._journals.setdefault(name, MemoryJournal())

    def drop(self, name: str) -> None:
        """Forget a journal."""
        self._journals.pop(name, None)

    def wipe(self) -> None:
        """Forget everything, for good."""
        self._records.clear()
        self._journals.clear()
        self._wiped = True


class SealedStore:
    """Records as files `<name>.sealed`, journals as `<name>.journal`, in one folder (0700), for one run."""

    def __init__(self, folder: Path, key_file: Path, run: str) -> None:
        """`key_file` holds 32 random bytes, 0600; it is made when missing. Both belong in the home's state."""
        self._folder = folder
        self._run = run.encode()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not key_file.exists():
                write_synced(key_file, secrets.token_bytes(32))
            key = key_file.read_bytes()
        except OSError as error:
            raise InternalError(f"the alignment's store cannot be opened: {error.strerror}") from None
        if len(key) != 32:
            raise InternalError(f"the key file {key_file.name} is broken")
        self._cipher = AESGCM(key)
        self._open: dict[str, SealedJournal] = {}

    def load(self, name: str) -> bytes | None:
        """The record of this name, or None; InternalError when the file was changed or is another run's."""
        try:  # mapped, unlike tables: nobody else writes here
            with (
                self._path(name).open("rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
                memoryview(content) as sealed,
                sealed[:12] as nonce,
                sealed[12:] as rest,
            ):
                return self._cipher.decrypt(nonce, rest, self._bound_to(name))
        except FileNotFoundError:
            return None
        except (InvalidTag, ValueError):  # changed, or shorter than a nonce
            raise InternalError(f"the alignment's record {name!r} is broken: start a new run") from None

    def save(self, name: str, content: bytes) -> None:
        """Sync the journals; seal, write, sync; once per name."""
        if self._path(name).exists() or (self._folder / _WIPED).exists():
            raise _over()
        for journal in self._open.values():
            journal.sync()
        nonce = secrets.token_bytes(12)
        try:
            write_synced(self._path(name), nonce + self._cipher.encrypt(nonce, content, self._bound_to(name)))
        except OSError as error:
            with contextlib.suppress(OSError):
                self._path(name).with_suffix(".sealed.new").unlink(missing_ok=True)
            raise InternalError(
                f"the alignment's record {name!r} cannot be written: {error.strerror}",
                hint="make room on the disk and run the same command again",
            ) from None

    def journal(self, name: str) -> Journal:
        """The journal of this name, one opening for all who ask."""
        if (self._folder / _WIPED).exists():
            raise _over()
        if name not in self._open:
            key = self.load(_KEY)
            if key is None:
                self.save(_KEY, secrets.token_bytes(32))
                key = self.load(_KEY) or b""
            self._open[name] = SealedJournal(self._folder / f"{name}.journal", key, self._bound_to(name))
        return self._open[name]

    def drop(self, name: str) -> None:
        """Close and remove a journal."""
        if name in self._open:
            self._open.pop(name).close()
        try:
            (self._folder / f"{name}.journal").unlink(missing_ok=True)
        except OSError as error:
            raise InternalError(f"the alignment's journal {name!r} cannot be removed: {error.strerror}") from None

    def wipe(self) -> None:
        """Mark the run as done, overwrite each record and remove it, and the journals with it."""
        for name in list(self._open):
            self._open.pop(name).close()
        try:
            write_synced(self._folder / _WIPED, b"")
            for path in self._folder.glob("*.sealed"):
                with path.open("r+b") as file:
                    file.write(bytes(path.stat().st_size))
                    file.flush()
                    os.fsync(file.fileno())
                path.unlink()
            for path in self._folder.glob("*.journal"):
                path.unlink()
            _sync_folder(self._folder)
        except OSError as error:
            raise InternalError(f"the alignment's records cannot be removed: {error.strerror}") from None

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.sealed"

    def _bound_to(self, name: str) -> bytes:
        return _LABEL + len(self._run).to_bytes(4, "little") + self._run + name.encode()


def _over() -> InternalError:
    return InternalError("this run's alignment was already made: start a new run", hint="run again with --new")


def write_synced(path: Path, content: bytes) -> None:
    """Put a file there, 0600, in place of one or of none: a crash leaves the old or the new one."""
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
