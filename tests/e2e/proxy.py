"""A TCP proxy on loopback that counts TLS records and calls back when the k-th has been forwarded."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

APPLICATION_DATA = 23


class Proxy:
    """Forwards every connection to `port`; `after(k)` runs once, when the k-th application record has passed."""

    def __init__(self, port: int, at: int | None = None, after: Callable[[], None] | None = None) -> None:
        self.port = port
        self.at = at
        self.after = after
        self.records = 0
        self.bytes = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.listening = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                incoming, _ = self._listener.accept()
                outgoing = socket.create_connection(("127.0.0.1", self.port))
            except OSError:
                return
            for source, sink in ((incoming, outgoing), (outgoing, incoming)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while True:
                header = self._exactly(source, 5)
                body = self._exactly(source, int.from_bytes(header[3:5], "big"))
                sink.sendall(header + body)
                if header[0] == APPLICATION_DATA:
                    self._count(len(body))
        except OSError:
            pass
        finally:
            for end in (source, sink):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def _count(self, length: int) -> None:
        with self._lock:
            self.bytes += length
            self.records += 1
            due = self.after if self.records == self.at else None
        if due is not None:
            due()

    @staticmethod
    def _exactly(source: socket.socket, length: int) -> bytes:
        data = b""
        while len(data) < length:
            part = source.recv(length - len(data))
            if not part:
                raise OSError("end of stream")
            data += part
        return data
