"""Ctrl-C and `kill`: a command leaves what it has written whole, says how to go on, and ends."""

import atexit
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType


class Terminated(KeyboardInterrupt):
    """Somebody, or a batch system, has asked the process to end (SIGTERM)."""


def stoppable(program: str, work: Callable[[], None]) -> None:
    """Run a command that ends with one sentence and exit code 130 if stopped, after SIGTERM 143.

    However it ends, it does so at once: see `_leave`. A stop may come between any two steps of
    Python's, so all that can be stopped is done within `try`.

    Args:
        program: Its name; the exception may say how to go on.
        work: What it does.
    """
    code: list[int] = []
    alone = Path(getattr(sys.modules["__main__"], "__file__", None) or "").name == program
    before = signal.getsignal(signal.SIGTERM)

    def terminate(_: int, __: FrameType | None) -> None:
        if not code:  # it has not ended yet
            raise Terminated

    try:
        try:
            signal.signal(signal.SIGTERM, terminate)
            if alone:
                atexit.register(_leave, code)  # before torch is imported, so behind all of its own
            if sys.stderr is None:  # closed, as some services start their processes
                sys.stderr = open(os.devnull, "w")  # noqa: SIM115  to the end of the process
            if isinstance(sys.stdout, io.TextIOWrapper):
                # What an encoding lacks ends no run.
                sys.stdout.reconfigure(errors="backslashreplace")
            work()
            code.append(0)
        except SystemExit as end:
            if end.code is None or isinstance(end.code, int):
                code.append(end.code or 0)
            raise
    except KeyboardInterrupt as stop:
        code.append(143 if isinstance(stop, Terminated) else 130)
        print(f"{program}: {str(stop) or 'stopped; no file is left half written'}", file=sys.stderr)
        sys.exit(code[-1])
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if alone else before)
        if alone:  # all is done
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _leave(code: list[int]) -> None:
    """End the process, all else done, without tearing down torch's libraries: 1.4 s and 120 MB."""
    if code:
        with suppress(OSError):  # what can't be written, Python tells of at the usual end
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
            os._exit(code[0])


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
