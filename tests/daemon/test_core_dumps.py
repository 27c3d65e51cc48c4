"""A crash leaves no picture of the memory: data keys and credentials are in it."""

from __future__ import annotations

import subprocess
import sys

import pytest

ENDS_WITH_ITS_LIMIT = """
import atexit, resource, sys
_, most = resource.getrlimit(resource.RLIMIT_CORE)
resource.setrlimit(resource.RLIMIT_CORE, (most, most))  # as much as the machine lets us: it has to be taken away
atexit.register(lambda: print(resource.getrlimit(resource.RLIMIT_CORE)))
sys.argv = ["command", "--version"]
from {package}.__main__ import main
main()
"""


@pytest.mark.parametrize("package", ["kms_watchdog", "kms_chaos"])
def test_no_command_leaves_a_core_dump(package: str) -> None:
    """Neither the daemon nor a drill, nor what they start."""
    done = subprocess.run(
        [sys.executable, "-c", ENDS_WITH_ITS_LIMIT.format(package=package)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert done.stdout.splitlines()[-1] == "(0, 0)"
