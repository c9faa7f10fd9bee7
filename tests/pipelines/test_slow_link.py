"""The benchmarks' slow line takes as long as it says, changes nothing and ends with its connection."""

from __future__ import annotations

import socket
import threading
import time

from benchmarks.slow_link import Network, between


def test_bytes_arrive_unchanged_and_late() -> None:
    content = bytes(range(256)) * 2048  # 524,288 bytes: 0.21 s at 20 Mbit/s
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def far_side() -> None:
            with listener.accept()[0] as end:
                while piece := end.recv(1 << 16):
                    got.append(piece)
                end.sendall(b"done")

        thread = threading.Thread(target=far_side)
        thread.start()
        began = time.perf_counter()
        with socket.create_connection(("127.0.0.1", between(Network(20e6, 0.1), listener.getsockname()[1]))) as near:
            near.sendall(content)
            near.shutdown(socket.SHUT_WR)
            answer = near.recv(16)
            spent = time.perf_counter() - began
            assert near.recv(16) == b""
        thread.join(30)
    assert b"".join(got) == content
    assert answer == b"done"
    assert spent >= 8 * len(content) / 20e6 + 0.1  # the line's time, and there and back
