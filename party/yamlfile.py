"""Strict YAML for the files people write: party.yaml, policy.yaml, job.yaml.

Only `true` and `false` are booleans (`NO`, `on`, `yes` are text), and numbers look like numbers in every language
(`0644`, `1_000`, `0x10`, `12:30` are text). Repeated keys, anchors, aliases, tags, directives, a second document, text
that is not UTF-8 and files over FILE_BYTES are errors. Every value keeps its line, so that an error can say
`file:line: reason` and what to write instead.

`load` gives a `Reader`, a cursor over the tree that checks as it reads:

    top = load(path)
    top.refuse_unknown(("version", "name"))
    name = top.required("name").text()
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import yaml

from party import limits
from party.errors import FileError

__all__ = ["Entry", "Node", "Reader", "Scalar", "load", "nearest", "parse", "read_bytes"]

Scalar = str | int | float | bool | None

_DEPTH = 32
_NUMBER_TEXT = 64  # longest number
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3})?")
_SHOWN = 40  # characters of a value that an error shows


@dataclass(frozen=True)
class Node:
    """One value and where it stands: a scalar, a list or a mapping. Lines count from 1, columns from 0."""

    value: Scalar | tuple[Node, ...] | dict[str, Entry]
    line: int
    text: str = ""  # a scalar as it is written
    flow: bool = False  # written in [] or {}


@dataclass(frozen=True)
class Entry:
    """One key of a mapping, where it stands, and its value."""

    line: int
    column: int
    node: Node


class Reader:
    """A cursor on one value. Every method that cannot do what it is asked raises FileError with file, line, reason."""

    def __init__(self, file: str, node: Node, path: str = "") -> None:
        self.file = file
        self.node = node
        self.path = path

    @property
    def line(self) -> int:
        """The line of this value."""
        return self.node.line

    def error(self, reason: str, hint: str | None = None) -> FileError:
        """An error that names this place, ready to raise."""
        return FileError(f"`{self.path}` {reason}" if self.path else reason, file=self.file, line=self.line, hint=hint)

    # --- mappings ---

    def mapping(self) -> dict[str, Reader]:
        """The keys in the order of the file; an empty value is an empty mapping."""
        return {key: self._child(key, entry) for key, entry in self._entries().items()}

    def refuse_unknown(self, known: Sequence[str]) -> None:
        """Refuse the first key that is not known, naming the nearest one that is."""
        for key, entry in self._entries().items():
            if key not in known:
                inside = f" in `{self.path}`" if self.path else ""
                raise FileError(
                    f"unknown key {_shown(key)}{inside}", file=self.file, line=entry.line, hint=nearest(key, known)
                )

    def has(self, key: str) -> bool:
        """Whether the key is written, `null` included."""
        return key in self._entries()

    def required(self, key: str) -> Reader:
        """The value of a key that must be there."""
        found = self.optional(key)
        if found is None:
            raise self.error(f"lacks `{key}`" if self.path else f"lacks the key `{key}`", hint=f"write `{key}: ...`")
        return found

    def optional(self, key: str) -> Reader | None:
        """The value of a key, None when the key is not written (`is_null` tells a written `null`)."""
        entry = self._entries().get(key)
        return None if entry is None else self._child(key, entry)

    # --- lists ---

    def list(self, at_most: int = 10_000) -> list[Reader]:
        """The items."""
        if not isinstance(self.node.value, tuple):
            raise self.error(f"must be a list, not {_kind(self.node)}", hint="write [one, two]")
        if len(self.node.value) > at_most:
            raise self.error(f"has more than {at_most} items")
        return [Reader(self.file, node, f"{self.path}[{i + 1}]") for i, node in enumerate(self.node.value)]

    @property
    def is_list(self) -> bool:
        """Whether this is a list."""
        return isinstance(self.node.value, tuple)

    @property
    def is_mapping(self) -> bool:
        """Whether this is a mapping."""
        return isinstance(self.node.value, dict)

    @property
    def is_null(self) -> bool:
        """Whether this is `null`, `~` or nothing."""
        return self.node.value is None

    # --- scalars ---

    def scalar(self) -> Scalar:
        """Any scalar, as YAML's plain reading has it."""
        if isinstance(self.node.value, tuple | dict):
            raise self.error(f"must be one value, not {_kind(self.node)}")
        return self.node.value

    def text(self, at_most: int = 4096) -> str:
        """Text; a number or a boolean is not text unless it is quoted."""
        if not isinstance(self.node.value, str):
            raise self.error(f"must be text, not {_kind(self.node)}", hint="put it in quotes if it is text")
        if not self.node.value or len(self.node.value) > at_most:
            raise self.error(f"must have 1 to {at_most} characters")
        return self.node.value

    def name(self, pattern: re.Pattern[str], rule: str) -> str:
        """Text that matches a pattern, which `rule` puts in words."""
        value = self.text()
        if not pattern.fullmatch(value):
            raise self.error(f"cannot be {_shown(value)}", hint=rule)
        return value

    def choice(self, words: Sequence[str]) -> str:
        """One of these words."""
        if not isinstance(self.node.value, str) or self.node.value not in words:
            given = _shown(self.node.text) if not isinstance(self.node.value, tuple | dict) else _kind(self.node)
            hint = nearest(self.node.text, words) if isinstance(self.node.value, str) else f"one of: {', '.join(words)}"
            raise self.error(f"cannot be {given}", hint=hint)
        return self.node.value

    def integer(self, low: int, high: int) -> int:
        """An integer within [low, high]."""
        value = self.node.value
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(f"must be an integer, not {_kind(self.node)}", hint=f"a number from {low} to {high}")
        if not low <= value <= high:
            raise self.error(f"must lie between {low} and {high}")
        return value

    def number(self, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number within [low, high]."""
        value = self.node.value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(f"must be a number, not {_kind(self.node)}")
        try:
            found = float(value)
        except OverflowError:
            raise self.error("is too large a number") from None
        if not math.isfinite(found) or not low <= found <= high:
            raise self.error(f"must lie between {low:g} and {high:g}" if low > -math.inf else "is too large a number")
        return found

    def decimal(self) -> Decimal:
        """A number exactly as it is written."""
        self.number()
        return Decimal(self.node.text)

    def boolean(self) -> bool:
        """`true` or `false`."""
        if not isinstance(self.node.value, bool):
            raise self.error(f"must be true or false, not {_kind(self.node)}")
        return self.node.value

    def version(self, supported: int = 1) -> None:
        """Check the file's `version`."""
        found = self.required("version")
        if type(found.node.value) is not int or found.node.value != supported:
            raise found.error(
                f"must be {supported}, not {_shown(found.node.text) if found.node.text else _kind(found.node)}",
                hint="a newer file needs a newer tally",
            )

    # --- helpers ---

    def _entries(self) -> dict[str, Entry]:
        if self.node.value is None and self.node.text == "":
            return {}
        if not isinstance(self.node.value, dict):
            raise self.error(f"must be a mapping, not {_kind(self.node)}", hint="write `key: value` lines")
        return self.node.value

    def _child(self, key: str, entry: Entry) -> Reader:
        node = entry.node
        return Reader(self.file, node, f"{self.path}.{key}" if self.path else key)


def load(path: Path | str) -> Reader:
    """Read a file; FileError when it cannot be read or is not strict YAML."""
    return parse(read_bytes(Path(path)), str(path))


def read_bytes(path: Path) -> bytes:
    """A file of at most FILE_BYTES; FileError otherwise."""
    try:
        with path.open("rb") as file:
            content = file.read(limits.FILE_BYTES + 1)
    except OSError as error:
        raise FileError(error.strerror or "cannot be read", file=str(path)) from None
    if len(content) > limits.FILE_BYTES:
        raise FileError(f"more than {limits.FILE_BYTES} bytes", file=str(path), hint="split it, or shorten it")
    return content


def parse(content: bytes | str, file: str) -> Reader:
    """The tree of a text whose top is a mapping; `file` is its name in errors."""
    if isinstance(content, bytes):
        try:
            content = content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise FileError("not text in UTF-8", file=file, line=line, hint="save the file as UTF-8") from None
    if len(content) > limits.FILE_BYTES:
        raise FileError(f"more than {limits.FILE_BYTES} bytes", file=file, hint="split it, or shorten it")
    try:
        node = _Builder(file).build(yaml.parse(content, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise FileError(
            f"not YAML: {error.problem or error.context}", file=file, line=mark.line + 1 if mark else None,
            hint="check indentation, quotes and colons; indent with blanks, not tabs",
        ) from None  # fmt: skip
    except yaml.reader.ReaderError as error:
        line = content.count("\n", 0, error.position) + 1
        raise FileError("a character that YAML does not allow", file=file, line=line) from None
    reader = Reader(file, node)
    if not reader.is_mapping:
        raise FileError(f"the file must be a mapping, not {_kind(node)}", file=file, line=node.line)
    return reader


class _Builder:
    """Makes nodes from PyYAML's events, with our own rules for scalars."""

    def __init__(self, file: str) -> None:
        self.file = file

    def build(self, events: Iterable[yaml.Event]) -> Node:
        root: Node | None = None
        self._events = iter(events)
        for event in self._events:
            line = _line(event)
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise FileError("a second document starts here", file=self.file, line=line, hint="remove it")
                if event.version or event.tags:
                    raise FileError("directives (%) are not allowed", file=self.file, line=line, hint="remove the line")
            elif isinstance(event, yaml.NodeEvent):
                root = self._node(event, 0)
        return root if root is not None else Node(None, 1)

    def _node(self, event: yaml.Event, depth: int) -> Node:
        line = _line(event)
        if depth > _DEPTH:
            raise FileError(f"nested more than {_DEPTH} deep", file=self.file, line=line)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise FileError(
                "anchors (&) and aliases (*) are not allowed", file=self.file, line=line,
                hint="write the value out; put text that starts with & or * in quotes",
            )  # fmt: skip
        if getattr(event, "tag", None) is not None:
            raise FileError(
                "tags (!) are not allowed", file=self.file, line=line,
                hint="remove the tag; put text that starts with ! in quotes",
            )  # fmt: skip
        if isinstance(event, yaml.ScalarEvent):
            if any("\ud800" <= letter <= "\udfff" for letter in event.value):
                raise FileError(
                    "a surrogate (\\ud8..) is not a character", file=self.file, line=line, hint="write \\U..."
                )
            plain = event.style is None or event.style == ""
            return Node(self._plain(event.value, line) if plain else event.value, line, event.value)
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(inner := next(self._events), yaml.SequenceEndEvent):
                items.append(self._node(inner, depth + 1))
            return Node(tuple(items), line, flow=bool(event.flow_style))
        entries: dict[str, Entry] = {}
        while not isinstance(inner := next(self._events), yaml.MappingEndEvent):
            key = self._node(inner, depth + 1)
            if isinstance(key.value, tuple | dict) or not key.text:
                raise FileError("a key must be a word", file=self.file, line=key.line)
            if key.text in entries:
                raise FileError(
                    f"{_shown(key.text)} is given twice, first in line {entries[key.text].line}",
                    file=self.file, line=key.line, hint="remove one of them",
                )  # fmt: skip
            entries[key.text] = Entry(key.line, _column(inner), self._node(next(self._events), depth + 1))
        return Node(entries, line, flow=bool(getattr(event, "flow_style", False)))

    def _plain(self, text: str, line: int) -> Scalar:
        if text in ("true", "false"):
            return text == "true"
        if text in ("null", "~", ""):
            return None
        if _NUMBER.fullmatch(text):
            if len(text) > _NUMBER_TEXT:
                raise FileError("a number of too many digits", file=self.file, line=line, hint="put text in quotes")
            return int(text) if _INTEGER.fullmatch(text) else float(text)
        return text


def nearest(word: str, known: Sequence[str]) -> str:
    """A hint: the nearest known word, or all of them."""
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(known)}" if known else "remove it"


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _column(event: yaml.Event) -> int:
    return event.start_mark.column if event.start_mark else 0


def _shown(text: str) -> str:
    return f"`{text[:_SHOWN]}`"


def _kind(node: Node) -> str:
    value = node.value
    if value is None:
        return "nothing" if node.text == "" else "null"
    if isinstance(value, bool):
        return "true or false"
    names = {str: "text", int: "a number", float: "a number", tuple: "a list", dict: "a mapping"}
    return names[type(value)]
