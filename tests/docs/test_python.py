"""The page on Python works as it stands, in one program, after the tutorial's first six sections."""

from __future__ import annotations

import socket
from pathlib import Path

import pipelines
from pipelines import Party
from tests.docs.pages import DOCS, blocks
from tests.docs.walk import Walk

TUTORIAL = DOCS / "tutorial/first-run.md"
PAGE = DOCS / "reference/python.md"


def test_every_line_of_the_page_works(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    walk = Walk(tmp_path, {"127.0.0.1:7102": f"127.0.0.1:{port}"})
    job = next(block.text for block in blocks(TUTORIAL) if block.told == "file: bank/job.yaml")
    program = "".join(block.text for block in blocks(PAGE) if block.language == "python")
    page = tmp_path / "page.md"
    page.write_text(
        TUTORIAL.read_text().split("\n## 7. ")[0]
        + f"\n\n<!-- file: bank/job.yaml -->\n```yaml\n{job}```\n"
        + f"\n<!-- file: page.py -->\n```python\n{program}```\n\n```sh\npython page.py\n```\n"
    )
    walk.follow(page)
    said = walk.said[-1]
    assert "b.age < 40 [{'n': " in said and "b.age >= 40 [{'n': " in said
    assert "no column b.agee, or it is not granted to telco did you mean age? 2" in said
    assert "bank.balance" in said and "score" in said


def test_what_the_package_offers_is_on_the_page() -> None:
    page = PAGE.read_text()
    assert all(f"`{name}" in page for name in pipelines.__all__)
    methods = [name for name in vars(Party) if not name.startswith("_")]
    assert all(f"Party.{name}(" in page or f"party.{name}" in page for name in methods)
