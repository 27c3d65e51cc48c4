"""The refusals of the API."""

from __future__ import annotations


class ApiError(Exception):
    """An answer of the kind `{"error": message, "status": status}`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
