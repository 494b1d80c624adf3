"""Keep freed memory in the process."""

import ctypes
import sys
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next batch, instead of returning it to the system.

    Without this, the activations of every batch are returned and requested again page by page,
    which takes a third of the time of a small network on a CPU. Blocks of up to 32 MiB are kept,
    1 GiB in all. Does nothing on other systems and C libraries.
    """
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(M_MMAP_THRESHOLD, 2**25)
            mallopt(M_TRIM_THRESHOLD, 2**30)
