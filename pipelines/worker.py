"""`python -m pipelines.worker --home DIR --socket-fd N`: one connection's other side, started by `tally serve`.

Does what the peer's commands ask and our policy allows: takes part in runs, tells facts, ends. Its stderr goes to
serve's; its exit code is that of the first error.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import sys
from pathlib import Path

from party.errors import PeerError, TallyError
from party.home import Home
from party.service import die_with_parent
from pipelines import lean, link
from pipelines.progress import Progress

__all__ = ["main"]


def serve_connection(home: Home, sock: socket.socket) -> None:
    """Until the peer closes or something breaks."""
    with link.answer(home, sock) as found:
        from pipelines import execute  # `answer` has begun to load it, once it knew who it is

        while True:
            verb = found.channel.recv(link.Command).verb
            if verb == "run":
                with execute.take(found, Progress(quiet=True)) as live:
                    if live is not None:
                        execute.carry_out(live)
                        execute.finish(live)
            elif verb == "facts":
                found.answer_facts()
            elif verb == "probe":
                found.answer_probe()
            elif verb == "close":
                found.channel.close()
                return
            else:
                raise PeerError(f"{found.peer} sent an unknown command", party=found.peer)


def main() -> None:
    """The process: never outlives its parent, leaves no core, speaks on stderr only."""
    die_with_parent()
    lean.refuse_pandas()
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    parser = argparse.ArgumentParser(prog="pipelines.worker")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--socket-fd", type=int, required=True)
    given = parser.parse_args()
    try:
        serve_connection(Home.open(given.home), socket.socket(fileno=given.socket_fd))
    except TallyError as error:
        where = f" [{error.stage}]" if error.stage else ""
        print(f"worker: {error.message}{where}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    except Exception as error:  # the edge of the process: the text of a bug may hold values
        if os.environ.get("TALLY_TRACEBACK"):
            raise
        print(f"worker: a bug of ours: {type(error).__name__}", file=sys.stderr, flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
