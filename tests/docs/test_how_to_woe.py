"""The commands of the how-to on weight of evidence work as they stand, after the tutorial's first five sections."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.docs.pages import DOCS
from tests.docs.walk import Walk


def test_every_command_of_the_how_to_works(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    walk = Walk(tmp_path, {"127.0.0.1:7102": f"127.0.0.1:{port}"})
    start = tmp_path / "start.md"
    start.write_text((DOCS / "tutorial/first-run.md").read_text().split("\n## 6. ")[0])
    walk.follow(start)
    walk.follow(DOCS / "how-to/choose-features-with-woe.md")
    said = "\n".join(walk.said)
    assert "woe of telco.minutes by bank.defaulted: the rows of each bin" in said
    assert "drivers, woe:" in said and "drivers, auc:" in said
    frames = walk.said[-1]
    best = frames.split("\n")[1]
    assert "telco.late_bills" in best  # as the made tables have it
    assert "(" in frames and "basic" in frames
