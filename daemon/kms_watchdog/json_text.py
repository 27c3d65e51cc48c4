"""JSON of files and answers that somebody else may have written: whatever is wrong with it is a ValueError."""

from __future__ import annotations

import json
from typing import Any


def read_json(text: str | bytes) -> Any:
    """Return the value that `text` is the JSON of.

    Raises:
        ValueError: it is none, or nested too deeply: Python's own reader ends that with a RecursionError, which nobody
            who reads a file thinks of.
    """
    try:
        return json.loads(text)
    except RecursionError as e:
        raise ValueError("the JSON is nested too deeply") from e
