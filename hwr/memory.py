"""The process keeps the memory that it frees, for the next batch."""

import ctypes
import sys
from contextlib import suppress

TRIM, MMAP = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h."""


def keep() -> None:
    """Let glibc hand no block of up to 32 MiB, and no more than 1 GiB, back to the system.

    Left alone, it hands the activations of every batch back and gets them again, page by page:
    a third of the time of a small network on a CPU. Elsewhere nothing is done.
    """
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(MMAP, 2**25)
            mallopt(TRIM, 2**30)


def trim() -> None:
    """Let glibc hand back what is free, that of other threads too: each may `keep` as much."""
    if sys.platform == "linux":
        with suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
