"""No redirection is followed: whoever answers at a configured address does not choose where else a request goes."""

from __future__ import annotations

import urllib.request
from typing import Any


class Unmoved(urllib.request.HTTPRedirectHandler):
    """Follows no redirection; the answer is then the error that it says, 301 or another.

    One would also turn a POST into a GET without its document, and nobody be told.
    """

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Leave it an error."""
