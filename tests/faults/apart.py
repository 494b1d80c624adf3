"""Code that may hang, crash or eat memory, in a process of its own."""

import json
import os
import resource
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hwr.errors import UserError

SECONDS = 20


@dataclass
class Found:
    """How it ended.

    Attributes:
        refused: The sentence of a `UserError`; None if none was raised.
        broke: A traceback, or the signal that ended the process; None if it ended well.
        mebibytes: Memory that it took at its peak, beyond what there was before.
    """

    refused: str | None
    broke: str | None
    mebibytes: float


def apart(do: Callable[[], Any], seconds: int = SECONDS) -> Found:
    """Do it in a forked process; one that takes longer is killed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        refused = broke = None
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            do()
        except UserError as error:
            refused = str(error)
        except BaseException:
            broke = traceback.format_exc()
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        os.write(write, json.dumps([refused, broke and broke[-4000:], grown]).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        told = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Found(*json.loads(told)) if status == 0 else Found(None, f"ended with {status}", 0.0)
