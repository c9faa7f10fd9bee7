"""Progress on stderr: what runs, how far, how long still. Numbers only, never a value of a table."""

from __future__ import annotations

import sys
import time

__all__ = ["Progress"]

_EVERY = 2.0  # seconds between two lines where stderr is no terminal
_TELL_LEFT_AFTER = 0.05  # part of the work that must be done before time left is guessed


class Progress:
    """One line a stage on a terminal, redrawn; elsewhere a line every few seconds."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live = sys.stderr.isatty()
        self._stage = ""
        self._began = self._told = time.monotonic()

    def stage(self, name: str) -> None:
        """A stage begins."""
        self._stage = name
        self._began = self._told = time.monotonic()
        self._say(name)

    def step(self, done: int, total: int, note: str = "") -> None:
        """So many of so many parts are done."""
        now = time.monotonic()
        if now - self._told < (0.1 if self._live else _EVERY) and done < total:
            return
        self._told = now
        part = done / total if total else 1.0
        left = ""
        if _TELL_LEFT_AFTER < part < 1.0:
            left = f", {_duration((now - self._began) * (1.0 - part) / part)} left"
        self._say(f"{self._stage}: {100 * part:.0f} %{left}{f' ({note})' if note else ''}")

    def end(self, note: str = "") -> None:
        """The stage is done."""
        self._say(
            f"{self._stage}: done in {time.monotonic() - self._began:.1f} s{f', {note}' if note else ''}", last=True
        )

    def note(self, text: str) -> None:
        """Something the user should know."""
        self._say(text, last=True)

    def _say(self, text: str, last: bool = False) -> None:
        if self._quiet:
            return
        if self._live:
            sys.stderr.write(f"\r\x1b[K{text}" + ("\n" if last else ""))
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
