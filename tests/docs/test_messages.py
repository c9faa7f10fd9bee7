"""Every message class has its line in docs/protocols/messages.md; what tells of a table is asked of the guard first."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator

import pytest

from party.message import Message
from tests.docs.pages import DOCS, ROOT

PACKAGES = ("connectors", "kernels", "mpc", "party", "pipelines", "psi", "vfl")
PAGE = DOCS / "protocols" / "messages.md"
CONTENT = re.compile(r"protocol|agreed|masked|ciphertext|guarded(?: `[a-zA-Z][A-Za-z0-9 :._-]+`|, under the name .+)")
ROW = re.compile(r"\| (0x[0-9A-F]{4}) \| ([a-z_.0-9]+\.[A-Z]\w+) \| ([^|]+) \| ([^|]+) \| (\d\d) \|")
# Modules of `python -m`, which run when they are imported.
PROGRAMS = {"pipelines.__main__"}


def classes() -> dict[str, type[Message]]:
    """All message classes of the program, every module of it imported."""
    for package in PACKAGES:
        for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if found.name not in PROGRAMS and (found.ispkg or _is_python(found.name)):
                importlib.import_module(found.name)

    def below(kind: type[Message]) -> Iterator[type[Message]]:
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    return {
        f"{kind.__module__}.{kind.__qualname__}": kind
        for kind in below(Message)
        if kind.__module__.partition(".")[0] in PACKAGES
    }


def _is_python(name: str) -> bool:
    """The native kernels are plain shared libraries beside the modules."""
    return (ROOT / f"{name.replace('.', '/')}.py").is_file()


def rows() -> dict[str, tuple[str, str, str, str]]:
    found = [ROW.fullmatch(line) for line in PAGE.read_text().splitlines() if line.startswith("| 0x")]
    assert all(found), "a line of the table is malformed"
    made = {row[2]: (row[1], row[3], row[4], row[5]) for row in found if row}
    assert len(made) == len(found), "a message has two lines"
    return made


def test_every_message_has_a_line_and_every_line_a_message() -> None:
    assert {name: f"0x{kind.kind:04X}" for name, kind in classes().items()} == {n: row[0] for n, row in rows().items()}


@pytest.mark.parametrize("name", sorted(rows()))
def test_a_line_says_why_the_message_may_leave_and_on_which_page_it_is(name: str) -> None:
    _, content, shows, page = rows()[name]
    assert CONTENT.fullmatch(content)
    assert len(shows) > 5
    (described,) = (DOCS / "protocols").glob(f"{page}-*.md")
    assert described.is_file()


@pytest.mark.parametrize("name", sorted(rows()))
def test_a_message_and_its_module_say_what_it_is(name: str) -> None:
    kind = classes()[name]
    assert kind.__doc__
    assert not kind.__doc__.startswith(f"{kind.__name__}(")  # what a dataclass writes when nobody does
    assert sys.modules[kind.__module__].__doc__


def test_frozen_and_without_a_text_form() -> None:
    for name, kind in classes().items():
        made = object.__new__(kind)
        assert repr(made) == object.__repr__(made), f"{name} would show its content in a log"
        assert kind.__dataclass_params__.frozen, name  # type: ignore[attr-defined]


GUARDED = [name for name, row in rows().items() if row[1].startswith("guarded")]


@pytest.mark.parametrize("name", sorted(name for name in GUARDED if not name.startswith("psi.")))
def test_the_ledger_is_written_before_a_guarded_message_is_made(name: str) -> None:
    """In the function that makes it, `disclose` stands above. (The alignment's own tests watch the order at run.)"""
    module = sys.modules[classes()[name].__module__]
    short = name.rpartition(".")[2]
    makers = []
    for path in sorted((ROOT / module.__name__.partition(".")[0]).rglob("*.py")):
        text = path.read_text()
        own = path == ROOT / f"{module.__name__.replace('.', '/')}.py"
        if not own and not re.search(rf"from {re.escape(module.__name__)} import [^\n]*\b{short}\b", text):
            continue  # another class of this name
        tree = ast.parse(text)
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            made = [n.lineno for n in ast.walk(function) if isinstance(n, ast.Call) and _called(n) == short]
            if made:
                asked = [n.lineno for n in ast.walk(function) if isinstance(n, ast.Call) and _called(n) == "disclose"]
                assert asked, f"{path.name}: {function.name} makes {short} without asking the guard"
                assert min(asked) <= min(made), f"{path.name}: {function.name} asks the guard too late"
                makers.append(function.name)
    assert makers, f"nobody makes {short}"


def _called(node: ast.Call) -> str:
    return getattr(node.func, "attr", getattr(node.func, "id", ""))


def test_the_guarded_names_are_those_the_program_opens() -> None:
    """Each opening in the table stands as a text in the program, so a renamed one is renamed here too."""
    program = "\n".join(path.read_text() for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    for name in GUARDED:
        told = re.search(r"`([^`]+)`", rows()[name][1])
        if told is not None:
            assert told[1].rpartition("NAME.")[2] in program
    assert inspect.getdoc(importlib.import_module("mpc.opening").open_to)
