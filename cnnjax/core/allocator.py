"""glibc's allocator, told to keep its memory and to take it in large pages."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

# glibc's mallopt parameters (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_KEPT = 2**31 - 1  # bytes of free memory at the heap's end, above which it goes back

_MADV_HUGEPAGE = 14  # Linux' mman-common.h
_LARGE_PAGE = 2 << 20
_OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")  # 2: all that is promised counts
_AHEAD = 1900 << 20  # of the heap; below _KEPT, else it would be given back at once


def keep_memory() -> bool:
    """Keep freed memory in the process: one arena, no mmap, no trimming.

    Returns:
        Whether this is glibc, and it does.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    mallopt = getattr(libc, "mallopt", None)
    if mallopt is None:  # musl has none
        return False
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _KEPT))
    kept = all([mallopt(parameter, value) == 1 for parameter, value in settings])
    if kept and _may_promise():
        _ask_for_large_pages(libc)
    return kept


def _may_promise() -> bool:
    """Whether memory that is asked for, and not touched, is taken from nobody."""
    import resource

    limits = resource.RLIMIT_AS, resource.RLIMIT_DATA
    if any(resource.getrlimit(limit)[0] != resource.RLIM_INFINITY for limit in limits):
        return False
    try:
        return _OVERCOMMIT.read_text().strip() != "2"
    except OSError:  # hidden, as in some containers
        return False


def _ask_for_large_pages(libc: ctypes.CDLL) -> None:
    """Tell the kernel that the heap, where it will grow, is read in long runs.

    Of 4 KiB pages the processor looks up thousands for each temporary of a step. Where the kernel
    is set to "never" all stays as it is. Nothing is touched, so that it counts as memory of no
    process or container before it is used.
    """
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    libc.free.restype, libc.free.argtypes = None, (ctypes.c_void_p,)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    size = min(_AHEAD, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4)
    start = libc.malloc(size)
    if start is None:
        return
    first = -(-start // _LARGE_PAGE) * _LARGE_PAGE
    whole = (start + size - first) // _LARGE_PAGE * _LARGE_PAGE
    libc.madvise(first, whole, _MADV_HUGEPAGE)
    libc.free(start)
