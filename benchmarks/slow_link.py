"""A slow network between two processes: a proxy that lets so many bits a second through, and only after a delay.

Bytes leave one after the other at the given rate and arrive half a round trip later; each direction has its own. What
is on the way is bounded, so that a sender feels a full line as it would feel the real one.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from dataclasses import dataclass

__all__ = ["Network", "between"]

_PIECE = 16 << 10
_ON_THE_WAY = 4 << 20  # bytes: more than rate times delay of any line worth measuring


@dataclass(frozen=True)
class Network:
    """Bits a second in each direction, and seconds there and back."""

    rate: float
    round_trip: float

    def __str__(self) -> str:
        return f"{self.rate / 1e6:g} Mbit/s, {1000 * self.round_trip:g} ms"


def between(network: Network, port: int) -> int:
    """Listen on loopback for one connection and carry it to `port`; the port to dial. Ends with the connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_carry, args=(network, listener, port), daemon=True).start()
    return int(listener.getsockname()[1])


def _carry(network: Network, listener: socket.socket, port: int) -> None:
    with listener:
        near, _ = listener.accept()
    far = socket.create_connection(("127.0.0.1", port))
    for one in (near, far):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 << 10)
    for source, target in ((near, far), (far, near)):
        line: queue.Queue[tuple[float, bytes]] = queue.Queue(_ON_THE_WAY // _PIECE)
        threading.Thread(target=_take, args=(network, source, line), daemon=True).start()
        threading.Thread(target=_give, args=(line, target), daemon=True).start()


def _take(network: Network, source: socket.socket, line: queue.Queue[tuple[float, bytes]]) -> None:
    """Bytes in, each with the time at which it arrives; an empty piece is the end."""
    free = time.monotonic()
    while True:
        try:
            piece = source.recv(_PIECE)
        except OSError:
            piece = b""
        free = max(time.monotonic(), free) + 8 * len(piece) / network.rate
        line.put((free + network.round_trip / 2, piece))
        if not piece:
            return


def _give(line: queue.Queue[tuple[float, bytes]], target: socket.socket) -> None:
    while True:
        due, piece = line.get()
        time.sleep(max(0.0, due - time.monotonic()))
        try:
            if not piece:
                target.shutdown(socket.SHUT_WR)
                return
            target.sendall(piece)
        except OSError:
            return
