"""The tutorial's commands work as they stand, from the first to the last, through the installed command."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pyarrow.parquet
import pytest

from tests.docs.pages import DOCS, ROOT, blocks
from tests.docs.walk import Walk

TUTORIAL = DOCS / "tutorial/first-run.md"


@pytest.mark.alone
def test_every_command_of_the_tutorial_works(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    walk = Walk(tmp_path, {"127.0.0.1:7102": f"127.0.0.1:{port}"})
    walk.follow(TUTORIAL)
    said = "\n".join(walk.said)
    assert f"ready telco 127.0.0.1:{port}" in said
    assert "closed" in said
    assert re.search(r"run \S+: 1\d\d\d rows in common", said)
    assert "auc 0." in said
    assert said.count("report.html") == 2
    assert "the chain holds" in said
    assert "removed default-risk" in said
    scores = pyarrow.parquet.read_table(tmp_path / "bank/results/scores.parquet")
    assert scores.column_names == ["phone", "score", "split"]
    assert not list((tmp_path / "telco/results").rglob("*.parquet"))


def test_the_examples_job_is_the_tutorials() -> None:
    shown = next(block.text for block in blocks(TUTORIAL) if block.told == "file: bank/job.yaml")
    kept = (ROOT / "examples/bank_telco/job.yaml").read_text()
    assert kept[kept.index("version:") :] == shown
