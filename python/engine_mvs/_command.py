"""The command ``engine``: the program itself, with the words that were typed."""

from __future__ import annotations

import signal
import sys

from . import _engine

__all__ = ["main"]


def main() -> int:
    """Run the program with ``sys.argv`` and return its exit code."""
    # Python's handler would keep Ctrl-C to itself until the program is done. The program has one of its own.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _engine.command_line(["engine", *sys.argv[1:]])


if __name__ == "__main__":
    raise SystemExit(main())
