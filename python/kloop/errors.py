"""The errors that are kloop's own; all others are asyncio's."""

from __future__ import annotations


class DriverUnavailable(OSError):
    """The driver that was asked for can't carry a loop here; the text names the cause and the remedy.

    ``errno`` is the kernel's answer, for example EPERM under a seccomp profile that
    blocks io_uring, or ENOSYS on a kernel without it.
    """
