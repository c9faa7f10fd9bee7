"""Progress on stderr, and kept with the run for `tally runs`: what runs, how far, how long still. Numbers only, never a
value of a table."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Progress", "progress_text"]

_EVERY = 2.0  # seconds between two lines where stderr is no terminal
_KEPT_EVERY = 1.0  # seconds between two writings for other processes
_STALE = 15.0  # seconds after which what was kept is shown with its age
_TELL_LEFT_AFTER = 0.05  # part of the work that must be done before time left is guessed


class Progress:
    """One line a stage on a terminal, redrawn; elsewhere a line every few seconds."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live = sys.stderr.isatty()
        self._stage = ""
        self._began = self._told = self._kept = time.monotonic()
        self._keep: Callable[[Mapping[str, Any]], None] | None = None

    def keep(self, write: Callable[[Mapping[str, Any]], None]) -> None:
        """From here on also write it down, so that another process can show it."""
        self._keep = write

    def stage(self, name: str) -> None:
        """A stage begins."""
        self._stage = name
        self._began = self._told = self._kept = time.monotonic()
        self._write(0.0, None, "")
        self._say(name)

    def step(self, done: int, total: int, note: str = "") -> None:
        """So many of so many parts are done."""
        now = time.monotonic()
        part = done / total if total else 1.0
        left = (now - self._began) * (1.0 - part) / part if _TELL_LEFT_AFTER < part < 1.0 else None
        if now - self._kept >= _KEPT_EVERY:
            self._kept = now
            self._write(part, left, note)
        if now - self._told < (0.1 if self._live else _EVERY) and done < total:
            return
        self._told = now
        self._say(f"{self._stage}: {_how_far(part, left, note)}")

    def end(self, note: str = "") -> None:
        """The stage is done."""
        self._say(
            f"{self._stage}: done in {time.monotonic() - self._began:.1f} s{f', {note}' if note else ''}", last=True
        )

    def note(self, text: str) -> None:
        """Something the user should know."""
        self._say(text, last=True)

    def _write(self, part: float, left: float | None, note: str) -> None:
        if self._keep is not None:
            self._keep({"stage": self._stage, "part": round(part, 3), "left": left, "note": note, "time": time.time()})

    def _say(self, text: str, last: bool = False) -> None:
        if self._quiet:
            return
        if self._live:
            sys.stderr.write(f"\r\x1b[K{text}" + ("\n" if last else ""))
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()


def progress_text(kept: Mapping[str, Any]) -> str:
    """What was kept, as a line shows it."""
    age = time.time() - kept["time"]
    old = f", as of {_duration(age)} ago" if age > _STALE else ""
    return _how_far(kept["part"], kept["left"], kept["note"]) + old


def _how_far(part: float, left: float | None, note: str) -> str:
    behind = "" if left is None else f", {_duration(left)} left"
    return f"{100 * part:.0f} %{behind}{f' ({note})' if note else ''}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
