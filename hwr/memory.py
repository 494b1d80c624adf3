"""The process keeps the memory that it frees, for the next batch."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

TRIM, MMAP = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h."""


def keep() -> None:
    """Let glibc hand no block of up to 32 MiB, and no more than 1 GiB, back to the system.

    Left alone, it hands the activations of every batch back and gets them again, page by page:
    a third of the time of a small network on a CPU. Elsewhere nothing is done.
    """
    _set(2**25, 2**30)


@contextmanager
def given_back() -> Iterator[None]:
    """What was kept goes back to the system, and little is kept for a while; then `keep`.

    A figure of the confusion matrix, drawn in memory that is kept, takes 79 MB of it, else 12.
    """
    _set(2**17, 2**17)
    trim()
    try:
        yield
    finally:
        keep()


def _set(mmap: int, trim: int) -> None:
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(MMAP, mmap)
            mallopt(TRIM, trim)


def trim() -> None:
    """Let glibc hand back what is free, that of other threads too: each may `keep` as much."""
    if sys.platform == "linux":
        with suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
