"""Ctrl-C and `kill`: a command leaves what it has written whole, says how to go on, and ends."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """Somebody, or a batch system, has asked the process to end (SIGTERM)."""


@contextmanager
def stoppable(program: str) -> Iterator[None]:
    """End a command that is stopped with one sentence and exit code 130, after SIGTERM with 143.

    Args:
        program: Its name; the exception may say how to go on.
    """

    def terminate(_: int, __: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt as stop:
        print(f"{program}: {str(stop) or 'stopped; nothing half done is left'}", file=sys.stderr)
        sys.exit(143 if isinstance(stop, Terminated) else 130)
    finally:
        signal.signal(signal.SIGTERM, before)
