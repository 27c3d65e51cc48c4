"""No picture of this process's memory is left on a disk when it crashes: data keys and credentials are in it."""

from __future__ import annotations

import resource
from contextlib import suppress


def forbid() -> None:
    """Have the kernel write no core dump of this process and of those that it starts.

    A helper that the kernel hands dumps to (systemd-coredump) is told the limit and keeps none either. Source:
    core(5), "Piping core dumps to a program"; systemd-coredump(8).
    """
    with suppress(OSError, ValueError):  # where the limit cannot be changed, all else goes on
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
