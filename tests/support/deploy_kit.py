"""Programs of others that check what is deployed: from `make interop`'s environment, or from PATH."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECKERS = ROOT / ".state/interop/deploy/bin"


def checker(name: str) -> str:
    """Return the path of a program; skip the test where there is none, but not in CI."""
    found = shutil.which(name, path=CHECKERS) or shutil.which(name)
    if found is None:
        assert os.environ.get("CI") != "true", f"CI installs {name}"
        pytest.skip(f"no {name} here: make interop, or the system's package")
    return found
