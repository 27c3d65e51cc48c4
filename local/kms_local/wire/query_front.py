"""The AWS query protocol: a signed form whose `Action` names the operation, and an answer in XML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from kms_local.wire.errors import ServiceError
from kms_local.wire.exchange import Request, Response

_MAX_FIELDS = 2000
_SIGNATURE_CODES = {  # what the query protocol calls the refusals of `signature.verify`, all with status 403
    "MissingAuthenticationTokenException": "MissingAuthenticationToken",
    "UnrecognizedClientException": "InvalidClientTokenId",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "IncompleteSignatureException": "IncompleteSignature",
}


@dataclass(frozen=True, slots=True)
class Entries:
    """A map, which the query protocol writes as `<entry>` elements."""

    items: Mapping[str, str]


XmlValue = str | Mapping[str, "XmlValue"] | list["XmlValue"] | Entries | None
"""Text, named members, a list (each element a `<member>`) or a map; None leaves the element out."""


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of one request."""

    fields: Mapping[str, str]

    @property
    def action(self) -> str:
        """The operation's name, or nothing."""
        return self.fields.get("Action", "")

    def text(self, name: str) -> str:
        """Return a required field."""
        value = self.optional(name)
        if value is None:
            raise ServiceError("InvalidParameter", f"Invalid parameter: {name}")
        return value

    def optional(self, name: str) -> str | None:
        """Return a field, or None."""
        return self.fields.get(name)

    def entries(self, name: str) -> dict[str, str]:
        """Return a map that came as `name.entry.1.key`, `name.entry.1.value`, and so on."""
        keys = {field: value for field, value in self.fields.items() if field.startswith(f"{name}.entry.")}
        return {
            value: keys.get(field.removesuffix(".key") + ".value", "")
            for field, value in keys.items()
            if field.endswith(".key")
        }


def parse_form(request: Request) -> Form:
    """Read the fields of a request's body."""
    try:
        pairs = parse_qsl(request.body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as e:
        raise ServiceError("MalformedInput", "The body is not a form") from e
    return Form(dict(pairs))


def xml_answer(action: str, namespace: str, result: XmlValue, request_id: str) -> Response:
    """Return a successful answer."""
    inner = "" if result is None else f"<{action}Result>{_xml(result)}</{action}Result>"
    meta = f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
    body = f'<{action}Response xmlns="{namespace}">{inner}{meta}</{action}Response>'
    return _response(200, body, request_id)


def xml_refusal(error: ServiceError, namespace: str, request_id: str) -> Response:
    """Return an error answer."""
    code = _SIGNATURE_CODES.get(error.code, error.code)
    status = 403 if error.code in _SIGNATURE_CODES else error.status
    side = "Sender" if status < 500 else "Receiver"  # noqa: PLR2004  HTTP's own border
    parts = f"<Type>{side}</Type><Code>{code}</Code><Message>{escape(error.message or '')}</Message>"
    body = (
        f'<ErrorResponse xmlns="{namespace}"><Error>{parts}</Error><RequestId>{request_id}</RequestId></ErrorResponse>'
    )
    return _response(status, body, request_id)


def _xml(value: XmlValue) -> str:
    return "".join(_pieces(value))


def _pieces(value: XmlValue) -> Iterator[str]:
    if isinstance(value, str):
        yield escape(value)
    elif isinstance(value, Entries):
        for key, text in value.items.items():
            yield f"<entry><key>{escape(key)}</key><value>{escape(text)}</value></entry>"
    elif isinstance(value, list):
        for item in value:
            yield f"<member>{_xml(item)}</member>"
    elif value is not None:
        for name, item in value.items():
            if item is not None:
                yield f"<{name}>{_xml(item)}</{name}>"


def _response(status: int, body: str, request_id: str) -> Response:
    headers = (("x-amzn-RequestId", request_id),)
    return Response(status=status, body=body.encode(), content_type="text/xml", headers=headers)
