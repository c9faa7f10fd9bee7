"""Where a run finds Prefect: `PREFECT_API_URL`, this home's `tally scheduler`, or a server started as our child.

A server of ours listens on loopback only, sends nothing home, keeps its database in the home's state, and dies with
the process that started it: Prefect's own temporary server outlives a killed parent and never fires schedules.
Nothing here imports Prefect; settings must stand in the environment before anybody does.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from party.errors import InternalError
from party.home import replace_file

__all__ = ["announce", "configure", "find", "scheduler_url", "start", "wait"]

START_SECONDS = 120.0
_QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_CLI_PROMPT": "false",
}


def configure(state: Path) -> None:
    """Set what Prefect reads when it is imported, unless the user has set it; `state` is the home's."""
    os.environ.setdefault("PREFECT_HOME", str((state / "prefect").resolve()))
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


def healthy(url: str) -> bool:
    """Whether an API answers there."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:  # noqa: S310 - our own or the user's URL
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def announce(state: Path, url: str) -> None:
    """Tell this home's other processes where its scheduler's API is."""
    replace_file(state / "scheduler.json", json.dumps({"url": url, "pid": os.getpid()}).encode())


def scheduler_url(state: Path) -> str | None:
    """The API of this home's running scheduler."""
    try:
        found = json.loads((state / "scheduler.json").read_bytes())
        os.kill(int(found["pid"]), 0)
    except (OSError, ValueError, KeyError):
        return None
    url = str(found["url"])
    return url if healthy(url) else None


def start(state: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start a server as our child; returns at once. `wait` for it before use."""
    configure(state)
    (state / "prefect").mkdir(exist_ok=True, mode=0o700)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (state / "prefect" / "server.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "pipelines.launcher", str(os.getpid()), sys.executable, "-m", "prefect", "server"]
            + ["start", "--host", "127.0.0.1", "--port", str(port), "--no-ui", "--analytics-off"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    return child, f"http://127.0.0.1:{port}/api"


def wait(child: subprocess.Popen[bytes], url: str) -> None:
    """Return when the server answers; InternalError when it ends or stays silent."""
    end = time.monotonic() + START_SECONDS
    while not healthy(url):
        if child.poll() is not None or time.monotonic() > end:
            stop(child)
            raise InternalError(
                "Prefect's server did not start",
                hint="see state/prefect/server.log, or run the same stages without Prefect: `tally run JOB --direct`",
            )
        time.sleep(0.1)


def stop(child: subprocess.Popen[bytes]) -> None:
    """End a server of ours."""
    child.terminate()
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


@contextmanager
def find(state: Path, started: tuple[subprocess.Popen[bytes], str] | None = None) -> Iterator[str]:
    """An API for one run; `started` is a server begun earlier. Sets PREFECT_API_URL for this process."""
    configure(state)
    given = os.environ.get("PREFECT_API_URL")
    running = given or (None if started else scheduler_url(state))
    if running:
        os.environ["PREFECT_API_URL"] = running
        yield running
        return
    child, url = started or start(state)
    try:
        wait(child, url)
        os.environ["PREFECT_API_URL"] = url
        yield url
    finally:
        os.environ.pop("PREFECT_API_URL", None)
        stop(child)
