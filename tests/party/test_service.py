"""`serve`: one real process listens, each connection gets a real worker process; signals, caps, no process left."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from party.errors import NetworkError
from party.service import announce_authenticated, serve

ROOT = Path(__file__).parents[2]

_WORKER = """
import os, resource, signal, socket, subprocess, sys
from party.service import announce_authenticated, die_with_parent
die_with_parent()
sock = socket.socket(fileno=int(sys.argv[sys.argv.index("--socket-fd") + 1]))
def say(*what): sock.sendall(" ".join(map(str, what)).encode() + b"\\n")
core, data = resource.getrlimit(resource.RLIMIT_CORE)[0], resource.getrlimit(resource.RLIMIT_DATA)[0]
say("worker", os.getpid(), os.getpgid(0), core, data)
for line in sock.makefile():
    word = line.strip()
    if word == "hello": announce_authenticated(); say("known")
    elif word == "end": sys.exit(3)
    elif word == "crash": os.kill(os.getpid(), signal.SIGSEGV)
    elif word == "deaf": signal.signal(signal.SIGTERM, signal.SIG_IGN); say("deaf")
    elif word == "child": say("child", subprocess.Popen(["sleep", "600"]).pid)
    elif word == "eat":
        try: bytearray(1 << 30); say("ate")
        except MemoryError: say("full")
"""

_SERVE = """
import dataclasses, json, sys
from party.service import Limits, serve
def say(**what): print(json.dumps(what), flush=True)
serve("127.0.0.1:0", [sys.executable, sys.argv[1]], lambda event: say(**dataclasses.asdict(event)),
      lambda host, port: say(kind="ready", port=port), Limits(**json.loads(sys.argv[2])))
say(kind="over")
"""


class Server:
    """A process that serves, its events, and connections to it."""

    def __init__(self, folder: Path, **caps: float) -> None:
        (folder / "worker.py").write_text(_WORKER)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, folder / "worker.py", json.dumps(caps)],
            stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self.left = b""
        self.port = self.event("ready")["port"]
        self.workers: list[int] = []

    def event(self, kind: str) -> dict:
        """The next event, which must be of this kind."""
        end = time.monotonic() + 15
        while b"\n" not in self.left:
            assert select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0], f"no {kind}"
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, f"the service ended before {kind}"
            self.left += data
        line, self.left = self.left.split(b"\n", 1)
        event = json.loads(line)
        assert event["kind"] == kind, event
        return event

    def connect(self, first: bytes = b"\n", host: str = "127.0.0.1") -> socket.socket:
        """A connection that says its first byte, as a tally's handshake does."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=15, source_address=(host, 0))
        sock.sendall(first)
        return sock

    def worker(self) -> tuple[socket.socket, list[int]]:
        """A connection whose worker runs: pid, process group, core limit, data limit."""
        sock = self.connect()
        word, *numbers = hear(sock)
        assert word == "worker"
        self.event("started")
        self.workers.append(int(numbers[0]))
        return sock, [int(number) for number in numbers]


def hear(sock: socket.socket) -> list[str]:
    line = b""
    while not line.endswith(b"\n"):
        data = sock.recv(1)
        if not data:
            return []
        line += data
    return line.decode().split()


def ask(sock: socket.socket, word: str) -> list[str]:
    sock.sendall(word.encode() + b"\n")
    return hear(sock)


def gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether this process has ended, children of others included; waits for it."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)


@pytest.fixture
def start(tmp_path: Path) -> Iterator:
    servers: list[Server] = []

    def run(**caps: float) -> Server:
        servers.append(Server(tmp_path, **caps))
        return servers[-1]

    yield run
    for server in servers:
        with server.process:
            server.process.kill()
        for pid in server.workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_each_connection_has_a_worker_of_its_own_and_a_crash_harms_no_other(start) -> None:
    server = start()
    first, (one, group, core, data) = server.worker()
    second, (two, *_) = server.worker()
    assert one != two and group == one and core == 0 and 0 < data < 2**50
    second.sendall(b"crash\n")
    assert hear(second) == []
    event = server.event("died")
    assert (event["pid"], event["signal"]) == (two, "SIGSEGV")
    assert ask(first, "hello") == ["known"]
    first.sendall(b"end\n")
    event = server.event("ended")
    assert (event["pid"], event["exit_code"]) == (one, 3)
    assert gone(one) and gone(two)
    assert server.worker()[1][0] not in (one, two)  # and it still serves


