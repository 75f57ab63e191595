"""The allocator, each time in a process of its own, which it changes for good."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="of glibc"
)

KEEPING = """
import json, resource
from cnnjax.core.allocator import keep_memory

def large_pages():
    # Of the heap: "hg" is what madvise has asked for.
    mappings, heap = open("/proc/self/smaps").read().splitlines(), False
    for line in mappings:
        if "-" in line.split()[0]:
            heap = line.endswith("[heap]")
        elif heap and line.startswith("VmFlags") and "hg" in line.split():
            return True
    return False

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(b"1") * (64 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) >> 8  # MiB of 4 KiB pages

asked, before = large_pages(), resident()
kept = keep_memory()
promised = resident() - before
faults()
print(json.dumps([kept, faults(), promised, asked, large_pages()]))
"""


def test_freed_memory_is_taken_again_without_page_faults_and_in_large_pages():
    done = subprocess.run(
        [sys.executable, "-c", KEEPING], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    kept, faults, promised, before, after = json.loads(done.stdout)
    assert kept
    assert faults < 100  # 64 MiB are 16,384 pages
    assert promised < 8  # what is asked for ahead is not touched
    if Path("/sys/kernel/mm/transparent_hugepage").is_dir():
        assert (before, after) == (False, True)


@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_no_addresses_are_kept_where_they_are_counted(limit):
    script = (
        "import resource; from cnnjax.core.allocator import keep_memory\n"
        f"limit = resource.{limit}\n"
        "resource.setrlimit(limit, (2**42, resource.getrlimit(limit)[1]))\n"
        "size = lambda: int(open('/proc/self/statm').read().split()[0]) >> 8\n"
        "before = size()\n"
        "print(keep_memory(), size() - before < 64)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True True\n"


def test_no_addresses_are_kept_under_strict_overcommit(tmp_path, monkeypatch):
    import resource

    from cnnjax.core import allocator

    monkeypatch.setattr(resource, "getrlimit", lambda limit: (resource.RLIM_INFINITY,) * 2)
    for text, may in (("0\n", True), ("1\n", True), ("2\n", False), (None, False)):
        file = tmp_path / "overcommit_memory"
        file.unlink(missing_ok=True)
        if text:
            file.write_text(text)
        monkeypatch.setattr(allocator, "_OVERCOMMIT", file)
        assert allocator._may_promise() is may
