"""`tally serve`: accept connections and hand each to a freshly started worker process, the way sshd does.

The worker gets the socket as an inherited descriptor (`--socket-fd N`) and does TLS itself, so a peer that breaks
something breaks one process. Nothing is forked after threads and nothing is pickled. Workers that have not yet
authenticated their peer are capped in number and in time; each worker leads a process group of its own, which ends
with it, and none outlives us: the kernel sends it SIGTERM when we die (PR_SET_PDEATHSIG).

Floods: a connection costs a worker only when its first byte is there, so silent ones, however many, keep nobody out;
they are dropped after some seconds, and when there are many the oldest makes room. One address has at most half of the
workers that are not yet authenticated. An attacker with many addresses who speaks can still delay others by the time
of a handshake: a firewall that knows the peers' addresses is the remedy.

Memory: RLIMIT_DATA, three quarters of the machine's by default: a worker that grows beyond gets MemoryError and takes
nothing else down. Not RLIMIT_AS, which counts address space that numpy, Arrow and thread arenas reserve and never use.
What a peer can make us hold is bounded far below, by the channel's own caps.

A little over 250 lines: one class whose signal handling, caps and reaping are only safe to read together.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from party import limits
from party.address import format_address, parse_address
from party.errors import InternalError, NetworkError

__all__ = ["Limits", "WorkerEvent", "announce_authenticated", "die_with_parent", "serve"]

_PARENT = "TALLY_PARENT_PID"
_STATUS = "TALLY_STATUS_FD"
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class WorkerEvent:
    """What happened to a worker, for the ledger. `died`: not by its own exit; `refused`: never started."""

    kind: Literal["started", "ended", "died", "refused", "overdue"]
    pid: int
    address: str
    exit_code: int | None = None
    signal: str | None = None


@dataclass(frozen=True)
class Limits:
    """Caps of one `serve`; see party.limits for the defaults. `memory` in bytes a worker, 0 for none."""

    workers: int = limits.WORKERS
    pending: int = limits.WORKERS_PENDING
    pending_seconds: float = limits.PENDING_SECONDS
    waiting: int = limits.WAITING
    first_byte_seconds: float = limits.FIRST_BYTE_SECONDS
    run_seconds: float = limits.RUN_SECONDS
    stop_seconds: float = limits.STOP_SECONDS
    memory: int | None = None


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    host: str
    address: str
    status: int  # our end of a pipe: one byte says that the peer is authenticated
    started: float = field(default_factory=time.monotonic)
    authenticated: bool = False
    listening: bool = True  # the pipe is open: something may still come
    stopping: float | None = None


@dataclass
class _Waiting:
    """A connection without a worker. `spoke`: its first byte is there, and room for a worker is what it waits for."""

    connection: socket.socket
    host: str
    address: str
    since: float = field(default_factory=time.monotonic)
    spoke: bool = False


def serve(
    listen: str,
    worker_command: Sequence[str],
    on_event: Callable[[WorkerEvent], None],
    ready: Callable[[str, int], None],
    caps: Limits | None = None,
) -> None:
    """Listen on HOST:PORT and run one worker per connection until SIGTERM or SIGINT; then return.

    Call it in the main thread of a process without other threads. `ready` gets the bound host and port. On a signal:
    no new connections, SIGTERM to the workers, SIGKILL to what is left after `stop_seconds`. Raises NetworkError when
    the address cannot be listened on. Whoever connects learns that something listens, nothing else.
    """
    with _Service(worker_command, on_event, caps or Limits()) as service:
        service.run(listen, ready)


def die_with_parent() -> None:
    """For a worker, and for processes it starts, first thing: SIGTERM when our parent dies; no core dumps.

    Call it in the main thread of a process started by its parent's main thread: the kernel watches threads.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    parent = os.environ.pop(_PARENT, None)  # it is our parent, not that of processes we start
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0):
        raise InternalError(f"prctl failed: {os.strerror(ctypes.get_errno())}")
    if parent is not None and os.getppid() != int(parent):
        os.kill(os.getpid(), signal.SIGTERM)  # it died before we could ask for the signal


def announce_authenticated() -> None:
    """For a worker, called by `tls.accept`: tell the service that the peer has proved who it is. Else does nothing."""
    status = os.environ.pop(_STATUS, None)
    if status is not None:
        with contextlib.suppress(OSError):
            os.write(int(status), b"+")
            os.close(int(status))


