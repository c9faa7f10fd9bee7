"""Secrets in url values: `${env:NAME}` and `${file:PATH}`, filled in only when the url is opened.

What stands in the file may be shown; what it expands to never is: not in a representation, not in an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from party import limits
from party.errors import FileError

__all__ = ["Url"]

_PLACE = re.compile(r"\$\{(env|file):([^${}]+)\}")
_PASSWORD = re.compile(r"://[^/@:\s]*:(?P<password>[^@]+)@")
_PASSWORD_OPTION = re.compile(r"[?&;](?:password|passwd|pwd|secret|token|secret_key)=(?P<password>[^&;]*)", re.I)


@dataclass(frozen=True)
class Url:
    """A url as it is written in party.yaml."""

    written: str
    file: str = field(default="party.yaml", compare=False)
    line: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if "${" in _PLACE.sub("", self.written):
            raise self._error("a placeholder in this url is not complete", "write ${env:NAME} or ${file:PATH}")
        for pattern in (_PASSWORD, _PASSWORD_OPTION):
            found = pattern.search(self.written)
            if found is not None and not _PLACE.fullmatch(found["password"]):
                raise self._error("a password stands in this url", "keep it elsewhere and write ${env:NAME} instead")

    @property
    def scheme(self) -> str:
        """What stands before the first colon."""
        return self.written.partition(":")[0]

    def expand(self, home: Path, environment: Mapping[str, str] | None = None) -> str:
        """The url with its secrets: to be handed to a driver, never shown. FileError when one is missing or empty."""
        names = os.environ if environment is None else environment

        def fill(place: re.Match[str]) -> str:
            kind, name = place[1], place[2]
            if kind == "env":
                if not names.get(name):
                    raise self._error(f"the environment variable {name} is not set", f"export {name} before `tally`")
                return names[name]
            try:
                with (home / name).open("rb") as source:
                    content = source.read(limits.CARD_BYTES + 1)
                text = content.decode("utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError):
                raise self._error(f"the secret file {name} cannot be read", "paths are relative to the home") from None
            if not text or len(content) > limits.CARD_BYTES:
                raise self._error(f"the secret file {name} is empty or too large", "it holds one short line")
            return text

        return _PLACE.sub(fill, self.written)

    def _error(self, reason: str, hint: str) -> FileError:
        return FileError(reason, file=self.file, line=self.line, hint=hint)
