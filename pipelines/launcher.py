"""Run a command that ends when we do: `python -m pipelines.launcher PARENT COMMAND...`.

The kernel kills the process when its parent dies (PR_SET_PDEATHSIG, kept over exec), however the parent dies.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel, make sure the parent is still there, become the command."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
    os.umask(0o077)
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - the command is ours


if __name__ == "__main__":
    main()
