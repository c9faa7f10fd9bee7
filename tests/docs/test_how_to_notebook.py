"""The programs of the how-to on notebooks run as they stand: in one process, and in two over TLS."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from party.home import Home
from tests.docs.pages import DOCS, ROOT, blocks
from tests.docs.walk import environment

SHOWN = {block.told: block.text for block in blocks(DOCS / "how-to/train-in-a-notebook.md")}


def _start(folder: Path, name: str, port: int = 7102) -> subprocess.Popen[str]:
    text = SHOWN[f"file: {name}"]
    (folder / name).write_text(text.replace("7102", str(port)))
    found = environment() | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, name], cwd=folder, env=found, stdout=subprocess.PIPE, text=True)


def _said(process: subprocess.Popen[str]) -> str:
    try:
        said, _ = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 0
    return said


@pytest.mark.parametrize(
    ("name", "words"), [("local.py", ["['bad' 'good']", "'l2': "]), ("halves.py", ["array([[", "None, None)"])]
)
def test_a_program_in_one_process_runs(tmp_path: Path, name: str, words: list[str]) -> None:
    said = _said(_start(tmp_path, name))
    assert all(word in said for word in words), said


def test_two_programs_train_over_tls(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"127.0.0.1:{port}"
    bank, telco = Home.init(tmp_path / "bank", "bank"), Home.init(tmp_path / "telco", "telco", address, address)
    bank.add_peer(telco.identity().card(address))
    telco.add_peer(bank.identity().card())
    waiting = _start(tmp_path, "telco.py", port)
    try:
        assert waiting.stdout is not None and waiting.stdout.readline() == "waiting\n"
        told = _said(_start(tmp_path, "bank.py", port))
        assert float(told.split()[1]) > 0.9
        assert "[[" in _said(waiting)
    finally:
        waiting.kill()