class _Service:
    """The state of one `serve`."""

    def __init__(self, command: Sequence[str], on_event: Callable[[WorkerEvent], None], caps: Limits) -> None:
        self._command = list(command)
        self._on_event = on_event
        self._caps = caps
        self._workers: dict[int, _Worker] = {}
        self._waiting: list[_Waiting] = []  # in the order of arrival
        self._stop = False
        self._wake_read, self._wake_write = os.pipe()

    def __enter__(self) -> _Service:
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._old = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        self._old[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._old_wake = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        return self

    def __exit__(self, *ignored: object) -> None:
        for waiting in self._waiting:
            waiting.connection.close()
        self._end_all()
        signal.set_wakeup_fd(self._old_wake)
        for number, handler in self._old.items():
            signal.signal(number, handler)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _on_signal(self, number: int, frame: object) -> None:
        self._stop = True

    def run(self, listen: str, ready: Callable[[str, int], None]) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with _listening(listen) as sock:
            ready(*sock.getsockname()[:2])
            while not self._stop:
                self._wait(sock)
                if not self._stop:
                    self._accept(sock)
                    self._admit()
                self._look_after()

    def _has_room(self, host: str) -> bool:
        """Whether a worker may be started for this address: how many are not authenticated, in all and of it."""
        pending = [worker.host for worker in self._workers.values() if not worker.authenticated]
        return len(pending) < self._caps.pending and pending.count(host) < max(1, self._caps.pending // 2)

    def _wait(self, sock: socket.socket | None) -> None:
        """Until a connection, a signal, a word from a worker, or half a second."""
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        if sock is not None:
            poll.register(sock, select.POLLIN)
            for waiting in self._waiting:
                if not waiting.spoke:
                    poll.register(waiting.connection, select.POLLIN)
        for worker in self._workers.values():
            if worker.listening:
                poll.register(worker.status, select.POLLIN)
        poll.poll(500)
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake_read, 4096):
                pass

    def _accept(self, sock: socket.socket) -> None:
        """Take what has connected, at most as many as may wait; the oldest that said nothing makes room."""
        for _ in range(self._caps.waiting):
            try:
                connection, peer = sock.accept()
            except OSError:  # nobody is there any more, or out of descriptors: the next round tries again
                return
            connection.setblocking(False)
            self._waiting.append(_Waiting(connection, peer[0], format_address(*peer[:2])))
            if len(self._waiting) > self._caps.waiting:
                self._drop(next((one for one in self._waiting if not one.spoke), self._waiting[0]))

    def _admit(self) -> None:
        """Give a worker to those that have said something, while there is room; drop those that do not."""
        now = time.monotonic()
        for waiting in list(self._waiting):
            try:
                ended = not waiting.spoke and not waiting.connection.recv(1, socket.MSG_PEEK)
                waiting.spoke = True
            except (BlockingIOError, InterruptedError):
                ended = now - waiting.since > self._caps.first_byte_seconds
            except OSError:
                ended = True
            if ended or now - waiting.since > limits.CONNECT_SECONDS:  # by then whoever dialled has given up
                self._drop(waiting)
            elif waiting.spoke and len(self._workers) >= self._caps.workers:
                self._drop(waiting)
                self._on_event(WorkerEvent("refused", 0, waiting.address))
            elif waiting.spoke and self._has_room(waiting.host):
                self._waiting.remove(waiting)
                with waiting.connection:
                    self._start(waiting.connection, waiting.host, waiting.address)

    def _drop(self, waiting: _Waiting) -> None:
        self._waiting.remove(waiting)
        waiting.connection.close()

    def _start(self, connection: socket.socket, host: str, address: str) -> None:
        ours, theirs = os.pipe()
        connection.setblocking(True)
        environment = os.environ | {_PARENT: str(os.getpid()), _STATUS: str(theirs)}
        try:
            process = subprocess.Popen(
                [*self._command, "--socket-fd", str(connection.fileno())],
                pass_fds=(connection.fileno(), theirs),
                stdin=subprocess.DEVNULL,
                env=environment,
                process_group=0,
            )
        except OSError:
            os.close(ours)
            self._on_event(WorkerEvent("refused", 0, address))
            return
        finally:
            os.close(theirs)
        memory = self._caps.memory
        if memory is None:
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4 * 3
        if memory:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_DATA, (memory, memory))
        os.set_blocking(ours, False)
        self._workers[process.pid] = _Worker(process, host, address, ours)
        self._on_event(WorkerEvent("started", process.pid, address))

    def _look_after(self) -> None:
        """Hear who is authenticated, stop who is overdue, reap who has ended."""
        now = time.monotonic()
        for pid, worker in list(self._workers.items()):
            if worker.listening:
                with contextlib.suppress(BlockingIOError):
                    worker.authenticated = os.read(worker.status, 1) == b"+"
                    worker.listening = False
            age = now - worker.started
            late = age > self._caps.run_seconds or (not worker.authenticated and age > self._caps.pending_seconds)
            if late and worker.stopping is None:
                worker.stopping = now
                self._on_event(WorkerEvent("overdue", pid, worker.address))
                _signal(pid, signal.SIGTERM)
            elif worker.stopping is not None and now - worker.stopping > self._caps.stop_seconds:
                _signal_group(pid, signal.SIGKILL)
            self._reap(worker)

    def _reap(self, worker: _Worker) -> None:
        pid = worker.process.pid
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return
        _signal_group(pid, signal.SIGKILL)  # its children, while its number still belongs to it
        code = worker.process.wait()
        os.close(worker.status)
        del self._workers[pid]
        if code < 0:
            self._on_event(WorkerEvent("died", pid, worker.address, None, signal.Signals(-code).name))
        else:
            self._on_event(WorkerEvent("ended", pid, worker.address, code))

    def _end_all(self) -> None:
        end = time.monotonic() + self._caps.stop_seconds
        for pid in self._workers:
            _signal(pid, signal.SIGTERM)
        while self._workers:
            if time.monotonic() > end:
                for pid in self._workers:
                    _signal_group(pid, signal.SIGKILL)
            for worker in list(self._workers.values()):
                self._reap(worker)
            if self._workers:
                self._wait(None)


@contextlib.contextmanager
def _listening(listen: str) -> Iterator[socket.socket]:
    host, port = parse_address(listen)
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        sock = socket.create_server(where[:2], family=family, backlog=64)
    except OSError as error:
        raise NetworkError(
            f"cannot listen on {listen}: {error.strerror or error}",
            stage="serve",
            hint="another program, perhaps another `tally serve`, has this port: `listen` in party.yaml names it",
        ) from None
    with sock:
        sock.setblocking(False)
        yield sock


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
