"""Asks the admin API of a running `kms-local serve`, found through the `endpoints.json` of its directory."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from kms_local.endpoints import FILE_NAME

_SECONDS = 10.0


class AdminError(Exception):
    """Nothing answers there, or what was asked is refused; the text says why, in one line."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status  # of HTTP, where there was an answer


def ask(directory: Path, method: str, path: str, body: object = None) -> Any:
    """Ask the admin API, and return what the JSON of its answer holds, None for an empty one.

    Args:
        directory: the server's.
        method: of HTTP.
        path: what to ask, `/faults` for example.
        body: is sent as JSON, unless it is None.

    Raises:
        AdminError: no server runs there, or it refuses.
    """
    try:
        admin = json.loads((directory / FILE_NAME).read_text(encoding="utf-8"))["admin"]
    except (OSError, ValueError, KeyError) as e:
        raise AdminError(f"no server runs in {directory}: there is no {FILE_NAME}") from e
    request = urllib.request.Request(  # noqa: S310  http on loopback, from our own file
        admin["url"] + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"X-Kms-Local-Token": admin["token"]},
        method=method,
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy of the environment
    try:
        with opener.open(request, timeout=_SECONDS) as answer:
            content = answer.read()
    except urllib.error.HTTPError as e:
        raise AdminError(_reason(e.read()), status=e.code) from e
    except OSError as e:
        raise AdminError(f"the server of {directory} does not answer: {e}") from e
    return json.loads(content) if content else None


def _reason(content: bytes) -> str:
    try:
        return str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace")
