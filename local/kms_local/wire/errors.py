"""An AWS error answer as an exception; the protocol that carries it decides what it looks like on the wire."""

from __future__ import annotations


class ServiceError(Exception):
    """A refusal or failure that a client of AWS would see: its code, its text and its HTTP status."""

    def __init__(self, code: str, message: str | None = "", *, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message  # None: the answer carries no text at all, as InvalidCiphertextException's
        self.status = status


def serialization_error() -> ServiceError:
    """Refuse a body that is not the JSON the operation's shape asks for."""
    return ServiceError("SerializationException", None)


def invalid(value: object, field: str, constraint: str) -> ServiceError:
    """Refuse a value in the words of AWS's own request validation."""
    shown = "null" if value is None else f"'{value}'"
    return ServiceError(
        "ValidationException",
        f"1 validation error detected: Value {shown} at '{_lower_camel(field)}' "
        f"failed to satisfy constraint: {constraint}",
    )


def _lower_camel(field: str) -> str:
    return field[:1].lower() + field[1:]
