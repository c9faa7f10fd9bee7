"""Changes to the files that people write: lines are put in and taken out, everything else stays as it was.

Each function takes and returns the text of a file; the caller reads the result again before it takes its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from party.errors import FileError, UsageError
from party.yamlfile import Entry, parse

__all__ = ["add_comment", "add_entry", "quoted", "remove_entry"]

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off"})


def add_entry(text: str, section: str, lines: Sequence[str], file: str) -> str:
    """Put an entry at the end of a top-level section, which is made when it is not there.

    lines: the entry without indentation, its further lines indented by multiples of two blanks.
    """
    rows = _rows(text)
    end = _newline(text)
    top = parse(text, file).node.value
    entry = top.get(section) if isinstance(top, dict) else None
    if entry is None:
        start = [] if not rows or rows[-1].endswith(("\n", "\r")) else [end]
        return "".join([*rows, *start, f"{end}{section}:{end}", *_indented(lines, 2, end)])
    value = entry.node.value
    if value is None or value == {}:
        head = rows[entry.line - 1]
        found = re.fullmatch(rf"(\s*[\"']?{section}[\"']?\s*:)\s*(?:\{{\s*\}}|null|~)?(\s*(?:\s#.*)?)(\r?\n?)", head)
        if found is None:
            raise _cannot(file, entry.line, section)
        rows[entry.line - 1] = f"{found[1]}{found[2].rstrip()}{end}"
        return "".join([*rows[: entry.line], *_indented(lines, 2, end), *rows[entry.line :]])
    if not isinstance(value, dict) or entry.node.flow:
        raise _cannot(file, entry.line, section)
    children: Iterable[Entry] = value.values()
    last = max(children, key=lambda child: child.line)
    stop = _stop(rows, last)
    if not rows[stop - 1].endswith(("\n", "\r")):
        rows[stop - 1] += end
    return "".join([*rows[:stop], *_indented(lines, last.column, end), *rows[stop:]])


def remove_entry(text: str, section: str, name: str, file: str) -> str:
    """Take an entry out of a top-level section; the section becomes `{}` when nothing is left in it."""
    rows = _rows(text)
    top = parse(text, file).node.value
    entry = top.get(section) if isinstance(top, dict) else None
    inner = entry.node.value if entry is not None else None
    if entry is None or not isinstance(inner, dict) or name not in inner:
        raise UsageError(f"{file} has no `{section}.{name}`")
    if entry.node.flow:
        raise _cannot(file, entry.line, section)
    child = inner[name]
    rows[child.line - 1 : _stop(rows, child)] = []
    if len(inner) == 1:
        head = rows[entry.line - 1]
        found = re.fullmatch(r"(\s*[^\s#:]+\s*:)(\s*(?:\s#.*)?)(\r?\n?)", head)
        if found is None:
            raise _cannot(file, entry.line, section)
        rows[entry.line - 1] = f"{found[1]} {{}}{found[2].rstrip()}{_newline(text)}"
    return "".join(rows)


def add_comment(text: str, lines: Sequence[str]) -> str:
    """Put comment lines at the end of a file."""
    end = _newline(text)
    start = "" if not text or text.endswith(("\n", "\r")) else end
    return text + start + end + "".join(f"# {line}".rstrip() + end for line in lines)


def quoted(text: str) -> str:
    """Text as YAML: plain when it can only be read as text, else in double quotes."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    if not text.isprintable():
        raise UsageError("a value for party.yaml holds characters that cannot be shown")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _rows(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _indented(lines: Sequence[str], column: int, end: str) -> list[str]:
    return [f"{' ' * column}{line}{end}" for line in lines]


def _stop(rows: Sequence[str], entry: Entry) -> int:
    """The number of rows up to the last one of a block entry: the last deeper row that is not blank or a comment."""
    stop = entry.line
    for number in range(entry.line, len(rows)):
        row = rows[number].strip()
        if not row or row.startswith("#"):
            continue
        if len(rows[number]) - len(rows[number].lstrip(" ")) <= entry.column:
            break
        stop = number + 1
    return stop


def _cannot(file: str, line: int, section: str) -> FileError:
    return FileError(
        f"`{section}` is written in a way that cannot be changed here", file=file, line=line,
        hint=f"write `{section}:` alone on its line and one entry a line below it, or make the change by hand",
    )  # fmt: skip
