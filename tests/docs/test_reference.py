"""Reference pages say what the program has, all of it and no more; links lead somewhere; no page names a machine."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from mpc.statistics.wanted import KINDS
from party import errors
from pipelines import cli, spec
from pipelines.spec import read_job
from tests.docs.pages import DOCS, ROOT, all_pages, blocks

REFERENCE = DOCS / "reference"
PAGES = all_pages()


def verbs() -> dict[str, Any]:
    """Every verb of the program, a group's with both words."""
    found = {}
    for name, command in typer.main.get_command(cli.app).commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        found |= {f"{name} {word}": item for word, item in below.items()} if below else {name: command}
    return found


def sections() -> dict[str, str]:
    page = (REFERENCE / "command-line.md").read_text()
    parts = re.split(r"^### `tally ([a-z -]+?)(?: [\[A-Z].*)?`$", page, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_verb_has_its_section_and_no_other() -> None:
    assert set(sections()) == set(verbs())


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_every_option_of_a_verb_is_in_its_section_and_no_other(verb: str) -> None:
    rows = re.findall(r"^\| (`-.*?) \|", sections()[verb], flags=re.M)
    told = {word for row in rows for word in re.findall(r"`(-[a-z-]+)`", row)}
    options = [item for item in verbs()[verb].params if item.param_type_name == "option"]
    assert told == {word for item in options for word in item.opts} - {"--help"}


def test_every_key_of_a_job_is_on_its_page_and_no_other() -> None:
    keys = (REFERENCE / "job-yaml.md").read_text().partition("\n## ")[0]
    told = set(re.findall(r"^\| `([a-z0-9_.]+)` \|", keys, flags=re.M))
    assert {place.rpartition(".")[2] for place in told} == job_keys()


def job_keys() -> set[str]:
    """The words that `spec` allows, read off its calls of refuse_unknown."""
    trees = [ast.parse((ROOT / "pipelines" / name).read_text()) for name in ("spec.py", "measured.py")]
    found = set(spec._RESERVED)
    train = next(node for node in ast.walk(trees[0]) if getattr(node, "name", "") == "_train")
    for node in ast.walk(train):  # its long list stands beside the call
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("known", "options"):
            found |= {item.value for item in ast.walk(node.value) if isinstance(item, ast.Constant)}
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "refuse_unknown":
            found |= {item.value for item in ast.walk(node.args[0]) if isinstance(item, ast.Constant)}
    return found


def test_every_statistic_is_on_the_page() -> None:
    page = (REFERENCE / "job-yaml.md").read_text()
    assert all(f"`{kind}`" in page for kind in KINDS)


@pytest.mark.parametrize(
    "page", [REFERENCE / "job-yaml.md", DOCS / "tutorial/first-run.md"], ids=lambda page: page.name
)
def test_the_jobs_shown_can_be_read(page: Path, tmp_path: Path) -> None:
    shown = [block.text for block in blocks(page) if block.told in ("job of bank", "file: bank/job.yaml")]
    assert len(shown) == 1
    (tmp_path / "job.yaml").write_text(shown[0])
    assert read_job(tmp_path / "job.yaml", "bank").parties == ("bank", "telco")


def test_every_error_stands_on_its_page_with_code_and_exit_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\d+) \|", (REFERENCE / "errors.md").read_text(), flags=re.M)
    known = {name: getattr(errors, name) for name in errors.__all__}
    assert rows == [(name, known[name].code, str(known[name].exit_code)) for name, _, _ in rows]
    assert {name for name, _, _ in rows} == set(known)


def test_the_exit_codes_are_those_of_the_errors_and_success() -> None:
    told = re.findall(r"^\| (\d+) \|", (REFERENCE / "exit-codes.md").read_text(), flags=re.M)
    assert {int(code) for code in told} == {0} | {getattr(errors, name).exit_code for name in errors.__all__}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("https://", "#")):
            assert (page.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_a_path_of_a_machine(page: Path) -> None:
    assert not re.findall(r"(?<![\w.~/])/(?:home|root|work|tmp|usr|opt|mnt|Users|var)/", page.read_text())


def test_the_index_names_every_page() -> None:
    index = (DOCS / "README.md").read_text()
    pages = [page.relative_to(DOCS) for page in DOCS.rglob("*.md") if page.name != "README.md"]
    missing = [str(page) for page in pages if page.parts[0] != "decisions" and f"({page.as_posix()})" not in index]
    assert missing == []
