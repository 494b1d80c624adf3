"""Ctrl-C and `kill`: a command leaves what it has written whole, says how to go on, and ends."""

import signal
import sys
import threading
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
        print(f"{program}: {str(stop) or 'stopped; no file is left half written'}", file=sys.stderr)
        sys.exit(143 if isinstance(stop, Terminated) else 130)
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def unstopped() -> Iterator[None]:
    """Let a stop wait until the block has ended, where what is called would make an error of it."""
    if threading.current_thread() is not threading.main_thread():  # no other is ever stopped
        yield
        return
    came: list[int] = []
    stops = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(stop, lambda number, _: came.append(number)) for stop in stops]
    try:
        yield
    finally:
        for stop, handler in zip(stops, before, strict=True):
            signal.signal(stop, handler)
        for number in came:
            signal.raise_signal(number)
