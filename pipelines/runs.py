"""State of runs: `state/runs/<run>/` holds the agreement, one checkpoint a finished unit of work, and the status.

Every file is written under a temporary name, synced and renamed, so a crash leaves the old or the new one. A lock
keeps a second process off a run; the operating system drops it when its holder dies.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from party.errors import InternalError, UsageError
from party.home import replace_file

__all__ = ["RunState", "find_resumable", "list_runs", "new_run_id"]

RESUMABLE = ("running", "broken", "failed", "interrupted")
_RUN = re.compile(r"[a-z0-9][a-z0-9-]{7,63}")


def new_run_id() -> str:
    """A name for a run: when it began, and 40 random bits."""
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(5)


class RunState:
    """The folder of one run."""

    def __init__(self, runs: Path, run: str) -> None:
        if not _RUN.fullmatch(run):
            raise UsageError(f"{run!r} is not the name of a run", hint="`tally runs` lists them")
        self.run = run
        self.folder = runs / run

    def create(self, **status: Any) -> None:
        """Make the folder of a new run with its first status."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.update(run=self.run, status="running", started=time.time(), **status)

    def exists(self) -> bool:
        """Whether this run is known here."""
        return (self.folder / "status.json").exists()

    @property
    def status(self) -> dict[str, Any]:
        """The status as last written."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "status.json").read_bytes())
            return found
        except FileNotFoundError:
            raise UsageError(f"no run {self.run} here", hint="`tally runs` lists them") from None
        except ValueError:
            raise InternalError(f"state/runs/{self.run}/status.json is damaged") from None

    def update(self, **fields: Any) -> None:
        """Change some fields of the status."""
        known = self.status if self.exists() else {}
        self.put_json("status", known | fields)

    def tell(self, progress: Mapping[str, Any]) -> None:
        """Keep how far the run is, for other processes: not synced, and no harm where it cannot be written."""
        temporary = self.folder / "progress.new"
        with suppress(OSError):
            temporary.write_bytes(json.dumps(progress).encode())
            temporary.replace(self.folder / "progress.json")

    def shown(self) -> dict[str, Any]:
        """The status as people are shown it: one whose process is gone without a word is broken, one that runs is told
        with its progress."""
        status = self.status
        if status["status"] == "running":
            if self.holder() is None:
                return status | {"status": "broken"}
            with suppress(OSError, ValueError):
                progress = json.loads((self.folder / "progress.json").read_bytes())
                if progress["stage"] == status.get("stage"):
                    return status | {"progress": progress}
        return status

    def put_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Keep a JSON object under this name."""
        replace_file(self.folder / f"{name}.json", json.dumps(value, indent=1).encode())

    def get_json(self, name: str) -> dict[str, Any] | None:
        """The object kept under this name."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            return None
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found

    def put_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep arrays under this name, in one file."""

        def write(file: BinaryIO) -> None:
            np.savez(file, allow_pickle=False, **arrays)

        replace_file(self.folder / f"{name}.npz", write)

    def get_arrays(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays kept under this name."""
        path = self.folder / f"{name}.npz"
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as content:
            return {key: content[key] for key in content.files}

    def forget(self, *names: str) -> None:
        """Remove files of this run that are not needed any more."""
        for name in names:
            for path in self.folder.glob(name):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run; UsageError when another process has it."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"run {self.run} is being worked on by another process",
                    hint="wait for it, or stop it with `tally cancel`",
                ) from None
            os.ftruncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
            yield
        finally:
            os.close(handle)

    def holder(self) -> int | None:
        """The process that holds this run now."""
        path = self.folder / "lock"
        if not path.exists():
            return None
        handle = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(os.read(handle, 20) or b"0") or None
        finally:
            os.close(handle)
        return None


def list_runs(runs: Path) -> list[dict[str, Any]]:
    """The status of every run as it is shown, newest first."""
    found = []
    for folder in runs.iterdir() if runs.exists() else ():
        state = RunState(runs, folder.name) if _RUN.fullmatch(folder.name) else None
        if state is None or not state.exists():
            continue
        found.append(state.shown())
    return sorted(found, key=lambda status: -float(status["started"]))


def find_resumable(runs: Path, digest: str) -> RunState | None:
    """The newest unfinished run of this job that we began ourselves."""
    for status in list_runs(runs):
        if status.get("digest") == digest and status.get("ours") and status["status"] in RESUMABLE:
            return RunState(runs, status["run"])
    return None
