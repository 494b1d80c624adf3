"""Freed memory stays with the process, where the training command asks for it."""

import subprocess
import sys

import pytest

from hwr.training import memory

SHOW = """
import resource
from hwr.training import memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        [bytes([number]) * 2**24 for number in range(8)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
memory.keep_freed_memory()
faults()
print(before, faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is done")
def test_freed_blocks_are_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before > 20 * 8 * 1000  # of 4,096 pages each
    assert after < 100


def test_loading_changes_nothing_in_the_process() -> None:
    code = "import sys, hwr; hwr.load; assert 'hwr.training.memory' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("sys.platform", "darwin")
        patch.delattr("ctypes.CDLL")
        memory.keep_freed_memory()
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())  # a C library without mallopt
    memory.keep_freed_memory()
