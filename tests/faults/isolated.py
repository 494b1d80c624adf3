"""Call functions that may hang, crash or take much memory, in a process of their own."""

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
class Outcome:
    """How a call ended.

    Attributes:
        rejected: The sentence of a `UserError`; None if none was raised.
        crashed: A traceback, or the signal that ended the process; None if neither.
        mebibytes: Peak of its memory beyond what there was before.
    """

    rejected: str | None
    crashed: str | None
    mebibytes: float

    def expect_one_sentence(self, name: str, mebibytes: float) -> str:
        """Expect a `UserError` in one line that names a file, within the memory."""
        assert self.crashed is None, self.crashed
        assert self.rejected is not None, "it was accepted"
        assert name in self.rejected
        assert "\n" not in self.rejected
        assert self.mebibytes < mebibytes, self
        return self.rejected


def isolated(function: Callable[[], Any], seconds: int = SECONDS) -> Outcome:
    """Call a function in a forked process, which is killed if it takes longer."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        rejected = crashed = None
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            function()
        except UserError as error:
            rejected = str(error)
        except BaseException:
            crashed = traceback.format_exc()[-4000:]
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        os.write(write, json.dumps([rejected, crashed, grown]).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        content = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Outcome(*json.loads(content)) if status == 0 else Outcome(None, f"exit {status}", 0.0)
