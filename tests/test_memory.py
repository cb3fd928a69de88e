"""What `experiments.shared.memory` sets: freed memory is used again."""

import platform
import subprocess
import sys

import pytest

REPEAT = """
import resource
from experiments.shared import memory

assert memory.keep_freed()
for turn in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(b"x") * 2**25  # 8,192 pages
    del block
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_used_again():
    done = subprocess.run([sys.executable, "-c", REPEAT], capture_output=True, text=True, check=True)
    assert max(map(int, done.stdout.split()[1:])) < 100