def test_a_killed_worker_is_reported_and_takes_its_children_along(start) -> None:
    server = start()
    sock, (pid, *_) = server.worker()
    child = int(ask(sock, "child")[1])
    os.kill(pid, signal.SIGKILL)
    assert server.event("died")["signal"] == "SIGKILL"
    assert hear(sock) == []
    assert gone(child)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_workers_and_then_the_service_with_0(start, number: signal.Signals) -> None:
    server = start(stop_seconds=0.5)
    sock, (willing, *_) = server.worker()
    other, (deaf, *_) = server.worker()
    child = int(ask(other, "child")[1])
    assert ask(other, "deaf") == ["deaf"]
    begin = time.monotonic()
    server.process.send_signal(number)
    assert server.event("died")["pid"] == willing
    assert server.event("died")["signal"] == "SIGKILL"
    server.event("over")
    assert server.process.wait(10) == 0
    assert time.monotonic() - begin < 5
    assert gone(willing) and gone(deaf) and gone(child)
    with pytest.raises(ConnectionRefusedError):
        server.connect()
    sock.close()


def test_a_killed_service_leaves_no_worker(start) -> None:
    server = start()
    pids = [server.worker()[1][0] for _ in range(2)]
    server.process.kill()
    server.process.wait()
    assert all(gone(pid) for pid in pids)


def test_workers_are_capped_and_the_next_is_refused(start) -> None:
    server = start(workers=2)
    for sock in (server.worker()[0], server.worker()[0]):
        assert ask(sock, "hello") == ["known"]
    third = server.connect(b"")
    third.sendall(b"\n")
    with contextlib.suppress(ConnectionResetError):  # what it said was not read
        assert third.recv(1) == b""
    assert server.event("refused")["pid"] == 0


def test_unauthenticated_connections_wait_for_room_and_are_ended_when_overdue(start) -> None:
    server = start(pending=1, pending_seconds=1.0)
    silent, (pid, *_) = server.worker()
    waiting = server.connect()  # not accepted while the first has not said who it is
    assert server.event("overdue")["pid"] == pid
    assert server.event("died")["pid"] == pid
    assert hear(silent) == []
    assert hear(waiting)[0] == "worker"
    server.event("started")
    assert ask(waiting, "hello") == ["known"]  # room again
    server.worker()


def test_silent_connections_keep_nobody_out_and_cost_no_worker(start) -> None:
    server = start(pending=2, waiting=20, first_byte_seconds=3.0)
    begin = time.monotonic()
    silent = [server.connect(b"") for _ in range(60)]
    first = server.worker()[0]  # the next event is its start: none of the silent ones had any
    assert time.monotonic() - begin < 3
    assert ask(first, "hello") == ["known"]
    silent += [server.connect(b"") for _ in range(60)]
    second = server.worker()[0]
    assert ask(second, "hello") == ["known"]
    for sock in silent:
        sock.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""  # dropped, by number or by time
        sock.close()


def test_one_address_cannot_take_all_workers_before_it_says_who_it_is(start) -> None:
    server = start(pending=4)
    loud = [server.connect(host="127.0.0.2") for _ in range(12)]
    for _ in range(2):
        server.event("started")
    others = [server.worker()[0] for _ in range(2)]  # from another address, at once
    assert not select.select([server.process.stdout], [], [], 0.5)[0]  # and no more of the loud ones
    for sock in loud + others:
        sock.close()


def test_a_connection_that_leaves_before_it_is_served_costs_nothing(start) -> None:
    server = start(pending=1)
    server.connect(b"").close()
    reset = server.connect(b"")
    reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    reset.close()
    server.worker()


def test_a_worker_that_grows_beyond_its_memory_gets_an_error_of_its_own(start) -> None:
    server = start(memory=500 << 20)
    sock, (*_, data) = server.worker()
    assert data == 500 << 20
    assert ask(sock, "eat") == ["full"]


def test_a_port_in_use_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(NetworkError, match=f"cannot listen on {where}: Address already in use") as caught:
            serve(where, ["false"], print, print)
    assert "listen" in (caught.value.hint or "")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # handlers are put back


def test_the_workers_calls_do_no_harm_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TALLY_STATUS_FD", raising=False)
    announce_authenticated()
    code = "from party.service import die_with_parent; die_with_parent(); print('alive')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "alive\n"
    orphan = os.environ | {"TALLY_PARENT_PID": "1"}  # whoever started it is gone already
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=orphan)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")
