"""Ctrl-C and SIGTERM: a command ends with one sentence and exit code 130 or 143."""

import io
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

received: list[int] = []
"""Signals that have asked the running command to stop."""


class Terminated(KeyboardInterrupt):
    """Raised by SIGTERM, as a batch system sends it."""


def stoppable(program: str, work: Callable[[], None]) -> None:
    """Run a command; if it is stopped, print one sentence and exit with code 130 or 143.

    Libraries turn a `KeyboardInterrupt` into errors of their own, compiled modules into an
    ImportError, Lightning into an exit. So how the work ended matters less than the signal.

    Args:
        program: The name of the command.
        work: What it does. A KeyboardInterrupt of its own may say how to resume.
    """
    received.clear()
    stops = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
    before = [signal.signal(number, _stop) for number in stops]
    if sys.stderr is None:  # closed, as some services start their processes
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  to the end of the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an encoding without é ends no run
    try:
        work()
    except BaseException as end:
        stopped = isinstance(end, KeyboardInterrupt)
        if not (received or stopped):
            raise
        way = (stopped and str(end)) or "stopped; no file is left half written"
        print(f"{program}: {way}", file=sys.stderr)
        sys.exit(128 + (received or [signal.SIGINT])[0])
    finally:
        for number, handler in zip(stops, before, strict=True):
            signal.signal(number, handler)


def _stop(number: int, _: FrameType | None) -> NoReturn:
    received.append(number)
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
