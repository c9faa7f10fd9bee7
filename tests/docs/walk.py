"""Does what a page says: writes its files and runs its shell blocks, in one folder, with one shell for each block.

A line `tally ... serve &` is started and waited for until it says that it is ready; everything else runs to its end.
Variables set in a block are known in that block only.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.docs.pages import DOCS, Block, blocks

BIN = Path(sys.executable).parent
_BACKGROUND = re.compile(r"^tally (?P<words>.*) &$", re.M)


class Walk:
    """A reader who follows a page in `folder`; `swap` replaces texts first, such as a port that may be taken."""

    def __init__(self, folder: Path, swap: dict[str, str]) -> None:
        self.folder = folder
        self.swap = swap
        self.said: list[str] = []

    @classmethod
    def after_the_tutorial(cls, folder: Path) -> Walk:
        """A reader who has followed the tutorial up to its section 6, on a port that is free here."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        walk = cls(folder, {"127.0.0.1:7102": f"127.0.0.1:{port}"})
        start = folder / "start.md"
        start.write_text((DOCS / "tutorial/first-run.md").read_text().split("\n## 6. ")[0])
        walk.follow(start)
        return walk

    def follow(self, page: Path) -> None:
        """Every block of the page, in order."""
        with ExitStack() as running:
            for block in blocks(page):
                if not block.told.startswith("not run"):
                    self._do(block, running)

    def _do(self, block: Block, running: ExitStack) -> None:
        text = block.text
        for old, new in self.swap.items():
            text = text.replace(old, new)
        kind, _, place = block.told.partition(": ")
        if kind == "file":
            (self.folder / place).write_text(text)
        elif kind == "tables of":
            self._replace_tables(self.folder / place, text)
        elif block.language == "sh":
            background = _BACKGROUND.fullmatch(text.strip())
            if background is not None:
                running.enter_context(self._serving(background["words"].split()))
            else:
                self._run(text, int(block.told[5:]) if block.told.startswith("exit ") else 0)

    def _replace_tables(self, path: Path, tables: str) -> None:
        before, rest = path.read_text().split("\ntables:", 1)
        path.write_text(f"{before}\n{tables}\npeers:{rest.split(chr(10) + 'peers:', 1)[1]}")

    def _run(self, text: str, code: int) -> None:
        done = subprocess.run(
            ["bash", "-e", "-c", text], cwd=self.folder, env=environment(), capture_output=True, text=True, timeout=200
        )
        self.said.append(done.stdout)
        assert done.returncode == code, f"exit {done.returncode}, not {code}:\n{text}\n{done.stdout}\n{done.stderr}"

    @contextmanager
    def _serving(self, words: list[str]) -> Iterator[None]:
        with (self.folder / "serve.log").open("w") as log:
            process = subprocess.Popen(
                [BIN / "tally", *words], cwd=self.folder, env=environment(), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
            )  # fmt: skip
        try:
            line = process.stdout.readline()
            assert line.startswith("ready "), (self.folder / "serve.log").read_text()
            self.said.append(line)
            yield
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.stdout.close()


def environment() -> dict[str, str]:
    """As a shell after `. .venv/bin/activate` has it, without this shell's settings of ours or Prefect's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TALLY_", "PREFECT_"))}
    return kept | {"PATH": f"{BIN}:{kept.get('PATH', '')}", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
