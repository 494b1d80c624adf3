"""Memory that is freed stays with the process."""

import subprocess
import sys

import pytest

SHOW = """
import resource
from hwr import memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        [bytes([number]) * 2**24 for number in range(8)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
memory.keep()
faults()
print(before, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is done")
def test_freed_blocks_are_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before > 20 * 8 * 1000  # of 4,096 pages each
    assert after < 100


GIVE_BACK = (
    SHOW
    + """
from pathlib import Path

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6

kept = resident()
with memory.given_back():
    within = resident()
faults()
print(kept - within, faults())
"""
)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is done")
def test_what_was_kept_is_given_back_for_a_while() -> None:
    call = [sys.executable, "-c", GIVE_BACK]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    given, after = map(float, done.stdout.splitlines()[-1].split())
    assert given > 100  # megabytes, of 8 blocks of 16 MiB
    assert after < 100
