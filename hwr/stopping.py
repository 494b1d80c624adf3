"""Ctrl-C and `kill`: a command leaves what it has written whole, says how to go on, and ends."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """Somebody, or a batch system, has asked the process to end (SIGTERM)."""


@contextmanager
def stoppable(program: str, kept: str = "") -> Iterator[None]:
    """End a command that is stopped with one sentence and exit code 130, after SIGTERM with 143.

    Args:
        program: Its name.
        kept: What is said where the exception doesn't say more.
    """

    def terminate(_: int, __: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt as stop:
        words = str(stop) or "; ".join(["stopped", kept] if kept else ["stopped"])
        print(f"{program}: {words}", file=sys.stderr)
        sys.exit(143 if isinstance(stop, Terminated) else 130)
    finally:
        signal.signal(signal.SIGTERM, before)
