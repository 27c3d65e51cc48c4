"""JSON as AWS reads it: UTF-8, no NaN, no half characters, and not as deep as a parser can be driven."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def parse_json(body: bytes) -> Any:
    """Return the value that `body` is the JSON of.

    Raises:
        ValueError: it is none: not UTF-8, not JSON, with NaN or an infinity, with half of a surrogate pair, which no
            UTF-8 can express, or nested too deeply.
    """
    text = body.decode()
    try:
        value = _decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as e:
        raise ValueError("the JSON is nested too deeply") from e
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_decode = json.JSONDecoder(parse_constant=_refuse).decode
