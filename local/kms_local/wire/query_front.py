"""The AWS query protocol: a signed form whose `Action` names the operation, and an answer in XML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from kms_local.wire.body import inflated
from kms_local.wire.errors import ServiceError
from kms_local.wire.exchange import Request, Response
from kms_local.wire.params import JsonObject

_MAX_FIELDS = 200_000  # far more than a body of the largest size has use for
_MAX_DEPTH = 16  # of the dots in a field's name
_SIGNATURE_CODES = {  # what the query protocol calls the refusals of `signature.verify`, all with status 403
    "MissingAuthenticationTokenException": "MissingAuthenticationToken",
    "UnrecognizedClientException": "InvalidClientTokenId",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "IncompleteSignatureException": "IncompleteSignature",
}
_CODES = {  # what the query protocol calls the refusals of members that have the wrong form
    "SerializationException": "MalformedInput",
    "ValidationException": "ValidationError",
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
    base_url: str = ""
    """Where the request came in, such as `https://127.0.0.1:4570`: what an answer can point back to."""

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


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list, whose elements come as `name.member.1`, `name.member.2`, and so on."""

    element: Shape


@dataclass(frozen=True, slots=True)
class MapOf:
    """A map from text to text or structures, which comes as `name.entry.1.key`, `name.entry.1.value` and so on."""

    value: Shape


Shape = type[str] | type[int] | type[float] | type[bool] | Mapping[str, "Shape"] | ListOf | MapOf
"""What a member is: text, a number, a boolean, a structure, a list or a map. Timestamps are text here."""


def parse_form(request: Request) -> Form:
    """Read the fields of a request: of its body, or of its query string where it is a GET.

    Raises:
        ServiceError: MalformedInput: the body is no form.
    """
    try:
        text = request.query if request.method == "GET" else inflated(request).decode()
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except (ValueError, ServiceError) as e:
        raise ServiceError("MalformedInput", "The body is not a form") from e
    return Form(dict(pairs), f"https://{request.headers.get('host', '')}")


def members_of(form: Form, shape: Mapping[str, Shape]) -> JsonObject:
    """Return a form's members as the JSON protocol would have brought them; what `shape` does not name is left out.

    Raises:
        ServiceError: MalformedInput: a member is not of its shape.
    """
    tree: dict[str, Any] = {}
    for name, value in form.fields.items():
        parts = name.split(".")
        if len(parts) <= _MAX_DEPTH and parts[0] in shape and "" not in parts:
            _plant(tree, parts, value)
    return _structure(tree, shape)


def xml_answer(action: str, namespace: str, result: XmlValue, request_id: str, *more: tuple[str, str]) -> Response:
    """Return a successful answer, with `more` headers; None is an operation that has no result at all."""
    inner = "" if result is None else f"<{action}Result>{_xml(result)}</{action}Result>"
    meta = f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
    body = f'<{action}Response xmlns="{namespace}">{inner}{meta}</{action}Response>'
    return _response(200, body, request_id, *more)


def xml_refusal(error: ServiceError, namespace: str, request_id: str) -> Response:
    """Return an error answer."""
    code = _SIGNATURE_CODES.get(error.code, _CODES.get(error.code, error.code))
    status = 403 if error.code in _SIGNATURE_CODES else error.status
    side = "Sender" if status < 500 else "Receiver"  # noqa: PLR2004  HTTP's own border
    parts = f"<Type>{side}</Type><Code>{code}</Code><Message>{_text(error.message or '')}</Message>"
    body = (
        f'<ErrorResponse xmlns="{namespace}"><Error>{parts}</Error><RequestId>{request_id}</RequestId></ErrorResponse>'
    )
    return _response(status, body, request_id)


def _plant(tree: dict[str, Any], parts: list[str], value: str) -> None:
    """Put a field into a tree of its name's parts; the value of a part that has parts below stands under no name."""
    node = tree
    for part in parts:
        node = node.setdefault(part, {})
    node[""] = value


def _structure(node: Mapping[str, Any], shape: Mapping[str, Shape]) -> JsonObject:
    return {name: _value(node[name], shape[name], name) for name in node.keys() & shape.keys()}


def _value(node: Mapping[str, Any], shape: Shape, name: str) -> Any:
    if isinstance(shape, ListOf):
        elements = node.get("member", {})
        return [_value(elements[number], shape.element, name) for number in _numbered(elements, name)]
    if isinstance(shape, MapOf):
        entries = node.get("entry", {})
        found = [entries[number] for number in _numbered(entries, name)]
        return {str(one.get("key", {}).get("", "")): _value(one.get("value", {}), shape.value, name) for one in found}
    if isinstance(shape, Mapping):
        return _structure(node, shape)
    return _scalar(str(node.get("", "")), shape, name)


def _numbered(node: Mapping[str, Any], name: str) -> list[str]:
    numbers = [number for number in node if number]
    if not all(number.isdecimal() and number.isascii() and len(number) < _MAX_DEPTH for number in numbers):
        raise _malformed(name)
    return sorted(numbers, key=int)


def _scalar(text: str, shape: type[str | int | float | bool], name: str) -> str | float | bool:
    if shape is bool:
        if text.lower() not in {"true", "false"}:
            raise _malformed(name)
        return text.lower() == "true"
    try:
        return shape(text.replace("_", "-_")) if shape is not str else text  # Python alone reads 1_000 as a number
    except ValueError as e:
        raise _malformed(name) from e


def _malformed(name: str) -> ServiceError:
    return ServiceError("MalformedInput", f"The member {name} is malformed")


def _xml(value: XmlValue) -> str:
    return "".join(_pieces(value))


def _pieces(value: XmlValue) -> Iterator[str]:
    if isinstance(value, str):
        yield _text(value)
    elif isinstance(value, Entries):
        for key, text in value.items.items():
            yield f"<entry><key>{_text(key)}</key><value>{_text(text)}</value></entry>"
    elif isinstance(value, list):
        for item in value:
            yield f"<member>{_xml(item)}</member>"
    elif value is not None:
        for name, item in value.items():
            if item is not None:
                yield f"<{name}>{_xml(item)}</{name}>"


def _text(text: str) -> str:
    """Return text as XML; the characters that XML has no form for become question marks.

    By hand: `xml.sax.saxutils` would load clients for HTTP, mail and URLs, and keep them.
    """
    allowed = "".join(c if c in "\t\n\r" or c >= " " else "?" for c in text)
    return allowed.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")


def _response(status: int, body: str, request_id: str, *more: tuple[str, str]) -> Response:
    headers = (("x-amzn-RequestId", request_id), *more)
    return Response(status=status, body=body.encode(errors="replace"), content_type="text/xml", headers=headers)
