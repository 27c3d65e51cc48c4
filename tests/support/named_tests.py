"""Pages that name the tests which show what they say: a test that was renamed shows nothing."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


@cache
def functions_of(path: Path) -> frozenset[str]:
    """Return the names of the functions of a file, without running it; none where there is no such file."""
    if not path.is_file():
        return frozenset()
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return frozenset(one.name for one in body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
