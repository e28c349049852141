"""What a process has in use of the memory that it holds: a leak, unlike the holes in a heap, is in use."""

from __future__ import annotations

import ctypes
import gc
import sys


class _Mallinfo2(ctypes.Structure):
    """struct mallinfo2 of malloc.h, glibc 2.33 and later (mallinfo(3))."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]


def in_use() -> dict[str, int]:
    """malloc_bytes: of all arenas of malloc, and of its mappings; 0 where it does not tell. blocks: of Python's own
    allocator. objects: those that the collector knows."""
    return {"malloc_bytes": _malloc_bytes(), "blocks": sys.getallocatedblocks(), "objects": len(gc.get_objects())}


def _malloc_bytes() -> int:
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        return 0
    mallinfo2.restype = _Mallinfo2
    info = mallinfo2()
    return info.uordblks + info.hblkhd
